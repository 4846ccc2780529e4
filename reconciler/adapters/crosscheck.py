"""Several header sources held against one another: what they agree about is believed, and else work decides, or nothing is.

A source can be down, behind, on the losing side of a fork, or bought. So more than half of the declared ones must answer. Where
those that do name one block, or all say that there is none yet, that is the answer. Where they differ, their chains are followed
back to the last block they have in common, and each side shows what it has on top of that. Only headers that build on one
another and meet their target count, for the work in them, and a side wins once it is six blocks of its own difficulty ahead of
every other. Until then the height is in dispute: Unavailable("headers-disagree"), and nothing that needs its header is believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from reconciler.adapters.http import host_of
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError, Refused, Unavailable
from reconciler.ports import Header
from reconciler.wire.headers import work_of
from reconciler.wire.proof import parse_header

# Blocks by which one side must be ahead: what is as deep as that is not taken back by chance.
LEAD = 6
# How far a dispute is followed back, and up again: two sides that are level for this long are for a person to judge.
REACH = 24

AskHeader = Callable[[int, Endpoint], Awaitable[Header | None]]
AskTip = Callable[[Endpoint], Awaitable[int]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Side:
    """What some sources say stands at a height: a block, or none yet. `work` is what they show since the dispute began, and `own`
    that of one block.
    """

    said: Header | None
    sources: tuple[Endpoint, ...]
    work: int = 0
    own: int = 0


def sources_of(source: Endpoint) -> tuple[Endpoint, ...]:
    """Every source that an endpoint stands for, itself first."""
    also = source.options.get("also") or ()
    if not also:
        return (source,)
    first = replace(source, options={})
    return (first, *(replace(first, url=url) for url in also))


async def header(height: int, sources: Sequence[Endpoint], ask: AskHeader, ask_tip: AskTip) -> Header | None:
    """The header that the sources agree about, or that work has decided for; None when it is above their tips."""
    answered = await _heard([(one, ask(height, one)) for one in sources], f"read the header at {height}")
    sides: dict[str, Side] = {}
    for one, said in answered:
        name = said.hash if said else ""
        known = sides.get(name) or Side(said, ())
        sides[name] = replace(known, sources=(*known.sources, one))
    if len(sides) == 1:
        return answered[0][1]
    base = await _common(tuple(sides.values()), height, ask)
    weighed = [side if base is None else await _weighed(side, base, height, ask, ask_tip) for side in sides.values()]
    best, second, *_ = sorted(weighed, key=lambda side: side.work, reverse=True)
    if best.work - second.work >= LEAD * best.own > 0:
        return best.said
    told = "; ".join(
        f"{', '.join(host_of(one.url) or one.url for one in side.sources)}: {side.said.hash if side.said else 'none yet'}"
        for side in weighed
    )
    hint = f"it is believed again once they agree, or once one side is {LEAD} blocks ahead; a source that is wrong is taken out"
    raise Unavailable("headers-disagree", f"cannot tell which block has height {height}: {told}", hint=hint)


async def tip(sources: Sequence[Endpoint], ask: AskTip) -> int:
    """A height that half of the answering sources have reached at least: one that boasts is not believed, nor one that sleeps."""
    answered = await _heard([(one, ask(one)) for one in sources], "read the height of the chain")
    heights = sorted(height for _, height in answered)
    return heights[(len(heights) - 1) // 2]


async def _heard(asked: Sequence[tuple[Endpoint, Awaitable[T]]], what: str) -> list[tuple[Endpoint, T]]:
    """What those said that answered; Unavailable unless they are more than half."""
    answers = await asyncio.gather(*(work for _, work in asked), return_exceptions=True)
    said, faults = [], []
    for (one, _), answer in zip(asked, answers, strict=True):
        if isinstance(answer, ReconcilerError):
            faults.append(answer.message)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            said.append((one, answer))
    if 2 * len(said) > len(asked):
        return said
    told = f"cannot {what}: {len(said)} of {len(asked)} sources answer, and more than half must ({'; '.join(faults)})"
    raise Unavailable("headers-silent", told, hint="with three sources one may be out")


async def _common(sides: Sequence[Side], height: int, ask: AskHeader) -> Header | None:
    """The last block below the height that every side has; None when there is none within reach, or one falls silent."""
    for below in range(height - 1, max(-1, height - 1 - REACH), -1):
        try:
            said = [await ask(below, side.sources[0]) for side in sides]
        except (Refused, Unavailable):
            return None
        if len({one.hash if one else "" for one in said}) == 1 and said[0] is not None:
            return said[0]
    return None


async def _weighed(side: Side, base: Header, height: int, ask: AskHeader, ask_tip: AskTip) -> Side:
    """The side with the work that its first source shows on top of the common block; a header that does not belong ends it."""
    source, last, work, own = side.sources[0], base, 0, 0
    try:
        for above in range(base.height + 1, min(await ask_tip(source), height + REACH) + 1):
            found = await ask(above, source)
            parsed = parse_header(found.raw, above) if found else None
            if found is None or parsed is None or parsed.prev != last.hash:
                break
            if above == height and (side.said is None or found.hash != side.said.hash):
                return side  # it says something else than a moment ago
            work, own, last = work + work_of(parsed), own or work_of(parsed), found
    except (Refused, Unavailable):
        pass  # it counts for what it has shown
    reached = side.said is None or last.height >= height
    return replace(side, work=work, own=own) if reached else side
