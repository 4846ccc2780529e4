"""Effect -> port call. One function per effect, chosen by one table; each obeys its recovery rule."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from reconciler.engine.ancestry import beef_of
from reconciler.engine.renewal import renew
from reconciler.engine.submit import retract, submit
from reconciler.model.canonical import Json, canonical
from reconciler.model.codec import timestamp
from reconciler.model.effect import Attest, Await, Broadcast, Effect, Generate, Release, Renew, Retract, Store, Submit
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Conflict, Refused, RemoteProtocolError, Unavailable
from reconciler.model.intent import RunState
from reconciler.ports import Ports
from reconciler.wire import document

# (host URL, SHA-256) of content that is being probed or sent. Resources may share content: of two that want it on one host at
# the same moment the second must wait, and then finds it, or it would be sent and paid twice.
_SENDING: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

Result = Mapping[str, Json]


async def perform(effect: Effect, ports: Ports, *, begun: bool = False) -> Result:
    """Do it in the world and say what came back. `Sign` is not here: the journal does it between two commits.

    `begun`: an earlier attempt may have reached the world.
    """
    if isinstance(effect, Renew):
        return await renew(effect, ports, begun=begun)
    return await _PERFORM[type(effect)](effect, ports)


async def _generate(effect: Generate, ports: Ports) -> Result:
    ports.wallet.know({effect.key: effect.source})
    public_key = ports.wallet.generate(effect.key, effect.source)
    subkeys = {name: ports.wallet.public_key(f"{effect.key}#{name}") for name in effect.source.get("subkeys") or ()}
    # The moment is told to whoever asks for it, and journaled with the rest: a controller has no clock.
    dated = {"at": timestamp(ports.clock.now().replace(microsecond=0))} if effect.source.get("dated") else {}
    return {"publicKey": public_key, "subkeys": subkeys, **dated}


async def _attest(effect: Attest, ports: Ports) -> Result:
    signature = ports.wallet.attest(effect.key, canonical(effect.document))
    envelope = document.seal(effect.document, ports.wallet.public_key(effect.key), signature)
    return {"digest": ports.blobs.put(envelope), "size": len(envelope), "signature": base64.b64encode(signature).decode()}


async def _broadcast(effect: Broadcast, ports: Ports) -> Result:
    with ports.ledger.begin() as tx:
        stored = tx.transaction(effect.txid)
    if stored is not None and stored.state == "mined":
        return {"txid": effect.txid, "status": "MINED"}
    status = await ports.chain.broadcast(beef_of(ports.ledger, effect.txid), effect.txid, effect.via)
    return {"txid": effect.txid, "status": status.status}


async def _await(effect: Await, ports: Ports) -> Result:
    with ports.ledger.begin() as tx:
        stored = tx.transaction(effect.txid)
    if stored is None or not stored.proof:
        raise Unavailable("not-mined", f"cannot go on before {effect.txid} is mined")
    tip = await ports.chain.tip(effect.headers)
    if tip - stored.height + 1 < effect.depth:
        raise Unavailable("not-deep", f"cannot go on before {effect.txid} is {effect.depth} blocks deep")
    return {"height": stored.height, "block": stored.block}


async def _store(effect: Store, ports: Ports) -> Result:
    gate = asyncio.Semaphore(max(1, effect.parallel))

    async def one(sha256: str, media_type: str) -> dict[str, Json]:
        sending = _SENDING.setdefault((effect.host.url, sha256), asyncio.Lock())
        async with gate, sending:
            hosted = await ports.storage.find(effect.host, sha256)
            seen = await ports.storage.check(effect.host, sha256) if hosted else {"state": "missing"}
            bought = _unread(effect.host, sha256, ports)
            if seen["state"] != "ok" and not bought:
                path = ports.blobs.path(sha256)
                hosted = await ports.storage.put(effect.host, sha256, path, media_type, effect.retention, effect.max_payment)
                bought = hosted.paid
                _write_unread(effect.host, sha256, ports, bought)
                seen = await ports.storage.check(effect.host, sha256)
            if hosted is None or seen["state"] != "ok":
                hint = f"it was paid {bought} sat for it and is not paid again: let another host keep it" if bought else ""
                raise Unavailable(
                    "bad-copy", f"cannot read {sha256[:12]} back from {effect.host.name}: {seen['state']}", hint=hint
                )
            _write_unread(effect.host, sha256, ports, 0)
            return {"location": hosted.location, "expires": hosted.expires, "paid": bought, "ms": seen["ms"]}

    results = await asyncio.gather(*(one(blob.sha256, blob.media_type) for blob in effect.blobs))
    return {blob.sha256: result for blob, result in zip(effect.blobs, results, strict=True)}


def _unread(host: Endpoint, sha256: str, ports: Ports) -> int:
    """Satoshis that a host was paid for a copy which could not be read back so far: it is read again, and not bought again."""
    with ports.ledger.begin() as tx:
        return int(tx.get(f"unread/{host.url}/{sha256}") or 0)


def _write_unread(host: Endpoint, sha256: str, ports: Ports, satoshis: int) -> None:
    """Enter it, or that the copy was read; what costs nothing is sent again and leaves no trace."""
    if satoshis or _unread(host, sha256, ports):
        with ports.ledger.begin() as tx:
            tx.put(f"unread/{host.url}/{sha256}", satoshis)


async def _release(effect: Release, ports: Ports) -> Result:
    if _shared(effect, ports):
        return {}
    try:
        await ports.storage.release(effect.host, effect.digest)
    except (Unavailable, Refused, RemoteProtocolError) as error:
        return {"late": error.message}
    return {}


def _shared(effect: Release, ports: Ports) -> bool:
    """Whether anything else rests on the same bytes: another record on that host, or a run that is placing them now."""
    records = ports.ledger.read(ports.clock.now()).records
    for ref, record in records.items():
        if str(ref) != effect.owner and effect.digest in ((record.outputs.get("replicas") or {}).get(effect.host.name) or {}):
            return True
    with ports.ledger.begin() as tx:
        bodies = [
            (run.subject.get("change") or {}).get("body") or {}
            for run in tx.runs(state=RunState.OPEN)
            if run.key != f"ref/{effect.owner}"
        ]
    return any(file["sha256"] == effect.digest for body in bodies for file in body.get("files") or ())


async def _misplaced(effect: Effect, ports: Ports) -> Result:
    raise Conflict("not-performed", f"cannot perform {type(effect).__name__} outside the journal")


_PERFORM: Mapping[type, Callable[[Any, Ports], Awaitable[Result]]] = {
    Generate: _generate,
    Attest: _attest,
    Broadcast: _broadcast,
    Await: _await,
    Submit: submit,
    Retract: retract,
    Store: _store,
    Release: _release,
}
