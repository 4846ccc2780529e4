"""`plan`, `diff` and `drift`: what differs, what it would cost, and nothing done. `apply` and `destroy` are bound here too."""

from __future__ import annotations

import asyncio
import difflib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import apply, approve, budget, exits, output, planning, revisions, rollback, saved_plan
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.proven import Proof
    from reconciler.model.change import Change
    from reconciler.model.plan import Plan

Detailed = Annotated[bool, typer.Option("--detailed-exitcode", help="Exit 2 when something is pending.")]
_DIFF_ROLES = {"+": "add", "-": "remove", "@": "hint"}


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (plan, diff, drift):
        app.command()(verb)
    apply.bind(app)
    rollback.bind(app)
    revisions.bind(app)
    approve.bind(app)
    budget.bind(app)


def plan(
    directory: planning.Directory = None,
    environment: planning.Environment = None,
    target: planning.Targets = None,
    exclude: planning.Excluded = None,
    destroy: planning.Destroy = False,
    refresh_only: planning.RefreshOnly = False,
    refresh: planning.Refresh = True,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Save the plan, to apply exactly this.")] = None,
    form: Annotated[
        Literal["text", "json", "jsonl", "markdown"], typer.Option("-o", "--output", help="How the plan is written.")
    ] = "text",
    detailed: Detailed = False,
    max_spend: planning.MaxSpend = None,
    fee_rate: planning.Rate = None,
    rev: revisions.Rev = None,
    base: revisions.Base = None,
) -> int:
    """Show what apply would do and what it would cost. Writes nothing, anywhere, but the file of --out."""
    wish = planning.Wish(
        directory, environment, planning.listed(target), planning.listed(exclude), destroy, refresh_only, refresh, max_spend,
        rev=rev, base=base, kept=out is not None, fee_rate=fee_rate,
    )  # fmt: skip
    prepared = _prepared(wish)
    if prepared is None:
        return exits.ERROR
    saved = saved_plan.save(prepared.plan, out) if out is not None else None
    # Without --out, `apply` would carry out another plan than one of another revision.
    told = "" if saved is None and (rev or base) else saved
    planning.tell_plan(prepared, form, told if form == "text" else None)
    if saved is not None and form != "text":
        output.say(saved)
    return planning.verdict(prepared.plan, detailed)


def _prepared(wish: planning.Wish) -> planning.Prepared | None:
    """The plan, or None when the manifests have errors, which have then been shown."""

    async def main() -> planning.Prepared | None:
        async with planning.opened(wish) as space:
            try:
                return await planning.prepare(space, wish)
            except planning.Invalid:
                return None

    return asyncio.run(main())


def diff(
    directory: planning.Directory = None,
    environment: planning.Environment = None,
    target: planning.Targets = None,
    exclude: planning.Excluded = None,
    refresh: planning.Refresh = True,
) -> int:
    """Show what differs as a unified diff. Exit code 0: nothing, 1: something, more: an error."""
    from reconciler.model.errors import ReconcilerError

    wish = planning.Wish(directory, environment, planning.listed(target), planning.listed(exclude), refresh=refresh)
    try:
        prepared = _prepared(wish)
    except ReconcilerError as error:
        output.fail(error.message, error.hint)
        return max(exits.CHANGES, exits.code_of(error))
    if prepared is None:
        return exits.CHANGES
    paint, differs = output.style_for(sys.stdout, GLOBALS.colour), False
    for change in prepared.plan.changes:
        for line in _unified(change):
            differs = True
            output.data(paint(_DIFF_ROLES.get(line[:1], "plain"), line))
    return 1 if differs else exits.OK


def _unified(change: Change) -> Iterator[str]:
    """The lines that differ between record and manifest, and between record and world."""
    from reconciler.model.change import Cause, Verb
    from reconciler.planner import phrases

    gone = change.verb in (Verb.DELETE, Verb.FORGET)
    if change.verb.acts and change.verb is not Verb.REPAIR:
        before = _yaml(change.before.body if change.before else None)
        after = _yaml(None if gone else change.body)
        names = (f"recorded/{change.ref}" if before else "/dev/null", f"declared/{change.ref}" if after else "/dev/null")
        yield from (line.rstrip("\n") for line in difflib.unified_diff(before, after, *names))
    drifted = [delta for delta in change.deltas if delta.cause is Cause.DRIFT]
    if drifted:
        yield from (f"--- recorded/{change.ref}", f"+++ observed/{change.ref}", f"@@ {len(drifted)} places @@")
        for delta in drifted:
            path = phrases.harmless(delta.path)
            yield from (f"-{path}: {phrases.value(delta.before)}", f"+{path}: {phrases.value(delta.after)}")


def _yaml(body: Any) -> list[str]:
    from reconciler.manifest.scaffold import to_yaml
    from reconciler.model.codec import encode
    from reconciler.planner.diff import redact

    if body is None:
        return []
    shown = redact(encode(body))
    # What the required resources export is theirs to differ in; here it shows only where it moves the dependent.
    return to_yaml(_sorted({key: shown[key] for key in ("spec", "files", "using") if shown.get(key)})).splitlines(keepends=True)


def _sorted(value: Any) -> Any:
    """Mappings in the order of their keys: a diff shows what changed, never where it was written."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def drift(
    key: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Kind/name; everything if omitted.")] = None,
    detailed: Detailed = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the merkle proof of every transaction against the headers, too.")
    ] = False,
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")] = "text",
) -> int:
    """Look at the network and say where it left the records. Changes nothing; what the manifests ask for is not looked at."""
    wish = planning.Wish(targets=planning.listed(key), refresh_only=True)
    prepared = _prepared(wish)
    if prepared is None:
        return exits.ERROR
    proofs = _proofs(prepared.plan) if verify else []
    found = [_drifted(change) for change in prepared.plan.changes if _left(change)] + [
        one for one in map(_unproven, proofs) if one
    ]
    if form == "json":
        said = [{"ref": str(one.ref), "txid": one.txid, "standing": one.standing.value} for one in proofs]
        output.document(
            {
                "drifted": [one for one in found if one["state"] == "drifted"],
                "unknown": [o for o in found if o["state"] != "drifted"],
                **({"proofs": said} if verify else {}),
            }
        )
    else:
        _tell_drift(prepared, found, proofs)
    drifted = any(one["state"] == "drifted" for one in found)
    return exits.CHANGES if detailed and drifted else exits.OK


def _proofs(plan: Plan) -> list[Proof]:
    """The transactions behind the recorded resources of a plan, looked at one by one."""
    from reconciler.engine.handlers import chain_nets
    from reconciler.engine.proven import proofs
    from reconciler.engine.survey import midnight

    async def work(space: Workspace) -> list[Proof]:
        recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
        known = [recorded.records[change.ref] for change in plan.changes if change.ref in recorded.records]
        return await proofs(space.ports, known, chain_nets(recorded))

    return with_workspace(work)


def _unproven(proof: Proof) -> dict[str, Any] | None:
    """A proof that does not hold, or could not be looked at, told as drift is; None for any other."""
    state = {"broken": "drifted", "unknown": "unknown"}.get(proof.standing.value)
    if state is None:
        return None
    return {"ref": str(proof.ref), "state": state, "why": proof.why, "repair": None, "satoshis": 0, "places": []}


def _left(change: Change) -> bool:
    from reconciler.model.change import Cause, Reason, Verb

    if change.reason is Reason.EXPIRING:
        return False  # nothing left the record: it is only time to pay again
    return change.verb is not Verb.NONE or any(delta.cause is Cause.DRIFT for delta in change.deltas)


def _drifted(change: Change) -> dict[str, Any]:
    from reconciler.model.change import Cause, Verb
    from reconciler.model.codec import encode
    from reconciler.planner.render import why

    places = [delta for delta in change.deltas if delta.cause is Cause.DRIFT]
    return {
        "ref": str(change.ref),
        "state": "unknown" if change.verb is Verb.DEFER else "drifted",
        "why": change.detail or why(change),
        "repair": change.verb.value if change.verb.acts else None,
        "satoshis": change.cost.satoshis,
        "places": [{"path": one.path, "expected": encode(one.before), "observed": encode(one.after)} for one in places],
    }


def _tell_drift(prepared: planning.Prepared, found: list[dict[str, Any]], proofs: Sequence[Proof]) -> None:
    from reconciler.planner import phrases

    paint = output.style_for(sys.stdout, GLOBALS.colour)
    output.data(paint("dim", prepared.head[1]))
    if proofs:
        counts = Counter(one.standing.value for one in proofs)
        told = f"Proven   {counts['proven']}/{phrases.count(len(proofs), 'transaction')}, {counts['waiting']} not in a block yet"
        output.data(paint("dim", told))
    for one in found:
        mark = "≈" if one["state"] == "drifted" else "?"
        mend = f"  → {one['repair']}, {phrases.sats(one['satoshis']) if one['satoshis'] else 'free'}" if one["repair"] else ""
        output.data(paint("repair" if mark == "≈" else "dim", f"  {mark} {one['ref']:<34} {phrases.harmless(one['why'])}{mend}"))
        for place in one["places"]:
            told = f"{phrases.value(place['expected'])} → {phrases.value(place['observed'])}"
            output.data(f"      {phrases.harmless(place['path'])}: {told}")
    drifted = sum(one["state"] == "drifted" for one in found)
    steady = len(prepared.plan.changes) - len({one["ref"] for one in found})
    mendable = any(one["state"] == "drifted" and (one["repair"] or one["places"]) for one in found)
    told = f"{drifted} drifted, {len(found) - drifted} unknown, {steady} as recorded"
    output.data(paint("heading", told) + (". Repair with: reconciler apply --refresh-only" if mendable else ""))
