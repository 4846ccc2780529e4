import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import keys
from reconciler.wire.script import (
    PushDrop,
    chunks,
    decode_pushdrop,
    is_p2pkh,
    op_return,
    p2pkh,
    p2pkh_hash,
    push,
    pushdrop,
    pushes,
)
from tests.unit.wire.chain import SECRET, token

KEY = keys.public_key(SECRET)
HEAD = b"\x21" + KEY + b"\xac"


def test_p2pkh() -> None:
    script = p2pkh(KEY)
    assert script.hex() == "76a914" + keys.hash160(KEY).hex() + "88ac"
    assert is_p2pkh(script)
    assert not is_p2pkh(script + b"\x00")
    assert not is_p2pkh(script[:-1] + b"\xad")
    with pytest.raises(LocalProtocolError):
        p2pkh_hash(bytes(19))


def test_a_token_reads_back_with_a_signature_that_holds() -> None:
    read = decode_pushdrop(token(b"SHIP", KEY, b"https://example.com", b"tm_x"))
    assert read.fields == (b"SHIP", KEY, b"https://example.com", b"tm_x")
    assert keys.verify(read.key, read.signed, read.signature)


def test_an_odd_number_of_items_ends_with_a_single_drop() -> None:
    assert pushdrop([b"ab"], KEY, b"sig")[-1:] == b"\x6d"
    assert pushdrop([b"ab", b"cd"], KEY, b"sig")[-2:] == b"\x6d\x75"
    assert pushdrop([b"ab", b"cd", b"ef"], KEY, b"sig")[-2:] == b"\x6d\x6d"


@pytest.mark.parametrize("fields", [[], [b""], [b"a", b""]])
def test_fields_that_would_not_read_back_are_not_written(fields: list[bytes]) -> None:
    with pytest.raises(LocalProtocolError):
        pushdrop(fields, KEY, b"sig")


def test_a_token_needs_a_key_and_a_signature() -> None:
    with pytest.raises(LocalProtocolError):
        pushdrop([b"a"], KEY, b"")
    with pytest.raises(LocalProtocolError):
        pushdrop([b"a"], bytes(33), b"sig")


@pytest.mark.parametrize(
    "script",
    [
        b"",
        p2pkh(KEY),
        HEAD,
        HEAD + push(b"sig") + b"\x75",  # no field
        HEAD + push(b"aa") + push(b"sig"),  # nothing dropped
        HEAD + push(b"aa") + push(b"sig") + b"\x75\x75",  # dropped, but not as written
        HEAD + push(b"aa") + push(b"sig") + b"\x6d\x75",  # drops the verdict as well
        HEAD + push(b"aa") + push(b"sig") + b"\x6d\x51",  # and then true: anyone can spend
        HEAD + b"\x4c\x02aa" + push(b"sig") + b"\x6d",  # not minimal
        HEAD + push(b"aa") + b"\x4c\x02b\x6d",  # not minimal, and its last byte poses as the drop
        HEAD + b"\x01\x05" + push(b"sig") + b"\x6d",  # not minimal: OP_5
        HEAD + push(b"aa") + b"\x4e\xff\xff\xff\xff",  # a promise of 4 GB
        b"\x21" + KEY + b"\xad" + push(b"aa") + push(b"sig") + b"\x6d",  # OP_CHECKSIGVERIFY
        b"\x21" + b"\x05" + KEY[1:] + b"\xac" + push(b"aa") + push(b"sig") + b"\x6d",  # no point
    ],
)
def test_what_is_not_exactly_a_token_is_refused(script: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_pushdrop(script)


def test_one_zero_byte_and_sixteen_survive() -> None:
    for field in (b"\x00", b"\x10", b"\x81", b"\x01"):
        assert decode_pushdrop(pushdrop([field], KEY, b"sig")) == PushDrop(KEY, (field,), b"sig")


def test_data_outputs() -> None:
    script = op_return([b"hello", b"\x01", bytes(300)])
    assert script[:2] == b"\x00\x6a"
    assert pushes(script[2:]) == (b"hello", b"\x01", bytes(300))


def test_only_pushes_are_pushes() -> None:
    with pytest.raises(RemoteProtocolError, match="0x6a"):
        pushes(b"\x01a\x6a")
    assert list(chunks(b"\x00\x4f\x60\xac")) == [(0, b"\x00"), (0x4F, b"\x81"), (0x60, b"\x10"), (0xAC, None)]
