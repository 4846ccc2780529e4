"""Money that leaves the purse at its owner's word, and coins that are merged: journaled runs, like everything that is signed.

Theory of operation. What is to be spent is chosen from the coins nobody holds, priced, and shown. Each transaction is a run of
its own under the lease by which coins are split: the commit that opens it reserves exactly the coins that were chosen, or nothing
when one of them went meanwhile. From there on it is the road of every transaction: signed bytes before anything is sent, and the
same bytes after a crash. A run that was killed is finished before another is begun, so a sweep that is asked for twice finds
nothing left to move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.engine.recover import recover
from reconciler.engine.run import Runner, splitting
from reconciler.engine.survey import fee_rates, split_fee
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json, digest
from reconciler.model.change import Cost, FeeRate
from reconciler.model.errors import ReconcilerError, Refused, Unavailable
from reconciler.model.intent import Retry, RunState, Stalled
from reconciler.model.plan import Funding
from reconciler.model.ref import Outpoint
from reconciler.planner.payout import Batch, Fee, Money, merge, sweep
from reconciler.ports import LedgerTransaction


@dataclass(frozen=True, slots=True)
class Offer:
    """What would be done on a network: the transactions, at which rate, and the coins that stay. `to` is a script, or empty."""

    net: Net
    rate: FeeRate
    batches: tuple[Batch, ...]
    left: int
    left_coins: int
    to: bytes = b""

    @property
    def fee(self) -> int:
        """What the miners get for all of it."""
        return sum(batch.fee for batch in self.batches)

    @property
    def sent(self) -> int:
        """What arrives."""
        return sum(batch.sent for batch in self.batches)


async def offer_sweep(runner: Runner, net: Net, spec: Json, to: bytes) -> Offer:
    """Everything free and worth moving, to somebody's script."""
    return await _offer(runner, net, spec, sweep, to)


async def offer_merge(runner: Runner, net: Net, spec: Json, below: int, into: int) -> Offer:
    """Coins below so many satoshis, made into few."""
    return await _offer(runner, net, spec, lambda coins, fee: merge(coins, below, into, fee))


async def _offer(
    runner: Runner, net: Net, spec: Json, choose: Callable[[Sequence[Money], Fee], list[Batch]], to: bytes = b""
) -> Offer:
    await runner.require_newest(net)
    await finished(runner, net.chain)
    rates, notes = await fee_rates({net.name: spec}, runner.ports)
    if net.name not in rates:
        raise Unavailable(
            "no-fee-rate", f"cannot price this: {'; '.join(notes)}", hint="check the Network's broadcasters and fees"
        )
    rate = rates[net.name]
    with runner.ports.ledger.begin() as tx:
        coins = _coins(tx, net.chain)
    batches = choose(coins, lambda inputs, outputs: split_fee(inputs, outputs, rate))
    moved = {outpoint for batch in batches for outpoint in batch.coins}
    left = [coin.satoshis for coin in coins if coin.outpoint not in moved]
    return Offer(net, rate, tuple(batches), sum(left), len(left), to)


def _coins(tx: LedgerTransaction, chain: str) -> list[Money]:
    """The free coins, and those that an ended run under the same lease left reserved: the next one must spend them."""
    ended = {run.id for run in tx.runs(state=RunState.STALLED, key=splitting(chain))}
    held = [coin for coin in tx.coins(chain=chain, state="reserved") if coin.run in ended]
    free = [Money(coin.satoshis, str(coin.outpoint)) for coin in tx.coins(chain=chain, state="free")]
    return free + [Money(coin.satoshis, str(coin.outpoint), held=True) for coin in held]


async def carry_out(runner: Runner, offer: Offer, batch: Batch) -> str:
    """Make one transaction of an offer and send it, once; its txid. The error that stops it is raised, and nothing is lost."""
    net = offer.net
    with runner.ports.ledger.begin() as tx:
        run_id = "wallet-" + digest([tx.lineage(), tx.serial(), net.chain, sorted(batch.coins), offer.to.hex()])[:24]
    funding = Funding(net.chain, batch.outputs, len(batch.coins), offer.rate, Cost(transactions=1, fees=batch.fee))
    coins = tuple(Outpoint.parse(text) for text in batch.coins)
    outcome = await runner.funding(funding, run_id, net.broadcasters, net.headers, hold=coins, to=offer.to)
    if isinstance(outcome, Retry | Stalled):
        raise outcome.error
    with runner.ports.ledger.begin() as tx:
        return next(str(intent.result["txid"]) for intent in tx.intents(run_id) if intent.effect == "Sign")


async def finished(runner: Runner, chain: str) -> None:
    """Finish what an earlier process left open; Unavailable while a transaction that splits or moves coins cannot be."""
    error: ReconcilerError | None = None
    with runner.ports.ledger.begin() as tx:
        keys = {run.id: run.key for run in tx.runs(state=RunState.OPEN)}
    for run_id, outcome in (await recover(runner)).items():
        if keys.get(run_id) == splitting(chain) and isinstance(outcome, Retry | Stalled):
            error = outcome.error
    if error is not None and not isinstance(error, Refused):
        told = f"cannot move coins while an earlier move is not finished: {error.message}"
        raise Unavailable(error.code, told, hint="reconciler journal list shows it; run the command again later")
