"""Which hosts a stranger may send us to: those of the public internet, and no others.

A URL that comes from a lookup answer, a token or a storage host is somebody else's wish. What it names may be the machine we
run on, the network it stands in, or the service that hands out a cloud's credentials; the judgement here keeps it to addresses
that anybody can reach. It is made twice: of the text (`fault_of_url`), and of every address its name leads to
(`fault_of_address`).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

# Not for strangers, by the registries of special-purpose addresses (RFC 6890). A table of our own, because Python's changed
# from version to version.
_V4 = tuple(
    (IPv4Network(block), name)
    for block, name in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "metadata"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
# Of IPv6 only what is handed out to networks (2000::/3) is public, and not all of that.
_V6_PUBLIC = IPv6Network("2000::/3")
_V6 = tuple(
    (IPv6Network(block), name)
    for block, name in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("100::/64", "reserved"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "tunnel"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
# What a NAT64 gateway (RFC 6052) and a dual-stack socket make of an IPv4 address: judged by the address inside.
_WRAPPED = (IPv6Network("64:ff9b::/96"), IPv6Network("::ffff:0:0/96"))
# Names that mean this machine or this network wherever they are asked for (RFC 6761, RFC 6762, RFC 8375).
_NEAR = ("localhost", "local", "internal", "home.arpa", "lan", "localdomain", "intranet")


def fault_of_address(text: str) -> str:
    """Why a stranger may not send us to this address, such as "loopback"; empty for a public one, "unreadable" for no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return "unreadable"
    return _fault_v4(address) if isinstance(address, IPv4Address) else _fault_v6(address)


def _fault_v4(address: IPv4Address) -> str:
    return next((name for block, name in _V4 if address in block), "")


def _fault_v6(address: IPv6Address) -> str:
    if any(address in block for block in _WRAPPED):
        return _fault_v4(IPv4Address(int(address) & 0xFFFFFFFF))
    found = next((name for block, name in _V6 if address in block), "")
    return found or ("" if address in _V6_PUBLIC else "reserved")


def fault_of_url(url: str) -> str:
    """Why a stranger may not send us to this URL, judged by its text alone; empty when its name may be looked up.

    An address is taken in its one plain spelling: 2130706433, 0x7f.1 and 0177.0.0.1 are what a resolver may read as 127.0.0.1.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "unreadable"
    if parts.scheme not in ("http", "https") or not host or port == 0 or any(mark.isspace() or mark == "\\" for mark in url):
        return "unreadable"
    if "@" in parts.netloc:
        return "with a password in it"
    if not host.isascii():
        return "not in ASCII"
    if ":" in host:
        return fault_of_address(host)
    labels = host.removesuffix(".").split(".")
    if _is_number(labels[-1]):
        return fault_of_address(host) if host == _plain(host) else "an address in disguise"
    if len(labels) == 1 or any(("." + host.removesuffix(".")).endswith("." + name) for name in _NEAR):
        return "a name of the local network"
    return "" if all(labels) else "unreadable"


def _is_number(label: str) -> bool:
    """Whether a host that ends in this label is an address and no name (the rule of the WHATWG URL standard)."""
    return label.isdecimal() or (label[:2] == "0x" and all(digit in "0123456789abcdef" for digit in label[2:]))


def _plain(host: str) -> str:
    """The address in its usual spelling; empty when it has another."""
    try:
        return str(IPv4Address(host))
    except ValueError:
        return ""


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL; two URLs of one origin are the same server. An unreadable one has an origin of its own."""
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").removesuffix("."), parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", url, 0
