"""From a draft to a transaction: its price before any coin or key is touched, its bytes after.

Sizes are worst cases (a signature of 71 bytes, which low S makes the longest), so the fee is a function of the
draft alone: the same in the plan, in the report and on every replay. A finished transaction is never larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler.model.effect import CoinOutput, DataOutput, Draft, PaymentOutput, RestOutput, TokenOutput
from reconciler.model.errors import Invariant, LocalProtocolError, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.bytesio import varint
from reconciler.wire.keys import hash160, public_key, sign_digest
from reconciler.wire.script import decode_pushdrop, is_p2pkh, op_return, push, unlock_p2pkh, unlock_pushdrop
from reconciler.wire.tx import DEFAULT_FLAGS, Tx, TxIn, TxOut, sighash

# An output whose value is known before the coins are.
Named = TokenOutput | DataOutput | CoinOutput | PaymentOutput
# The longest DER signature with a low S, and the same with its sighash byte.
SIGNATURE_SIZE = 71
_WITH_FLAGS = bytes(SIGNATURE_SIZE + 1)
_KEY = bytes(33)
_P2PKH_SIZE = 25
_UNLOCK_COIN = len(unlock_p2pkh(_WITH_FLAGS, _KEY))
_UNLOCK_TOKEN = len(unlock_pushdrop(_WITH_FLAGS))


@dataclass(frozen=True, slots=True)
class Priced:
    """Satoshis: miner `fee`, value `locked` into tokens net of those spent, and what the funding coins must hold together."""

    fee: int
    locked: int
    need: int


# --- before --------------------------------------------------------------------------------------


def size(draft: Draft) -> int:
    """Bytes of the finished transaction at most, its one last output, change or rest, included."""
    inputs = len(draft.inputs) * _input_size(_UNLOCK_TOKEN) + draft.coins * _input_size(_UNLOCK_COIN)
    named, rest = _parts(draft)
    last = _P2PKH_SIZE if rest is None else len(rest.script)
    outputs = sum(_output_size(_script_size(output)) for output in named) + _output_size(last)
    counts = len(varint(len(draft.inputs) + draft.coins)) + len(varint(len(named) + 1))
    return 4 + counts + inputs + outputs + 4


def _parts(draft: Draft) -> tuple[tuple[Named, ...], RestOutput | None]:
    """The outputs whose value the draft names, and the one that takes what is left, if that is not change."""
    rests = [output for output in draft.outputs if isinstance(output, RestOutput)]
    if rests and (len(rests) > 1 or draft.outputs[-1] is not rests[0]):
        raise LocalProtocolError("bad-draft", "cannot build a draft whose rest is not its one last output")
    return tuple(output for output in draft.outputs if not isinstance(output, RestOutput)), rests[0] if rests else None


def _input_size(unlock: int) -> int:
    return 32 + 4 + len(varint(unlock)) + unlock + 4


def _output_size(script: int) -> int:
    return 8 + len(varint(script)) + script


def _script_size(output: Named) -> int:
    if isinstance(output, CoinOutput):
        return _P2PKH_SIZE
    if isinstance(output, PaymentOutput):
        return len(output.script)
    if isinstance(output, DataOutput):
        return len(op_return(output.pushes))
    items = [*output.fields, bytes(SIGNATURE_SIZE)]
    return len(push(_KEY)) + 1 + sum(len(push(item)) for item in items) + (len(items) + 1) // 2


def price(draft: Draft, spent: Sequence[int]) -> Priced:
    """What the draft costs; `spent` are the satoshis of its token inputs, in order.

    The change is at least 1 satoshi, so `need` is the exact least that the funding coins must hold.
    """
    if len(spent) != len(draft.inputs):
        raise LocalProtocolError("bad-draft", f"cannot price {len(draft.inputs)} token inputs with {len(spent)} amounts")
    fee = draft.rate.fee(size(draft))
    created = sum(_satoshis(output) for output in _parts(draft)[0])
    tokens = sum(output.satoshis for output in draft.outputs if isinstance(output, TokenOutput))
    return Priced(fee, tokens - sum(spent), max(fee + created - sum(spent) + 1, 1))


def _satoshis(output: Named) -> int:
    return 0 if isinstance(output, DataOutput) else output.satoshis


# --- after ---------------------------------------------------------------------------------------


def assemble(
    draft: Draft,
    funding: Sequence[tuple[Outpoint, int, bytes]],
    spent: Sequence[tuple[int, bytes]],
    token_scripts: Sequence[bytes],
    change_script: bytes,
) -> tuple[Tx, tuple[TxOut, ...]]:
    """The unsigned transaction and the outputs it spends, in input order: token inputs as drafted, then the coins.

    `funding` are (outpoint, satoshis, script) of the coins, `spent` (satoshis, script) of the token inputs,
    `token_scripts` the finished scripts of the token outputs. `change_script` also locks coin outputs: both are the purse's.
    Change, or the rest, is the last output. LocalProtocolError when the coins do not pay for it.
    """
    tokens = sum(isinstance(output, TokenOutput) for output in draft.outputs)
    if (len(funding), len(token_scripts)) != (draft.coins, tokens):
        detail = f"{draft.coins} coins and {tokens} tokens with {len(funding)} and {len(token_scripts)}"
        raise LocalProtocolError("bad-draft", f"cannot build a draft of {detail}")
    cost = price(draft, [satoshis for satoshis, _ in spent])
    held = sum(satoshis for _, satoshis, _ in funding)
    if held < cost.need:
        raise LocalProtocolError("short-coins", f"cannot pay {cost.need} satoshis with coins of {held}")
    scripts = iter(token_scripts)
    named, rest = _parts(draft)
    outputs = [_output(output, scripts, change_script) for output in named]
    change = held + sum(satoshis for satoshis, _ in spent) - sum(output.satoshis for output in outputs) - cost.fee
    outputs.append(TxOut(change, change_script if rest is None else rest.script))
    sources = (*(TxOut(*one) for one in spent), *(TxOut(satoshis, script) for _, satoshis, script in funding))
    points = [one.outpoint for one in draft.inputs] + [outpoint for outpoint, _, _ in funding]
    _check(points, sources, outputs, cost.fee)
    return Tx(tuple(TxIn(point.txid, point.vout) for point in points), tuple(outputs)), sources


def _output(output: Named, token_scripts: Iterator[bytes], purse: bytes) -> TxOut:
    if isinstance(output, DataOutput):
        return TxOut(0, op_return(output.pushes))
    if isinstance(output, CoinOutput):
        return TxOut(output.satoshis, purse)
    if isinstance(output, PaymentOutput):
        return TxOut(output.satoshis, output.script)
    script = next(token_scripts)
    if decode_pushdrop(script).fields != output.fields:
        raise Invariant("bad-token", "cannot build the transaction: a token script does not carry the drafted fields")
    return TxOut(output.satoshis, script)


def _check(points: Sequence[Outpoint], sources: Sequence[TxOut], outputs: Sequence[TxOut], fee: int) -> None:
    """The money rules, as assertions that stay on: nothing spent twice, nothing created, exactly the fee left over."""
    if len(set(points)) != len(points):
        raise Invariant("spent-twice", "cannot build the transaction: it would spend an output twice")
    left = sum(source.satoshis for source in sources) - sum(output.satoshis for output in outputs)
    if left != fee or outputs[-1].satoshis < 1 or min(output.satoshis for output in outputs) < 0:
        raise Invariant("unbalanced", f"cannot build the transaction: {left} satoshis are left over for a fee of {fee}")


@dataclass(frozen=True, slots=True)
class Hand:
    """A key that signs a 32-byte digest (DER), wherever its secret is."""

    public: bytes
    sign: Callable[[bytes], bytes]


def hand_of(secret: bytes) -> Hand:
    """The hand of a secret that is here."""
    return Hand(public_key(secret), lambda digest: sign_digest(secret, digest))


def sign_inputs(tx: Tx, sources: Sequence[TxOut], secrets: Sequence[bytes | Hand]) -> Tx:
    """The transaction with every input unlocked; one secret, or hand, per input, in order.

    The source script says how: P2PKH or PushDrop. LocalProtocolError when it is neither, or when the secret is not
    the one it is locked to.
    """
    if not len(tx.inputs) == len(sources) == len(secrets):
        raise LocalProtocolError("bad-sources", f"cannot sign {len(tx.inputs)} inputs of {len(sources)} with {len(secrets)} keys")
    triples = zip(range(len(secrets)), sources, secrets, strict=True)
    scripts = [_unlock(tx, index, source, secret) for index, source, secret in triples]
    return replace(tx, inputs=tuple(replace(one, script=script) for one, script in zip(tx.inputs, scripts, strict=True)))


def _unlock(tx: Tx, index: int, source: TxOut, secret: bytes | Hand) -> bytes:
    hand = secret if isinstance(secret, Hand) else hand_of(secret)
    public = hand.public
    payment = is_p2pkh(source.script)
    owned = hash160(public) == source.script[3:23] if payment else public == _token_key(source.script)
    if not owned:
        raise LocalProtocolError("wrong-key", f"cannot sign input {index}: its output is locked to another key")
    digest = sighash(tx, index, source.script, source.satoshis)
    signature = hand.sign(digest) + bytes([DEFAULT_FLAGS])
    return unlock_p2pkh(signature, public) if payment else unlock_pushdrop(signature)


def _token_key(script: bytes) -> bytes:
    try:
        return decode_pushdrop(script).key
    except RemoteProtocolError as error:
        raise LocalProtocolError("bad-source", f"cannot sign for this output: {error.message}", hint="P2PKH or a token") from None
