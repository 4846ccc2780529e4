"""Identity certificates (BRC-52) that access policies ask buyers for, at the shop's door.

One handshake serves every route, so a buyer is asked for whatever any policy wants, and each request is held to the policy of
what it is about. A certificate that can be revoked counts while its revocation outpoint is unspent; where nobody can tell, it
does not count.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.types import Scope

from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import ReconcilerError, RemoteProtocolError
from reconciler.ports import Chain
from reconciler.wire.auth import Asked
from reconciler.wire.identity_certificate import Certificate, shown

log = logging.getLogger("reconciler.gateway")

# What of a content is open to everybody, whoever may have its bytes.
_OPEN = ("/sample", "/proof", "/versions")


@dataclass(frozen=True, slots=True)
class Required:
    """The `policies` by name of content; `headers` is where spends are looked up."""

    policies: Callable[[], Mapping[str, Mapping[str, Json]]]
    chain: Chain
    headers: Endpoint

    def asked(self) -> Asked:
        """What any of the policies wants: every certifier, and of each type all fields that somebody wants to see."""
        certifiers: set[str] = set()
        types: dict[str, set[str]] = {}
        for policy in self.policies().values():
            for one in wanted(policy):
                certifiers |= set(one["certifiers"])
                types.setdefault(one["type"], set()).update(one.get("fields") or ())
        return Asked(tuple(sorted(certifiers)), {name: tuple(sorted(fields)) for name, fields in sorted(types.items())})

    async def judge(self, peer: bytes, certificates: Sequence[Json]) -> Sequence[Certificate]:
        """Those that are sound, about the peer, and not revoked; the others are as good as not shown."""
        asked, good = self.asked(), []
        for item in certificates:
            try:
                # A policy that shows less may still be met, so here a type and its certifier are enough.
                (one,) = shown(Asked(asked.certifiers, dict.fromkeys(asked.types or {}, ())), peer, [item])
                if await self._stands(one):
                    good.append(one)
            except RemoteProtocolError as error:
                log.info("certificate.refused", extra={"error": error.message})
        return good

    async def _stands(self, one: Certificate) -> bool:
        if not one.revocable:
            return True
        try:
            spender = await self.chain.spender(one.outpoint, self.headers)
        except ReconcilerError as error:
            log.warning("certificate.unknown", extra={"error": error.message, "hint": "a headers source with an index of spends"})
            return False
        return spender is None

    def lacking(self, scope: Scope, body: bytes, shown: Sequence[Certificate]) -> str:
        """What the policy of the goods that a request is about wants and was not shown."""
        policy = self.policies().get(_goods(scope, body))
        for one in wanted(policy) if policy is not None else ():
            if not any(_is(one, certificate) for certificate in shown):
                return f"a certificate of type {one['type']} by {' or '.join(one['certifiers'])} is required"
        return ""


def wanted(policy: Mapping[str, Json]) -> Sequence[Mapping[str, Json]]:
    """The certificates that a policy requires, all of them."""
    return (policy.get("require") or {}).get("certificates") or ()


def _is(one: Mapping[str, Json], certificate: Certificate) -> bool:
    right = certificate.type == one["type"] and certificate.certifier.hex() in one["certifiers"]
    return right and set(one.get("fields") or ()) <= certificate.keyring.keys()


def _goods(scope: Scope, body: bytes) -> str:
    """The name of the content that is asked for or bought; empty for everything else, and for bytes fetched with a token, which
    only a purchase gives.
    """
    path, query = str(scope["path"]), bytes(scope.get("query_string") or b"")
    content = ""
    if path.startswith("/content/") and b"access=" not in query and not path.endswith(_OPEN):
        content = path.split("/")[2]
    elif scope["method"] == "POST" and path.rstrip("/") in ("/purchases", "/payments/templates"):
        try:
            content = json.loads(body)["contentId"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
    return content.partition("@")[0] if isinstance(content, str) else ""
