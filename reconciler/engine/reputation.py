"""The facts that speak for an identity, gathered from the ledger and the chain. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reconciler.engine.audit import owner_of
from reconciler.engine.survey import midnight
from reconciler.kinds.network import Net, read_net
from reconciler.model.errors import ReconcilerError, RemoteProtocolError
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Payment, PaymentState
from reconciler.planner.reputation import Evidence
from reconciler.ports import Ports, StoredTx
from reconciler.wire.advert import parse_advert
from reconciler.wire.descriptor import parse_descriptor
from reconciler.wire.proof import parse_header
from reconciler.wire.tx import parse_tx

# Money that was taken and kept: whoever paid got what he paid for, or at least did not ask for it back.
_OUTCOMES = {
    PaymentState.PENDING: "kept",
    PaymentState.CONFIRMED: "kept",
    PaymentState.REJECTED: "refused",
    PaymentState.REFUNDING: "refunded",
    PaymentState.REFUNDED: "refunded",
}


async def gather(ports: Ports, name: str) -> list[Evidence]:
    """One row a fact about Identity/`name`, in an order that does not change. Buyers are not named."""
    records = ports.ledger.read(midnight(ports.clock.now())).records
    own = records.get(ResourceRef("Identity", name))
    if own is None:
        return []
    keys = [key["publicKey"] for key in own.outputs.get("keys") or ()] or [own.outputs.get("publicKey")]
    nets = {net.chain: net for net in _nets(records)}
    with ports.ledger.begin() as tx:
        proven = sorted((one for one in tx.transactions(state="mined") if one.chain in nets), key=lambda one: one.height)
        sold = tx.payments()
    rows: list[Evidence] = await _first(ports, nets, proven, [bytes.fromhex(key) for key in keys if key])
    rows += [_sale(one) for one in sold if one.producer == f"Identity/{name}"]
    rows += [row for ref, record in sorted(records.items()) if owner_of(record) == name for row in _looks(ref, record)]
    rows += [{"fact": "revoked", "key": key["publicKey"]} for key in own.outputs.get("keys") or () if key.get("revoked")]
    return rows


def _nets(records: Mapping[ResourceRef, Record]) -> Iterable[Net]:
    return [read_net(ref.name, one.body["spec"]) for ref, one in sorted(records.items()) if ref.kind == "Network"]


async def _first(ports: Ports, nets: Mapping[str, Net], proven: Sequence[StoredTx], keys: Sequence[bytes]) -> list[Evidence]:
    """The oldest token by which one of the keys told the overlay of itself, with the time of its block; none while unproven."""
    for stored in proven:
        for vout, output in enumerate(parse_tx(stored.raw).outputs):
            if _speaker(output.script) not in keys:
                continue
            try:
                header = await ports.chain.header(stored.height, nets[stored.chain].headers)
            except ReconcilerError:
                return []
            if header is None:
                return []
            at = parse_header(header.raw, stored.height).time
            return [{"fact": "advertised", "outpoint": f"{stored.txid}.{vout}", "height": stored.height, "at": at}]
    return []


def _speaker(script: bytes) -> bytes | None:
    """The identity that an overlay token speaks for."""
    for parse in (parse_descriptor, parse_advert):
        try:
            return parse(script).identity
        except RemoteProtocolError:
            continue
    return None


def _sale(payment: Payment) -> Evidence:
    outcome = _OUTCOMES[payment.state]
    return {"fact": "sale", "outpoint": payment.outpoint, "satoshis": payment.satoshis, "outcome": outcome}


def _looks(ref: ResourceRef, record: Record) -> list[Evidence]:
    tally = record.status.facts.get("probes") or {}
    return [
        {"fact": "looks", "subject": str(ref), "host": host, "sound": sound, "asked": asked}
        for host, (sound, asked) in sorted(tally.items())
    ]
