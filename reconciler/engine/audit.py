"""How others see an identity: its key, its records and what hosts really show, compared. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.engine.survey import Surveyor, midnight
from reconciler.kinds.network import Net, read_net
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import Absent, Observation, Unknown
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.ports import Ports
from reconciler.wire import descriptor, succession
from reconciler.wire.document import open_envelope

# The state of one token or copy on one host -> whether that is as it should be; None where nobody can tell.
_STATES: Mapping[str, bool | None] = {"held": True, "ok": True, "missing": False, "corrupt": False}


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: `ok` is None where a host was silent."""

    what: str
    ok: bool | None
    detail: str


async def audit(ports: Ports, surveyor: Surveyor, name: str, public_key: str | None) -> list[Finding]:
    """Everything recorded for Identity/`name`, against the key in hand and against every host."""
    recorded = ports.ledger.read(midnight(ports.clock.now()))
    owned = {ref: record for ref, record in recorded.records.items() if owner_of(record) == name}
    found = [_key(owned.get(ResourceRef("Identity", name)), public_key)]
    survey = await surveyor.survey(only=owned)
    for ref, record in sorted(owned.items()):
        found += _seen(str(ref), record, survey.observed.get(ref, Unknown("it was not looked at")))
    if public_key is not None:
        nets = [read_net(ref.name, one.body["spec"]) for ref, one in recorded.records.items() if ref.kind == "Network"]
        known = {token["outpoint"] for record in owned.values() for token in record.outputs.get("tokens") or ()}
        found += await _strangers(ports, nets, public_key, known)
        mine = owned.get(ResourceRef("Identity", name))
        if mine is not None and mine.outputs.get("keys"):
            found += [_chain(mine, ports)]
            for old in mine.outputs["keys"][:-1]:
                found += await _strangers(ports, nets, old["publicKey"], known, f"replaced key {old['publicKey'][:8]}…")
    return found


def _chain(record: Record, ports: Ports) -> Finding:
    """Whether the published statements lead from the first key to the one that signs now."""
    if not record.outputs.get("document"):
        return Finding("keys", None, "nothing is published that names them")
    try:
        chain = succession.periods(*open_envelope(ports.blobs.get(record.outputs["document"]["digest"])))
    except (RemoteProtocolError, Refused) as error:
        return Finding("keys", False, error.message)
    return Finding("keys", True, f"{len(chain)} keys, each signed over to the next by both")


def owner_of(record: Record) -> str | None:
    """The Identity whose key a record's tokens are locked to."""
    if record.ref.kind == "Identity":
        return record.ref.name
    return next((token["owner"].partition("#")[0].partition("+")[0] for token in record.outputs.get("tokens") or ()), None)


def _key(record: Record | None, public_key: str | None) -> Finding:
    if public_key is None:
        return Finding("key", False, "there is none; restore a backup, or make it with identity setup")
    if record is None:
        return Finding("key", True, f"{public_key}, not applied yet")
    known = record.outputs.get("publicKey")
    same = known == public_key
    return Finding("key", same, public_key if same else f"{public_key} is in hand, but {known} is on record")


def _seen(name: str, record: Record, seen: Observation) -> list[Finding]:
    """One finding per token and host, and per copy that is not as it should be."""
    if isinstance(seen, Unknown):
        return [Finding(name, None, seen.reason)]
    if isinstance(seen, Absent):
        return [Finding(name, False, seen.why)]
    found = []
    for outpoint, view in (seen.attributes.get("tokens") or {}).items():
        for host, state in sorted(view["hosts"].items()):
            token = "descriptor" if view["name"] == name else view["name"]
            found.append(Finding(f"{name} on {host}", _STATES.get(state), f"{token} {state} ({outpoint})"))
    paths = {file["sha256"]: file["path"] for file in record.outputs.get("files") or ()}
    for host, copies in sorted((seen.attributes.get("replicas") or {}).items()):
        states: dict[str, list[str]] = {}
        for sha256, view in sorted(copies.items()):
            states.setdefault(view["state"], []).append(paths.get(sha256, "document"))
        for state, files in sorted(states.items()):
            found.append(Finding(f"{name} on {host}", _STATES.get(state), f"{', '.join(files)} {state}"))
    return found


async def _strangers(ports: Ports, nets: Iterable[Net], public_key: str, known: set[str], which: str = "key") -> list[Finding]:
    """Descriptors of this key that hosts show and no record knows: a lost ledger, or a stolen key."""
    asked = [(net, host) for net in nets for host in net.overlays]
    query: Json = {"identityKey": public_key}

    async def one(net: Net, host: Json) -> Finding:
        what = f"{which} on {host.name} of {net.name}"
        try:
            answers = await ports.overlay.lookup(host, descriptor.SERVICE, query)
        except (Unavailable, RemoteProtocolError, Refused) as error:
            return Finding(what, None, error.message)
        strange = sorted({str(answer.outpoint) for answer in answers} - known)
        if strange:
            return Finding(what, False, f"tokens of this key that no record knows: {', '.join(strange)}")
        return Finding(what, True, f"shows {len(answers)} descriptors of this key, all on record" if answers else "shows none")

    return list(await asyncio.gather(*(one(net, host) for net, host in asked)))
