"""BEEF: a transaction together with the ancestors and merkle paths that prove it (BRC-62, BRC-96, BRC-95).

Read: V1, V2, and the atomic form of either. Written: V1 unless asked otherwise. Both take time linear in the
bytes, however much ancestry is shared. Reading checks form only; `proof.verify_beef` decides whether to believe it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.bump import Bump, parse_bump, read_bump
from reconciler.wire.bytesio import Reader, internal, varint
from reconciler.wire.tx import Tx, parents_of, read_tx, txid_of

V1, V2, ATOMIC = 0xEFBE0001, 0xEFBE0002, 0x01010101
# More ancestors than this in one envelope is an attack or a wallet that never saw a proof.
MAX_TXS = 1000
# Smallest serialized forms: a path (height, levels, one leaf) and a transaction entry (a named txid, or an empty transaction).
_LEAST_BUMP = 5
_LEAST_TX = 11

Source = Callable[[str], tuple[bytes, bytes] | None]


@dataclass(frozen=True, slots=True)
class BeefTx:
    """One entry. `tx` is None when the sender only named it (V2); `bump` is None while it is unproven."""

    tx: Tx | None
    bump: Bump | None = None


@dataclass(frozen=True, slots=True)
class Beef:
    """An envelope: entries by txid in the order they came, and the txid it is about."""

    bumps: tuple[Bump, ...]
    txs: Mapping[str, BeefTx]
    subject: str
    version: int = 1
    atomic: bool = False

    @property
    def tx(self) -> Tx:
        """The subject itself; RemoteProtocolError when it is only named."""
        return self.transaction(self.subject)

    def transaction(self, txid: str) -> Tx:
        """The transaction of that id; RemoteProtocolError when it is absent or only named."""
        entry = self.txs.get(txid)
        if entry is None or entry.tx is None:
            raise _fault(f"it does not hold transaction {txid}")
        return entry.tx

    def part(self, txid: str) -> tuple[bytes, bytes] | None:
        """Raw transaction and raw proof (empty while unproven): the shape `write_beef` asks its source for."""
        entry = self.txs.get(txid)
        if entry is None or entry.tx is None:
            return None
        return entry.tx.raw, entry.bump.raw if entry.bump else b""

    def about(self, txid: str) -> Beef:
        """The part of the envelope that speaks for `txid`: the transaction and what it descends from, nothing else."""
        if txid not in self.txs:
            raise _fault(f"it does not hold transaction {txid}")
        related = _ancestry(self.txs, txid)
        txs = {one: entry for one, entry in self.txs.items() if one in related}
        bumps = tuple({id(entry.bump): entry.bump for entry in txs.values() if entry.bump}.values())
        return replace(self, bumps=bumps, txs=txs, subject=txid)

    def fill(self, known: Mapping[str, Tx]) -> Beef:
        """The envelope with the transactions it only names put in from `known`, where they are."""
        txs = {txid: BeefTx(known[txid]) if entry.tx is None and txid in known else entry for txid, entry in self.txs.items()}
        return replace(self, txs=txs)


def _fault(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"cannot read the BEEF: {detail}", code="bad-beef")


def _ancestry(txs: Mapping[str, BeefTx], subject: str) -> set[str]:
    """`subject` and every entry it descends from, each visited once."""
    seen, stack = {subject}, [subject]
    while stack:
        tx = txs[stack.pop()].tx
        fresh = {spent.txid for spent in tx.inputs} - seen if tx else set()
        fresh &= txs.keys()
        seen |= fresh
        stack += fresh
    return seen


# --- reading -------------------------------------------------------------------------------------


def parse_beef(data: bytes, max_txs: int = MAX_TXS) -> Beef:
    """Read any form. The subject is the one an atomic envelope names, else the last transaction.

    An entry repeated is accepted (some writers do), and proven if any repetition is. An envelope without
    transactions, or an atomic one without its subject or with transactions unrelated to it, is refused.
    """
    reader = Reader(data, "BEEF")
    version, subject = reader.u32(), None
    if version == ATOMIC:
        subject, version = reader.hash(), reader.u32()
    if version not in (V1, V2):
        raise _fault(f"it begins with {data[:4].hex()}")
    bumps = tuple(read_bump(reader) for _ in range(_count(reader, _LEAST_BUMP, max_txs)))
    txs: dict[str, BeefTx] = {}
    last = ""
    for _ in range(_count(reader, _LEAST_TX, max_txs)):
        last, entry = _read_v1(reader, bumps) if version == V1 else _read_v2(reader, bumps)
        before = txs.get(last)
        if before is not None:
            entry = BeefTx(entry.tx or before.tx, entry.bump or before.bump)
        txs[last] = entry
    reader.done()
    if not txs:
        raise _fault("it holds no transaction")
    beef = Beef(bumps, txs, subject or last, 1 if version == V1 else 2, subject is not None)
    if beef.subject not in txs:
        raise _fault(f"it does not hold its subject {subject}")
    if beef.atomic and len(_ancestry(txs, beef.subject)) != len(txs):
        raise _fault("it is atomic and holds transactions unrelated to its subject")
    return beef


def _count(reader: Reader, least: int, limit: int) -> int:
    count = reader.count(least)
    if count > limit:
        raise reader.fault(f"{count} items are more than the {limit} we read")
    return count


def _read_v1(reader: Reader, bumps: tuple[Bump, ...]) -> tuple[str, BeefTx]:
    tx = read_tx(reader)
    proven = reader.u8()
    if proven > 1:
        raise reader.fault(f"the proof mark of {tx.txid} is {proven:#04x}")
    return tx.txid, BeefTx(tx, _read_index(reader, bumps) if proven else None)


def _read_v2(reader: Reader, bumps: tuple[Bump, ...]) -> tuple[str, BeefTx]:
    form = reader.u8()
    if form == 2:
        return reader.hash(), BeefTx(None)
    if form > 2:
        raise reader.fault(f"an entry has form {form:#04x}")
    bump = _read_index(reader, bumps) if form == 1 else None
    tx = read_tx(reader)
    return tx.txid, BeefTx(tx, bump)


def _read_index(reader: Reader, bumps: tuple[Bump, ...]) -> Bump:
    index = reader.varint()
    if index >= len(bumps):
        raise reader.fault(f"a proof points at path {index} of {len(bumps)}")
    return bumps[index]


# --- writing -------------------------------------------------------------------------------------


def write_beef(subject: str, source: Source, *, atomic: bool = False, version: int = 1) -> bytes:
    """The envelope of `subject`: its ancestors back to proven ones, parents first, each once.

    `source` gives raw transaction and raw BUMP (empty while unproven) by txid; LocalProtocolError when it lacks one.
    """
    if version not in (1, 2):
        raise LocalProtocolError("bad-beef", f"cannot write BEEF version {version}", hint="1 or 2")
    bumps: dict[bytes, int] = {}
    entries = []
    for txid, raw, proof in _gather(subject, source):
        mark = b"\x00"
        if proof:
            if txid not in parse_bump(proof):
                raise LocalProtocolError("bad-beef", f"cannot prove {txid}: its merkle path is that of another transaction")
            mark = b"\x01" + varint(bumps.setdefault(proof, len(bumps)))
        entries.append(raw + mark if version == 1 else mark + raw)
    head = (V1 if version == 1 else V2).to_bytes(4, "little")
    body = head + varint(len(bumps)) + b"".join(bumps) + varint(len(entries)) + b"".join(entries)
    return ATOMIC.to_bytes(4, "little") + internal(subject) + body if atomic else body


def _gather(subject: str, source: Source) -> list[tuple[str, bytes, bytes]]:
    """(txid, raw transaction, raw proof), depth first without recursion: one is listed once all its listed parents are.

    Of each transaction only what it spends is read: its bytes are those of its name, or it is refused.
    """
    found: dict[str, tuple[str, bytes, bytes]] = {}
    order: list[tuple[str, bytes, bytes]] = []
    stack = [(subject, False)]
    while stack:
        txid, parents_done = stack.pop()
        if parents_done:
            order.append(found[txid])
        elif txid not in found:
            part = source(txid)
            if part is None:
                hint = "an unproven transaction needs every ancestor back to a mined one"
                raise LocalProtocolError("bad-beef", f"cannot write the BEEF of {subject}: ancestor {txid} is unknown", hint=hint)
            given = txid_of(part[0])
            if given != txid:
                raise LocalProtocolError("bad-beef", f"cannot write the BEEF of {subject}: {txid} was given as {given}")
            found[txid] = (txid, *part)
            stack.append((txid, True))
            if not part[1]:
                stack += [(parent, False) for parent in reversed(parents_of(part[0]))]
    return order
