"""How much the purse holds, and the condition of a Network that says when it is too little."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.engine.standing import state
from reconciler.model.record import RecordedState
from reconciler.model.status import Condition, Truth
from reconciler.planner.phrases import sats
from reconciler.ports import LedgerTransaction, Ports

# A coin is in one of these until it is spent; the change of what is being paid is pending, so the sum dips by nothing.
STATES = ("free", "pending", "reserved")


def balances(tx: LedgerTransaction) -> Mapping[str, Mapping[str, int]]:
    """Satoshis by chain and state of the coin."""
    found: dict[str, dict[str, int]] = {}
    for name in STATES:
        for coin in tx.coins(state=name):
            found.setdefault(coin.chain, dict.fromkeys(STATES, 0))[name] += coin.satoshis
    return found


def note(ports: Ports, recorded: RecordedState) -> None:
    """State Funded of every recorded Network whose purse has a `minBalance`, where that is news; of the others nothing."""
    now = ports.clock.now()
    with ports.ledger.begin() as tx:
        held = {chain: sum(of.values()) for chain, of in balances(tx).items()}
        for ref, record in sorted(recorded.records.items()):
            old = record.status.condition("Funded")
            if ref.kind != "Network" or ((least := _least(record.body)) is None and old is None):
                continue
            have = held.get(record.body["spec"]["chain"], 0)
            said = _said(have, least)
            if old is None or (old.status, old.reason) != said[:2] or (least and sats(least) not in old.message):
                state(tx, ref, [Condition("Funded", *said, record.generation, now)])


def _least(body: Mapping[str, object]) -> int | None:
    spec = body["spec"]
    wallet = spec.get("wallet") if isinstance(spec, Mapping) else None
    return wallet.get("minBalance") if wallet else None


def _said(have: int, least: int | None) -> tuple[Truth, str, str]:
    if least is None:
        return Truth.TRUE, "NoMinimum", ""
    if have < least:
        return (
            Truth.FALSE,
            "LowBalance",
            f"the purse holds {sats(have)}, less than {sats(least)}: pay to reconciler wallet address",
        )
    return Truth.TRUE, "Sufficient", f"at least {sats(least)}"
