import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import keys
from tests.unit.wire.chain import OTHER, SECRET

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
INV = keys.invoice("service host interconnect", "1")


def test_an_invoice_number_is_normalised() -> None:
    assert keys.invoice(" Service Host Interconnect ", "a-b 1") == "2-service host interconnect-a-b 1"
    assert keys.invoice("tests", "x", 0) == "0-tests-x"


@pytest.mark.parametrize(
    ("protocol", "key_id", "level"),
    [
        ("four", "1", 2),
        ("a" * 401, "1", 2),
        ("two  spaces", "1", 2),
        ("under_score", "1", 2),
        ("naïve name", "1", 2),
        ("a fine protocol", "1", 2),
        ("tests", "", 2),
        ("tests", "k" * 801, 2),
        ("tests", "1", 3),
        ("tests\nmore", "1", 2),
    ],
)
def test_brc43_rules(protocol: str, key_id: str, level: int) -> None:
    with pytest.raises(LocalProtocolError, match=r"^cannot derive") as caught:
        keys.invoice(protocol, key_id, level)
    assert caught.value.hint


@pytest.mark.row("P-ID-18")
def test_both_sides_derive_the_same_pair_and_tiers_differ() -> None:
    mine, theirs = keys.public_key(SECRET), keys.public_key(OTHER)
    child = keys.child_secret(SECRET, theirs, INV)
    assert keys.public_key(child) == keys.child_public(mine, OTHER, INV)
    assert child != keys.child_secret(SECRET, theirs, keys.invoice("service host interconnect", "2"))
    assert child != keys.child_secret(SECRET, keys.ANYONE, INV)


def test_what_is_derived_for_anyone_is_known_to_anyone() -> None:
    child = keys.child_secret(SECRET, keys.ANYONE, INV)
    assert keys.anyone_public(keys.public_key(SECRET), INV) == keys.public_key(child)
    assert keys.public_key(keys.ANYONE_SECRET) == keys.ANYONE


@pytest.mark.parametrize("bad", [b"", bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32, bytes(33)])
def test_a_bad_secret_is_our_fault(bad: bytes) -> None:
    for use in (keys.public_key, lambda s: keys.sign(s, b""), lambda s: keys.child_secret(s, keys.ANYONE, INV)):
        with pytest.raises(LocalProtocolError):
            use(bad)


@pytest.mark.parametrize("bad", [b"", bytes(33), b"\x02" + b"\xff" * 32, b"\x04" + bytes(64), keys.ANYONE[1:]])
def test_a_bad_public_key_is_theirs(bad: bytes) -> None:
    assert not keys.is_public_key(bad)
    assert not keys.verify(bad, b"m", keys.sign(SECRET, b"m"))
    for use in (
        lambda p: keys.child_public(p, SECRET, INV),
        lambda p: keys.address(p, "main"),
        lambda p: keys.anyone_public(p, INV),
    ):
        with pytest.raises(RemoteProtocolError):
            use(bad)


def test_an_uncompressed_key_is_refused_although_it_is_on_the_curve() -> None:
    import coincurve

    whole = coincurve.PublicKey(keys.ANYONE).format(compressed=False)
    assert not keys.is_public_key(whole)
    assert not keys.verify(whole, b"m", keys.sign(keys.ANYONE_SECRET, b"m"))


def test_signatures_are_deterministic_and_bound_to_key_and_message() -> None:
    signature = keys.sign(SECRET, b"hello")
    assert signature == keys.sign(SECRET, b"hello") == keys.sign_digest(SECRET, keys.sha256(b"hello"))
    assert keys.verify(keys.public_key(SECRET), b"hello", signature)
    assert not keys.verify(keys.public_key(SECRET), b"hullo", signature)
    assert not keys.verify(keys.public_key(OTHER), b"hello", signature)


def high_s(signature: bytes) -> bytes:
    r_end = 4 + signature[3]
    s = ORDER - int.from_bytes(signature[r_end + 2 :], "big")
    body = signature[2:r_end] + b"\x02\x21\x00" + s.to_bytes(32, "big")
    return bytes([0x30, len(body)]) + body


def test_the_other_root_of_a_signature_is_refused() -> None:
    signature = keys.sign(SECRET, b"hello")
    twin = high_s(signature)
    assert twin != signature
    assert not keys.verify(keys.public_key(SECRET), b"hello", twin)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: b"",
        lambda s: s[:-1],
        lambda s: s + b"\x00",
        lambda s: b"\x31" + s[1:],
        lambda s: s[:1] + b"\x81" + s[1:],
        lambda s: bytes(71),
    ],
)
def test_malformed_der_is_false_and_not_an_error(spoil: object) -> None:
    signature = keys.sign(SECRET, b"hello")
    assert keys.verify(keys.public_key(SECRET), b"hello", spoil(signature)) is False  # type: ignore[operator]


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(LocalProtocolError):
        keys.sign_digest(SECRET, b"short")
    assert not keys.verify_digest(keys.public_key(SECRET), b"short", keys.sign(SECRET, b""))


def test_text_forms_known_to_everybody() -> None:
    assert keys.address(keys.ANYONE, "main") == "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH"
    assert keys.address(keys.ANYONE, "test") == keys.address(keys.ANYONE, "devnet") == "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r"
    assert keys.wif_encode(keys.ANYONE_SECRET, "main") == "KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn"
    assert keys.wif_decode(" KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn\n") == keys.ANYONE_SECRET
    assert keys.wif_decode(keys.wif_encode(SECRET, "test")) == SECRET


def test_hashes_known_to_everybody() -> None:
    assert keys.hash160(b"").hex() == "b472a266d0bd89c13706a4132ccfb16f7c3b9fcb"
    assert keys.sha256d(b"hello").hex() == "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50"


@pytest.mark.parametrize("text", ["", "1", "0OIl", "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMh", "1" * 121, "11111"])
def test_base58check_faults(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        keys.base58check_decode(text)


def test_leading_zeros_survive_base58() -> None:
    assert keys.base58check_decode(keys.base58check_encode(b"\0\0\0x")) == b"\0\0\0x"


@pytest.mark.parametrize(
    "payload", [b"\x80" + SECRET, b"\x81" + SECRET + b"\x01", b"\x80" + SECRET + b"\x02", b"\x80" + bytes(32) + b"\x01"]
)
def test_only_compressed_wif_is_read_and_the_text_is_not_repeated(payload: bytes) -> None:
    text = keys.base58check_encode(payload)
    with pytest.raises(RemoteProtocolError) as caught:
        keys.wif_decode(text)
    assert text not in str(caught.value)
