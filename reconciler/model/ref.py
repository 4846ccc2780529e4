"""How a resource is named, and where in a file something stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from reconciler.model.errors import Refused


class ResourceRef(NamedTuple):
    """`Kind/name`: unique within an environment, ordered so that plans are deterministic.

    A tuple, because it is the key of everything: a plan of ten thousand resources hashes and compares half a million.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> ResourceRef:
        """Read `Kind/name`; raises Refused on anything else."""
        kind, slash, name = text.partition("/")
        if not (kind and slash and name) or "/" in name:
            raise Refused("bad-ref", f"cannot read {text!r} as a resource", hint="write Kind/name, such as Dataset/btc-2024")
        return cls(kind, name)


@dataclass(frozen=True, slots=True, order=True)
class Outpoint:
    """One output of one transaction; `txid` is display-order hex, `vout` counts from 0."""

    txid: str
    vout: int

    def __str__(self) -> str:
        return f"{self.txid}.{self.vout}"

    @classmethod
    def parse(cls, text: str) -> Outpoint:
        """Read `txid.vout` (BRC-100 spelling); raises Refused on anything else."""
        txid, _, vout = text.partition(".")
        if len(txid) != 64 or not vout.isdecimal() or not set(txid) <= set("0123456789abcdef"):
            raise Refused("bad-outpoint", f"cannot read {text!r} as an outpoint", hint="write txid.vout, txid in lower-case hex")
        return cls(txid, int(vout))


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a manifest: 1-based line and column, and the JSON pointer of the node that stands there."""

    file: str
    line: int
    column: int
    pointer: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"
