"""Access tokens: who may fetch which edition until when, in a text that needs no memory. Pure.

`v1.<expires, unix seconds in hex>.<buyer>.<digest of the edition>.<receipt>.<MAC>`: whoever holds the text may use it, so it is
short-lived, and belongs into a URL over TLS only.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.model.errors import Refused

PURPOSE = "access"
_VERSION = "v1"
_MAX = 400

# (purpose, message) -> 32 bytes that only the shop's key makes.
Mac = Callable[[str, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Access:
    """What a token says. `receipt` is the id of the entitlement."""

    expires: datetime
    consumer: str
    digest: str
    receipt: str


def write_token(access: Access, mac: Mac) -> str:
    """The text."""
    said = ".".join((_VERSION, f"{int(access.expires.timestamp()):x}", access.consumer, access.digest, access.receipt))
    return f"{said}.{_mark(said, mac)}"


def read_token(text: str, mac: Mac, now: datetime) -> Access:
    """What a token of ours says; Refused("bad-token") when it is none, Refused("token-expired") when its time is over."""
    said, _, mark = text.rpartition(".")
    parts = said.split(".")
    good = len(text) <= _MAX and text.isascii() and hmac.compare_digest(mark.encode(), _mark(said, mac).encode())
    if not good or len(parts) != 5 or parts[0] != _VERSION:
        raise Refused("bad-token", "cannot accept the access token: this shop did not write it", hint="POST /purchases")
    found = Access(datetime.fromtimestamp(int(parts[1], 16), UTC), *parts[2:])
    if now >= found.expires:
        raise Refused(
            "token-expired", "cannot accept the access token: it has expired", hint="POST /purchases gives another, free"
        )
    return found


def _mark(said: str, mac: Mac) -> str:
    return base64.urlsafe_b64encode(mac(PURPOSE, said.encode())).decode().rstrip("=")
