"""SHIP and SLAP tokens (BRC-88): "this host keeps this topic", "this host answers this lookup service".

Deployed nodes derive the key with counterparty "anyone"; the text of BRC-88 says "self", and tokens made so are not admitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import token
from reconciler.wire.keys import is_public_key
from reconciler.wire.names import advertisable, plain_url, service_ok, topic_ok

SHIP, SLAP = "SHIP", "SLAP"
KEY_ID = "1"
_PROTOCOLS = {SHIP: "service host interconnect", SLAP: "service lookup availability"}
# Where a token of each type is submitted, and where it is found.
TOPICS = {SHIP: "tm_ship", SLAP: "tm_slap"}
SERVICES = {SHIP: "ls_ship", SLAP: "ls_slap"}


@dataclass(frozen=True, slots=True)
class Advert:
    """One advertisement. `domain` is the host's base URL exactly as written in the token; lookups match it literally."""

    type: str
    identity: bytes
    domain: str
    name: str


def lock_of(kind: str) -> tuple[str, str]:
    """The protocol and key ID that lock a token of this type, at level 2 with counterparty anyone."""
    return _PROTOCOLS[_known(kind)], KEY_ID


def fault(advert: Advert) -> str | None:
    """Why nodes would not admit the advertisement (signature aside), or None."""
    if advert.type not in _PROTOCOLS:
        return f"{advert.type!r} is neither SHIP nor SLAP"
    if not is_public_key(advert.identity):
        return "the identity is not a compressed public key"
    if why := advertisable(advert.domain):
        return f"the host URL {why}"
    if not (topic_ok if advert.type == SHIP else service_ok)(advert.name):
        return f"{advert.name!r} is not a legal {'topic' if advert.type == SHIP else 'lookup service'} name"
    return None


def fields(advert: Advert) -> tuple[bytes, ...]:
    """The four fields to be signed and locked; LocalProtocolError when no node would admit them."""
    if why := fault(advert):
        raise LocalProtocolError("advert", f"cannot advertise {advert.name} at {advert.domain}: {why}")
    return token.checked(
        (advert.type.encode(), advert.identity, advert.domain.encode(), advert.name.encode()), "an advertisement"
    )


def parse_advert(script: bytes, *, plain_http: bool = False) -> Advert:
    """The advertisement in a locking script; RemoteProtocolError unless a node would admit it.

    `plain_http` admits http URLs too, localhost among them, which no public node does.
    """
    what = "an advertisement"
    opened = token.open_token(script, what, 4)
    kind, identity, domain, name = opened.fields
    advert = Advert(token.utf8(kind, what), identity, token.utf8(domain, what), token.utf8(name, what))
    local = plain_http and _plain_http(domain)
    if why := fault(replace(advert, domain="https://secure.example") if local else advert):
        raise RemoteProtocolError(f"cannot admit an advertisement: {why}")
    token.require_link(opened, what, identity, *lock_of(advert.type))
    return advert


def _plain_http(domain: bytes) -> bool:
    """Whether it is an http URL without a path."""
    url = domain.decode("utf-8")
    return plain_url(url, "http") and urlsplit(url).path in ("", "/")


def query(
    kind: str, *, identity: bytes | None = None, names: Sequence[str] = (), domain: str = "", limit: int = 1000, skip: int = 0
) -> Mapping[str, Json]:
    """The lookup query for tokens of this type; conditions left out match everything. SLAP takes one name at most."""
    _known(kind)
    if kind == SLAP and len(names) > 1:
        raise LocalProtocolError("advert-query", "cannot ask ls_slap for several services at once", hint="ask once for each")
    out: dict[str, Json] = {"limit": limit, "skip": skip}
    if names:
        out |= {"topics": list(names)} if kind == SHIP else {"service": names[0]}
    if identity is not None:
        out["identityKey"] = identity.hex()
    if domain:
        out["domain"] = domain
    return out


def _known(kind: str) -> str:
    if kind not in _PROTOCOLS:
        raise LocalProtocolError("advert-type", f"cannot advertise as {kind!r}", hint="SHIP or SLAP")
    return kind
