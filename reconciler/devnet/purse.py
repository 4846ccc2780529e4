"""One key and the transactions it can pay for: how hosts of a world spend their own coins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconciler.model.change import FeeRate
from reconciler.model.errors import Refused
from reconciler.model.ref import Outpoint
from reconciler.wire.keys import child_secret, public_key, sign_digest
from reconciler.wire.script import p2pkh, unlock_p2pkh, unlock_pushdrop
from reconciler.wire.tx import Tx, TxIn, TxOut, sighash

_SIGHASH = b"\x41"  # ALL | FORKID
# A DER signature with its sighash byte is at most 73 bytes.
_SIGNATURE = 73


@dataclass(frozen=True, slots=True)
class Token:
    """A PushDrop output of ours that is to be spent: where it is, what it holds, and the secret of its lock."""

    outpoint: Outpoint
    output: TxOut
    secret: bytes


class Purse:
    """A secret with a P2PKH script. The secret never leaves; it exists only inside a world."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.public = public_key(secret)
        self.script = p2pkh(self.public)

    def child(self, invoice: str, counterparty: bytes) -> bytes:
        """The BRC-42 child secret for an invoice number."""
        return child_secret(self._secret, counterparty, invoice)

    def pay(self, coin: Outpoint, satoshis: int, outputs: Sequence[TxOut], rate: FeeRate, tokens: Sequence[Token] = ()) -> Tx:
        """Spend the coin (and tokens first) into `outputs` plus change, which is the last output; Refused when too poor."""
        sources = [*(token.output for token in tokens), TxOut(satoshis, self.script)]
        outpoints = [*(token.outpoint for token in tokens), coin]
        blank = bytes(_SIGNATURE)
        blanks = [*(unlock_pushdrop(blank) for _ in tokens), unlock_p2pkh(blank, self.public)]
        inputs = tuple(TxIn(at.txid, at.vout, script) for at, script in zip(outpoints, blanks, strict=True))
        total = sum(source.satoshis for source in sources) - sum(output.satoshis for output in outputs)
        change = TxOut(0, self.script)
        tx = Tx(inputs, (*outputs, change))
        left = total - rate.fee(tx.size)
        if left < 1:
            raise Refused("purse-empty", f"cannot pay: {-left} satoshis short", hint="ask the faucet for a larger coin")
        tx = replace(tx, outputs=(*outputs, replace(change, satoshis=left)))
        signed = []
        for index, (entry, source) in enumerate(zip(inputs, sources, strict=True)):
            digest = sighash(tx, index, source.script, source.satoshis)
            if index < len(tokens):
                script = unlock_pushdrop(sign_digest(tokens[index].secret, digest) + _SIGHASH)
            else:
                script = unlock_p2pkh(sign_digest(self._secret, digest) + _SIGHASH, self.public)
            signed.append(replace(entry, script=script))
        return replace(tx, inputs=tuple(signed))
