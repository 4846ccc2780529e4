"""Verbs about whose a resource is and who may touch it: adopt, import, dump, protect, unprotect, suspend, resume, forget."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.rebuild import Find
    from reconciler.model.record import Record
    from reconciler.model.ref import ResourceRef
    from reconciler.ports import LedgerTransaction

Key = Annotated[str, typer.Argument(metavar="KEY", help="Kind/name.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (adopt, dump, protect, unprotect, suspend, resume, forget):
        app.command()(verb)
    app.command("import")(import_)


# --- taking charge -----------------------------------------------------------------------------------


def adopt(
    key: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Kind/name of what is declared and not recorded.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is declared and not recorded.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, verify, and record nothing.")] = False,
) -> int:
    """Take charge of what is on the network under our key and not in this ledger, with what it stands on. Costs nothing."""
    if bool(key) == everything:
        raise typer.BadParameter("say what: some KEYs, or --all")
    return _adopted(key or None, dry=dry_run)


def import_(
    key: Key,
    token: Annotated[
        str,
        typer.Argument(
            metavar="TOKEN", help="The token that is meant: txid.vout, the txid, or the UHRP URL of a file that a Dataset lists."
        ),
    ],
) -> int:
    """As adopt, after checking that this very token is ours and describes KEY."""
    from reconciler.kinds import importing

    return _adopted([key], importing.read(token))


def _adopted(keys: list[str] | None, token: str = "", *, dry: bool = False) -> int:
    from reconciler.model.ref import ResourceRef

    refs = {ResourceRef.parse(key) for key in keys} if keys is not None else None

    async def work(space: Workspace) -> tuple[Find, ...]:
        from reconciler.engine.rebuild import adopt
        from reconciler.model.errors import Refused

        survey = await space.surveyor.survey()
        declared = survey.desired.resources if survey.desired else {}
        for ref in sorted(refs or ()):
            if survey.desired is not None and ref not in declared:
                raise Refused("not-declared", f"cannot adopt {ref}: no manifest declares it", hint="write its manifest first")
            if ref in survey.recorded.records:
                raise Refused("recorded", f"cannot adopt {ref}: it is recorded already", hint="reconciler status")
        return await adopt(space.runner, survey, getpass.getuser(), refs, token, dry=dry)

    found = with_workspace(work)
    tell(found)
    if not found:
        output.say("everything that is declared is recorded")
    return exits.PARTIAL if any(one.what == "left" for one in found) else exits.OK


def tell(found: tuple[Find, ...]) -> None:
    """What became of each resource, one on a line."""
    if found:
        output.data(output.table([(str(one.ref), one.what, one.detail) for one in found], ("RESOURCE", "", "")))


def dump(
    select: Annotated[list[str] | None, typer.Argument(metavar="[SEL]...", help="Kind, Kind/name or Kind/glob*.")] = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Only resources of this kind.")] = None,
) -> int:
    """Write manifests for what is recorded, as it was last applied. Labels, annotations and comments are not recorded."""
    from reconciler.cli.books import read
    from reconciler.engine.policy import block_of
    from reconciler.manifest.scaffold import document_of

    records = with_workspace(read).chosen([*(select or ()), *(kind or ())])
    # What the engine keeps for itself, such as the anchor of the audit chain, is declared by the settings.
    declared = [record for record in records if record.ref.kind != "Audit"]
    texts = [document_of(one.ref.kind, one.ref.name, one.body["spec"], block_of(one)) for one in declared]
    output.data("---\n".join(texts).rstrip("\n"))
    return exits.OK


# --- who may touch it --------------------------------------------------------------------------------


def protect(key: Key) -> int:
    """Forbid the removal of a resource, whatever manifests say or no longer say, until unprotect. Kept in the ledger."""
    _protected(key, held=True)
    output.say(f"{key} is protected: it is not removed until reconciler unprotect {key}")
    return exits.OK


def unprotect(key: Key) -> int:
    """Allow removal again. Where the manifest itself protects it, the manifest has to be edited first."""
    _protected(key, held=False)
    output.say(f"{key} is not protected any more")
    return exits.OK


def _protected(key: str, *, held: bool) -> None:
    from dataclasses import replace

    def change(tx: LedgerTransaction, record: Record, now: datetime, space: Workspace) -> None:
        if record.protected != held:
            tx.put_record(replace(record, protected=held))
            tx.advance()
            tx.note(record.ref, now, "resource.protected" if held else "resource.unprotected", {"by": getpass.getuser()})

    _changed(key, change, None if held else _not_by_manifest)


def _not_by_manifest(space: Workspace, ref: ResourceRef) -> None:
    from reconciler.engine.policy import keeps
    from reconciler.model.errors import Refused, Unavailable

    try:
        declared = space.surveyor.load().desired
    except (Refused, Unavailable):
        return  # manifests that cannot be read protect nothing by themselves; what they said is on record
    want = declared.resources.get(ref) if declared is not None else None
    if want is not None and keeps(want.lifecycle):
        hint = "change lifecycle.deletionPolicy or lifecycle.prune there first"
        raise Refused("protected-by-manifest", f"cannot unprotect {ref}: its manifest protects it ({want.at})", hint=hint)


def suspend(
    key: Key,
    reason: Annotated[str, typer.Option("--reason", help="Why; shown in status and in every plan.")],
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="WHEN", help="A moment (RFC 3339), or for how long (2h, 3d); else until resume."),
    ] = None,
) -> int:
    """Leave a resource alone: neither daemon nor apply touches it, and nothing pulls it away. Kept in the ledger."""
    if not reason.strip():
        raise typer.BadParameter("--reason: say why, for whoever finds it suspended")

    def change(tx: LedgerTransaction, record: Record, now: datetime, space: Workspace) -> None:
        from reconciler.engine import pause

        pause.suspend(tx, record.ref, pause.Pause(reason.strip(), getpass.getuser(), now, _end(until, now)))

    _changed(key, change)
    output.say(f"{key} is suspended" + (f" until {until}" if until else f" until reconciler resume {key}"))
    return exits.OK


def _end(text: str | None, now: datetime) -> datetime | None:
    from reconciler.manifest import units

    if text is None:
        return None
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        try:
            end = now + timedelta(milliseconds=units.duration(text))
        except units.UnitError as error:
            raise typer.BadParameter(f"--until: {text!r} is neither a moment nor a duration ({error})") from error
    end = end if end.tzinfo else end.replace(tzinfo=now.tzinfo)
    if end <= now:
        raise typer.BadParameter(f"--until: {text} is over already")
    return end


def resume(key: Key) -> int:
    """Take a suspension back; the next plan is about the resource again."""

    def change(tx: LedgerTransaction, record: Record, now: datetime, space: Workspace) -> None:
        from reconciler.engine import pause

        pause.resume(tx, record.ref, getpass.getuser(), now)

    _changed(key, change)
    output.say(f"{key} is resumed")
    return exits.OK


def forget(key: Key, yes: Yes = False) -> int:
    """Drop a resource from the ledger and leave it on the network as it is. Its tokens stay ours; adopt takes it back."""
    if not yes:
        if not sys.stdin.isatty():
            output.fail("cannot ask: standard input is not a terminal", "add --yes; nothing was done")
            return exits.USAGE
        typer.confirm(f"Forget {key}, and leave its tokens on the network?", err=True, abort=True)

    def change(tx: LedgerTransaction, record: Record, now: datetime, space: Workspace) -> None:
        from reconciler.engine.forget import forget

        users = sorted(one.ref for one in space.ports.ledger.read(now).records.values() if record.ref in one.requires)
        forget(tx, record, users, getpass.getuser(), now)

    _changed(key, change)
    output.say(f"{key} is forgotten; reconciler adopt {key} takes charge of it again")
    return exits.OK


def _changed(
    key: str,
    change: Callable[[LedgerTransaction, Record, datetime, Workspace], None],
    first: Callable[[Workspace, ResourceRef], None] | None = None,
) -> None:
    """Change one record under its lease, in one commit; `first` may refuse before that."""
    from reconciler.model.ref import ResourceRef

    ref = ResourceRef.parse(key)

    async def work(space: Workspace) -> None:
        from reconciler.engine.pause import require

        if first is not None:
            first(space, ref)
        async with space.runner.lease(f"ref/{ref}") as lease:
            with space.ports.ledger.begin() as tx:
                tx.check_fence(lease.key, lease.fence)
                change(tx, require(tx, ref), space.ports.clock.now(), space)

    with_workspace(work)
