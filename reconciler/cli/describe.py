"""`describe` and `tree`: one resource with everything that is known of it, and what it stands on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconciler.cli import envelope, exits, journal, output
from reconciler.cli.books import read
from reconciler.cli.context import GLOBALS, with_workspace
from reconciler.cli.history import event

if TYPE_CHECKING:
    from reconciler.model.record import Record
    from reconciler.model.ref import ResourceRef
    from reconciler.ports import StoredTx

Key = Annotated[str, typer.Argument(metavar="KEY", help="Kind/name.")]
# Content whose host promises no end carries a date that nobody will see.
FOREVER = 32_503_680_000


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(describe)
    app.command()(tree)


def describe(key: Key) -> int:
    """Show everything about one resource: request, outputs, conditions, transactions, open run, history."""
    books = with_workspace(lambda space: read(space, 1000))
    (record,) = books.chosen([_exact(key)])
    shown = envelope.envelope(record, books.of(record))
    paint = output.style_for(sys.stdout, GLOBALS.colour)
    lines: list[str] = []

    def section(title: str, body: Sequence[str]) -> None:
        if body:
            lines.extend([paint("heading", title), *(f"  {line}" for line in body)])

    status_ = shown["status"]
    section(str(record.ref), _facts(record, status_))
    section("Spec", _yaml(shown["spec"]))
    section("Requires", [str(ref) for ref in record.requires])
    section("Outputs", _yaml(envelope.results(record)))
    section("Hosts", [f"{one['host']:<20} {one['state']}" for one in status_["hosts"]])
    section("Copies", _copies(record))
    said = [f"{c['type']:<12} {c['status']:<8} {c['reason']:<16} {c['message']}".rstrip() for c in status_["conditions"]]
    section("Conditions", said)
    section("Transactions", [_tx(txid, one) for txid, one in books.of(record).items()])
    if run := books.runs.get(str(record.ref)):
        section("Open run", with_workspace(lambda space: journal.lines_of(space, run)))
    section("History", [event(one) for one in reversed(books.events_of(record))])
    output.data("\n".join(lines))
    return exits.OK


def _facts(record: Record, status_: Mapping[str, Any]) -> list[str]:
    at = f"{record.at.file}:{record.at.line}" if record.at else "no manifest"
    facts = [f"uid         {record.uid}", f"generation  {status_['observedGeneration']}/{record.generation}"]
    facts += [f"declared    {at}", f"revision    {record.revision or '-'}", f"cost        {record.status.fees} sat fees"]
    if record.status.payments:
        facts[-1] += f" + {record.status.payments} sat payments"
    return facts + (["protected"] if record.protected else []) + (["retiring"] if record.retiring else [])


def _yaml(value: Any) -> list[str]:
    from reconciler.manifest.scaffold import to_yaml

    return to_yaml(value).rstrip("\n").splitlines() if value else []


def _copies(record: Record) -> list[str]:
    names = {file["sha256"]: file["path"] for file in record.outputs.get("files") or ()}
    lines = []
    for host, copies in sorted((record.outputs.get("replicas") or {}).items()):
        for sha256, facts in sorted(copies.items(), key=lambda item: names.get(item[0], "")):
            ends = facts.get("expires")
            until = f"until {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}" if ends and ends < FOREVER else ""
            lines.append(f"{host:<12} {names.get(sha256, 'document'):<28} {facts.get('location', '')}  {until}".rstrip())
    return lines


def _tx(txid: str, stored: StoredTx) -> str:
    where = f" at height {stored.height}" if stored.height else ", not in a block yet" if stored.state == "seen" else ""
    return f"{txid}  {stored.state}{where}"


def _exact(key: str) -> str:
    from reconciler.model.ref import ResourceRef

    ResourceRef.parse(key)
    return key


def tree(key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Kind/name; everything if omitted.")] = None) -> int:
    """Show what a resource requires, and what builds on it."""
    books = with_workspace(read)
    records = books.recorded.records
    users: dict[ResourceRef, list[ResourceRef]] = {}
    for record in records.values():
        for other in record.requires:
            users.setdefault(other, []).append(record.ref)

    def branch(ref: ResourceRef, next_: Callable[[ResourceRef], Sequence[ResourceRef]], prefix: str) -> list[str]:
        found = []
        below = sorted(next_(ref))
        for index, child in enumerate(below):
            last = index == len(below) - 1
            found.append(f"{prefix}{'└─ ' if last else '├─ '}{_leaf(child, records)}")
            found += branch(child, next_, prefix + ("   " if last else "│  "))
        return found

    def requires(ref: ResourceRef) -> Sequence[ResourceRef]:
        return records[ref].requires if ref in records else ()

    def used(ref: ResourceRef) -> Sequence[ResourceRef]:
        return users.get(ref, ())

    if key is None:
        for top in sorted(ref for ref in records if ref not in users):
            output.data("\n".join([_leaf(top, records), *branch(top, requires, "")]))
        return exits.OK
    (record,) = books.chosen([_exact(key)])
    output.data("\n".join([_leaf(record.ref, records), *branch(record.ref, requires, "")]))
    if used(record.ref):
        output.data("\n".join(["used by", *branch(record.ref, used, "")]))
    return exits.OK


def _leaf(ref: ResourceRef, records: Mapping[ResourceRef, Record]) -> str:
    if ref not in records:
        return f"{ref}  (not recorded)"
    ready, reason, _ = envelope.readiness(records[ref])
    return f"{ref}  {reason if ready == 'True' else f'not ready: {reason}'}"
