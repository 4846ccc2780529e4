"""`status` and `get`: what is known, from the ledger alone. The other verbs that only look are bound here too."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import describe, doctor, envelope, exits, history, journal, output
from reconciler.cli.books import Books, read
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.intent import Run
    from reconciler.model.record import Record
    from reconciler.model.ref import ResourceRef

Keys = Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Kind/name, Kind, or Kind/glob*.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="Kind/name.")]
Shape = Annotated[Literal["table", "wide", "json", "yaml"], typer.Option("-o", "--output", help="How it is written.")]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="At most so many, newest last.")]
Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")]
_COLUMNS = ("KIND/NAME", "READY", "REASON", "GEN", "HOSTS", "CONF", "AGE", "COST", "")
_WIDE = (*_COLUMNS[:-1], "OUTPOINT", "REVISION", "")
# Seconds between two looks of --watch; the ledger is local, so a look is cheap.
_LOOK_EVERY = 1.0


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(status)
    app.command()(get)
    for family in (describe, history, journal, doctor):
        family.bind(app)


# --- status ------------------------------------------------------------------------------------------


def status(
    key: Keys = None,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Keep looking until interrupted.")] = False,
    shape: Shape = "table",
) -> int:
    """Show what is recorded and how it stands. Reads the ledger only: no network, no keys."""
    if not watch:
        _show_status(with_workspace(read), key, shape)
        return exits.OK
    last = None
    while True:
        text = _status_text(with_workspace(read), key, wide=shape == "wide")
        if sys.stdout.isatty():
            output.data("\x1b[H\x1b[J" + text)
        elif text != last:
            output.data(text)
        last = text
        time.sleep(_LOOK_EVERY)


def _show_status(books: Books, key: Sequence[str] | None, shape: str) -> None:
    if shape in ("table", "wide"):
        output.data(_status_text(books, key, wide=shape == "wide"))
        return
    chosen = books.chosen(key)
    body = {
        "revision": _revision(books)[0],
        "serial": books.recorded.serial,
        "source": dict(books.source),
        "daemon": {"running": books.daemon.running, "owner": books.daemon.owner, "lease": books.daemon.fence},
        "budget": {"spentToday": books.recorded.spent_today, "perDay": books.budget},
        "resources": [_summary(books, record) for record in chosen],
        "readOnly": _behind(books),
        "open": [{"key": key, "run": run.id, "began": _at(run)} for key, run in sorted(books.runs.items())],
    }
    output.document(body, shape)


def _behind(books: Books) -> dict[str, Any] | None:
    from reconciler.model.codec import timestamp

    found = books.behind
    if found is None:
        return None
    coins = [{"outpoint": str(one.outpoint), "satoshis": one.satoshis, "spentBy": one.txid} for one in found.coins]
    return {"since": timestamp(found.since), "message": found.message, "hint": found.hint, "coins": coins}


def _summary(books: Books, record: Record) -> dict[str, Any]:
    ready, reason, message = envelope.readiness(record)
    return {
        "ref": str(record.ref),
        "ready": ready,
        "reason": reason,
        "message": message or None,
        "generation": record.generation,
        "observedGeneration": record.status.observed_generation,
        **envelope.results(record),
        "transactions": {txid: one.state for txid, one in books.of(record).items()},
        "hosts": envelope.host_sync(record),
        "replicas": envelope.replicas(record),
        "satoshis": record.status.fees + record.status.payments,
        "protected": record.protected,
        "suspended": envelope.paused(record, books.now) or None,
    }


def _at(run: Run) -> str | None:
    from reconciler.model.codec import timestamp

    return timestamp(run.began) if run.began else None


def _status_text(books: Books, key: Sequence[str] | None, *, wide: bool) -> str:
    paint = output.style_for(sys.stdout, GLOBALS.colour)
    records = books.chosen(key)
    lines = [_head(books, paint)]
    if books.source and not books.source.get("ready", True):
        lines.append(paint("bad", f"SOURCE not ready: {books.source['message']}") + "; the last good revision stays in force")
    lines += [paint("bad", line) for line in _source_news(books.source)]
    if books.behind is not None:
        lines.append(paint("bad", f"READ ONLY: {books.behind.message}") + f"; {books.behind.hint}")
    begun = [
        (name, run)
        for name, run in sorted(books.runs.items())
        if name not in {str(r.ref) for r in books.recorded.records.values()}
    ]
    if not records and not begun:
        lines.append("Nothing is recorded yet. See what would be done with: reconciler plan")
        return "\n".join(lines)
    rows = []
    for record in records:
        cells = envelope.row(record, books.of(record), books.now)
        if str(record.ref) in books.runs:
            cells = (*cells[:-1], cells[-1] or f"run {books.runs[str(record.ref)].id} is open")
        if paused := envelope.paused(record, books.now):
            cells = (*cells[:-1], "; ".join(filter(None, (paused, cells[-1]))))
        rows.append(_widened(cells, record) if wide else cells)
    blank = ("-",) * (len(_WIDE if wide else _COLUMNS) - 4)
    rows += [(name, "False", "RunOpen", *blank, f"run {run.id} is open") for name, run in begun] if not key else []
    lines.append(_coloured(output.table(rows, _WIDE if wide else _COLUMNS, paint), paint))
    suspended = sum(bool(envelope.paused(record, books.now)) for record in records)
    lines.append(_tally(records, len(begun)) + (f", {suspended} suspended" if suspended else ""))
    return "\n".join(lines)


def _source_news(source: Mapping[str, Any]) -> list[str]:
    """Why the newest head of a repository is not in force, and whether the repository answers."""
    from reconciler.engine.source import short

    verified, reachable = source.get("verified") or {}, source.get("reachable") or {}
    found = []
    if verified.get("status") == "False":
        held = f"{short(source['head'])} is not in force ({verified['reason']}): {verified['message']}"
        found.append(f"SOURCE {held}; {short(source['current']) or 'nothing'} stays")
    if reachable.get("status") == "False":
        found.append(f"SOURCE not reachable: {reachable['message']}")
    if source.get("pinned"):
        found.append(f"SOURCE pinned to {source['pinned'][:12]}")
    return found


def _widened(cells: tuple[str, ...], record: Record) -> tuple[str, ...]:
    results = envelope.results(record)
    return (*cells[:-1], str(results.get("outpoint") or "-"), record.revision or "-", cells[-1])


def _coloured(table: str, paint: output.Style) -> str:
    """Colour after padding, so that columns stay aligned."""
    roles = {"  True ": "good", "  False ": "bad", "  Unknown ": "warning"}
    lines = table.split("\n")
    for index, line in enumerate(lines[1:], start=1):
        for word, role in roles.items():
            if word in line:
                lines[index] = line.replace(word, "  " + paint(role, word.strip()) + " ", 1)
                break
    return "\n".join(lines)


def _head(books: Books, paint: output.Style) -> str:
    from reconciler.engine.source import short
    from reconciler.planner import phrases

    revision, applied = _revision(books)
    parts = [f"REVISION {short(revision) or 'none'}" + (f"  applied {applied} ago" if applied else "")]
    parts.append(f"DAEMON running (lease {books.daemon.fence})" if books.daemon.running else "DAEMON not running")
    if books.budget is not None:
        parts.append(f"BUDGET day {phrases.grouped(books.recorded.spent_today)}/{phrases.sats(books.budget)}")
    return paint("dim", "   ".join(parts))


def _revision(books: Books) -> tuple[str, str]:
    """The newest revision anything was applied from, and how long ago."""
    for one in books.history:
        if one["event"] == "change.applied" and one["detail"].get("revision"):
            return one["detail"]["revision"], envelope.age((books.now - datetime.fromisoformat(one["at"])).total_seconds())
    return next((r.revision for r in books.recorded.records.values() if r.revision), ""), ""


def _tally(records: Sequence[Record], begun: int) -> str:
    from reconciler.model.status import Truth

    def true(record: Record, type_: str) -> bool:
        found = record.status.condition(type_)
        return found is not None and found.status is Truth.TRUE

    stalled = [r for r in records if true(r, "Stalled")]
    moving = [r for r in records if r not in stalled and true(r, "Reconciling")]
    drifted = sum(true(r, "Drifted") for r in records)
    ready = sum(true(r, "Ready") and r not in stalled and r not in moving for r in records)
    return f"{ready} ready, {len(stalled)} stalled, {drifted} drifted, {len(moving) + begun} progressing"


# --- one resource ------------------------------------------------------------------------------------


def get(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="A kind, such as Dataset, or Kind/name.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them.", show_default=False)] = None,
    label: Annotated[str | None, typer.Option("-l", "--selector", metavar="LABEL=VALUE", help="By label, as declared.")] = None,
    shape: Shape = "table",
) -> int:
    """List resources of a kind, or show one whole: -o yaml gives its envelope with its status."""
    books, labels = with_workspace(_read_with_labels)
    records = books.chosen([f"{kind}/{name}" if name else kind])
    if label is not None:
        wanted, _, value = label.partition("=")
        records = [record for record in records if labels.get(record.ref, {}).get(wanted) == value]
    if shape in ("table", "wide"):
        rows = [envelope.row(record, books.of(record), books.now) for record in records]
        rows = [_widened(cells, record) for cells, record in zip(rows, records, strict=True)] if shape == "wide" else rows
        paint = output.style_for(sys.stdout, GLOBALS.colour)
        output.data(_coloured(output.table(rows, _WIDE if shape == "wide" else _COLUMNS, paint), paint))
        return exits.OK
    documents = [envelope.envelope(record, books.of(record), books.events_of(record)) for record in records]
    single = bool(name or "/" in kind) and len(documents) == 1
    if shape == "json":
        output.document(documents[0] if single else documents)
        return exits.OK
    for index, one in enumerate(documents):
        if index:
            output.data("---")
        output.document(one, "yaml")
    return exits.OK


async def _read_with_labels(space: Workspace) -> tuple[Books, Mapping[ResourceRef, Mapping[str, str]]]:
    from reconciler.cli.planning import labelled

    desired = space.surveyor.load().desired
    books = await read(space, 1000)
    return books, labelled(desired, books.recorded.records)
