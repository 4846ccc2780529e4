"""Names of topics and lookup services (BRC-87), and which host URLs may be advertised (BRC-88, BRC-101)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from reconciler.model.errors import LocalProtocolError

_NAME = re.compile(r"(?=.{1,50}\Z)(?:tm_|ls_)[a-z]+(?:_[a-z]+)*")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LEADING_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")

# Schemes that nodes admit; all but the first are aspirational (BRC-101), and ordinary clients cannot call them.
_WEB_SCHEMES = ("https", "https+bsvauth", "https+bsvauth+smf", "https+bsvauth+scrypt-offchain", "https+rtt")
_RADIO = "js8c+bsvauth+smf"


def name_ok(name: str) -> bool:
    """Whether BRC-87 allows the name: prefix tm_ or ls_, lower-case letters, single underscores, at most 50 characters."""
    return _NAME.fullmatch(name) is not None


def topic_ok(name: str) -> bool:
    """Whether it names a topic manager."""
    return name.startswith("tm_") and name_ok(name)


def service_ok(name: str) -> bool:
    """Whether it names a lookup service."""
    return name.startswith("ls_") and name_ok(name)


def topic_name(alias: str, aliases: Mapping[str, str] | None = None) -> str:
    """The topic an alias stands for: a topic is itself, then the declared table, then dots become underscores.

    LocalProtocolError when no legal name results; digits and hyphens have no spelling in BRC-87.
    """
    name = alias if topic_ok(alias) else (aliases or {}).get(alias, "tm_" + alias.replace(".", "_"))
    if not topic_ok(name):
        raise LocalProtocolError(
            "topic-name",
            f"cannot use {alias!r} as a topic: {name!r} is not a legal name",
            hint="topics are tm_ and lower-case words joined by single underscores; map the alias to one",
        )
    return name


def advertisable(uri: str) -> str | None:
    """What keeps a host URL out of a SHIP or SLAP token, or None; nothing that passes here is refused by deployed nodes."""
    if not _spelled_ok(uri):
        return "has characters a URL may not have"
    scheme = uri.partition(":")[0]
    if scheme == _RADIO:
        return _radio_fault(uri)
    if scheme != "wss" and scheme not in _WEB_SCHEMES:
        return f"has scheme {scheme or 'none'!r}; https is what clients can call"
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        _ = parts.port  # raises ValueError outside 0..65535
    except ValueError:
        return "is not a URL"
    if not uri.startswith(scheme + "://") or parts.username is not None:
        return "must be scheme://host, without user or password"
    if host.lower() == "localhost":
        return "names localhost, which nobody else can reach"
    if not _host_ok(host, bracketed="[" in parts.netloc):
        return "has no valid host"
    if scheme != "wss" and parts.path not in ("", "/"):
        return "must end after the host; a path is not allowed"
    return None


def plain_url(url: str, *schemes: str) -> bool:
    """Whether it is an absolute URL of one of these schemes, in plain ASCII, without credentials or fragment."""
    if not _spelled_ok(url):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and parts.username is None and "#" not in url


def _spelled_ok(url: str) -> bool:
    return url.isascii() and not any(c <= " " or c in '\\"<>^`{|}\x7f' for c in url)


def _host_ok(host: str, bracketed: bool) -> bool:
    try:
        if bracketed:
            return "%" not in host and bool(ipaddress.IPv6Address(host))
        labels = host.removesuffix(".").split(".")
        if labels[-1].isdecimal() or labels[-1].lower().startswith("0x"):  # URL parsers take such a host for an IPv4 address
            return bool(ipaddress.IPv4Address(host))
    except ValueError:
        return False
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def _radio_fault(uri: str) -> str | None:
    """The four query values of the JS8 call scheme, with their ranges."""
    query = dict(parse_qsl(uri.partition("?")[2], keep_blank_values=True))
    for name, bound in (("lat", 90.0), ("long", 180.0)):
        if not _DECIMAL.fullmatch(query.get(name, "")) or abs(float(query[name])) > bound:
            return f"needs {name} from -{bound:g} to {bound:g}"
    for name in ("freq", "radius"):
        number = _LEADING_NUMBER.match(query.get(name, ""))
        if not number or float(number.group()) <= 0:
            return f"needs a positive {name}"
    return None
