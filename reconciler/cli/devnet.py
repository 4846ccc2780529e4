"""`devnet`: a BSV overlay network on this machine, with every fault on demand. One per directory, kept in its `.devnet`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS
from reconciler.cli.purse import FUNDS
from reconciler.cli.purse import fund as fill

if TYPE_CHECKING:
    from reconciler.devnet.config import Config
    from reconciler.devnet.control import Running

FOLDER = ".devnet"
# What the shipped examples and `init` name in their Network manifests.
PORTS: Mapping[str, int] = {
    "arc": 9010, "headers": 9011, "overlay-1": 9001, "overlay-2": 9002, "eu1": 9021, "us1": 9022, "ap1": 9023, "control": 9000,
}  # fmt: skip
OVERLAYS = ("overlay-1:EU", "overlay-2:US")
STORAGE = ("eu1:EU", "us1:US", "ap1:AP")

At = Annotated[Path | None, typer.Option("--at", help="The network's own directory instead of .devnet.", show_default=False)]
Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
Host = Annotated[str, typer.Argument(help="Name of a host, as `devnet status` lists them.")]


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run an overlay network here, and break it.")
    for verb in (up, down, status, manifest, mine, reorg, drop, partition, restore, evict, corrupt, wipe):
        family.command()(verb)
    app.add_typer(family, name="devnet")


def up(
    base_port: Annotated[
        int | None,
        typer.Option("--base-port", "--ports", min=0, max=65000, help="Consecutive ports; 0: free ones.", show_default="9000.."),
    ] = None,
    port: Annotated[list[str] | None, typer.Option("--port", metavar="NAME=PORT", help="Fix one port (repeatable).")] = None,
    overlay: Annotated[
        list[str] | None, typer.Option("--overlay", metavar="NAME:REGION", help="An overlay host (repeatable); two if omitted.")
    ] = None,
    storage: Annotated[
        list[str] | None, typer.Option("--storage", metavar="NAME:REGION", help="A storage host (repeatable); three if omitted.")
    ] = None,
    block_every: Annotated[
        str, typer.Option("--block-every", metavar="DURATION", help="Mine on a timer, such as 2s; otherwise on demand.")
    ] = "",
    price: Annotated[int, typer.Option("--price", min=0, help="Storage price in satoshis per gigabyte and 30 days.")] = 0,
    fee: Annotated[int, typer.Option("--fee", min=0, help="Minimum fee in satoshis per 1000 bytes.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="The same seed builds the same keys and blocks.")] = 0,
    fund: Annotated[bool, typer.Option("--fund", help=f"Put {FUNDS} satoshis into the purse of this repository.")] = False,
    at: At = None,
    form: Form = "text",
) -> int:
    """Start the network in the background and wait until every host answers. One that runs already is left as it is."""
    from reconciler.devnet import control

    words = [*(f"--overlay={one}" for one in overlay or OVERLAYS), *(f"--storage={one}" for one in storage or STORAGE)]
    words += [f"--port={one}" for one in port or ()] + [f"--price={price}", f"--fee={fee}", f"--seed={seed}"]
    words += [f"--block-every={block_every}"] if block_every else []
    running = control.up(_config(_home(at), words, base_port))
    _standing(running, form, custom=bool(base_port is not None or port or overlay or storage))
    if fund:
        fill(FUNDS)
    return exits.OK


def _config(home: Path, words: list[str], base_port: int | None) -> Config:
    """The network that was asked for; ports of known hosts are fixed unless a base was given."""
    from dataclasses import replace

    from reconciler.devnet.config import parse, parser

    config = parse(parser().parse_args([f"--state={home}", *words]))
    if base_port is not None:
        return replace(config, port_base=base_port)
    return replace(config, ports={name: port for name, port in PORTS.items() if name in config.names} | dict(config.ports))


def _standing(running: Running, form: str, *, custom: bool) -> None:
    if form == "json":
        output.document(
            {"pid": running.pid, "control": running.control, "urls": dict(running.urls), "regions": dict(running.regions)}
        )
        return
    rows = [(name, url, running.regions.get(name, "")) for name, url in running.urls.items()]
    output.data(output.table(rows, ("HOST", "URL", "REGION"), _style()))
    if custom:
        output.say(f"the network is up (process {running.pid}); its Network manifest: reconciler devnet manifest > network.yaml")
    else:
        output.say(f"the network is up (process {running.pid}), on the ports that the examples' network.yaml names")
    output.say("next: reconciler wallet fund, then reconciler plan; stop it with reconciler devnet down")


def down(at: At = None) -> int:
    """Stop the network; neither process nor file is left behind."""
    from reconciler.devnet import control

    was = control.down(_home(at))
    output.say("the network is down" if was else "no network was running")
    return exits.OK


def status(at: At = None, form: Form = "text") -> int:
    """Show hosts, height and what is broken. Exit code 3 when no network runs here."""
    from reconciler.devnet import control

    facts = control.status(_home(at))
    if form == "json":
        output.document(dict(facts))
        return exits.OK
    paint = _style()
    rows = [(name, url, facts["regions"].get(name, ""), _state(name, facts)) for name, url in facts["urls"].items()]
    output.data(output.table(rows, ("HOST", "URL", "REGION", "STATE"), paint))
    every = f", a block every {facts['blockEvery']:g} s" if facts.get("blockEvery") else ""
    output.data(f"height {facts['height']}, {facts['mempool']} transactions waiting{every}, process {facts['pid']}")
    return exits.OK


def _state(name: str, facts: Mapping[str, Any]) -> str:
    return "down" if name in facts["down"] else "silent" if name in facts["partitioned"] else "up"


def manifest(at: At = None) -> int:
    """Print the Network manifest that points at this network."""
    from reconciler.devnet import control

    output.data(control.manifest(_home(at)))
    return exits.OK


def mine(
    blocks: Annotated[int, typer.Argument(min=1, max=10_000, help="How many blocks.")] = 1, at: At = None, form: Form = "text"
) -> int:
    """Append blocks; what waits is mined into the first."""
    from reconciler.devnet import control

    return _height(control.mine(_home(at), blocks), form)


def reorg(
    depth: Annotated[int, typer.Argument(min=1, help="How many blocks are replaced.")],
    lose: Annotated[
        list[str] | None, typer.Option("--drop", metavar="TXID", help="A transaction that the new branch forgets (repeatable).")
    ] = None,
    at: At = None,
    form: Form = "text",
) -> int:
    """Replace the last blocks by a longer branch; their transactions wait to be mined again."""
    from reconciler.devnet import control

    return _height(control.reorg(_home(at), depth, lose or ()), form)


def drop(host: Host, at: At = None) -> int:
    """Take a host down: its port refuses connections."""
    from reconciler.devnet import control

    control.drop(_home(at), host)
    return _said(f"{host} is down; bring it back with reconciler devnet restore {host}")


def partition(host: Host, at: At = None) -> int:
    """Cut a host off: it accepts connections and never answers."""
    from reconciler.devnet import control

    control.partition(_home(at), host)
    return _said(f"{host} is silent; bring it back with reconciler devnet restore {host}")


def restore(host: Host, at: At = None) -> int:
    """Bring a host back."""
    from reconciler.devnet import control

    control.restore(_home(at), host)
    return _said(f"{host} is up")


def evict(
    host: Host, outpoint: Annotated[str, typer.Argument(metavar="TXID.VOUT", help="The output to lose.")], at: At = None
) -> int:
    """Make an overlay host lose one output, although it is unspent."""
    from reconciler.devnet import control
    from reconciler.model.ref import Outpoint

    control.evict(_home(at), host, Outpoint.parse(outpoint))
    return _said(f"{host} lost {outpoint}")


def corrupt(
    host: Host, sha256: Annotated[str, typer.Argument(metavar="SHA256", help="Digest of the content, hex.")], at: At = None
) -> int:
    """Flip a bit of some content on a storage host."""
    from reconciler.devnet import control

    control.corrupt(_home(at), host, sha256.lower())
    return _said(f"{host} now serves {sha256} with a flipped bit")


def wipe(host: Host, at: At = None) -> int:
    """Empty an overlay host or a storage host."""
    from reconciler.devnet import control

    control.wipe(_home(at), host)
    return _said(f"{host} is empty")


def _home(at: Path | None) -> Path:
    return (at or GLOBALS.directory / FOLDER).resolve()


def _height(height: int, form: str) -> int:
    if form == "json":
        output.document({"height": height})
    else:
        output.data(f"height {height}")
    return exits.OK


def _said(text: str) -> int:
    if not GLOBALS.quiet:
        output.say(text)
    return exits.OK


def _style() -> output.Style:
    return output.style_for(sys.stdout, GLOBALS.colour)
