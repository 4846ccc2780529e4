"""Whether the header sources of a network agree, stated on its record: a dispute keeps proofs from being believed."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.engine.standing import state
from reconciler.kinds.network import Net
from reconciler.model.errors import ReconcilerError
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Condition, Truth
from reconciler.ports import Ports

# How the two ways in which several sources fail to be one are called.
_REASONS = {"headers-disagree": (Truth.FALSE, "SourcesDisagree"), "headers-silent": (Truth.UNKNOWN, "SourcesSilent")}


async def note_agreement(ports: Ports, nets: Mapping[str, Net]) -> None:
    """Ask the sources of each network for the newest block they all reach; where there is one source, nothing is stated."""
    for net in nets.values():
        if not net.headers.options.get("also"):
            continue
        try:
            await ports.chain.header(await ports.chain.tip(net.headers), net.headers)
        except ReconcilerError as error:
            if error.code in _REASONS:
                _state(ports, net, *_REASONS[error.code], error.message)
            continue
        _state(ports, net, Truth.TRUE, "Agreed", "")


def _state(ports: Ports, net: Net, truth: Truth, reason: str, message: str) -> None:
    ref = ResourceRef("Network", net.name)
    with ports.ledger.begin() as tx:
        record = tx.record(ref)
        known = record.status.condition("HeadersAgree") if record is not None else None
        if record is not None and (known is None or (known.status, known.reason) != (truth, reason)):
            state(tx, ref, [Condition("HeadersAgree", truth, reason, message, record.generation, ports.clock.now())])
