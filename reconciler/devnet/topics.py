"""The topics a devnet overlay node hosts and the lookup services over them: tm_ship, tm_slap, tm_uhrp, tm_producer.

A topic decides which outputs it admits and which spent ones it keeps as history. A service keeps an index of unspent
admitted outputs and answers queries over it. Both are tables of functions over what a token says; the engine does the rest.
Query texts and their quirks are those of the deployed nodes: unknown members of an `ls_uhrp` query match nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import advert, descriptor, uhrp

Fact = Any
Index = Mapping[Outpoint, Fact]


@dataclass(frozen=True, slots=True)
class Topic:
    """`read` says what an output means or raises RemoteProtocolError; `keep` which spent inputs stay as history."""

    name: str
    about: str
    read: Callable[[bytes], Fact]
    keep: Callable[[Mapping[int, Fact], Sequence[Fact]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Service:
    """`answer` lists the matching outpoints or raises BadQuery. `unique`: a second token of the same key is not indexed."""

    name: str
    topic: str
    about: str
    answer: Callable[[Index, Json], Sequence[Outpoint]]
    unique: Callable[[Fact], object] | None = None


class BadQuery(Exception):
    """A query the service refuses; the text is what the node answers."""


def topics(*, allow_http_ads: bool = False) -> dict[str, Topic]:
    """The topic managers by name. `allow_http_ads` admits http URLs too, which no public node does."""
    found = (
        Topic("tm_ship", "Hosts that keep a topic (BRC-88).", _advert_reader(advert.SHIP, allow_http_ads), _keep_none),
        Topic("tm_slap", "Hosts that answer a lookup service (BRC-88).", _advert_reader(advert.SLAP, allow_http_ads), _keep_none),
        Topic("tm_uhrp", "Hosts that serve content by its hash (BRC-26).", uhrp.parse_uhrp_token, _keep_all),
        Topic("tm_producer", "What producers say about their resources.", descriptor.parse_descriptor, descriptor.retained),
    )
    return {topic.name: topic for topic in found}


def services() -> dict[str, Service]:
    """The lookup services by name."""
    found = (
        Service("ls_ship", "tm_ship", "Who keeps a topic.", _ship, _advert_key),
        Service("ls_slap", "tm_slap", "Who answers a lookup service.", _slap, _advert_key),
        Service("ls_uhrp", "tm_uhrp", "Who serves content.", _uhrp),
        Service("ls_producer", "tm_producer", "Descriptors by owner, subject, kind or digest.", _producer),
    )
    return {service.name: service for service in found}


# --- admission -------------------------------------------------------------------------------------------------


def _keep_none(spent: Mapping[int, Fact], admitted: Sequence[Fact]) -> Sequence[int]:
    return ()


def _keep_all(spent: Mapping[int, Fact], admitted: Sequence[Fact]) -> Sequence[int]:
    return sorted(spent) if admitted else ()


def _advert_reader(kind: str, allow_http: bool) -> Callable[[bytes], advert.Advert]:
    def read(script: bytes) -> advert.Advert:
        found = advert.parse_advert(script, plain_http=allow_http)
        if found.type != kind:
            raise RemoteProtocolError(f"cannot admit an advertisement: it is {found.type}, not {kind}")
        return found

    return read


# --- lookup ----------------------------------------------------------------------------------------------------


def _advert_key(fact: advert.Advert) -> object:
    return fact.identity, fact.domain, fact.name


def _ship(index: Index, query: Json) -> Sequence[Outpoint]:
    if query == "findAll":
        return _page(index, {}, lambda fact: True)
    asked = _object(query)
    topics_ = asked.get("topics")
    if topics_ is not None and not (isinstance(topics_, list) and all(isinstance(name, str) for name in topics_)):
        raise BadQuery("query.topics must be an array of strings if provided")
    same = _owner(asked)
    return _page(index, asked, lambda fact: same(fact) and (topics_ is None or fact.name in topics_))


def _slap(index: Index, query: Json) -> Sequence[Outpoint]:
    if query == "findAll":
        return _page(index, {}, lambda fact: True)
    asked = _object(query)
    service = _word(asked, "service")
    same = _owner(asked)
    return _page(index, asked, lambda fact: same(fact) and service in (None, fact.name))


def _uhrp(index: Index, query: Json) -> Sequence[Outpoint]:
    asked = _object(query)
    if (outpoint := _word(asked, "outpoint")) is not None:
        return [found for found in index if str(found) == outpoint]
    conditions = {name: value for name, value in asked.items() if value is not None}
    if not conditions:
        raise BadQuery("at least one of outpoint, uhrpUrl, hostIdentityKey and expiryTime must be given")

    def row(fact: uhrp.UhrpToken) -> dict[str, Json]:
        return {"uhrpUrl": uhrp.uhrp_url(fact.sha256), "hostIdentityKey": fact.identity.hex(), "expiryTime": fact.expires}

    return [at for at, fact in index.items() if all(row(fact).get(name) == value for name, value in conditions.items())]


def _producer(index: Index, query: Json) -> Sequence[Outpoint]:
    try:
        asked = descriptor.parse_query(query)
    except RemoteProtocolError as error:
        raise BadQuery(error.message) from error
    found = [at for at, fact in index.items() if asked.matches(at, fact)]
    ordered = found if asked.ascending else found[::-1]
    return ordered[asked.skip :][: asked.limit]


def _object(query: Json) -> Mapping[str, Json]:
    if not isinstance(query, Mapping):
        raise BadQuery("query must be an object")
    return query


def _word(asked: Mapping[str, Json], name: str) -> str | None:
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise BadQuery(f"query.{name} must be a string if provided")
    return value


def _number(asked: Mapping[str, Json], name: str) -> int | None:
    value = asked.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise BadQuery(f"query.{name} must be a positive number if provided")
    return value


def _owner(asked: Mapping[str, Json]) -> Callable[[advert.Advert], bool]:
    """The conditions ls_ship and ls_slap share; `domain` matches literally, trailing slash and all."""
    domain, identity = _word(asked, "domain"), _word(asked, "identityKey")
    return lambda fact: domain in (None, fact.domain) and identity in (None, fact.identity.hex())


def _page(index: Index, asked: Mapping[str, Json], keep: Callable[[Fact], bool]) -> Sequence[Outpoint]:
    """Newest first unless asked otherwise; unlimited unless limited."""
    limit, skip, order = _number(asked, "limit"), _number(asked, "skip"), _word(asked, "sortOrder")
    if order not in (None, "asc", "desc"):
        raise BadQuery("query.sortOrder must be 'asc' or 'desc' if provided")
    found = [at for at, fact in index.items() if keep(fact)]
    ordered = found if order == "asc" else found[::-1]
    return ordered[skip or 0 :][: limit or None]
