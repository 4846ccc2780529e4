"""Looking through what is on sale: a query, the items that answer it in order, and one page of them.

Pages are cut by the place of the last item that was shown and not by a number of items to skip, so that something published in
between neither repeats an item nor hides one.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.manifest.units import MAX_SATOSHIS, UnitError, duration, satoshis
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.sales.shelf import Item

# Items on a page, when the asker names no number, and at most.
PAGE, MAX_PAGE = 20, 100
# What a visitor may type; longer texts are somebody's mistake.
MAX_TEXT = 200
SORTS = ("relevance", "newest", "price", "title")
_WORDS = 8
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. Empty fields ask for nothing; all the others must hold at once."""

    text: str = ""
    tags: tuple[str, ...] = ()
    license: str = ""
    producer: str = ""
    region: str = ""
    capability: str = ""
    max_price: int | None = None
    max_age: timedelta | None = None
    sort: str = ""
    limit: int = PAGE
    cursor: str = ""

    @property
    def order(self) -> str:
        """The order of the answer: by relevance where there is a text, else the newest first."""
        return self.sort or ("relevance" if self.text else "newest")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the answer. `next` is the cursor of the page after it, None on the last one; `total` counts all pages."""

    items: tuple[Item, ...]
    next: str | None
    total: int


def read_query(asked: Mapping[str, Sequence[str]]) -> Query:
    """A query out of the parameters of an address; Refused("bad-query") naming the parameter that is wrong."""
    last = {name: values[-1].strip() for name, values in asked.items() if values}

    def text(name: str) -> str:
        if len(last.get(name, "")) > MAX_TEXT:
            raise _bad(f"{name} is longer than {MAX_TEXT} characters")
        return last.get(name, "")

    sort, limit = text("sort"), text("limit") or str(PAGE)
    if sort and sort not in SORTS:
        raise _bad(f"sort is none of {', '.join(SORTS)}")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_PAGE):
        raise _bad(f"limit is no number from 1 to {MAX_PAGE}")
    tags = tuple(dict.fromkeys(tag.strip() for tag in asked.get("tag", ()) if tag.strip()))
    if len(tags) > _WORDS or any(len(tag) > MAX_TEXT for tag in tags):
        raise _bad(f"tag is given more than {_WORDS} times, or is too long")
    return Query(
        text=text("q"),
        tags=tags,
        license=text("license"),
        producer=text("producer"),
        region=text("region"),
        capability=text("capability"),
        max_price=_unit("maxPrice", text("maxPrice"), satoshis),
        max_age=None if (age := _unit("maxAge", text("maxAge"), duration)) is None else timedelta(milliseconds=age),
        sort=sort,
        limit=int(limit),
        cursor=last.get("cursor", ""),
    )


def find(items: Iterable[Item], query: Query, now: datetime) -> Page:
    """The page of the answer that begins after the query's cursor; Refused("bad-cursor") when that came from elsewhere."""
    words = query.text.casefold().split()[:_WORDS]
    found = []
    for item in items:
        if _fits(item, query, now) and (weight := _weight(item, words)):
            found.append((_ORDER[query.order](item, weight), item))
    found.sort(key=lambda one: one[0])
    after = _place(query) if query.cursor else None
    rest = [one for one in found if after is None or one[0] > after]
    shown = rest[: query.limit]
    more = _cursor(query.order, shown[-1][0]) if len(rest) > len(shown) else None
    return Page(tuple(item for _, item in shown), more, len(found))


@dataclass(frozen=True, slots=True)
class Facets:
    """What one can narrow a search by: every value with the number of items that have it, the commonest first."""

    tags: tuple[tuple[str, int], ...]
    licenses: tuple[tuple[str, int], ...]
    regions: tuple[tuple[str, int], ...]
    capabilities: tuple[tuple[str, int], ...]


def facets(items: Iterable[Item], most: int = 24) -> Facets:
    """The values of what is on sale."""
    held = list(items)

    def count(values: Callable[[Item], Iterable[str]]) -> tuple[tuple[str, int], ...]:
        counted = Counter(value for item in held for value in set(values(item)) if value)
        return tuple(sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:most])

    return Facets(
        count(lambda item: item.offer.tags),
        count(lambda item: (item.offer.license or "",)),
        count(lambda item: item.regions),
        count(lambda item: item.capabilities),
    )


# --- what fits ------------------------------------------------------------------------------------


def _fits(item: Item, query: Query, now: datetime) -> bool:
    """Whether an item meets every condition but the text."""
    offer = item.offer
    have = {tag.casefold() for tag in offer.tags}
    fresh = query.max_age is None or (offer.published is not None and now - offer.published <= query.max_age)
    return (
        all(tag.casefold() in have for tag in query.tags)
        and (not query.license or query.license.casefold() == (offer.license or "").casefold())
        and (not query.producer or query.producer in (item.producer.key, item.producer.name))
        and (not query.region or _among(query.region, item.regions))
        and (not query.capability or _among(query.capability, item.capabilities))
        and (query.max_price is None or (item.satoshis is not None and item.satoshis <= query.max_price))
        and fresh
    )


def _among(word: str, values: Iterable[str]) -> bool:
    """Whether a word is one of the values; what is offered globally is offered in every region."""
    return any(value.casefold() in (word.casefold(), "global") for value in values)


def _weight(item: Item, words: Sequence[str]) -> int:
    """How well an item answers the words: 0 when one of them is nowhere in it, 1 when there are none."""
    if not words:
        return 1
    offer, producer = item.offer, item.producer
    fields = (
        (8, " ".join((offer.name, offer.title))),
        (4, " ".join(offer.tags)),
        (2, " ".join((offer.description or "", producer.title, producer.name, *item.capabilities))),
        (1, " ".join((offer.license or "", *(file.path for file in offer.files)))),
    )
    texts = [(weight, text.casefold()) for weight, text in fields]
    best = [max((weight for weight, text in texts if word in text), default=0) for word in words]
    return sum(best) if all(best) else 0


# --- order and place ------------------------------------------------------------------------------


def _stamp(item: Item) -> int:
    return int(((item.offer.published or _NEVER) - _NEVER).total_seconds())


# An item's place in each order. Names come last, so that no two items share a place.
_ORDER: Mapping[str, Callable[[Item, int], tuple[Any, ...]]] = {
    "relevance": lambda item, weight: (-weight, -_stamp(item), item.offer.name),
    "newest": lambda item, weight: (-_stamp(item), item.offer.name),
    "price": lambda item, weight: (MAX_SATOSHIS if item.satoshis is None else item.satoshis, item.offer.name),
    "title": lambda item, weight: (item.offer.title.casefold(), item.offer.name),
}
_SHAPE = {"relevance": (int, int, str), "newest": (int, str), "price": (int, str), "title": (str, str)}


def _cursor(order: str, place: Sequence[Json]) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, *place], separators=(",", ":")).encode()).decode().rstrip("=")


def _place(query: Query) -> tuple[Any, ...]:
    """Where the page before ended."""
    try:
        text = query.cursor.encode("ascii")
        order, *place = json.loads(base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError) as fault:
        raise _lost() from fault
    if order != query.order or tuple(map(type, place)) != _SHAPE[query.order]:
        raise _lost()
    return tuple(place)


def _lost() -> Refused:
    return Refused("bad-cursor", "cannot go on from this cursor", hint="begin without a cursor, and keep the other parameters")


def _bad(why: str) -> Refused:
    return Refused("bad-query", f"cannot read the query: {why}")


def _unit(name: str, text: str, read: Callable[[Json], int]) -> int | None:
    if not text:
        return None
    try:
        return read(text)
    except UnitError as fault:
        raise _bad(f"{name} is wrong: {fault}") from fault
