"""`status`, `get`, `describe`, `tree`, `history`, `events`: what is known, from the ledger alone.

`journal` and `doctor` are bound here too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import doctor, envelope, exits, holders, journal, output
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.intent import Run
    from reconciler.model.record import Record, RecordedState
    from reconciler.model.ref import ResourceRef
    from reconciler.ports import StoredTx

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
    for verb in (status, get, describe, tree, history, events):
        app.command()(verb)
    journal.bind(app)
    doctor.bind(app)


@dataclass(frozen=True, slots=True)
class Books:
    """One reading of the ledger: records, open runs, transactions, history (newest first), the source, the daemon."""

    now: datetime
    recorded: RecordedState
    runs: Mapping[str, Run]
    transactions: Mapping[str, StoredTx]
    history: Sequence[Mapping[str, Any]]
    source: Mapping[str, Any]
    daemon: holders.Presence
    budget: int | None

    def chosen(self, selectors: Sequence[str] | None) -> list[Record]:
        """The records that selectors name, in order; all without any."""
        from reconciler.cli.planning import labelled, select

        known = labelled(None, self.recorded.records)
        wanted = select(selectors, known) if selectors else frozenset(known)
        return [self.recorded.records[ref] for ref in sorted(wanted)]

    def of(self, record: Record) -> dict[str, StoredTx]:
        """The transactions behind a record."""
        return {txid: self.transactions[txid] for txid in envelope.txids_of(record) if txid in self.transactions}


async def read(space: Workspace, depth: int = 100) -> Books:
    """Read the ledger; no network, no manifests."""
    from reconciler.engine.survey import midnight
    from reconciler.model.intent import RunState

    now = space.ports.clock.now()
    recorded = space.ports.ledger.read(midnight(now))
    with space.ports.ledger.begin() as tx:
        return Books(
            now=now,
            recorded=recorded,
            runs={run.key.removeprefix("ref/"): run for run in tx.runs(state=RunState.OPEN)},
            transactions={stored.txid: stored for stored in tx.transactions()},
            history=tx.history(limit=depth),
            source=tx.get("source") or {},
            daemon=holders.presence(space),
            budget=space.settings.limits.spend_day,
        )


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
        "open": [{"key": key, "run": run.id, "began": _at(run)} for key, run in sorted(books.runs.items())],
    }
    output.document(body, shape)


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
        "satoshis": record.status.fees + record.status.payments,
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
        rows.append(_widened(cells, record) if wide else cells)
    blank = ("-",) * (len(_WIDE if wide else _COLUMNS) - 4)
    rows += [(name, "False", "RunOpen", *blank, f"run {run.id} is open") for name, run in begun] if not key else []
    lines.append(_coloured(output.table(rows, _WIDE if wide else _COLUMNS, paint), paint))
    lines.append(_tally(records, len(begun)))
    return "\n".join(lines)


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
    from reconciler.planner import phrases

    revision, applied = _revision(books)
    parts = [f"REVISION {revision or 'none'}" + (f"  applied {applied} ago" if applied else "")]
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
    documents = [envelope.envelope(record, books.of(record), _events_of(books, record)) for record in records]
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


def _events_of(books: Books, record: Record, most: int = 10) -> list[Mapping[str, Any]]:
    return [one for one in books.history if one["ref"] == str(record.ref)][:most]


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
    section("History", [_event(one) for one in reversed(_events_of(books, record))])
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
    from datetime import UTC

    names = {file["sha256"]: file["path"] for file in record.outputs.get("files") or ()}
    lines = []
    for host, copies in sorted((record.outputs.get("replicas") or {}).items()):
        for sha256, facts in sorted(copies.items(), key=lambda item: names.get(item[0], "")):
            ends = facts.get("expires")
            until = f"until {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}" if ends and ends < 32503680000 else ""
            lines.append(f"{host:<12} {names.get(sha256, 'document'):<28} {facts.get('location', '')}  {until}".rstrip())
    return lines


def _tx(txid: str, stored: StoredTx) -> str:
    where = f" at height {stored.height}" if stored.height else ", not in a block yet" if stored.state == "seen" else ""
    return f"{txid}  {stored.state}{where}"


def _event(one: Mapping[str, Any]) -> str:
    detail = one["detail"]
    told = " ".join(str(detail[name]) for name in ("verb", "reason", "error") if detail.get(name))
    paid = f"  {detail['satoshis']} sat" if detail.get("satoshis") else ""
    sent = "".join(f"  {txid[:8]}…" for txid in detail.get("txids") or ())
    return f"{one['at'][:19]}Z  {one['event']:<16} {told}{sent}{paid}"


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


# --- what happened -----------------------------------------------------------------------------------


def history(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Kind/name; everything if omitted.")] = None,
    limit: Limit = 100,
    form: Form = "text",
) -> int:
    """Show what was done, when, and what it cost; oldest first."""
    return _told(key, limit, form, {"change.applied", "run.stalled"})


def events(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Kind/name; everything if omitted.")] = None,
    limit: Limit = 100,
    form: Form = "text",
) -> int:
    """Show everything that was noted in the ledger; oldest first."""
    return _told(key, limit, form, None)


def _told(key: str | None, limit: int, form: str, only: set[str] | None) -> int:
    from reconciler.model.ref import ResourceRef

    ref = ResourceRef.parse(key) if key else None

    async def work(space: Workspace) -> list[Mapping[str, Any]]:
        with space.ports.ledger.begin() as tx:
            return list(tx.history(ref, limit))

    found = [one for one in reversed(with_workspace(work)) if only is None or one["event"] in only]
    if form == "json":
        output.document(found)
        return exits.OK
    for one in found:
        output.data(f"{one['at'][:19]}Z  {one['ref'] or '-':<28} {_event(one).split('  ', 1)[1]}")
    if not found:
        output.say("nothing was noted yet")
    return exits.OK
