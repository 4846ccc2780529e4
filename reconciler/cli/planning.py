"""From flags to a plan: what `plan`, `diff`, `drift`, `apply` and `destroy` have in common."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconciler.cli import exits, output, revisions
from reconciler.cli.context import GLOBALS, settings
from reconciler.model.observation import Unknown

if TYPE_CHECKING:
    from reconciler.cli.revisions import Comparison
    from reconciler.compose import Workspace
    from reconciler.engine.survey import Survey
    from reconciler.model.change import Change, FeeRate
    from reconciler.model.plan import Plan
    from reconciler.model.ref import ResourceRef
    from reconciler.model.resource import DesiredState
    from reconciler.planner.guard import Limits

Directory = Annotated[
    Path | None, typer.Option("-d", "--directory", help="Manifests of this directory instead.", show_default=False)
]
Environment = Annotated[str | None, typer.Option("-e", "--env", help="Apply overlays/ENV.", show_default=False)]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="SEL", help="Only these and what they require: Kind/name, Kind/glob*, label=value."),
]
Excluded = Annotated[list[str] | None, typer.Option("--exclude", metavar="SEL", help="Leave these as they are.")]
Destroy = Annotated[bool, typer.Option("--destroy", help="Retire everything that is recorded.")]
RefreshOnly = Annotated[
    bool, typer.Option("--refresh-only", help="Only what the network lost; edits of the manifests stay aside.")
]
Refresh = Annotated[bool, typer.Option("--refresh/--no-refresh", help="Look at the network, or believe the records.")]
MaxSpend = Annotated[str | None, typer.Option("--max-spend", metavar="SATS", help="Refuse a plan that costs more.")]
Rate = Annotated[
    str | None,
    typer.Option(
        "--fee-rate", metavar="RATE", help="Pay miners this, not what they ask: 150 or 150sat/kB, never less than asked."
    ),
]
Recreate = Annotated[
    list[str] | None,
    typer.Option("--recreate", metavar="SEL", help="Make these anew, for their price: one transaction spends the old tokens."),
]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a command line asks a plan to be about."""

    directory: Path | None = None
    environment: str | None = None
    targets: Sequence[str] = ()
    exclude: Sequence[str] = ()
    destroy: bool = False
    refresh_only: bool = False
    refresh: bool = True
    max_spend: str | None = None
    approved: frozenset[str] = frozenset()
    rev: str | None = None
    base: str | None = None
    kept: bool = False
    recreate: Sequence[str] = ()
    rollback: str | None = None
    to_plan: str | None = None
    fee_rate: str | None = None

    @property
    def pays(self) -> FeeRate | None:
        """The fee rate that was asked for; a bare number is satoshis per 1000 bytes. BadParameter when it is no rate."""
        from reconciler.manifest import units
        from reconciler.model.change import FeeRate

        if self.fee_rate is None:
            return None
        try:
            said = units.rate(f"{self.fee_rate}sat/kB" if self.fee_rate.isdecimal() else self.fee_rate)
        except units.UnitError as error:
            raise typer.BadParameter(f"--fee-rate: {error}; write {units.EXAMPLES['rate']}") from error
        return FeeRate(said["satoshis"], said["bytes"])

    @property
    def narrowed(self) -> bool:
        """Whether it is about less than everything."""
        return bool(self.targets or self.exclude)

    def limits(self, survey: Survey, standing: Limits, differing: frozenset[ResourceRef] | None = None) -> Limits:
        """The standing limits of the settings with this wish inside them; a flag never loosens a limit."""
        from reconciler.manifest import units

        known = labelled(survey.desired, survey.recorded.records)
        only = select(self.targets, known) if self.targets else None
        if differing is not None:
            only = differing & frozenset(known) if only is None else only & differing
        spend = standing.spend_run
        if self.max_spend is not None:
            try:
                said = units.satoshis(self.max_spend)
            except units.UnitError as error:
                raise typer.BadParameter(f"--max-spend: {error}") from error
            spend = said if spend is None else min(spend, said)
        return replace(
            standing,
            only=only,
            exclude=select(self.exclude, known),
            destroy=self.destroy,
            spend_run=spend,
            approved=standing.approved | self.approved,
        )


def labelled(desired: DesiredState | None, records: Iterable[ResourceRef]) -> dict[ResourceRef, Mapping[str, str]]:
    """Everything declared or recorded, with its labels; records have none, for labels are not recorded."""
    declared = {ref: want.labels for ref, want in (desired.resources if desired else {}).items()}
    return {ref: {} for ref in records} | declared


def select(selectors: Sequence[str], known: Mapping[ResourceRef, Mapping[str, str]]) -> frozenset[ResourceRef]:
    """The resources that selectors name; one that names nothing is a slip of the keyboard, hence a usage error."""
    found: set[ResourceRef] = set()
    for selector in selectors:
        hits = {ref for ref, labels in known.items() if _matches(selector, ref, labels)}
        if not hits:
            near = _near(selector, [str(ref) for ref in known])
            raise typer.BadParameter(f"nothing declared or recorded matches {selector!r}{near}")
        found |= hits
    return frozenset(found)


def _matches(selector: str, ref: ResourceRef, labels: Mapping[str, str]) -> bool:
    if "=" in selector:
        name, _, value = selector.partition("=")
        return labels.get(name) == value
    kind, slash, name = selector.partition("/")
    return ref.kind.lower() == kind.lower() and (not slash or fnmatch.fnmatchcase(ref.name, name))


def _near(word: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, names, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(names)[:5]) or 'none'}"


@dataclass(frozen=True, slots=True, repr=False)  # asyncio.run composes, and drops, the text of what it returns
class Prepared:
    """A plan, what it rests on, and the head lines that say so. `bare` is the id it has without any approval."""

    plan: Plan
    survey: Survey
    head: tuple[str, ...]
    bare: str
    comparison: Comparison | None = None


class Invalid(Exception):
    """The manifests have errors, and they have been shown."""


@contextlib.asynccontextmanager
async def opened(wish: Wish, **doors: Any) -> AsyncIterator[Workspace]:
    """The workspace that a wish is about."""
    from reconciler.compose import workspace

    if wish.environment is not None:
        GLOBALS.environment = wish.environment
    chosen = settings()
    if wish.directory is not None:
        if not wish.directory.is_dir():
            raise typer.BadParameter(f"there is no directory {wish.directory}")
        chosen = replace(chosen, source=wish.directory.resolve(), git=None)
    async with workspace(chosen, **doors) as space:
        if wish.rev is not None:
            revisions.move(space, wish.rev, verified=wish.kept)
        yield space


async def prepare(space: Workspace, wish: Wish) -> Prepared:
    """Look, and plan. Invalid when the manifests have errors; they are shown as `validate` shows them."""
    from reconciler.engine.budget import effective
    from reconciler.engine.hiding import given_up
    from reconciler.engine.rollback import desired_at
    from reconciler.engine.survey import steady

    then = wish.rollback or wish.to_plan
    earlier = desired_at(space.ports, then, space.settings.environment, plan=wish.to_plan is not None) if then else None
    names = not wish.refresh_only
    survey = await space.surveyor.survey(refresh=wish.refresh, instead=earlier, pays=wish.pays, renames=names)
    if earlier is None:
        _show_diagnostics(space, survey)
    if survey.loaded.desired is None and not (wish.destroy or wish.refresh_only or earlier):
        raise Invalid
    if wish.refresh_only:
        survey = replace(survey, desired=_remembered(survey, space.settings.environment))
    survey = replace(survey, observed=steady(survey.observed))
    if wish.recreate:
        ordered = select(wish.recreate, {ref: {} for ref in survey.recorded.records})
        survey = replace(survey, observed=given_up(survey.observed, ordered))
    against = revisions.compare(space, wish.base, survey.desired.resources) if wish.base and survey.desired else None
    with space.ports.ledger.view() as view:
        standing = effective(space.settings.limits, view, space.ports.clock.now())
    limits = wish.limits(survey, standing, against.refs if against else None)
    plan = space.surveyor.plan(survey, limits)
    bare = space.surveyor.plan(survey, replace(limits, approved=frozenset())).id if limits.approved else plan.id
    told = [_source_line(plan), *([against.line()] if against else []), await _observed_line(space, survey, wish), *survey.notes]
    return Prepared(plan, survey, tuple(told), bare, against)


def _show_diagnostics(space: Workspace, survey: Survey) -> None:
    from reconciler.cli.checking import show
    from reconciler.manifest.explain import summary

    loaded = survey.loaded
    if loaded.errors or (loaded.warnings and not GLOBALS.quiet):
        show(loaded.diagnostics, space.surveyor.ports.source.current().texts)
    if loaded.errors:
        output.say(summary(len(loaded.errors), len(loaded.warnings), loaded.documents, loaded.files))


def _remembered(survey: Survey, environment: str) -> Any:
    """The records as if they were declared, under the lifecycle rules that are declared now."""
    from reconciler.engine.survey import believed

    known, now = believed(survey.recorded, environment), survey.desired.resources if survey.desired else {}
    resources = {
        ref: replace(want, lifecycle=now[ref].lifecycle) if ref in now else want for ref, want in known.resources.items()
    }
    return replace(known, revision=survey.desired.revision if survey.desired else known.revision, resources=resources)


# --- the head: what the plan rests on ---------------------------------------------------------------


def _source_line(plan: Plan) -> str:
    from reconciler.engine.source import short
    from reconciler.planner import phrases

    where = f"env {plan.environment}" if plan.environment else "base"
    return f"Source   {short(plan.revision)}   {where}   {phrases.count(len(plan.changes), 'resource')}"


async def _observed_line(space: Workspace, survey: Survey, wish: Wish) -> str:
    """How much of the world was seen: resources, the height of each chain, hosts that answered."""
    from reconciler.planner import phrases

    if not wish.refresh:
        return "Observed nothing (--no-refresh): the records are believed"
    seen = [one for one in survey.observed.values() if not isinstance(one, Unknown)]
    heights, silent = await _heights(space, survey)
    told = f"Observed {phrases.grouped(len(seen))}/{phrases.grouped(len(survey.observed))}"
    if heights:
        told += " at height " + ", ".join(phrases.grouped(height) for height in heights)
    hosts = host_states(survey)
    if hosts:
        told += f", {sum(hosts.values())} of {phrases.count(len(hosts), 'host')}"
    mute = sorted([host for host, answered in hosts.items() if not answered] + silent)
    return f"{told} (unreachable: {', '.join(mute)})" if mute else told


async def _heights(space: Workspace, survey: Survey) -> tuple[list[int], list[str]]:
    """The tip of each network, and the networks whose header source is silent."""
    from reconciler.engine.observe import networks
    from reconciler.kinds.network import read_net
    from reconciler.model.errors import ReconcilerError

    specs = networks(survey.desired.resources if survey.desired else {}, survey.recorded.records)

    async def tip(name: str) -> tuple[str, int | None]:
        try:
            return name, await space.ports.chain.tip(read_net(name, specs[name]).headers)
        except ReconcilerError:
            return name, None

    found = await asyncio.gather(*(tip(name) for name in sorted(specs)))
    return [height for _, height in found if height is not None], [f"headers of {name}" for name, h in found if h is None]


def host_states(survey: Survey) -> dict[str, bool]:
    """Every host that was asked about one of our things, and whether it answered."""
    found: dict[str, bool] = {}
    for one in survey.observed.values():
        for host, state in _views(getattr(one, "attributes", {})):
            found[host] = found.get(host, True) and state != "unreachable"
    return found


def _views(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for view in (attributes.get("tokens") or {}).values():
        yield from view["hosts"].items()
    for host, copies in (attributes.get("replicas") or {}).items():
        yield from ((host, state["state"]) for state in copies.values())


# --- how a plan is told ------------------------------------------------------------------------------


def plan_text(prepared: Prepared, next_step: str | None = None) -> str:
    """The plan for a terminal: our head, then the renderer's body."""
    from reconciler.planner.render import as_text

    paint = output.style_for(sys.stdout, GLOBALS.colour)
    body = as_text(prepared.plan, style=paint, next_step=next_step, told=in_words).split("\n\n", 1)
    return "\n".join(paint("dim", line) for line in prepared.head) + "\n\n" + body[-1]


def in_words(change: Change) -> Change:
    """The change with its values as a person would write them, for the eye alone."""
    from reconciler.manifest.written import field, written

    kind = change.ref.kind
    deltas = tuple(
        replace(d, before=field(kind, d.path[5:], d.before), after=field(kind, d.path[5:], d.after))
        if d.path.startswith("spec.")
        else d
        for d in change.deltas
    )
    spec = change.body.get("spec")
    return replace(change, deltas=deltas, body={**change.body, "spec": written(kind, spec)} if spec else change.body)


def tell_plan(prepared: Prepared, form: str, next_step: str | None = None) -> None:
    """The plan on stdout, in the form that was asked for."""
    from reconciler.planner.markdown import as_markdown
    from reconciler.planner.render import as_json, as_lines

    if form == "json":
        output.document(as_json(prepared.plan))
    elif form == "jsonl":
        for line in as_lines(prepared.plan):
            output.data(line)
    elif form == "markdown":
        against = prepared.comparison
        output.data((against.markdown(prepared.plan.revision) + "\n" if against else "") + as_markdown(prepared.plan))
    else:
        output.data(plan_text(prepared, next_step))


def verdict(plan: Plan, detailed: bool) -> int:
    """The exit code of a command that only looks."""
    if plan.refusals:
        return exits.GUARD
    return exits.CHANGES if detailed and not plan.empty else exits.OK


def listed(words: Iterable[str] | None) -> tuple[str, ...]:
    """The words of a repeatable option, also when they come separated by commas."""
    return tuple(part.strip() for one in words or () for part in one.split(",") if part.strip())
