"""Signed webhooks, as Standard Webhooks 1.0 has them: what the receiver checks, and how a secret is written."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from reconciler.model.errors import Refused

# A secret in its printed form: base64 behind this prefix. Anything else is taken as the bytes themselves.
PREFIX = "whsec_"


def key_of(secret: bytes) -> bytes:
    """The HMAC key in a secret; Refused when it claims to be base64 and is not."""
    if not secret.startswith(PREFIX.encode()):
        return secret
    try:
        return base64.b64decode(secret.removeprefix(PREFIX.encode()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("bad-secret", f"cannot use the webhook secret: what follows {PREFIX} is no base64") from error


def headers(secret: bytes | None, id_: str, seconds: int, body: bytes) -> dict[str, str]:
    """webhook-id, webhook-timestamp (unix seconds) and, with a secret, webhook-signature: HMAC-SHA256 of the three."""
    said = {"webhook-id": id_, "webhook-timestamp": str(seconds)}
    if secret is None:
        return said
    signed = f"{id_}.{seconds}.".encode() + body
    mac = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return {**said, "webhook-signature": f"v1,{base64.b64encode(mac).decode()}"}
