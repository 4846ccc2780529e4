"""A payment divided among its parties: exact shares, whole satoshis, nothing lost.

Pure. Everybody but the producer gets whole satoshis, rounded down, and the producer has the rest, so that what is given out is
what was paid. Of small payments the fraction that a party lost is carried to the next one: after any number of them it has had
what its share of their sum comes to, less than one satoshi off, unless a payment was too small to give everybody what had come
together; then the next one does. A party that gets nothing has no output: there are none of 0 satoshis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from reconciler.kinds.paymentpolicy import PRODUCER, decimal
from reconciler.model.errors import Invariant, Refused
from reconciler.wire.tx import TxOut

# Writes the script that pays an identity key (33 bytes).
Derive = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Share:
    """What one party gets; `terms` say where it is paid, empty for the producer."""

    party: str
    satoshis: int
    terms: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """As a row of revenue keeps it."""
        return {"party": self.party, "satoshis": self.satoshis}


@dataclass(frozen=True, slots=True)
class Division:
    """The shares of one payment, the producer's first, and what each other party is still short of, in exact decimals."""

    shares: tuple[Share, ...]
    carried: Mapping[str, str]


def divide(policy: Mapping[str, Any] | None, satoshis: int, carried: Mapping[str, str] | None = None) -> Division:
    """Who gets what of a payment. `carried` is what was left of the payments before it."""
    if satoshis < 0:
        raise Invariant("negative-payment", f"cannot divide {satoshis} satoshis")
    splits: Mapping[str, str] = (policy or {}).get("splits") or {}
    parties: Mapping[str, Mapping[str, str]] = (policy or {}).get("parties") or {}
    left, given, short = satoshis, [], {}
    for party in sorted(splits):
        if party == PRODUCER:
            continue
        due = Fraction(splits[party]) * satoshis + Fraction((carried or {}).get(party, 0))
        whole = min(due.numerator // due.denominator, left)
        left -= whole
        if whole:
            given.append(Share(party, whole, parties[party]))
        if due != whole:
            short[party] = decimal(due - whole)
    return Division((Share(PRODUCER, left), *given), short)


def outputs(shares: tuple[Share, ...], derive: Derive) -> tuple[TxOut, ...]:
    """An output for every share that has a place to go and something to bring; the producer's is none of them."""
    return tuple(TxOut(one.satoshis, script_of(one, derive)) for one in shares if one.party != PRODUCER and one.satoshis)


def script_of(share: Share, derive: Derive) -> bytes:
    """Where a party is paid: as it says, or a key derived for it."""
    if "script" in share.terms:
        return bytes.fromhex(share.terms["script"])
    if "identityKey" in share.terms:
        return derive(bytes.fromhex(share.terms["identityKey"]))
    ways = ", ".join(share.terms) or "nothing"
    hint = "give it an identityKey or a script in the PaymentPolicy"
    raise Refused("unpayable-party", f"cannot pay {share.party}: {ways} says where, and that cannot be paid", hint=hint)
