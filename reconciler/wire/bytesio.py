"""Reading and writing the byte formats of Bitcoin: little-endian integers, CompactSize counts, length-prefixed bytes.

Every fault of a `Reader` is a RemoteProtocolError, and no length or count is believed before the bytes
that would have to carry it are known to be there.
"""

from __future__ import annotations

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError

U32_MAX = 0xFFFFFFFF
U64_MAX = 0xFFFFFFFFFFFFFFFF
# An empty output takes nine bytes on the wire and a hundred in memory. Real data has an item in thirty bytes or more, so whoever
# sends many smaller ones has nothing to say: beyond the free ones, items have to be this long on the average.
# Larger ones, such as inputs, count for as many as they have room for.
FREE_ITEMS, ITEM = 100_000, 32


class Reader:
    """A cursor over bytes. `what` names the format in error messages, such as "transaction"."""

    __slots__ = ("_data", "_position", "_room", "_what")

    def __init__(self, data: bytes, what: str = "bytes") -> None:
        self._data = data
        self._position = 0
        self._room = FREE_ITEMS + len(data) // ITEM
        self._what = what

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return self._position

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._position

    def fault(self, detail: str) -> RemoteProtocolError:
        """The error to raise for a fault found at the cursor."""
        return RemoteProtocolError(f"cannot read the {self._what}: {detail} at byte {self._position}")

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        end = self._position + count
        if count < 0 or end > len(self._data):
            raise self.fault(f"{count} bytes are promised and {self.left} are left")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def since(self, start: int) -> bytes:
        """The bytes between an earlier `position` and the cursor."""
        return self._data[start : self._position]

    def u8(self) -> int:
        """One byte as an integer."""
        at = self._position
        if at >= len(self._data):
            return self.take(1)[0]
        self._position = at + 1
        return self._data[at]

    def u16(self) -> int:
        """Two bytes, little endian."""
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        """Four bytes, little endian."""
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        """Eight bytes, little endian."""
        return int.from_bytes(self.take(8), "little")

    def hash(self) -> str:
        """A 32-byte hash in internal order, as display-order hex."""
        return self.take(32)[::-1].hex()

    def varint(self) -> int:
        """A CompactSize integer; only the shortest spelling is one, so that equal values have equal bytes."""
        first = self.u8()
        if first < 0xFD:
            return first
        width = 2 << (first - 0xFD)
        value = int.from_bytes(self.take(width), "little")
        if value < (0xFD, 0x10000, 0x100000000)[first - 0xFD]:
            raise self.fault(f"the count {value} is spelled in more bytes than it needs")
        return value

    def count(self, least: int) -> int:
        """A CompactSize count of items of at least `least` bytes each, checked against what is left before anything is built."""
        value = self.varint()
        if value * least > len(self._data) - self._position:
            raise self.fault(f"{value} items are promised and {self.left} bytes are left")
        self._room -= value * -(-least // ITEM)
        if self._room < 0:
            raise self.fault(f"{value} more items are too many for {len(self._data)} bytes")
        return value

    def varbytes(self) -> bytes:
        """Bytes preceded by their CompactSize length."""
        return self.take(self.varint())

    def amounts(self, count: int) -> list[tuple[int, bytes]]:
        """`count` pairs of eight bytes as an integer and length-prefixed bytes: a u64 and a varbytes, read in one go.

        A transaction that splits coins has a thousand of these, and everyone who checks a child of it reads them again.
        """
        data, size, at = self._data, len(self._data), self._position
        found = []
        for _ in range(count):
            start = at + 9
            end = start + data[start - 1] if start <= size and data[start - 1] < 0xFD else size + 1
            if end <= size:
                found.append((int.from_bytes(data[at : at + 8], "little"), data[start:end]))
                at = end
            else:
                self._position = at
                found.append((self.u64(), self.varbytes()))
                at = self._position
        self._position = at
        return found

    def done(self) -> None:
        """Nothing may follow."""
        if self.left:
            raise self.fault(f"{self.left} bytes follow the end")


def varint(value: int) -> bytes:
    """The CompactSize bytes of an unsigned 64-bit integer."""
    if value < 0xFD:
        if value < 0:
            raise LocalProtocolError("bad-varint", f"cannot write {value} as a count", hint="counts are not negative")
        return value.to_bytes(1, "little")
    if value <= 0xFFFF:
        return b"\xfd" + value.to_bytes(2, "little")
    if value <= U32_MAX:
        return b"\xfe" + value.to_bytes(4, "little")
    if value <= U64_MAX:
        return b"\xff" + value.to_bytes(8, "little")
    raise LocalProtocolError("bad-varint", f"cannot write {value} as a count", hint="counts fit 64 bits")


def varbytes(data: bytes) -> bytes:
    """`data` preceded by its CompactSize length."""
    return varint(len(data)) + data


def internal(display: str) -> bytes:
    """The 32 internal-order bytes of a display-order hex hash; LocalProtocolError when it is not one."""
    try:
        raw = bytes.fromhex(display)
    except ValueError:
        raw = b""
    if len(raw) != 32 or len(display) != 64:
        raise LocalProtocolError("bad-hash", f"cannot read {display[:80]!r} as a hash", hint="a hash is 64 hex digits")
    return raw[::-1]


def display(raw: bytes) -> str:
    """The display-order hex of an internal-order hash."""
    return raw[::-1].hex()
