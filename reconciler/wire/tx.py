"""Transactions: the raw form, the extended form (BRC-30), and the hash a signature is made over.

Satoshi amounts are unsigned 64-bit on the wire; the parser refuses more than ever will exist. A parsed
transaction keeps its bytes, and because only shortest counts are read, writing it again gives the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.bytesio import U32_MAX, Reader, display, internal, varbytes, varint
from reconciler.wire.keys import sha256d

# 21 million coins of 100 million satoshis: no output and no sum of outputs can hold more.
MAX_SATOSHIS = 21_000_000 * 100_000_000
EXTENDED_MARK = bytes.fromhex("0000000000ef")
# Sighash type bits. FORKID is part of every signature on this chain since 2017.
ALL, NONE, SINGLE, FORKID, ANYONECANPAY = 0x01, 0x02, 0x03, 0x40, 0x80
DEFAULT_FLAGS = ALL | FORKID
# Smallest serialized input (hash, index, empty script, sequence) and output (amount, empty script).
_LEAST_INPUT = 41
_LEAST_OUTPUT = 9


@dataclass(frozen=True, slots=True)
class TxIn:
    """A spent output and what unlocks it; `txid` is display-order hex."""

    txid: str
    vout: int
    script: bytes = b""
    sequence: int = U32_MAX

    @property
    def outpoint(self) -> Outpoint:
        """Which output is spent."""
        return Outpoint(self.txid, self.vout)


@dataclass(frozen=True, slots=True)
class TxOut:
    """An amount and what locks it."""

    satoshis: int
    script: bytes

    @property
    def raw(self) -> bytes:
        """Amount, script length, script."""
        return self.satoshis.to_bytes(8, "little") + varbytes(self.script)


@dataclass(frozen=True)
class Tx:
    """A transaction. Derived bytes and hashes are computed once."""

    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    version: int = 1
    locktime: int = 0

    @cached_property
    def raw(self) -> bytes:
        """The serialization the txid is over."""
        parts = [self.version.to_bytes(4, "little"), varint(len(self.inputs))]
        for spent in self.inputs:
            parts += (_outpoint(spent), varbytes(spent.script), spent.sequence.to_bytes(4, "little"))
        parts.append(varint(len(self.outputs)))
        parts += (output.raw for output in self.outputs)
        parts.append(self.locktime.to_bytes(4, "little"))
        return b"".join(parts)

    @cached_property
    def txid(self) -> str:
        """Display-order hex."""
        return display(sha256d(self.raw))

    @property
    def size(self) -> int:
        """Length of `raw`."""
        return len(self.raw)

    @property
    def is_coinbase(self) -> bool:
        """Whether it makes new coins: one input, which spends nothing."""
        return len(self.inputs) == 1 and self.inputs[0].txid == "00" * 32 and self.inputs[0].vout == U32_MAX

    # The three hashes every input's sighash shares: computed once, signing n inputs stays linear.
    @cached_property
    def _prevouts_hash(self) -> bytes:
        return sha256d(b"".join(map(_outpoint, self.inputs)))

    @cached_property
    def _sequences_hash(self) -> bytes:
        return sha256d(b"".join(spent.sequence.to_bytes(4, "little") for spent in self.inputs))

    @cached_property
    def _outputs_hash(self) -> bytes:
        return sha256d(b"".join(output.raw for output in self.outputs))


def _outpoint(spent: TxIn) -> bytes:
    return internal(spent.txid) + spent.vout.to_bytes(4, "little")


# --- reading -------------------------------------------------------------------------------------


def parse_tx(raw: bytes) -> Tx:
    """The transaction that these bytes are, all of them."""
    reader = Reader(raw, "transaction")
    tx = read_tx(reader)
    reader.done()
    return tx


def read_tx(reader: Reader) -> Tx:
    """The transaction at the cursor, raw form."""
    start = reader.position
    version = reader.u32()
    inputs = tuple(_read_input(reader) for _ in range(reader.count(_LEAST_INPUT)))
    outputs = _read_outputs(reader)
    tx = Tx(inputs, outputs, version, reader.u32())
    tx.__dict__["raw"] = reader.since(start)
    return tx


def txid_of(raw: bytes) -> str:
    """The id of the transaction that these bytes are, display-order hex."""
    return display(sha256d(raw))


def parents_of(raw: bytes) -> tuple[str, ...]:
    """The ids of the transactions these bytes spend from, in input order; what follows the inputs is not read."""
    reader = Reader(raw, "transaction")
    reader.u32()
    return tuple(_read_input(reader).txid for _ in range(reader.count(_LEAST_INPUT)))


def _read_input(reader: Reader) -> TxIn:
    return TxIn(reader.hash(), reader.u32(), reader.varbytes(), reader.u32())


def _read_output(reader: Reader) -> TxOut:
    satoshis = reader.u64()
    if satoshis > MAX_SATOSHIS:
        raise reader.fault(f"an output holds {satoshis} satoshis, more than exist,")
    return TxOut(satoshis, reader.varbytes())


def _read_outputs(reader: Reader) -> tuple[TxOut, ...]:
    outputs = tuple([TxOut(satoshis, script) for satoshis, script in reader.amounts(reader.count(_LEAST_OUTPUT))])
    most = max((output.satoshis for output in outputs), default=0)
    if most > MAX_SATOSHIS:
        raise reader.fault(f"an output holds {most} satoshis, more than exist,")
    return outputs


# --- extended form -------------------------------------------------------------------------------


def extended(tx: Tx, sources: Sequence[TxOut]) -> bytes:
    """The BRC-30 form: every input carries the output it spends; `sources` are those outputs in input order."""
    if len(sources) != len(tx.inputs):
        raise LocalProtocolError("bad-sources", f"cannot extend {len(tx.inputs)} inputs with {len(sources)} spent outputs")
    parts = [tx.version.to_bytes(4, "little"), EXTENDED_MARK, varint(len(tx.inputs))]
    for spent, source in zip(tx.inputs, sources, strict=True):
        parts += (_outpoint(spent), varbytes(spent.script), spent.sequence.to_bytes(4, "little"), source.raw)
    parts.append(varint(len(tx.outputs)))
    parts += (output.raw for output in tx.outputs)
    parts.append(tx.locktime.to_bytes(4, "little"))
    return b"".join(parts)


def parse_extended(raw: bytes) -> tuple[Tx, tuple[TxOut, ...]]:
    """The transaction and the outputs it spends, in input order."""
    reader = Reader(raw, "extended transaction")
    version = reader.u32()
    if reader.take(6) != EXTENDED_MARK:
        raise RemoteProtocolError("cannot read the extended transaction: the mark of the format is missing")
    inputs, sources = [], []
    for _ in range(reader.count(_LEAST_INPUT + _LEAST_OUTPUT)):
        inputs.append(_read_input(reader))
        sources.append(_read_output(reader))
    tx = Tx(tuple(inputs), _read_outputs(reader), version, reader.u32())
    reader.done()
    return tx, tuple(sources)


# --- signing -------------------------------------------------------------------------------------


def sighash(tx: Tx, index: int, script_code: bytes, satoshis: int, flags: int = DEFAULT_FLAGS) -> bytes:
    """The 32-byte digest input `index` signs, spending an output of `satoshis` locked by `script_code` (BIP 143 with FORKID)."""
    if not flags & FORKID:
        raise LocalProtocolError("bad-sighash", f"cannot hash with type {flags:#x}", hint="the FORKID bit 0x40 is required")
    if not 0 <= index < len(tx.inputs):
        raise LocalProtocolError("bad-sighash", f"cannot hash input {index} of {len(tx.inputs)}")
    kind = flags & 0x1F
    anyone = bool(flags & ANYONECANPAY)
    zero = bytes(32)
    outputs = tx._outputs_hash
    if kind == SINGLE:
        outputs = sha256d(tx.outputs[index].raw) if index < len(tx.outputs) else zero
    elif kind == NONE:
        outputs = zero
    spent = tx.inputs[index]
    preimage = (
        tx.version.to_bytes(4, "little"),
        zero if anyone else tx._prevouts_hash,
        zero if anyone or kind in (NONE, SINGLE) else tx._sequences_hash,
        _outpoint(spent),
        varbytes(script_code),
        satoshis.to_bytes(8, "little"),
        spent.sequence.to_bytes(4, "little"),
        outputs,
        tx.locktime.to_bytes(4, "little"),
        flags.to_bytes(4, "little"),
    )
    return sha256d(b"".join(preimage))
