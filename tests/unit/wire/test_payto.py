"""Addresses and payment links, against another library and by their own rules."""

import pytest
from bsv import P2PKH
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.errors import LocalProtocolError
from reconciler.wire.keys import base58check_encode, wif_encode
from reconciler.wire.payto import address_of, payment_link, script_of
from reconciler.wire.script import op_return, p2pkh_hash


@given(key_hash=st.binary(min_size=20, max_size=20), chain=st.sampled_from(["main", "test", "devnet"]))
@settings(max_examples=100, deadline=None)
def test_an_address_names_its_script_and_another_library_agrees(key_hash: bytes, chain: str) -> None:
    script = p2pkh_hash(key_hash)
    address = address_of(script, chain)
    assert script_of(f" {address}\n", chain) == script
    assert P2PKH().lock(address).serialize() == script
    assert (address[0] == "1") is (chain == "main")


@pytest.mark.parametrize(
    ("text", "chain", "said"),
    [
        (address_of(p2pkh_hash(bytes(20)), "main"), "devnet", "is an address of main"),
        (address_of(p2pkh_hash(bytes(20)), "test"), "main", "is an address of a test network"),
        (base58check_encode(b"\x05" + bytes(20)), "main", "it is no P2PKH address"),
        (wif_encode(b"\x01" * 32, "main"), "main", "it is no P2PKH address"),
        ("1BoatSLRHtKNngkdXEeobR76b53LETtpyU", "main", "the checksum does not match"),
        ("not an address", "main", "a letter is not in the alphabet"),
        ("", "main", "the checksum does not match"),
    ],
)
def test_what_cannot_be_paid_safely_is_refused(text: str, chain: str, said: str) -> None:
    with pytest.raises(LocalProtocolError) as refused:
        script_of(text, chain)
    assert said in refused.value.message + str(refused.value.hint)


def test_only_a_payment_to_a_key_hash_has_an_address() -> None:
    with pytest.raises(LocalProtocolError, match="not P2PKH"):
        address_of(op_return((b"data",)), "main")


@pytest.mark.parametrize(
    ("satoshis", "label", "link"),
    [
        (0, "", "bitcoin:1A?sv"),
        (1, "", "bitcoin:1A?sv&amount=0.00000001"),
        (150_000_000, "", "bitcoin:1A?sv&amount=1.5"),
        (2_100_000_000_000_000, "", "bitcoin:1A?sv&amount=21000000"),
        (100, "Zoë & Co", "bitcoin:1A?sv&amount=0.000001&label=Zo%C3%AB%20%26%20Co"),
    ],
)
def test_a_link_has_the_amount_in_coins_without_an_exponent(satoshis: int, label: str, link: str) -> None:
    assert payment_link("1A", satoshis, label) == link
