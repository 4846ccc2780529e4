"""Money coming in: a payment to the purse is believed when its proof is, and only then becomes a coin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from reconciler.kinds.network import Net
from reconciler.model.effect import Lock
from reconciler.model.errors import Refused, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin, Header, LedgerTransaction, Ports, StoredTx
from reconciler.wire.beef import Beef, parse_beef
from reconciler.wire.proof import roots_needed, verify_beef

# The child key that receives: one address, stated in the wallet adapter's documentation.
FUNDING = Lock("wallet", "reconciler funding", "1", "self")


async def receive(ports: Ports, beef: bytes, net: Net) -> list[Coin]:
    """Verify a payment (SPV, values included) and enter its outputs to our funding script as free coins.

    RemoteProtocolError when the proof does not hold; Refused when nothing in it pays us, or when that is spent and we did
    not spend it. Repeating is harmless.
    """
    parsed, headers = await verified(ports, beef, net)
    script = ports.wallet.funding_script()
    subject = parsed.txs[parsed.subject].tx
    assert subject is not None
    coins = [
        Coin(Outpoint(parsed.subject, vout), net.chain, output.satoshis, script, FUNDING)
        for vout, output in enumerate(subject.outputs)
        if output.script == script
    ]
    if not coins:
        raise Refused("not-ours", f"cannot receive {parsed.subject}: none of its outputs pays our funding script")
    await _require_unspent(ports, coins, net)
    with ports.ledger.begin() as tx:
        keep(tx, parsed, headers, net)
        held = {coin.outpoint for coin in tx.coins(chain=net.chain)}
        for coin in coins:
            if coin.outpoint not in held:
                tx.put_coin(coin)
    return coins


async def verified(
    ports: Ports, beef: bytes, net: Net, header: Callable[[int], Awaitable[Header | None]] | None = None
) -> tuple[Beef, dict[int, Header | None]]:
    """An envelope that holds (SPV, values included), and the headers that say so; RemoteProtocolError when it does not.

    `header` says which block of the longest chain has a height, where it is not the chain that is asked.
    """
    parsed = parse_beef(beef)
    headers: dict[int, Header | None] = {}
    for height, _root in sorted(roots_needed(parsed)):
        headers[height] = await (header(height) if header is not None else ports.chain.header(height, net.headers))

    def known(height: int, root: str) -> bool:
        header = headers.get(height)
        return header is not None and header.merkle_root == root

    verify_beef(parsed, known)
    return parsed, headers


def keep(tx: LedgerTransaction, parsed: Beef, headers: Mapping[int, Header | None], net: Net) -> None:
    """Enter the transactions of a verified envelope that the ledger does not have."""
    for txid, entry in parsed.txs.items():
        if entry.tx is not None and tx.transaction(txid) is None:
            proof = entry.bump.raw if entry.bump is not None else b""
            height = entry.bump.height if entry.bump is not None else 0
            at = headers.get(height)
            tx.put_transaction(
                StoredTx(txid, entry.tx.raw, net.chain, "mined" if proof else "seen", proof, height, at.hash if at else "")
            )


async def _require_unspent(ports: Ports, coins: Sequence[Coin], net: Net) -> None:
    """A proof says that a coin was made, not that it is still there: an old payment shown to a new ledger has long been used."""
    for coin in coins:
        try:
            txid = await ports.chain.spender(coin.outpoint, net.headers)
        except (Unavailable, Refused):
            return
        with ports.ledger.begin() as tx:
            known = txid is None or tx.transaction(txid) is not None
        if not known:
            hint = "if the ledger was lost, restore it; the change of that transaction can be received in its place"
            raise Refused("coin-spent", f"cannot receive {coin.outpoint}: it was spent by {txid}", hint=hint)
