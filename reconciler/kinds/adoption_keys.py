"""Whose key signed what is adopted: the keys that manifests and ledger know of an Identity, and those its document names.

The manifest names the place of one key, or of two. Which of them was the last to sign, and which keys there were before, only the
published document can say; its statements are signed by both keys of each step, and are verified here before they are believed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from reconciler.kinds import identity_keys
from reconciler.model.canonical import Json
from reconciler.model.errors import Conflict, Refused
from reconciler.model.resource import Resource
from reconciler.ports import Reads
from reconciler.wire import succession

Key = Mapping[str, Any]


def ring(want: Resource, document: Mapping[str, Any], signer: str, handle: str, live: Collection[str], reads: Reads) -> list[Key]:
    """The `keys` of an adopted Identity (identity_keys.py); [] when its key was never replaced.

    `handle` is the wallet's name for the key that signed the document, `live` are the keys that still have tokens. Conflict when
    the document does not hold together; Refused when a key that owns something has no place in the manifest.
    """
    periods = succession.periods(document, signer)
    links = document.get(succession.MEMBER) or []
    name, places = want.ref.name, identity_keys.signers(want.ref.name, reads, ())
    sources = identity_keys.ring(name, want.spec, {}).sources
    if len(periods) == 1:
        if handle != name:
            raise Conflict("other-owner", f"cannot adopt {want.ref}: the key that is to follow signed it, and no key said so")
        return []
    kept: list[Key] = []
    for number, (period, link) in enumerate(zip(periods[:-1], links, strict=True)):
        said = link["statement"]
        revoked = "compromised" in said
        over = revoked or datetime.fromisoformat(said["until"]) <= reads.clock.now()
        retired = over and period.key not in live
        if not retired and period.key not in places:
            hint = "name its place again: the old key under key, the one that followed under rotation.next"
            raise Refused("no-key", f"cannot adopt {want.ref}: its key {period.key} is still honoured, and is nowhere", hint=hint)
        source = sources[places[period.key]] if period.key in places else {}
        old = {"name": _name(name, number), "publicKey": period.key, "source": source, "succession": link, "until": said["until"]}
        kept.append({**old, "revoked": revoked, **({"retired": True} if retired else {})})
    last = {"name": _name(name, len(kept)), "publicKey": signer, "source": sources[handle]}
    return [*kept, last]


def _name(identity: str, number: int) -> str:
    return f"{identity}+{number}" if number else identity


def applied(spec: Mapping[str, Json], kept: Sequence[Key]) -> dict[str, Json]:
    """The spec as it was when this document was made: a rotation that is not in it was not applied yet, or was another."""
    rotation, heir = spec.get("rotation"), identity_keys.following(spec)
    if not rotation:
        return dict(spec)
    if heir is not None and (not kept or identity_keys.place(heir) != identity_keys.place(kept[-1]["source"])):
        return {name: value for name, value in spec.items() if name != "rotation"}
    if not kept or not identity_keys.unsaid(kept[-2], rotation):
        return dict(spec)
    said = kept[-2]["succession"]["statement"]
    window = datetime.fromisoformat(said["until"]) - datetime.fromisoformat(said["at"])
    told = {name: value for name, value in rotation.items() if name != "revoke"}
    told["transitionPeriod"] = int(window.total_seconds() * 1000)
    if said.get("compromised"):
        told["revoke"] = dict(said["compromised"])
    return {**spec, "rotation": told}
