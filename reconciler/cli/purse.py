"""`wallet`: the purse that pays fees and storage. Money counts only after its proof was verified."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.kinds.network import Net
    from reconciler.model.canonical import Json
    from reconciler.ports import Coin

WALLET = "wallet"
# Enough for hundreds of publications at the devnet's fee.
FUNDS = 1_000_000

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
NetworkName = Annotated[str | None, typer.Option("--network", help="Name of the Network; the only one if omitted.")]


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    purse = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The purse that pays fees and storage.")
    from reconciler.cli.payout import consolidate, sweep

    for verb in (address, balance, receive, sweep, consolidate):
        purse.command()(verb)
    purse.command("fund")(_fund)
    app.add_typer(purse, name="wallet")


def address(
    satoshis: Annotated[int, typer.Option("--satoshis", min=0, help="An amount for the link; none asks for any.")] = 0,
    qr: Annotated[bool, typer.Option("--qr", help="Draw the payment link as a QR code, too.")] = False,
    network: NetworkName = None,
    form: Form = "text",
) -> int:
    """Show where the purse is paid: an address, its payment link and locking script. Makes the purse's key on first use."""

    async def work(space: Workspace) -> dict[str, str]:
        from reconciler.wire.payto import address_of, payment_link

        net, script = network_of(space, network)[0], _script(space)
        own = address_of(script, net.chain)
        link = payment_link(own, satoshis)
        return {"chain": net.chain, "address": own, "uri": link, "lockingScript": script.hex()}

    facts = with_workspace(work)
    if form == "json":
        output.document(facts)
        return exits.OK
    output.data(facts["address"])
    if qr:
        from reconciler.cli.qr import drawn

        colour = output.style_for(sys.stdout, GLOBALS.colour) is output.coloured
        output.data(f"{facts['uri']}\n{drawn(facts['uri'], colour)}")
    output.say(f"chain {facts['chain']}, locking script {facts['lockingScript']}")
    return exits.OK


def balance(form: Form = "text") -> int:
    """Show the coins of the purse per chain: free to spend, pending in unseen transactions, reserved by open runs."""

    async def work(space: Workspace) -> list[Coin]:
        with space.ports.ledger.begin() as tx:
            return list(tx.coins())

    coins = [coin for coin in with_workspace(work) if coin.state != "spent"]
    facts: dict[str, dict[str, int]] = {}
    for coin in coins:
        of = facts.setdefault(coin.chain, {"free": 0, "pending": 0, "reserved": 0, "coins": 0, "largest": 0})
        of[coin.state] += coin.satoshis
        of["coins"] += 1
        of["largest"] = max(of["largest"], coin.satoshis if coin.state == "free" else 0)
    if form == "json":
        output.document(facts)
        return exits.OK
    if not facts:
        output.say("the purse is empty; fill it with reconciler wallet fund (devnet), or pay to reconciler wallet address")
        return exits.OK
    columns = ("free", "pending", "reserved", "coins", "largest")
    rows = [(chain, *(f"{of[column]:,}".replace(",", " ") for column in columns)) for chain, of in sorted(facts.items())]
    output.data(
        output.table(rows, ("CHAIN", *(column.upper() for column in columns)), output.style_for(sys.stdout, GLOBALS.colour))
    )
    return exits.OK


def _fund(
    satoshis: Annotated[int, typer.Option("--satoshis", min=1, help="How much.")] = FUNDS,
    network: NetworkName = None,
    form: Form = "text",
) -> int:
    """Ask the devnet's faucet for a mined coin; its proof is verified before it counts. Only on chain devnet."""
    return fund(satoshis, network, form)


def fund(satoshis: int, network: str | None = None, form: str = "text") -> int:
    """The work of `wallet fund`, for `devnet up --fund` too."""

    async def work(space: Workspace) -> list[Coin]:
        from reconciler.devnet.control import faucet_at
        from reconciler.engine.receive import receive as enter
        from reconciler.model.errors import Refused

        net, _ = network_of(space, network)
        if net.chain != "devnet" or not net.broadcasters:
            hint = "pay to reconciler wallet address, then hand the payment's BEEF to reconciler wallet receive"
            raise Refused("no-faucet", f"cannot fund on chain {net.chain}: only a devnet has a faucet", hint=hint)
        _, beef = faucet_at(net.broadcasters[0].url, _script(space), satoshis)
        return await enter(space.ports, beef, net)

    return _entered(with_workspace(work), form)


def receive(
    payment: Annotated[
        str, typer.Argument(metavar="FILE|HEX", help="A payment as BEEF (BRC-62, BRC-95, BRC-96): file, hex, or -.")
    ],
    network: NetworkName = None,
    form: Form = "text",
) -> int:
    """Enter a payment to the purse, after verifying its proof against block headers. Repeating is harmless."""

    async def work(space: Workspace) -> list[Coin]:
        from reconciler.engine.receive import receive as enter

        space.ports.wallet.funding_script()
        return await enter(space.ports, _beef(payment), network_of(space, network)[0])

    return _entered(with_workspace(work), form)


def _beef(text: str) -> bytes:
    """The bytes of a payment: hex as it stands, standard input for -, else a file of bytes or of hex."""
    from reconciler.model.errors import Refused

    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        content = sys.stdin.buffer.read() if text == "-" else Path(text).read_bytes()
    except OSError as error:
        hint = "give a file, hex, or - for standard input"
        raise Refused("no-payment", f"cannot read a payment from {text[:80]}: {error.strerror}", hint=hint) from error
    try:
        return bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        return content


def _entered(coins: list[Coin], form: str) -> int:
    if form == "json":
        output.document([{"outpoint": str(c.outpoint), "chain": c.chain, "satoshis": c.satoshis} for c in coins])
        return exits.OK
    for coin in coins:
        output.data(f"{coin.outpoint}  {coin.satoshis} sat  {coin.chain}")
    output.say("proof verified against the block header; the purse holds it")
    return exits.OK


def _script(space: Workspace) -> bytes:
    """The purse's locking script; its key is made on first use."""
    if not space.ports.wallet.exists(WALLET):
        space.ports.wallet.generate(WALLET, space.settings.wallet_key)
        output.say("made the purse's key; back it up with reconciler identity backup wallet FILE")
    return space.ports.wallet.funding_script()


def network_of(space: Workspace, name: str | None) -> tuple[Net, Json]:
    """The Network of that name, or the only one, as declared or else as recorded; its endpoints and its spec."""
    from reconciler.engine.observe import networks
    from reconciler.engine.survey import midnight
    from reconciler.kinds.network import read_net
    from reconciler.model.errors import Refused

    desired = space.surveyor.load().desired
    recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
    found = networks(desired.resources if desired else {}, recorded.records)
    names = ", ".join(sorted(found)) or "none"
    if name is None and len(found) != 1:
        hint = "name one with --network" if found else "write one; reconciler validate says what is wrong with the manifests"
        raise Refused("which-network", f"cannot tell which Network is meant: there are {names}", hint=hint)
    chosen = name or next(iter(found))
    if chosen not in found:
        raise Refused("no-network", f"cannot find Network/{chosen}: there are {names}", hint="check the name")
    return read_net(chosen, found[chosen]), found[chosen]
