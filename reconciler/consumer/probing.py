"""What a buyer measures of producers: whether they answer and how soon, kept from one search to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.consumer.pins import origin_of
from reconciler.model.canonical import Json
from reconciler.ports import Ledger, LedgerView
from reconciler.web import Web

_ROW = "consumer/probe/"
# Earlier measurements count for as much as this many new ones, so that a host that has become slow is soon known to be.
_MEMORY = 3
# Probes that are remembered in a ratio; older ones fade by halves.
_MOST = 200


@dataclass(frozen=True, slots=True)
class Probed:
    """Of one address: probes sent and answered, and the smoothed milliseconds; None while the last one was not answered."""

    asked: int = 0
    answered: int = 0
    ms: int | None = None


def after(was: Probed, ms: int | None) -> Probed:
    """What is known after one more probe."""
    if was.asked >= _MOST:
        was = Probed(was.asked // 2, was.answered // 2, was.ms)
    if ms is None:
        return Probed(was.asked + 1, was.answered, None)
    smooth = ms if was.ms is None else (_MEMORY * was.ms + ms) // (_MEMORY + 1)
    return Probed(was.asked + 1, was.answered + 1, smooth)


def known(tx: LedgerView, url: str) -> Probed:
    """What earlier probes found of an address."""
    row: Mapping[str, Json] = tx.get(_ROW + origin_of(url)) or {}
    return Probed(row.get("asked", 0), row.get("answered", 0), row.get("ms"))


async def probe(ledger: Ledger, web: Web, urls: Iterable[str]) -> dict[str, Probed]:
    """Ask every address once, all together; origin -> what is known of it now."""
    origins = sorted({origin_of(url) for url in urls if url})
    took = await asyncio.gather(*(web.pace(origin + "/health") for origin in origins))
    found = {}
    with ledger.begin() as tx:
        for origin, ms in zip(origins, took, strict=True):
            now = found[origin] = after(known(tx, origin), ms)
            tx.put(_ROW + origin, {"asked": now.asked, "answered": now.answered, "ms": now.ms})
    return found
