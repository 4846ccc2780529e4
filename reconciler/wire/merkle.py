"""Merkle trees over lists (RFC 6962 section 2.1): leaf and node hashes differ, so neither can pose as the other.

Every `leaves` here is a sequence of leaf *hashes* (32 bytes from `leaf_hash`). An unpaired node is promoted, never doubled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler.model.errors import LocalProtocolError

HASH_SIZE = 32


def leaf_hash(data: bytes) -> bytes:
    """SHA-256 of 0x00 and the entry."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Tree:
    """All levels of a tree, leaves first: one pass to build, then a proof for any leaf costs log(n)."""

    levels: tuple[tuple[bytes, ...], ...]

    @classmethod
    def of(cls, leaves: Iterable[bytes]) -> Tree:
        """Build from leaf hashes; LocalProtocolError when one is not 32 bytes."""
        level = tuple(leaves)
        if any(len(leaf) != HASH_SIZE for leaf in level):
            raise LocalProtocolError("merkle-leaf", "cannot build a tree of raw entries", hint="hash each with leaf_hash first")
        levels = [level]
        while len(level) > 1:
            paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = (*paired, *level[len(paired) * 2 :])
            levels.append(level)
        return cls(tuple(levels))

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self.levels[0])

    @property
    def root(self) -> bytes:
        """The tree head; of no leaves it is the SHA-256 of nothing."""
        return self.levels[-1][0] if self.size else hashlib.sha256().digest()

    def path(self, index: int) -> tuple[bytes, ...]:
        """The audit path of leaf `index`, from the leaf upwards."""
        if not 0 <= index < self.size:
            raise LocalProtocolError("merkle-index", f"cannot prove leaf {index} of a tree of {self.size}")
        out = []
        for level in self.levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                out.append(level[sibling])
            index >>= 1
        return tuple(out)


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree head of these leaf hashes."""
    return Tree.of(leaves).root


def inclusion(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The audit path of one leaf; to prove many, build a `Tree` once."""
    return Tree.of(leaves).path(index)


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], head: bytes) -> bool:
    """Whether `leaf` (a leaf hash) stands at `index` of a tree of `size` leaves with this head (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or any(len(step) != HASH_SIZE for step in path):
        return False
    node, last, remaining = leaf, size - 1, list(path)
    while last > 0:
        if index & 1 or index < last:  # a sibling exists on this level; an unpaired node moves up unchanged
            if not remaining:
                return False
            sibling = remaining.pop(0)
            node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index >>= 1
        last >>= 1
    return not remaining and node == head
