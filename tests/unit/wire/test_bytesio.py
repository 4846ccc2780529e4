import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.bytesio import Reader, display, internal, varbytes, varint


def test_integers_are_little_endian() -> None:
    reader = Reader(bytes(range(1, 16)))
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (1, 0x0302, 0x07060504, 0x0F0E0D0C0B0A0908)
    reader.done()


@pytest.mark.parametrize("raw", ["fdfc00", "fd0000", "feffff0000", "ffffffffff00000000"])
def test_a_count_has_one_spelling(raw: str) -> None:
    with pytest.raises(RemoteProtocolError, match="more bytes than it needs"):
        Reader(bytes.fromhex(raw)).varint()


@pytest.mark.parametrize("raw", ["", "fd", "fdff", "fe000000", "ff00000000000000"])
def test_a_cut_count_is_a_remote_fault(raw: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Reader(bytes.fromhex(raw)).varint()


def test_a_count_is_not_believed_beyond_what_is_left() -> None:
    assert Reader(b"\x02" + bytes(82)).count(41) == 2
    with pytest.raises(RemoteProtocolError, match="3 items are promised and 82 bytes are left"):
        Reader(b"\x03" + bytes(82)).count(41)
    with pytest.raises(RemoteProtocolError):
        Reader(varint(2**64 - 1) + bytes(20)).count(1)
    with pytest.raises(RemoteProtocolError):
        Reader(varint(2**63) + bytes(20)).varbytes()


def test_nothing_may_follow() -> None:
    with pytest.raises(RemoteProtocolError, match="cannot read the letter: 1 bytes follow the end at byte 0"):
        Reader(b"x", "letter").done()


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_count_fits_64_bits(value: int) -> None:
    with pytest.raises(LocalProtocolError):
        varint(value)


def test_hashes_are_shown_reversed() -> None:
    raw = bytes(range(32))
    assert internal(display(raw)) == raw
    assert Reader(raw).hash() == display(raw)
    for bad in ("", "00" * 31, "zz" * 32, "00 " * 32, "é" * 64):
        with pytest.raises(LocalProtocolError):
            internal(bad)


def test_varbytes_is_read_back() -> None:
    for size in (0, 1, 252, 253, 65536):
        assert Reader(varbytes(bytes(size))).varbytes() == bytes(size)
