"""Simplified payment verification: whether an envelope proves that its transactions hold.

A transaction is believed when it is mined (its merkle path ends in the root of a block we trust), when we have
believed it before, or when everything it spends is believed, is unlocked by really executing the scripts, is spent
once, and is worth no less than what it creates. Each transaction is looked at once, whatever the ancestry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.beef import Beef
from reconciler.wire.bytesio import Reader, display
from reconciler.wire.keys import hash160, sha256d, verify_digest
from reconciler.wire.script import decode_pushdrop, is_p2pkh, push, pushes
from reconciler.wire.tx import ALL, ANYONECANPAY, FORKID, MAX_SATOSHIS, NONE, SINGLE, Tx, TxOut, sighash

# A transaction of this size can be a pair of merkle nodes in disguise: its path would prove what was never mined.
_INNER_NODE = 64
# What a stranger's unusual scripts may cost us, each and together: an operation may hash the whole stack or the whole
# transaction, so the product of these numbers is seconds. Real ones need a few dozen operations and a few kilobytes.
_MAX_SCRIPT = 100_000
_MAX_STACK = 100_000
_MAX_OPERATIONS = 500
_MAX_NUMBER = 256
_MAX_MULTISIG_KEYS = 20
_MAX_INTERPRETED_TX = 100_000
MAX_INTERPRETED = 50


def _fault(txid: str, detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"cannot believe transaction {txid}: {detail}", code="bad-proof")


# --- envelopes -----------------------------------------------------------------------------------


def roots_needed(beef: Beef) -> frozenset[tuple[int, str]]:
    """Every (height, merkle root) that must belong to the chain for the envelope to hold."""
    return frozenset((entry.bump.height, entry.bump.root(txid)) for txid, entry in beef.txs.items() if entry.bump)


def verify_beef(beef: Beef, root_ok: Callable[[int, str], bool], *, known: Callable[[str], bool] = lambda _: False) -> None:
    """Nothing, when every transaction in the envelope holds; RemoteProtocolError naming the first that does not and why.

    `root_ok(height, root)` says whether the longest chain has that merkle root there. `known(txid)` says that we
    verified the transaction before. A parent that is only named must be known and put in (`Beef.fill`), because
    its amounts and scripts are needed. An envelope of several subjects is cut with `Beef.about` first, if one
    subject's fault is not to be the others'.
    """
    if beef.subject not in beef.txs:
        raise _fault(beef.subject, "the envelope does not hold it")
    _spent_once(beef)
    roots, budget = cache(root_ok), iter(range(MAX_INTERPRETED))
    for txid, entry in beef.txs.items():
        if known(txid):
            continue
        if entry.tx is None:
            raise _fault(txid, "the envelope only names it, and it is not one we know")
        if entry.bump is None:
            _holds(entry.tx, beef, budget)
            continue
        if entry.tx.size == _INNER_NODE:
            raise _fault(txid, f"a proven transaction of {_INNER_NODE} bytes may be a pair of merkle nodes")
        root = entry.bump.root(txid)
        if not roots(entry.bump.height, root):
            raise _fault(txid, f"block {entry.bump.height} does not have the merkle root {root}")


def _spent_once(beef: Beef) -> None:
    spent: dict[Outpoint, str] = {}
    for txid, entry in beef.txs.items():
        if entry.tx is None or entry.tx.is_coinbase:
            continue
        for one in entry.tx.inputs:
            if one.outpoint in spent:
                raise _fault(txid, f"it spends {one.outpoint}, and so does {spent[one.outpoint]}")
            spent[one.outpoint] = txid


def _holds(tx: Tx, beef: Beef, budget: Iterator[int]) -> None:
    """The rules of a transaction no block vouches for; `budget` yields once for each script the interpreter may run."""
    if tx.is_coinbase:
        raise _fault(tx.txid, "it makes new coins, which only a mined transaction can")
    if not tx.inputs or not tx.outputs:
        raise _fault(tx.txid, f"it has {len(tx.inputs)} inputs and {len(tx.outputs)} outputs")
    sources = [_source(tx, one.outpoint, beef) for one in tx.inputs]
    spends, creates = sum(source.satoshis for source in sources), sum(output.satoshis for output in tx.outputs)
    if creates > min(spends, MAX_SATOSHIS):
        raise _fault(tx.txid, f"it creates {creates} satoshis and spends {spends}")
    for index, source in enumerate(sources):
        if _plainly_unlocks(tx, index, source):
            continue
        if next(budget, None) is None:
            raise _fault(tx.txid, f"the envelope has more than {MAX_INTERPRETED} inputs with unusual scripts")
        if not _interpret(tx, index, source):
            raise _fault(tx.txid, f"the script of input {index} does not unlock {tx.inputs[index].outpoint}")


def _source(tx: Tx, outpoint: Outpoint, beef: Beef) -> TxOut:
    entry = beef.txs.get(outpoint.txid)
    if entry is None:
        raise _fault(tx.txid, f"its parent {outpoint.txid} is missing")
    if entry.tx is None:
        raise _fault(tx.txid, f"its parent {outpoint.txid} is only named, so what it spends cannot be checked")
    if outpoint.vout >= len(entry.tx.outputs):
        raise _fault(tx.txid, f"it spends {outpoint}, and that transaction has {len(entry.tx.outputs)} outputs")
    return entry.tx.outputs[outpoint.vout]


# --- scripts -------------------------------------------------------------------------------------


def unlocks(tx: Tx, index: int, source: TxOut) -> bool:
    """Whether input `index` unlocks `source` under the rules miners relay by; False, never an error, for anything malformed.

    P2PKH and PushDrop are decided by one signature check. Whatever is not plainly one of them goes to the interpreter,
    which also has the last word when a plain check fails.
    """
    return _plainly_unlocks(tx, index, source) or _interpret(tx, index, source)


def _plainly_unlocks(tx: Tx, index: int, source: TxOut) -> bool:
    script = tx.inputs[index].script
    try:
        items = pushes(script)
        if b"".join(map(push, items)) != script:
            return False
        if is_p2pkh(source.script):
            return len(items) == 2 and hash160(items[1]) == source.script[3:23] and _signed(tx, index, source, *items)
        return len(items) == 1 and _signed(tx, index, source, items[0], decode_pushdrop(source.script).key)
    except RemoteProtocolError:
        return False


def _signed(tx: Tx, index: int, source: TxOut, signature: bytes, public: bytes) -> bool:
    flags = signature[-1] if signature else 0
    if not flags & FORKID or flags & ~(FORKID | ANYONECANPAY) not in (ALL, NONE, SINGLE):
        return False
    return verify_digest(public, sighash(tx, index, source.script, source.satoshis, flags), signature[:-1])


def _is_p2sh(script: bytes) -> bool:
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87"


def _interpret(tx: Tx, index: int, source: TxOut) -> bool:
    if _is_p2sh(source.script) or tx.size > _MAX_INTERPRETED_TX:
        # A script hash means one thing before the 2020 upgrade and another after, and nothing here says when it was made.
        return False
    library, limits = _interpreter()
    foreign = library.Tx.from_bytes(tx.raw)
    spent = library.TxOutput(source.satoshis, library.Script(source.script))
    try:
        return bool(library.TxInputContext(foreign, index, spent).verify_input(limits, True))
    except Exception:
        # The interpreter reports a failed script, a limit and its own trouble with a hostile one as
        # exceptions of many classes; each means that nothing was unlocked.
        return False


@cache
def _interpreter() -> tuple[Any, Any]:
    # Loaded when the first unusual script turns up: most processes never meet one.
    import bitcoinx

    library: Any = bitcoinx
    policy = library.MinerPolicy(_MAX_SCRIPT, _MAX_NUMBER, _MAX_STACK, _MAX_OPERATIONS, _MAX_MULTISIG_KEYS)
    return library, library.InterpreterLimits(policy, True, False, "standard")


# --- headers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """An 80-byte block header; hashes in display order, `time` in unix seconds."""

    height: int
    hash: str
    prev: str
    merkle_root: str
    time: int
    bits: int
    nonce: int
    raw: bytes

    @property
    def target(self) -> int:
        """The number the hash must not exceed; 0 when `bits` do not spell one."""
        mantissa, exponent = self.bits & 0x7FFFFF, self.bits >> 24
        if self.bits & 0x800000 or exponent > 32:
            return 0
        return mantissa << 8 * (exponent - 3) if exponent > 3 else mantissa >> 8 * (3 - exponent)

    @property
    def work_ok(self) -> bool:
        """Whether the hash meets the difficulty the header itself states; which difficulty is due, only the chain says."""
        return int(self.hash, 16) <= self.target


def parse_header(raw: bytes, height: int) -> BlockHeader:
    """The header that these 80 bytes are; what stands at `height` is for the caller to know."""
    reader = Reader(raw, "block header")
    reader.u32()  # version: miners signal in it, nothing depends on it
    prev, root, time, bits, nonce = reader.hash(), reader.hash(), reader.u32(), reader.u32(), reader.u32()
    reader.done()
    return BlockHeader(height, display(sha256d(raw)), prev, root, time, bits, nonce, raw)
