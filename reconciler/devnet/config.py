"""How a served devnet is described on a command line: one Config, written as arguments and read back."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.devnet.world import OVERLAYS, STORAGE, Labelled, Plan
from reconciler.model.errors import Refused

CONTROL = "control"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Config:
    """A world and how it is served.

    `ports` fixes ports by host name ("control" included); otherwise hosts take consecutive ports from `port_base` in the
    order of `names`, or free ones when that is 0. `block_every` is seconds between blocks, 0 for blocks on demand.
    """

    state_dir: Path
    plan: Plan = field(default_factory=Plan)
    ports: Mapping[str, int] = field(default_factory=dict)
    port_base: int = 0
    block_every: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Every listener, the control host last."""
        return (*self.plan.names, CONTROL)

    def port(self, name: str) -> int:
        """The port a listener asks for; 0 means any."""
        return self.ports.get(name, self.port_base + self.names.index(name) if self.port_base else 0)


def arguments(config: Config) -> list[str]:
    """The command line that `parse` reads back as this config."""
    plan = config.plan
    words = ["--state", str(config.state_dir), "--seed", str(plan.seed), "--fee", str(plan.fee), "--price", str(plan.price)]
    words += [word for name, region in plan.overlays for word in ("--overlay", f"{name}:{region}")]
    words += [word for name, region in plan.storage for word in ("--storage", f"{name}:{region}")]
    words += [word for name in plan.broadcasters for word in ("--broadcaster", name)]
    words += [word for name, port in config.ports.items() for word in ("--port", f"{name}={port}")]
    words += ["--port-base", str(config.port_base), "--index-lag", str(plan.index_lag)]
    words += ["--block-every", f"{config.block_every}s"] if config.block_every else []
    words += ["--allow-http-ads"] if plan.allow_http_ads else []
    return words + (["--data", str(plan.directory)] if plan.directory is not None else [])


def parser() -> argparse.ArgumentParser:
    """The options of `python -m reconciler.devnet`."""
    options = argparse.ArgumentParser(
        prog="reconciler.devnet", description="A BSV overlay network in one process, for tests and demos."
    )
    add = options.add_argument
    add("--state", type=Path, required=True, metavar="DIR", help="where devnet.json is written while the network is up")
    add("--seed", type=int, default=0, help="the same seed builds the same keys and blocks")
    add("--overlay", action="append", metavar="NAME:REGION", help="an overlay node (repeatable)")
    add("--storage", action="append", metavar="NAME:REGION", help="a storage host (repeatable)")
    add("--broadcaster", action="append", metavar="NAME", help="an ARC host (repeatable)")
    add("--port", action="append", default=[], metavar="NAME=PORT", help="fix the port of one host (repeatable)")
    add("--port-base", type=int, default=0, help="consecutive ports from here; 0 takes free ones")
    add("--block-every", default="", metavar="5s", help="mine on a timer; without it blocks come on demand")
    add("--fee", type=int, default=100, help="minimum fee in satoshis per 1000 bytes")
    add("--price", type=int, default=0, help="storage price in satoshis per gigabyte and 30 days")
    add("--index-lag", type=float, default=0.0, help="seconds between an overlay's answer and its effect")
    add("--allow-http-ads", action="store_true", help="admit SHIP and SLAP tokens with http URLs")
    add("--data", type=Path, default=None, metavar="DIR", help="keep uploads here instead of in memory")
    add("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)
    return options


def parse(options: argparse.Namespace) -> Config:
    """The config those options describe; Refused on a malformed one."""
    plan = Plan(
        seed=options.seed,
        overlays=_labelled(options.overlay, OVERLAYS),
        storage=_labelled(options.storage, STORAGE),
        broadcasters=tuple(options.broadcaster or ("arc",)),
        fee=options.fee,
        price=options.price,
        allow_http_ads=options.allow_http_ads,
        index_lag=options.index_lag,
        directory=options.data,
    )
    ports = dict(_port(text) for text in options.port)
    config = Config(options.state, plan, ports, options.port_base, seconds(options.block_every) if options.block_every else 0.0)
    if unknown := set(ports) - set(config.names):
        raise Refused("devnet-port", f"cannot fix the port of {sorted(unknown)[0]}", hint=f"hosts are {', '.join(config.names)}")
    return config


def seconds(text: str) -> float:
    """A duration such as 500ms, 5s, 2m."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Refused("duration", f"cannot read {text!r} as a duration", hint="write a number and ms, s, m or h, such as 5s")
    return float(match[1]) * _SECONDS[match[2]]


def _labelled(words: Sequence[str] | None, default: Labelled) -> Labelled:
    """NAME:REGION pairs; a name without a region has an empty one."""
    if words is None:
        return default
    pairs = [word.partition(":") for word in words]
    return tuple((name, region) for name, _, region in pairs)


def _port(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals or not number.isdecimal() or not 0 <= int(number) <= 65535:
        raise Refused("devnet-port", f"cannot read {text!r} as a port", hint="write NAME=PORT, such as arc=8095")
    return name, int(number)
