"""`wallet sweep` and `wallet consolidate`: money that leaves the purse, and coins that become fewer. Shown, asked, done once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import exits, output
from reconciler.cli.asking import require_yes
from reconciler.cli.context import with_workspace
from reconciler.cli.purse import Form, NetworkName, network_of

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.payout import Offer
    from reconciler.model.canonical import Json

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Show it and do nothing.")]
# Below this a coin pays for few transactions; the planner makes coins of this size.
SMALL = 2_000


def sweep(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where to: a P2PKH address of the Network's chain.")],
    network: NetworkName = None,
    yes: Yes = False,
    dry_run: Dry = False,
    form: Form = "text",
) -> int:
    """Send every free coin of the purse to an address, less the fee. Tokens, and whatever holds one satoshi, stay."""

    async def work(space: Workspace) -> tuple[Offer, list[str]]:
        from reconciler.engine.payout import offer_sweep
        from reconciler.wire.payto import script_of

        net, spec = network_of(space, network)
        offer = await offer_sweep(space.runner, net, spec, script_of(address, net.chain))
        return await _done(space, offer, f"sweep the purse to {address}", yes=yes, dry_run=dry_run)

    return _told(*with_workspace(work), form)


def consolidate(
    below: Annotated[int, typer.Option("--below", min=2, help="Merge coins of less than this many satoshis.")] = SMALL,
    into: Annotated[int, typer.Option("--into", min=1, max=100, help="So many coins come out of a transaction.")] = 1,
    network: NetworkName = None,
    yes: Yes = False,
    dry_run: Dry = False,
    form: Form = "text",
) -> int:
    """Make few coins out of many small ones. Coins that hold less than their own fee stay."""

    async def work(space: Workspace) -> tuple[Offer, list[str]]:
        from reconciler.engine.payout import offer_merge

        net, spec = network_of(space, network)
        offer = await offer_merge(space.runner, net, spec, below, into)
        return await _done(space, offer, "merge coins", yes=yes, dry_run=dry_run)

    return _told(*with_workspace(work), form)


async def _done(space: Workspace, offer: Offer, what: str, *, yes: bool, dry_run: bool) -> tuple[Offer, list[str]]:
    """Show the price, ask, and make the transactions one after the other; their txids."""
    from reconciler.engine.payout import carry_out
    from reconciler.planner.phrases import count, sats

    for batch in offer.batches:
        made = f"{len(batch.outputs) + 1} of {sats(batch.sent)} together"
        output.say(f"{count(len(batch.coins), 'coin')}, {sats(batch.total)} -> {made}, fee {sats(batch.fee)}")
    if offer.left_coins:
        output.say(f"{count(offer.left_coins, 'coin')} of {sats(offer.left)} in all left in place")
    if not offer.batches or dry_run:
        return offer, []
    require_yes(what, yes=yes)
    return offer, [await carry_out(space.runner, offer, batch) for batch in offer.batches]


def _told(offer: Offer, txids: list[str], form: str) -> int:
    if form == "json":
        facts: dict[str, Json] = {"chain": offer.net.chain, "transactions": txids, "fee": offer.fee, "satoshis": offer.sent}
        facts["coins"] = sum(len(batch.coins) for batch in offer.batches)
        output.document({**facts, "left": {"coins": offer.left_coins, "satoshis": offer.left}})
        return exits.OK
    for txid in txids:
        output.data(txid)
    if not offer.batches:
        output.say("nothing to do: no coins that are free and worth it")
    return exits.OK
