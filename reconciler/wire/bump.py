"""BUMP (BRC-74): the path from one or several transactions of a block up to its merkle root.

Level 0 holds transaction ids, each level above their pairwise SHA-256d; a node is found at (level, offset) and
its sibling at offset ^ 1. A path may leave out what can be computed from the level below, so one BUMP can
prove many transactions. A last node without a neighbour is paired with itself ("duplicate").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.bytesio import U32_MAX, U64_MAX, Reader, display, internal, varint
from reconciler.wire.keys import sha256d

# Offsets are 64-bit, so no tree is deeper.
MAX_LEVELS = 64
_DUPLICATE, _TXID = 0x01, 0x02
# Smallest serialized leaf: offset and flags.
_LEAST_LEAF = 2


@dataclass(frozen=True, slots=True)
class Leaf:
    """One node that the path states. `hash` is internal order, or None for "the same as its left neighbour"."""

    offset: int
    hash: bytes | None
    txid: bool = False


@dataclass(frozen=True)
class Bump:
    """A merkle path below block `height`; `levels[0]` are transactions."""

    height: int
    levels: tuple[tuple[Leaf, ...], ...]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {display(leaf.hash): leaf.offset for leaf in reversed(self.levels[0]) if leaf.hash is not None}

    @cached_property
    def _nodes(self) -> dict[tuple[int, int], bytes | None]:
        # Stated nodes, and every node computed since: each is computed once, so proving all txids stays linear.
        return {(level, leaf.offset): leaf.hash for level, leaves in enumerate(self.levels) for leaf in leaves}

    @cached_property
    def _depth(self) -> int:
        # A path may stop below the top when everything above follows from what it states.
        return max(len(self.levels), max(leaf.offset for leaf in self.levels[0]).bit_length())

    @property
    def txids(self) -> tuple[str, ...]:
        """The transactions this path was made for."""
        return tuple(display(leaf.hash) for leaf in self.levels[0] if leaf.txid and leaf.hash is not None)

    def __contains__(self, txid: str) -> bool:
        return txid in self._places

    def offset(self, txid: str) -> int:
        """The transaction's position in its block."""
        try:
            return self._places[txid]
        except KeyError:
            raise _fault(f"transaction {txid} is not in it") from None

    def root(self, txid: str) -> str:
        """The merkle root that `txid` leads to, display hex; RemoteProtocolError when the path does not carry it that far."""
        offset = self.offset(txid)
        node = self._node(0, offset)
        if len(self._nodes) == 1 and self._depth == 1 and offset == 0:
            return display(node)  # the only transaction of its block is the root
        for level in range(self._depth):
            sibling = self._node(level, offset ^ 1)
            node = sha256d(sibling + node) if offset & 1 else sha256d(node + sibling)
            offset >>= 1
            self._nodes.setdefault((level + 1, offset), node)
            if self._node(level + 1, offset) != node:
                raise _fault(f"the node at level {level + 1}, offset {offset} is not the hash of those below")
        return display(node)

    def _node(self, level: int, offset: int) -> bytes:
        """A stated or computable node. Fails at the first missing leaf, so the work is bounded by what is stated."""
        if (level, offset) in self._nodes:
            stated = self._nodes[level, offset]
            return stated if stated is not None else self._node(level, offset - 1)
        if level == 0:
            raise _fault(f"the leaf at offset {offset} is missing")
        node = sha256d(self._node(level - 1, 2 * offset) + self._node(level - 1, 2 * offset + 1))
        self._nodes[level, offset] = node
        return node

    @cached_property
    def raw(self) -> bytes:
        """The binary form."""
        parts = [varint(self.height), bytes([len(self.levels)])]
        for leaves in self.levels:
            parts.append(varint(len(leaves)))
            for leaf in leaves:
                flags = _DUPLICATE if leaf.hash is None else _TXID if leaf.txid else 0
                parts += (varint(leaf.offset), bytes([flags]), leaf.hash or b"")
        return b"".join(parts)


def _fault(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"cannot follow the merkle path: {detail}", code="bad-bump")


def _checked(height: int, levels: Sequence[Sequence[Leaf]]) -> Bump:
    """The path, once every node stands where a tree can have one."""
    if not 0 <= height <= U32_MAX:
        raise _fault(f"no block has height {height}")
    if not 1 <= len(levels) <= MAX_LEVELS or not levels[0]:
        raise _fault(f"a path has 1 to {MAX_LEVELS} levels and begins with a transaction")
    depth = max(len(levels), max(leaf.offset for leaf in levels[0]).bit_length())
    for level, leaves in enumerate(levels):
        if len({leaf.offset for leaf in leaves}) != len(leaves):
            raise _fault(f"level {level} states an offset twice")
        for leaf in leaves:
            if leaf.offset >> (depth - level):
                raise _fault(f"offset {leaf.offset} is outside level {level}")
            if leaf.hash is None and not leaf.offset & 1:
                raise _fault(f"offset {leaf.offset} of level {level} has no left neighbour to repeat")
    return Bump(height, tuple(map(tuple, levels)))


# --- binary --------------------------------------------------------------------------------------


def parse_bump(raw: bytes) -> Bump:
    """The path that these bytes are, all of them."""
    reader = Reader(raw, "merkle path")
    bump = read_bump(reader)
    reader.done()
    return bump


def read_bump(reader: Reader) -> Bump:
    """The path at the cursor."""
    start = reader.position
    height = reader.varint()
    levels = [_read_level(reader) for _ in range(reader.u8())]
    bump = _checked(height, levels)
    bump.__dict__["raw"] = reader.since(start)
    return bump


def _read_level(reader: Reader) -> list[Leaf]:
    leaves = []
    for _ in range(reader.count(_LEAST_LEAF)):
        offset, flags = reader.varint(), reader.u8()
        if flags not in (0, _DUPLICATE, _TXID):
            raise reader.fault(f"a leaf has flags {flags:#04x}")
        leaves.append(Leaf(offset, None if flags == _DUPLICATE else reader.take(32), flags == _TXID))
    return leaves


# --- JSON ----------------------------------------------------------------------------------------


def bump_json(bump: Bump) -> Json:
    """The JSON form of BRC-74; hashes in display order."""
    return {"blockHeight": bump.height, "path": [[_leaf_json(leaf) for leaf in leaves] for leaves in bump.levels]}


def _leaf_json(leaf: Leaf) -> Json:
    if leaf.hash is None:
        return {"offset": leaf.offset, "duplicate": True}
    return {"offset": leaf.offset, "hash": display(leaf.hash), **({"txid": True} if leaf.txid else {})}


def bump_from_json(value: Json) -> Bump:
    """Read the JSON form; RemoteProtocolError when it is anything else."""
    path = value.get("path") if isinstance(value, Mapping) else None
    if not isinstance(path, list) or not all(isinstance(level, list) for level in path):
        raise _fault("it is not an object with a path of levels")
    return _checked(_integer(value.get("blockHeight")), [[_leaf_from_json(leaf) for leaf in level] for level in path])


def _leaf_from_json(value: Json) -> Leaf:
    if not isinstance(value, Mapping):
        raise _fault("a leaf is not an object")
    offset, digest, duplicate = _integer(value.get("offset")), value.get("hash"), value.get("duplicate", False)
    if duplicate is True and digest is None:
        return Leaf(offset, None)
    if duplicate is not False or not isinstance(digest, str) or not isinstance(value.get("txid", False), bool):
        raise _fault("a leaf states a hash or is a duplicate")
    try:
        return Leaf(offset, internal(digest), value.get("txid", False))
    except LocalProtocolError as error:
        raise _fault(error.message) from None


def _integer(value: Json) -> int:
    if type(value) is not int or not 0 <= value <= U64_MAX:
        raise _fault("heights and offsets are whole numbers")
    return value


# --- making --------------------------------------------------------------------------------------


def from_block(height: int, txids: Sequence[str], index: int) -> Bump:
    """The shortest path for transaction `index` of a block whose transactions, in block order, are `txids`."""
    if not 0 <= index < len(txids):
        raise LocalProtocolError("bad-bump", f"cannot prove transaction {index} of a block of {len(txids)}")
    row = [internal(txid) for txid in txids]
    own = Leaf(index, row[index], txid=True)
    if len(row) == 1:
        return Bump(height, ((own,),))
    levels: list[tuple[Leaf, ...]] = []
    while len(row) > 1:
        beside = index ^ 1
        sibling = Leaf(beside, row[beside] if beside < len(row) else None)
        pair = (own, sibling) if index < beside else (sibling, own)
        levels.append((sibling,) if levels else pair)
        row = [sha256d(row[i] + row[min(i + 1, len(row) - 1)]) for i in range(0, len(row), 2)]
        index >>= 1
    return Bump(height, tuple(levels))


def merkle_root(txids: Sequence[str]) -> str:
    """The root of a block of these transactions, display hex."""
    return from_block(0, txids, 0).root(txids[0])
