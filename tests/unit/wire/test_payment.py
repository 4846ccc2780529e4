"""Payments for requests: what is asked, what is sent, and the name of every refusal."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import auth, keys, payment
from reconciler.wire.beef import write_beef
from reconciler.wire.tx import Tx, TxIn, TxOut

PAYER, PAYEE, EVE = (keys.sha256(name) for name in (b"payer", b"payee", b"eve"))
P, Q = keys.public_key(PAYER), keys.public_key(PAYEE)
PREFIX, SUFFIX = auth.make_nonce(PAYEE, bytes(16)), auth.make_nonce(PAYER, bytes(16))
PRICE = 100


def tx_to(script: bytes, satoshis: int = PRICE) -> Tx:
    return Tx((TxIn("11" * 32, 0),), (TxOut(satoshis, script), TxOut(5, b"\x51")))


def sent(tx: Tx, atomic: bool = True) -> payment.Payment:
    mined = Tx((TxIn("22" * 32, 0),), (TxOut(PRICE + 50, b"\x51"),))
    tx = replace(tx, inputs=(TxIn(mined.txid, 0),))
    whole = {tx.txid: tx.raw, mined.txid: replace(mined, inputs=()).raw, **{mined.txid: mined.raw}}
    proof = bytes.fromhex("01" + "01" + "01" + "00" + "02") + bytes.fromhex(mined.txid)[::-1]
    parts = {txid: (raw, proof if txid == mined.txid else b"") for txid, raw in whole.items()}
    return payment.Payment(PREFIX, SUFFIX, write_beef(tx.txid, parts.get, atomic=atomic))


def judge(found: payment.Payment, price: int = PRICE, **how: Any) -> payment.Income:
    how = {"asked": True, "used": lambda *_: False, **how}
    return payment.judge(found, PAYEE, how.pop("payer", P), price, **how)[0]


GOOD = sent(tx_to(payment.script_to(PAYER, Q, PREFIX, SUFFIX)))


def test_a_payment_that_pays_us_is_income() -> None:
    income = judge(GOOD)
    assert (income.satoshis, income.vout, income.payer, income.prefix, income.suffix) == (PRICE, 0, P, PREFIX, SUFFIX)
    assert income.script == payment.script_to(PAYER, Q, PREFIX, SUFFIX)
    assert judge(GOOD, PRICE - 1) == income, "more than the price is welcome"


def reason(found: payment.Payment, **how: Any) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        judge(found, **how)
    assert caught.value.message.startswith("cannot accept the payment: ")
    return caught.value.code


def test_every_way_not_to_pay_has_its_own_name() -> None:
    script = payment.script_to(PAYER, Q, PREFIX, SUFFIX)
    found = {
        reason(GOOD, asked=False): "prefix",
        reason(GOOD, used=lambda prefix, suffix, txid: (prefix, suffix) == (PREFIX, SUFFIX)): "derivation again",
        reason(replace(GOOD, beef=b"junk")): "no BEEF",
        reason(sent(replace(tx_to(script), outputs=()))): "no output",
        reason(sent(tx_to(b"\x51"))): "script",
        reason(GOOD, price=PRICE + 1): "price",
    }
    assert found == {
        "ERR_INVALID_DERIVATION_PREFIX": "prefix",
        "ERR_PAYMENT_REUSED": "derivation again",
        "ERR_MALFORMED_TRANSACTION": "no BEEF",
        "ERR_NO_PAYMENT_OUTPUT": "no output",
        "ERR_WRONG_SCRIPT": "script",
        "ERR_UNDERPAID": "price",
    }
    assert set(found) <= set(payment.REFUSALS)


def test_only_output_0_counts_and_only_for_who_signed_the_request() -> None:
    tx = tx_to(payment.script_to(PAYER, Q, PREFIX, SUFFIX))
    assert reason(sent(replace(tx, outputs=tx.outputs[::-1]))) == "ERR_WRONG_SCRIPT"
    assert reason(GOOD, payer=keys.public_key(EVE)) == "ERR_WRONG_SCRIPT"
    assert reason(replace(GOOD, suffix=PREFIX)) == "ERR_WRONG_SCRIPT"


def test_a_transaction_that_has_paid_pays_nothing_under_another_name() -> None:
    txid = judge(GOOD).txid
    assert reason(GOOD, used=lambda prefix, suffix, seen: seen == txid) == "ERR_PAYMENT_REUSED"


def test_an_envelope_must_name_its_subject() -> None:
    assert reason(sent(tx_to(payment.script_to(PAYER, Q, PREFIX, SUFFIX)), atomic=False)) == "ERR_MALFORMED_TRANSACTION"


def test_a_demand_reads_back() -> None:
    demand = payment.Demand(PRICE, PREFIX)
    assert payment.parse_demand(payment.demand_headers(demand)) == demand
    assert payment.demand_body(demand)["satoshisRequired"] == PRICE


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": "2.0"}, "version"), ({"version": ""}, "version"), ({"satoshis-required": "0"}, "price"),
        ({"satoshis-required": "-1"}, "price"), ({"satoshis-required": "1.5"}, "price"),
        ({"satoshis-required": "9" * 30}, "price"),
        ({"satoshis-required": "\u0662"}, "price"), ({"derivation-prefix": ""}, "nonce"),
        ({"derivation-prefix": "a b c d"}, "base64"),
    ],
)  # fmt: skip
def test_a_demand_that_is_none_is_not_paid(change: dict[str, str], why: str) -> None:
    headers = payment.demand_headers(payment.Demand(PRICE, PREFIX))
    with pytest.raises(RemoteProtocolError, match=why):
        payment.parse_demand(headers | {f"x-bsv-payment-{name}": value for name, value in change.items()})


def test_a_payment_header_reads_back() -> None:
    text = payment.write_payment(GOOD)
    assert json.loads(text)["transaction"] == base64.b64encode(GOOD.beef).decode()
    assert payment.parse_payment(text) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"derivationPrefix":"AAAA","derivationSuffix":"AAAA"}',
        '{"derivationPrefix":"AAAA","derivationSuffix":"a b","transaction":"AAAA"}',
        '{"derivationPrefix":"AAAA","derivationSuffix":"AAAA","transaction":"*"}', "x" * (payment.MAX_HEADER + 1), "\ud800",
    ],
    ids=lambda text: text[:20].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_a_payment_header_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        payment.parse_payment(text)
    assert caught.value.code == "ERR_MALFORMED_PAYMENT"
