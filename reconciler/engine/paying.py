"""Others paid from the purse: one transaction of named outputs, as a journaled run under a lease of its own.

Theory of operation. What is paid is claimed in the commit that opens the run, and it is paid when the run is done; nothing else
says so. A run that was given up is followed by one that spends at least one of its coins, so at most one of the two is mined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reconciler import __version__
from reconciler.engine.run import Runner
from reconciler.engine.survey import fee_rates
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.change import Cost, FeeRate
from reconciler.model.codec import encode
from reconciler.model.effect import Draft, PaymentOutput
from reconciler.model.errors import Unavailable
from reconciler.model.intent import Outcome, Retry, Run, RunState
from reconciler.model.plan import Funding
from reconciler.ports import LedgerTransaction
from reconciler.wire import draft as drafting

# Outputs of one transaction: a few kilobytes.
MOST = 100
# Coins that one transaction merges to pay them.
MOST_COINS = 200


def paying(chain: str) -> str:
    """The key under which others are paid on a chain, one transaction at a time."""
    return f"payout/{chain}"


async def finished(runner: Runner) -> None:
    """Finish what an earlier process began to pay; the error that keeps it from that is raised."""
    with runner.ports.ledger.begin() as tx:
        begun = [run for run in tx.runs(state=RunState.OPEN) if run.key.startswith(paying(""))]
    for run in begun:
        outcome = await runner.resume(run)
        if isinstance(outcome, Retry):
            raise outcome.error


async def pay(
    runner: Runner,
    net: Net,
    spec: Json,
    run_id: str,
    outputs: Sequence[PaymentOutput],
    note: tuple[str, Mapping[str, Json]],
    claim: Callable[[LedgerTransaction], None],
) -> Outcome:
    """Pay these outputs on a network, once by this run. `note` is (event, detail) of the history once it is done.

    `claim` writes down, in the commit that begins it, what is paid by it; what it raises begins nothing. Unavailable while the
    purse cannot pay, or nobody says what miners ask.
    """
    await runner.require_newest(net)
    rates, notes = await fee_rates({net.name: spec}, runner.ports)
    if net.name not in rates:
        hint = "check the Network's broadcasters and fees"
        raise Unavailable("no-fee-rate", f"cannot price this: {'; '.join(notes)}", hint=hint)
    rate = rates[net.name]
    with runner.ports.ledger.begin() as tx:
        coins = _coins(tx, net.chain, outputs, rate)
    fee = drafting.price(Draft(net.chain, tuple(outputs), (), rate, coins), ()).fee
    subject: dict[str, Json] = {
        "funding": encode(Funding(net.chain, (), coins, rate, Cost(transactions=1, fees=fee))),
        "via": encode(list(net.broadcasters)),
        "headers": encode(net.headers),
        "pays": [encode(one) for one in outputs],
        "note": [note[0], dict(note[1])],
    }
    return await runner.pay(Run(run_id, paying(net.chain), subject, __version__), fee, claim)


def _coins(tx: LedgerTransaction, chain: str, outputs: Sequence[PaymentOutput], rate: FeeRate) -> int:
    """How many coins pay for it: those that a run which was given up left reserved, then the largest free ones."""
    ended = {run.id for run in tx.runs(state=RunState.STALLED, key=paying(chain))}
    held = sorted((coin.satoshis for coin in tx.coins(chain=chain, state="reserved") if coin.run in ended), reverse=True)
    free = sorted((coin.satoshis for coin in tx.coins(chain=chain, state="free")), reverse=True)
    total = need = 0
    for count, satoshis in enumerate((held + free)[:MOST_COINS], 1):
        total += satoshis
        need = drafting.price(Draft(chain, tuple(outputs), (), rate, count), ()).need
        if total >= need:
            return count
    told = f"cannot pay {sum(one.satoshis for one in outputs)} satoshis: the purse holds {total} in free coins"
    raise Unavailable("insufficient-funds", told, hint="send more to the address that reconciler wallet address shows")
