"""`audit export` writes history as a chain of digests; `verify audit` checks such a file offline, believing nothing in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.audit import Head
    from reconciler.wire.auditlog import Finding, Log

Trusted = Callable[[int, str], bool]
Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
# Entries read from the ledger at a time.
_PAGE = 1000


def bind(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="History as a chain of digests, for auditors.")
    family.command()(export)
    family.command()(head)
    app.add_typer(family, name="audit")


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the entries go; - for standard output.")],
    proof: Annotated[Path | None, typer.Option("--proof", help="Where the proof of the newest anchored head goes, too.")] = None,
) -> int:
    """Write every note and every booking, each with the digest of the one before it."""
    known, count, evidence = with_workspace(lambda space: _export(space, file, proof is not None))
    if proof is not None:
        proof.write_bytes(evidence)
    output.say(f"{count} entries, head {known.digest}")
    against = f" --against {proof}" if proof is not None else ""
    output.say(f"check it anywhere: reconciler verify audit {file}{against}")
    return exits.OK


async def _export(space: Workspace, file: Path, proven: bool) -> tuple[Head, int, bytes]:
    from reconciler.wire.auditlog import write

    evidence = await _proof(space) if proven else b""
    with space.ports.ledger.begin() as tx:
        known = tx.audit_head()
    count = 0
    out = sys.stdout.buffer if str(file) == "-" else file.open("wb")
    try:
        for line in write(known, _entries(space, known.entries)):
            out.write(line)
            count += 1
    finally:
        out.flush() if out is sys.stdout.buffer else out.close()
    return known, count - 1, evidence


def _entries(space: Workspace, most: int) -> Iterator[Mapping[str, Any]]:
    """Page by page, so that no writer waits; what is appended meanwhile is left for the next export."""
    after = 0
    while after < most:
        with space.ports.ledger.begin() as tx:
            page = tx.audit_entries(after, min(_PAGE, most - after))
        if not page:
            return
        yield from page
        after = int(page[-1]["number"])


async def _proof(space: Workspace) -> bytes:
    from reconciler.engine import anchor, evidence
    from reconciler.engine.confirm import confirm
    from reconciler.model.errors import Refused

    ref = anchor.subject(space.settings.environment)
    with space.ports.ledger.begin() as tx:
        record = tx.record(ref)
    if record is None:
        hint = "say who signs it: audit.identity in reconciler.yaml"
        raise Refused("not-anchored", "cannot prove the head of history: it has never been anchored", hint=hint)
    net = evidence.network_of(record)
    await confirm(space.ports, {net.chain: net})
    return await evidence.assemble(space.ports, record)


def head(form: Form = "text") -> int:
    """Show how far the chain goes, and how far it is anchored."""
    from reconciler.engine import anchor

    async def work(space: Workspace) -> dict[str, Any]:
        ref = anchor.subject(space.settings.environment)
        with space.ports.ledger.begin() as tx:
            known, record = tx.audit_head(), tx.record(ref)
        shown: dict[str, Any] = {"lineage": known.lineage, "entries": known.entries, "head": known.digest, "anchored": None}
        if record is not None:
            spec, token = record.body["spec"], record.outputs["tokens"][0]
            shown["anchored"] = {"entries": spec["entries"], "head": spec["head"], "outpoint": token["outpoint"]}
        return shown

    shown = with_workspace(work)
    if form == "json":
        output.document(shown)
        return exits.OK
    output.data(f"{shown['entries']} entries, head {shown['head']}")
    if shown["anchored"]:
        output.data(f"anchored up to entry {shown['anchored']['entries']} by {shown['anchored']['outpoint']}")
    else:
        output.say("never anchored; see audit in reconciler.yaml")
    return exits.OK


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What audit export wrote.", dir_okay=False)],
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", help="A proof of an anchored head, or an earlier export, that you kept. May be repeated."),
    ] = None,
    headers: Annotated[
        Path | None,
        typer.Option("--headers", help="Block headers you trust: 80 bytes each, from height 0. Without it that link stays open."),
    ] = None,
    form: Form = "text",
) -> int:
    """Check an export of history: nothing altered, removed, added, moved, or cut off before a head you know."""
    from reconciler.cli.proof import chain_of
    from reconciler.model.errors import RemoteProtocolError
    from reconciler.wire import auditlog

    try:
        log = _read(file)
        found = auditlog.check(log)
        for other in against or ():
            found += _compare(log, other, chain_of(headers) if headers else None)
    except RemoteProtocolError as error:
        found = [auditlog.Finding("form", False, error.message)]
    broken = [one.name for one in found if not one.ok]
    if form == "json":
        checks = [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in found]
        output.document({"file": str(file), "holds": not broken, "checks": checks})
    else:
        paint, width = output.style_for(sys.stdout, GLOBALS.colour), max(len(one.name) for one in found)
        for one in found:
            word = paint("good", "ok    ") if one.ok else paint("bad", "failed")
            output.data(f"{word}  {one.name:<{width}}  {one.detail}")
    if broken:
        output.fail(f"cannot accept {file}: {', '.join(broken)} failed")
        return exits.ERROR
    if not against:
        output.say("nothing shows that the end was not cut off: hold it --against an anchored head or an earlier export")
    return exits.OK


def _read(path: Path) -> Log:
    from reconciler.model.errors import Refused
    from reconciler.wire import auditlog

    try:
        with path.open("rb") as lines:
            return auditlog.read(lines)
    except OSError as error:
        raise Refused("no-file", f"cannot read {path}: {error.strerror}", hint="name what audit export wrote") from error


def _compare(log: Log, path: Path, trusted: Trusted | None) -> list[Finding]:
    """What a kept file says of the log: an earlier export by its head, a proof by the document that it proves."""
    from reconciler.wire import auditlog
    from reconciler.wire.bundle import parse_bundle, verify_bundle
    from reconciler.wire.document import open_envelope

    data = path.read_bytes()
    if data.startswith(b'{"entries"') and auditlog.FORMAT.encode() in data.partition(b"\n")[0]:
        earlier = auditlog.read(data.splitlines())
        sound = [replace(one, name=f"{path.name} {one.name}") for one in auditlog.check(earlier)]
        return [*sound, auditlog.against(log, earlier.reached, path.name)]
    links = verify_bundle(data, None, trusted)
    found = [auditlog.Finding(f"{path.name} {one.name}", False, one.detail) for one in links if one.ok is False]
    document, signer = open_envelope(parse_bundle(data).envelope)
    if not found:
        left = [one.name for one in links if one.ok is None]
        said = f"signed by {signer}, every link holds" + (f"; left open: {', '.join(left)}" if left else "")
        found.append(auditlog.Finding(f"{path.name} proof", True, said))
    return [*found, auditlog.against(log, auditlog.head_of(document), f"{path.name} head")]
