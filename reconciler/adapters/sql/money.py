"""What was spent and what is set aside, as sums: the arithmetic behind every budget.

A run sets satoshis aside in the commit that opens it. What it really moves is booked against that sum, and the rest
counts as long as the run is open: money that may move is money that cannot be promised twice. When the run ends, only
its booking is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, func, select

from reconciler.adapters.sql.snapshot import NAME, REF, by_kind, by_resource
from reconciler.adapters.sql.tables import BOOKINGS, RUNS
from reconciler.model.booking import Booking
from reconciler.model.intent import RunState
from reconciler.model.ref import ResourceRef

_TOTAL: ColumnElement[int] = BOOKINGS.c.fees + BOOKINGS.c.payments + BOOKINGS.c.locked
_LEFT: ColumnElement[int] = RUNS.c.reserved - func.coalesce(_TOTAL, 0)


def spent_since(connection: Connection, moment: datetime, kind: str = "") -> int:
    """Fees, payments and locked value booked at or after `moment`, in satoshis; of one kind, or of all."""
    found = _SPENT
    if kind:
        found = found.where(BOOKINGS.c.ref.startswith(f"{kind}/", autoescape=True))
    return int(connection.scalars(found, {"since": moment}).one())


def reserved(connection: Connection, kind: str = "") -> int:
    """What open runs have set aside and not moved yet, in satoshis; of one kind, or of all."""
    found = _open(func.coalesce(func.sum(_LEFT), 0))
    if kind:
        found = found.where(RUNS.c.key.startswith(f"{REF}{kind}/", autoescape=True))
    return int(connection.scalars(found).one())


def outstanding(connection: Connection) -> dict[ResourceRef, int]:
    """As `reserved`, by resource."""
    return by_resource((key, left) for key, left in connection.execute(_OUTSTANDING))


def spent_by_kind(connection: Connection, moment: datetime) -> Mapping[str, int]:
    """As `spent_since`, by kind; without what the purse paid for its own splits."""
    return by_kind((name, total) for name, total in connection.execute(_BY_KIND, {"since": moment}))


def bookings(connection: Connection, moment: datetime) -> Sequence[Booking]:
    """Every booking at or after `moment`, oldest first."""
    rows = connection.execute(select(BOOKINGS).where(BOOKINGS.c.moment >= moment).order_by(BOOKINGS.c.moment, BOOKINGS.c.run))
    return [Booking(r.run, ResourceRef.parse(r.ref) if r.ref else None, r.moment, r.fees, r.payments, r.locked) for r in rows]


def booked(connection: Connection, run: str) -> int:
    """Satoshis booked of one run so far."""
    return int(connection.scalar(_BOOKED, {"of_run": run}) or 0)


def _open(*what: Any) -> Select[Any]:
    """Over open runs that have something left: a run that moved more than it set aside owes nobody anything."""
    joined = RUNS.outerjoin(BOOKINGS, BOOKINGS.c.run == RUNS.c.id)
    return select(*what).select_from(joined).where(RUNS.c.state == RunState.OPEN.value, case((_LEFT > 0, True), else_=False))


# Statements are built once: building one costs more than running it.
_KIND = func.rtrim(BOOKINGS.c.ref, NAME)
_SPENT = select(func.coalesce(func.sum(_TOTAL), 0)).where(BOOKINGS.c.moment >= bindparam("since"))
_BY_KIND = (
    select(_KIND, func.sum(_TOTAL)).where(BOOKINGS.c.moment >= bindparam("since"), BOOKINGS.c.ref.is_not(None)).group_by(_KIND)
)
_BOOKED = select(_TOTAL).where(BOOKINGS.c.run == bindparam("of_run"))
_OUTSTANDING = _open(RUNS.c.key, _LEFT).where(RUNS.c.key.startswith(REF))
