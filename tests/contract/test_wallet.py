"""The Wallet port over local keys: what it signs is spendable, exactly priced, the same twice, and tells no secret."""

import logging
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.adapters.keystore import PASSPHRASE, KeyStore
from reconciler.adapters.wallet import FUNDING, LocalWallet
from reconciler.devnet.clock import SeededEntropy
from reconciler.model.change import FeeRate
from reconciler.model.effect import CoinOutput, DataOutput, Draft, Lock, TokenInput, TokenOutput
from reconciler.model.errors import LocalProtocolError, ReconcilerError, Refused, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.ports import Coin
from reconciler.wire import draft as drafts
from reconciler.wire import keys
from reconciler.wire.message import verify_message
from reconciler.wire.script import decode_pushdrop, p2pkh
from reconciler.wire.tx import Tx, TxIn, TxOut, parse_tx

PRODUCER, PAYER = bytes([0x11]) * 32, bytes([0x22]) * 32
SHIP = Lock("me", "service host interconnect", "1")
PARENT = Tx((TxIn("11" * 32, 0, b"\x51"),), (TxOut(1, b"\x51"),))


@pytest.fixture
def wallet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWallet:
    return make(tmp_path, monkeypatch)


def make(directory: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWallet:
    monkeypatch.setenv("PRODUCER_KEY", PRODUCER.hex())
    monkeypatch.setenv("PAYER_KEY", keys.wif_encode(PAYER, "test"))
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    wallet = LocalWallet(KeyStore(directory, SeededEntropy(7)), {"env": "PAYER_KEY"})
    wallet.know({"me": {"env": "PRODUCER_KEY"}})
    return wallet


def coin(wallet: LocalWallet, satoshis: int, number: int = 0) -> Coin:
    return Coin(Outpoint(f"{number:02x}" * 32, number), "devnet", satoshis, wallet.funding_script(), FUNDING, "reserved", "run_1")


def ship(domain: bytes = b"https://producer.example", lock: Lock = SHIP, satoshis: int = 1) -> TokenOutput:
    return TokenOutput((b"SHIP", keys.public_key(PRODUCER), domain, b"tm_demo"), lock, satoshis)


def assert_valid(raw: bytes, sources: list[TxOut]) -> None:
    """Every input runs in the interpreter of an independent implementation."""
    pytest.importorskip("bsv")
    from bsv import Script, Transaction, TransactionInput, TransactionOutput
    from bsv.script.spend import Spend

    tx = parse_tx(raw)
    theirs = Transaction.from_hex(raw.hex())
    assert theirs.txid() == tx.txid
    for index, (entry, source) in enumerate(zip(tx.inputs, sources, strict=True)):
        others = [
            TransactionInput(source_txid=one.txid, source_output_index=one.vout, sequence=one.sequence)
            for number, one in enumerate(tx.inputs)
            if number != index
        ]
        outputs = [TransactionOutput(Script(output.script.hex()), output.satoshis) for output in tx.outputs]
        spend = Spend(
            {
                "sourceTXID": entry.txid,
                "sourceOutputIndex": entry.vout,
                "sourceSatoshis": source.satoshis,
                "lockingScript": Script(source.script.hex()),
                "transactionVersion": tx.version,
                "otherInputs": others,
                "inputIndex": index,
                "unlockingScript": Script(entry.script.hex()),
                "outputs": outputs,
                "inputSequence": entry.sequence,
                "lockTime": tx.locktime,
            }
        )
        assert spend.validate()


def test_money_is_locked_to_a_child_of_the_wallet_key(wallet: LocalWallet) -> None:
    child = keys.child_secret(PAYER, keys.public_key(PAYER), keys.invoice("reconciler funding", "1"))
    assert wallet.funding_script() == p2pkh(keys.public_key(child))
    assert wallet.funding_script() != p2pkh(keys.public_key(PAYER))


@pytest.mark.row("P-ID-18")
def test_a_subkey_is_the_brc42_child_an_independent_library_derives(wallet: LocalWallet) -> None:
    pytest.importorskip("bsv")
    from bsv import PrivateKey
    from bsv.wallet.key_deriver import Counterparty, CounterpartyType, KeyDeriver, Protocol

    child = KeyDeriver(PrivateKey(PRODUCER)).derive_private_key(
        Protocol(2, "reconciler subkey"), "premium", Counterparty(CounterpartyType.SELF)
    )
    assert wallet.public_key("me#premium") == child.public_key().hex()
    # A fixed point, so that no upgrade of either side moves everybody's subkeys together.
    assert wallet.public_key("me#premium") == "022710a450926155362c60390b16cee507809290a8434532466fa2167e8da5fb19"
    assert wallet.public_key("me") == keys.public_key(PRODUCER).hex()


@pytest.mark.row("P-ID-18")
def test_tiers_do_not_sign_for_each_other(wallet: LocalWallet) -> None:
    signatures = {tier: wallet.attest(f"me#{tier}", b"tick") for tier in ("premium", "basic")}
    signers = {tier: verify_message(signature, b"tick").hex() for tier, signature in signatures.items()}
    assert signers == {tier: wallet.public_key(f"me#{tier}") for tier in signers}
    assert len({*signers.values(), wallet.public_key("me")}) == 3


def test_an_attestation_is_anyones_to_verify_and_the_same_every_time(wallet: LocalWallet) -> None:
    signature = wallet.attest("me", b"document")
    assert verify_message(signature, b"document") == keys.public_key(PRODUCER)
    assert wallet.attest("me", b"document") == signature
    assert wallet.attest("me", b"documenu") != signature
    with pytest.raises(RemoteProtocolError):
        verify_message(signature, b"documenu")


@pytest.mark.row("P-ID-01")
def test_generating_twice_gives_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = make(tmp_path, monkeypatch)
    assert not wallet.exists("new")
    with pytest.raises(Refused) as caught:
        wallet.public_key("new")
    assert caught.value.code == "no-key"
    first = wallet.generate("new", {})
    assert wallet.exists("new")
    assert wallet.generate("new", {}) == first == wallet.public_key("new")
    assert make(tmp_path, monkeypatch).public_key("new") == first
    assert wallet.generate("new#tier", {}) == wallet.public_key("new#tier") != first


@pytest.mark.row("P-ID-05")
def test_a_backup_restored_in_an_empty_home_signs_identically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = make(tmp_path / "old", monkeypatch)
    wallet.generate("new", {})
    wallet.backup("new", tmp_path / "backup", b"paper")
    home = make(tmp_path / "empty", monkeypatch)
    assert home.restore("new", tmp_path / "backup", b"paper") == wallet.public_key("new")
    draft = Draft("devnet", (ship(lock=replace(SHIP, key="new")),))
    mine, theirs = (w.sign(draft, [coin(w, 10_000)], {}) for w in (wallet, home))
    assert theirs == mine
    assert home.attest("new#tier", b"x") == wallet.attest("new#tier", b"x")


def test_a_key_that_moves_is_read_from_its_new_place(wallet: LocalWallet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = wallet.public_key("me")
    monkeypatch.setenv("OTHER_KEY", (b"\x33" * 32).hex())
    wallet.know({"me": {"env": "OTHER_KEY"}})
    assert wallet.public_key("me") == keys.public_key(b"\x33" * 32).hex() != before


def test_no_manifest_can_say_where_the_paying_key_lives(wallet: LocalWallet) -> None:
    with pytest.raises(Refused, match="that key pays"):
        wallet.know({"wallet": {"env": "PRODUCER_KEY"}})


def test_a_token_is_made_paid_for_and_balanced(wallet: LocalWallet) -> None:
    draft = Draft("devnet", (ship(), DataOutput((b"note",))), rate=FeeRate(100))
    signed = wallet.sign(draft, [coin(wallet, 10_000)], {})
    tx = parse_tx(signed.raw)
    assert tx.txid == signed.txid
    assert signed.fee == drafts.price(draft, []).fee
    assert [output.satoshis for output in tx.outputs] == [1, 0, 10_000 - 1 - signed.fee]
    assert signed.fee >= FeeRate(100).fee(tx.size), "the worst-case price covers the real size"
    assert signed.coins == (
        Coin(Outpoint(tx.txid, 2), "devnet", 10_000 - 1 - signed.fee, wallet.funding_script(), FUNDING, "pending"),
    )
    token = decode_pushdrop(tx.outputs[0].script)
    assert token.fields == ship().fields
    assert token.key == keys.anyone_public(keys.public_key(PRODUCER), keys.invoice(SHIP.protocol, SHIP.key_id))
    assert keys.verify(token.key, b"".join(token.fields), token.signature)
    assert_valid(signed.raw, [TxOut(10_000, wallet.funding_script())])


@pytest.mark.parametrize(
    "lock",
    [
        SHIP,
        replace(SHIP, counterparty="self"),
        replace(SHIP, counterparty=keys.public_key(b"\x44" * 32).hex()),
        replace(SHIP, key="me#tier"),
    ],
)
def test_a_token_is_spent_by_the_key_that_locked_it(wallet: LocalWallet, lock: Lock) -> None:
    made = wallet.sign(Draft("devnet", (ship(lock=lock, satoshis=3),)), [coin(wallet, 10_000)], {})
    token = TokenInput(Outpoint(made.txid, 0), lock)
    draft = Draft("devnet", (ship(b"https://elsewhere.example", lock),), (token,))
    moved = wallet.sign(draft, list(made.coins), {made.txid: made.raw})
    before, after = parse_tx(made.raw), parse_tx(moved.raw)
    assert after.inputs[0].outpoint == Outpoint(made.txid, 0)
    assert sum(output.satoshis for output in after.outputs) == 3 + made.coins[0].satoshis - moved.fee
    assert_valid(moved.raw, [before.outputs[0], before.outputs[1]])


def test_signing_again_gives_the_same_bytes(wallet: LocalWallet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Draft("devnet", (ship(),))
    assert wallet.sign(draft, [coin(wallet, 9_999)], {}) == make(tmp_path, monkeypatch).sign(draft, [coin(wallet, 9_999)], {})


def test_a_split_makes_coins_and_change(wallet: LocalWallet) -> None:
    draft = Draft("devnet", (CoinOutput(500), CoinOutput(700)), coins=2)
    signed = wallet.sign(draft, [coin(wallet, 1_000, 1), coin(wallet, 1_000, 2)], {})
    assert [(made.outpoint.vout, made.satoshis, made.state) for made in signed.coins] == [
        (0, 500, "pending"),
        (1, 700, "pending"),
        (2, 800 - signed.fee, "pending"),
    ]
    assert_valid(signed.raw, [TxOut(1_000, wallet.funding_script())] * 2)


# Signing changes nothing in a wallet, so one may serve all examples.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    satoshis=st.integers(1, 3_000),
    rate=st.integers(0, 1_000),
    sizes=st.lists(st.integers(2, 400), max_size=4),
    splits=st.lists(st.integers(1, 300), max_size=3),
)
def test_money_is_conserved_or_nothing_is_signed(
    wallet: LocalWallet, satoshis: int, rate: int, sizes: list[int], splits: list[int]
) -> None:
    outputs = (*(TokenOutput((b"x" * size,), SHIP) for size in sizes), *(CoinOutput(split) for split in splits))
    draft = Draft("devnet", outputs, rate=FeeRate(rate))
    need = drafts.price(draft, []).need
    if satoshis < need:
        with pytest.raises(LocalProtocolError, match="cannot pay"):
            wallet.sign(draft, [coin(wallet, satoshis)], {})
        return
    tx = parse_tx(wallet.sign(draft, [coin(wallet, satoshis)], {}).raw)
    assert sum(output.satoshis for output in tx.outputs) + drafts.price(draft, []).fee == satoshis
    assert tx.outputs[-1].satoshis == satoshis - need + 1 >= 1
    assert tx.outputs[-1].script == wallet.funding_script()


def test_what_is_not_ours_is_not_spent(wallet: LocalWallet) -> None:
    draft = Draft("devnet", (ship(),))
    good = coin(wallet, 10_000)
    with pytest.raises(LocalProtocolError, match="another key"):
        wallet.sign(draft, [replace(good, script=p2pkh(keys.public_key(PRODUCER)))], {})
    with pytest.raises(LocalProtocolError, match="chain main"):
        wallet.sign(draft, [replace(good, chain="main")], {})
    with pytest.raises(LocalProtocolError):
        wallet.sign(draft, [good, good], {})
    made = wallet.sign(draft, [good], {})
    token = TokenInput(Outpoint(made.txid, 0), SHIP)
    for wrong in (replace(SHIP, key_id="2"), replace(SHIP, counterparty="self"), replace(SHIP, key="me#tier")):
        with pytest.raises(LocalProtocolError, match="another key"):
            wallet.sign(replace(draft, inputs=(replace(token, lock=wrong),)), [good], {made.txid: made.raw})
    spend = replace(draft, inputs=(token,))
    with pytest.raises(LocalProtocolError, match="not at hand"):
        wallet.sign(spend, [good], {})
    with pytest.raises(LocalProtocolError, match="not its parent"):
        wallet.sign(spend, [good], {made.txid: PARENT.raw})
    with pytest.raises(LocalProtocolError, match="not its parent"):
        wallet.sign(replace(draft, inputs=(replace(token, outpoint=Outpoint(made.txid, 9)),)), [good], {made.txid: made.raw})
    with pytest.raises(ReconcilerError, match="spend an output twice"):
        wallet.sign(replace(draft, inputs=(token, token)), [good], {made.txid: made.raw})


@pytest.mark.parametrize("counterparty", ["somebody", "02" + "00" * 32, "", "02abc"])
def test_a_lock_needs_a_counterparty_that_exists(wallet: LocalWallet, counterparty: str) -> None:
    with pytest.raises(LocalProtocolError, match="cannot lock towards"):
        wallet.sign(Draft("devnet", (ship(lock=replace(SHIP, counterparty=counterparty)),)), [coin(wallet, 10_000)], {})


@pytest.mark.row("P-ID-14")
def test_no_secret_leaves_the_wallet(wallet: LocalWallet, caplog: pytest.LogCaptureFixture) -> None:
    said: list[bytes] = [repr(wallet).encode(), str(vars(wallet)["_sources"]).encode()]
    with caplog.at_level(logging.DEBUG):
        made = wallet.sign(Draft("devnet", (ship(),)), [coin(wallet, 10_000)], {})
        said += [
            repr(made).encode(),
            made.raw,
            wallet.attest("me", b"x"),
            wallet.funding_script(),
            wallet.public_key("me").encode(),
        ]
        attempts = [
            lambda: wallet.sign(Draft("devnet", (ship(),)), [coin(wallet, 1)], {}),
            lambda: wallet.sign(Draft("devnet", (ship(),)), [replace(coin(wallet, 9_999), script=b"")], {}),
            lambda: wallet.sign(Draft("devnet", (ship(lock=replace(SHIP, protocol="x")),)), [coin(wallet, 9_999)], {}),
            lambda: wallet.public_key("nobody"),
        ]
        for attempt in attempts:
            with pytest.raises(ReconcilerError) as caught:
                attempt()
            said.append("".join(traceback.format_exception(caught.value)).encode())
            said.append(f"{caught.value!r} {caught.value.hint}".encode())
    said.append(caplog.text.encode())
    everything = b"\n".join(said)
    for secret in (PRODUCER, PAYER):
        for form in (
            secret,
            secret.hex().encode(),
            keys.wif_encode(secret, "main").encode(),
            keys.wif_encode(secret, "test").encode(),
        ):
            assert form not in everything
