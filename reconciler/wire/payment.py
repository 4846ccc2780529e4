"""Paying for an HTTP request (BRC-105, version 1.0) with an output only payer and payee can derive (BRC-29).

A 402 names a price and a derivation prefix; the payer adds a suffix, pays the payee's child key of protocol "3241645161d8" and
key ID `<prefix> <suffix>` in output 0, and repeats the request with the header `x-bsv-payment`: JSON of prefix, suffix and the
transaction as base64 of its Atomic BEEF. All of this travels inside an authenticated request, so the payer is who signed it.

The reference server compares neither the amount with the price nor one payment with the next. `judge` does both, and every
refusal of it has a code of its own. Whether the transaction holds (SPV, broadcast) needs the chain and is asked elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import jsontext
from reconciler.wire.auth import parse_nonce
from reconciler.wire.beef import Beef, parse_beef
from reconciler.wire.keys import child_public, child_secret, invoice, public_key
from reconciler.wire.script import p2pkh
from reconciler.wire.tx import MAX_SATOSHIS

VERSION = "1.0"
PROTOCOL = "3241645161d8"
# The reference server looks at this output and no other.
OUTPUT = 0
HEADER = "x-bsv-payment"
PAID = "x-bsv-payment-satoshis-paid"
# As text in one header. Servers and proxies take far less by default; a chain of unconfirmed ancestors can need this much.
MAX_HEADER = 512 * 1024
# Ancestors of one payment. Whoever pays from coins with a proof needs two.
MAX_ANCESTRY = 100

# code -> what a payer did wrong; every refusal of this profile is HTTP 400.
REFUSALS: Mapping[str, str] = {
    "ERR_MALFORMED_PAYMENT": "the payment header does not have the agreed form",
    "ERR_INVALID_DERIVATION_PREFIX": "the derivation prefix is not one of ours, is not the payer's, or has expired",
    "ERR_PAYMENT_REUSED": "this derivation or this transaction has paid already",
    "ERR_MALFORMED_TRANSACTION": "the transaction is not Atomic BEEF of what it says",
    "ERR_NO_PAYMENT_OUTPUT": f"the transaction has no output {OUTPUT}",
    "ERR_WRONG_SCRIPT": f"output {OUTPUT} is locked to another key",
    "ERR_UNDERPAID": f"output {OUTPUT} holds less than the price",
    "ERR_UNPROVEN": "the transaction could not be verified",
    "ERR_DOUBLE_SPEND": "another transaction spends the same coins",
    "ERR_NOT_DUE": "nothing is due: this was paid for already",
}
# Refusals after which the payee has nothing and never will: another payment may be made. One that was used is none of them, nor
# one whose rival may yet lose.
UNTAKEN = frozenset(REFUSALS) - {"ERR_PAYMENT_REUSED", "ERR_DOUBLE_SPEND"}


@dataclass(frozen=True, slots=True)
class Demand:
    """What a 402 asks for: satoshis, to a key derived under this prefix."""

    satoshis: int
    prefix: str


@dataclass(frozen=True, slots=True)
class Payment:
    """What a payer sends: the two halves of the key ID, and the transaction as Atomic BEEF."""

    prefix: str
    suffix: str
    beef: bytes


@dataclass(frozen=True, slots=True)
class Income:
    """A payment that pays us: which output, how much, from whom, and under which names its key is derived."""

    txid: str
    vout: int
    satoshis: int
    script: bytes
    payer: bytes
    prefix: str
    suffix: str


# --- BRC-29 ---------------------------------------------------------------------------------------


def key_id(prefix: str, suffix: str) -> str:
    """The key ID of one output."""
    return f"{prefix} {suffix}"


def script_to(secret: bytes, payee: bytes, prefix: str, suffix: str) -> bytes:
    """What the payer locks an output with, so that only the payee can spend it."""
    return p2pkh(child_public(payee, secret, invoice(PROTOCOL, key_id(prefix, suffix))))


def secret_from(secret: bytes, payer: bytes, prefix: str, suffix: str) -> bytes:
    """The payee's secret of such an output."""
    return child_secret(secret, payer, invoice(PROTOCOL, key_id(prefix, suffix)))


# --- headers --------------------------------------------------------------------------------------


def demand_headers(demand: Demand) -> dict[str, str]:
    """The headers of a 402."""
    return {
        "x-bsv-payment-version": VERSION,
        "x-bsv-payment-satoshis-required": str(demand.satoshis),
        "x-bsv-payment-derivation-prefix": demand.prefix,
    }


def demand_body(demand: Demand) -> dict[str, Json]:
    """The body of a 402."""
    return {
        "status": "error",
        "code": "ERR_PAYMENT_REQUIRED",
        "satoshisRequired": demand.satoshis,
        "description": f"This request costs {demand.satoshis} satoshis. Send it again with a payment.",
    }


def parse_demand(headers: Mapping[str, str]) -> Demand:
    """What a 402 asks for, from lower-case headers; RemoteProtocolError when it is not of this profile."""
    version = headers.get("x-bsv-payment-version", "")
    if version != VERSION:
        raise RemoteProtocolError(f"cannot pay: version {version[:20]!r} of the payment protocol is not {VERSION}")
    text = headers.get("x-bsv-payment-satoshis-required", "")
    if not text.isascii() or not text.isdecimal() or not len(text) <= len(str(MAX_SATOSHIS)) or not 0 < int(text) <= MAX_SATOSHIS:
        raise RemoteProtocolError(f"cannot pay: {text[:40]!r} is not a price in satoshis")
    return Demand(int(text), parse_nonce(headers.get("x-bsv-payment-derivation-prefix", "")))


def write_payment(payment: Payment) -> str:
    """The value of `x-bsv-payment`."""
    text = base64.b64encode(payment.beef).decode()
    fields = {"derivationPrefix": payment.prefix, "derivationSuffix": payment.suffix, "transaction": text}
    return jsontext.compact(fields).decode()


def parse_payment(text: str) -> Payment:
    """Read `x-bsv-payment`; RemoteProtocolError("ERR_MALFORMED_PAYMENT")."""
    if len(text) > MAX_HEADER:
        raise refusal("ERR_MALFORMED_PAYMENT", f"it has {len(text)} characters")
    try:
        fields = jsontext.Fields.parse(text.encode(), "payment")
        prefix, suffix = parse_nonce(fields.text("derivationPrefix")), parse_nonce(fields.text("derivationSuffix"))
        return Payment(prefix, suffix, fields.base64("transaction"))
    except (RemoteProtocolError, ValueError) as fault:
        raise refusal("ERR_MALFORMED_PAYMENT", str(fault)) from fault


# --- what is accepted -----------------------------------------------------------------------------


def judge(
    payment: Payment, secret: bytes, payer: bytes, price: int, *, asked: bool, used: Callable[[str, str, str], bool]
) -> tuple[Income, Beef]:
    """The payment as income, and its envelope; RemoteProtocolError with a code of REFUSALS when it is none.

    `asked`: whether we gave this prefix to this payer for this request and it has not expired. `used(prefix, suffix, txid)`:
    whether that derivation or that transaction has paid before.
    """
    if not asked:
        raise refusal("ERR_INVALID_DERIVATION_PREFIX")
    try:
        beef = parse_beef(payment.beef, MAX_ANCESTRY)
        tx = beef.tx
    except RemoteProtocolError as fault:
        raise refusal("ERR_MALFORMED_TRANSACTION", fault.message) from fault
    if not beef.atomic:
        raise refusal("ERR_MALFORMED_TRANSACTION", "it does not name its subject")
    if used(payment.prefix, payment.suffix, tx.txid):
        raise refusal("ERR_PAYMENT_REUSED")
    if len(tx.outputs) <= OUTPUT:
        raise refusal("ERR_NO_PAYMENT_OUTPUT")
    output = tx.outputs[OUTPUT]
    ours = p2pkh(public_key(secret_from(secret, payer, payment.prefix, payment.suffix)))
    if output.script != ours:
        raise refusal("ERR_WRONG_SCRIPT")
    if output.satoshis < price:
        raise refusal("ERR_UNDERPAID", f"{output.satoshis} of {price} satoshis")
    return Income(tx.txid, OUTPUT, output.satoshis, ours, payer, payment.prefix, payment.suffix), beef


def refusal(code: str, detail: str = "") -> RemoteProtocolError:
    """A refusal by its code."""
    said = f"{REFUSALS[code]}: {detail}" if detail else REFUSALS[code]
    return RemoteProtocolError(f"cannot accept the payment: {said}", code=code)
