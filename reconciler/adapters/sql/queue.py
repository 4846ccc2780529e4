"""client-go's work queue, durable: keys, leases and fences in one table.

A key is *dirty* when something was put and not yet claimed, *processing* while somebody's lease on it runs;
it may be both, which means exactly one more pass after this one. Each verb reads one row, decides with a
pure function what becomes of it, and writes it back, in one transaction.

A claim consumes what is due. A put that lies in the future stays, even when the key is taken out of turn:
an extra pass is harmless, a lost wake-up is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeGuard

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, or_, select

from reconciler.adapters.sql.dialect import Database, changed, chosen, insert_if_absent, locked, removed
from reconciler.adapters.sql.tables import QUEUE
from reconciler.adapters.sql.transaction import bump
from reconciler.model.errors import Conflict
from reconciler.ports import Lease

# Long enough for a slow broadcast between two renewals, short enough that a dead worker's keys move on within a minute.
LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Slot:
    """One row of the queue; see tables.QueueRow for what the columns mean."""

    key: str
    ready: datetime
    rank: int
    due: datetime | None = None
    priority: int | None = None
    owner: str | None = None
    fence: int = 0
    until: datetime | None = None
    attempts: int = 0


_COLUMNS = tuple(one.name for one in fields(Slot))


def offered(slot: Slot, due: datetime, priority: int) -> Slot:
    """After a put: the earliest moment and the highest priority of all that was put since the last claim."""
    if slot.due is not None and slot.priority is not None:
        due, priority = min(due, slot.due), max(priority, slot.priority)
    queued = replace(slot, due=due, priority=priority)
    return queued if slot.owner is not None else replace(queued, ready=due, rank=priority)


def leased(slot: Slot, owner: str, fence: int, now: datetime, until: datetime) -> Slot:
    """After a claim: what was due is consumed, and nobody else is offered the key before `until`."""
    held = replace(slot, owner=owner, fence=fence, until=until, ready=until)
    if slot.due is None or slot.priority is None or slot.due > now:
        return held
    return replace(held, due=None, priority=None, rank=max(slot.rank, slot.priority))


def released(slot: Slot, attempts: int) -> Slot | None:
    """After a pass: queued again if something was put meanwhile, gone otherwise."""
    if slot.due is None or slot.priority is None:
        return None
    return Slot(slot.key, ready=slot.due, rank=slot.priority, due=slot.due, priority=slot.priority, attempts=attempts)


class SqlQueue:
    """ports.Queue on one table."""

    def __init__(self, database: Database, lease: timedelta = LEASE) -> None:
        self._database = database
        self._lease = lease

    def put(self, key: str, due: datetime, priority: int = 0) -> None:
        """Queue the key; a put that changes nothing writes nothing."""
        with self._database.write() as sql:
            _offer(sql, key, due, priority)

    def claim(self, owner: str, now: datetime, prefixes: Sequence[str] = ()) -> Lease | None:
        """The most urgent key that is due and that nobody holds: highest priority, then earliest."""
        with self._database.write() as sql:
            row = sql.execute(_head(tuple(prefixes)), {"now": now}).mappings().one_or_none()
            return None if row is None else self._hold(sql, _from(row), owner, now)

    def take(self, key: str, owner: str, now: datetime) -> Lease | None:
        """Lease this key, queued or not. The same owner may take it again; its earlier lease is then lost."""
        with self._database.write() as sql:
            if insert_if_absent(sql, QUEUE, _row(Slot(key, ready=now, rank=0))):
                return self._hold(sql, Slot(key, ready=now, rank=0), owner, now)
            slot = _slot(sql, key)
            if slot is None or (slot.owner not in (None, owner) and slot.until is not None and slot.until > now):
                return None
            return self._hold(sql, slot, owner, now)

    def _hold(self, sql: Connection, slot: Slot, owner: str, now: datetime) -> Lease:
        until = now + self._lease
        fence = bump(sql, "fence")
        _write(sql, leased(slot, owner, fence, now, until))
        return Lease(slot.key, fence, owner, until, slot.attempts)

    def renew(self, lease: Lease, now: datetime) -> Lease:
        """The same lease with more time; Conflict when it was lost."""
        until = now + self._lease
        with self._database.write() as sql:
            slot = _slot(sql, lease.key)
            if not _is_held(slot, lease):
                raise _lost(lease)
            _write(sql, replace(slot, until=until, ready=until))
        return replace(lease, until=until)

    def done(self, lease: Lease) -> None:
        """The pass succeeded: failures are forgotten. Conflict, and nothing changed, when the lease was lost."""
        with self._database.write() as sql:
            slot = _slot(sql, lease.key)
            if not _is_held(slot, lease):
                raise _lost(lease)
            _settle(sql, slot, released(slot, attempts=0))

    def later(self, lease: Lease, due: datetime, failed: bool) -> None:
        """Come back at `due`, or earlier if something was put meanwhile. Only a failure counts; waiting does not.

        When the lease was lost the wake-up is kept all the same, and then it is a Conflict.
        """
        with self._database.write() as sql:
            slot = _slot(sql, lease.key)
            if _is_held(slot, lease):
                _settle(sql, slot, released(offered(slot, due, slot.rank), slot.attempts + int(failed)))
                return
            _offer(sql, lease.key, due, 0)
        raise _lost(lease)

    def forsake(self, owner: str, now: datetime, wake: Sequence[str] = ()) -> int:
        """Fences stay spent, so a holder that lives after all can write nothing."""
        held = select(QUEUE).where(QUEUE.c.owner == owner, QUEUE.c.until > now)
        with self._database.write() as sql:
            slots = [_from(row) for row in sql.execute(held).mappings()]
            for slot in slots:
                woken = offered(slot, now, slot.rank) if slot.key.startswith(tuple(wake)) else slot
                _settle(sql, slot, released(woken, slot.attempts))
        return len(slots)

    def depth(self, now: datetime) -> tuple[int, float]:
        """Keys that a claim could have now, those of dead workers included, and how long the oldest has waited."""
        with self._database.read() as sql:
            count, oldest = sql.execute(select(func.count(), func.min(QUEUE.c.ready)).where(QUEUE.c.ready <= now)).one()
        return int(count), 0.0 if oldest is None else (now - oldest).total_seconds()

    def next_due(self, prefixes: Sequence[str] = ()) -> datetime | None:
        """When a claim of such keys could next succeed: a due moment, or the end of a lease whose holder may be dead."""
        with self._database.read() as sql:
            moment: datetime | None = sql.scalar(_first(tuple(prefixes)))
        return moment

    def holders(self, now: datetime) -> Sequence[Lease]:
        """The leases that still run, by key."""
        with self._database.read() as sql:
            return [Lease(row.key, row.fence, row.owner, row.until, row.attempts) for row in sql.execute(_HELD, {"now": now})]


def wake(sql: Connection, key: str, due: datetime) -> None:
    """As `put`, in a transaction that somebody else commits: the key is queued exactly if their write happened."""
    _offer(sql, key, due, 0)


# Statements are built once: building one costs more than running it.
_HELD = select(QUEUE).where(QUEUE.c.owner.is_not(None), QUEUE.c.until > bindparam("now")).order_by(QUEUE.c.key)
_SLOT = locked(chosen(QUEUE, ("key",)))
_WRITE = changed(QUEUE, ("key",))
_DROP = removed(QUEUE, ("key",))


@cache
def _head(prefixes: tuple[str, ...]) -> Select[Any]:
    """What a claim takes first among the keys that begin so, or among all."""
    due = select(QUEUE).where(QUEUE.c.ready <= bindparam("now"))
    first = due.order_by(QUEUE.c.rank.desc(), QUEUE.c.ready, QUEUE.c.key).limit(1)
    return locked(first.where(_begins(prefixes)) if prefixes else first, skip=True)


@cache
def _first(prefixes: tuple[str, ...]) -> Select[Any]:
    first = select(func.min(QUEUE.c.ready))
    return first.where(_begins(prefixes)) if prefixes else first


def _begins(prefixes: Sequence[str]) -> ColumnElement[bool]:
    return or_(*(func.substr(QUEUE.c.key, 1, len(prefix)) == prefix for prefix in prefixes))


def _from(row: Mapping[Any, Any]) -> Slot:
    return Slot(**row)


def _row(slot: Slot) -> dict[str, Any]:
    return {name: getattr(slot, name) for name in _COLUMNS}


def _slot(sql: Connection, key: str) -> Slot | None:
    row = sql.execute(_SLOT, {"by_key": key}).mappings().one_or_none()
    return None if row is None else _from(row)


def _is_held(slot: Slot | None, lease: Lease) -> TypeGuard[Slot]:
    """Whether the slot's lease is still this one. It may have run out: until somebody else takes it, it holds."""
    return slot is not None and slot.owner is not None and slot.fence == lease.fence


def _lost(lease: Lease) -> Conflict:
    return Conflict(
        "lease-lost",
        f"cannot settle {lease.key} under fence {lease.fence}: the lease is no longer ours",
        hint="drop the work; whoever holds the key now goes on with it",
    )


def _offer(sql: Connection, key: str, due: datetime, priority: int) -> None:
    if insert_if_absent(sql, QUEUE, _row(Slot(key, ready=due, rank=priority, due=due, priority=priority))):
        return
    slot = _slot(sql, key)
    if slot is not None and (queued := offered(slot, due, priority)) != slot:
        _write(sql, queued)


def _write(sql: Connection, slot: Slot) -> None:
    sql.execute(_WRITE, {"by_key": slot.key, **_row(slot)})


def _settle(sql: Connection, slot: Slot, after: Slot | None) -> None:
    if after is None:
        sql.execute(_DROP, {"by_key": slot.key})
    else:
        _write(sql, after)
