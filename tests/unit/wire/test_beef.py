from functools import partial

import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.beef import Beef, parse_beef, write_beef
from reconciler.wire.bytesio import internal, varint
from reconciler.wire.tx import Tx, TxOut
from tests.unit.wire.chain import PURSE, Ancestry, coinbase, diamond, pay, work


def family() -> tuple[Ancestry, Tx, Tx, Tx]:
    """A mined coin, an unmined payment of it, and a payment of that."""
    ancestry, coin = Ancestry(), coinbase(1000, 1000)
    middle = pay([(coin, 0)], [TxOut(900, PURSE), TxOut(50, PURSE)])
    child = pay([(middle, 0)], [TxOut(800, PURSE)])
    ancestry.mine(coinbase(1, tag=9), coin)
    ancestry.add(middle, child)
    return ancestry, coin, middle, child


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("atomic", [False, True])
def test_every_form_is_read_and_written_again(version: int, atomic: bool) -> None:
    ancestry, coin, middle, child = family()
    raw = ancestry.beef(child, version=version, atomic=atomic)
    beef = parse_beef(raw)
    assert list(beef.txs) == [coin.txid, middle.txid, child.txid]
    assert (beef.subject, beef.version, beef.atomic, beef.tx) == (child.txid, version, atomic, child)
    assert [bool(entry.bump) for entry in beef.txs.values()] == [True, False, False]
    assert write_beef(child.txid, beef.part, atomic=atomic, version=version) == raw


def test_ancestry_stops_at_a_mined_transaction() -> None:
    ancestry, _, middle, child = family()
    ancestry.mine(middle)
    beef = parse_beef(ancestry.beef(child))
    assert list(beef.txs) == [middle.txid, child.txid]
    assert len(beef.bumps) == 1


def test_shared_ancestors_are_written_once_and_read_in_linear_time() -> None:
    sizes, reading, writing = [], [], []
    for steps in (30, 60):
        ancestry, tip = diamond(steps)
        raw = ancestry.beef(tip)
        assert len(parse_beef(raw).txs) == steps + 1
        sizes.append(len(raw))
        reading.append(work(partial(parse_beef, raw)))
        writing.append(work(partial(ancestry.beef, tip)))
    for small, large in (sizes, reading, writing):
        assert large < 2.1 * small


def test_an_unknown_ancestor_is_named_when_writing() -> None:
    ancestry, coin, _, child = family()
    del ancestry.txs[coin.txid]
    with pytest.raises(LocalProtocolError, match=f"ancestor {coin.txid} is unknown"):
        ancestry.beef(child)


def test_a_source_that_mixes_things_up_is_caught_when_writing() -> None:
    ancestry, coin, middle, child = family()
    parts = {txid: ancestry.part(txid) for txid in ancestry.txs}
    assert parts[coin.txid] is not None
    with pytest.raises(LocalProtocolError, match="was given as"):
        write_beef(child.txid, {**parts, middle.txid: parts[coin.txid]}.get)
    with pytest.raises(LocalProtocolError, match="that of another"):
        write_beef(middle.txid, {**parts, middle.txid: (middle.raw, parts[coin.txid][1])}.get)  # type: ignore[index]
    with pytest.raises(LocalProtocolError, match="version"):
        write_beef(coin.txid, parts.get, version=3)


def test_an_atomic_envelope_is_about_one_transaction() -> None:
    ancestry, coin, middle, child = family()
    plain = ancestry.beef(child)
    cousin = pay([(coin, 1)], [TxOut(10, PURSE)])
    with pytest.raises(RemoteProtocolError, match="unrelated"):
        parse_beef(b"\x01\x01\x01\x01" + internal(middle.txid) + plain)
    with pytest.raises(RemoteProtocolError, match="does not hold its subject"):
        parse_beef(b"\x01\x01\x01\x01" + internal(cousin.txid) + plain)
    with pytest.raises(RemoteProtocolError):
        parse_beef(b"\x01\x01\x01\x01" + b"\x01\x01\x01\x01" + internal(child.txid) + plain)


def test_about_keeps_what_a_transaction_descends_from_and_nothing_else() -> None:
    ancestry, coin, middle, child = family()
    beef = parse_beef(ancestry.beef(child))
    part = beef.about(middle.txid)
    assert list(part.txs) == [coin.txid, middle.txid]
    assert (part.subject, part.bumps) == (middle.txid, beef.bumps)
    assert beef.about(child.txid) == beef
    with pytest.raises(RemoteProtocolError):
        beef.about("11" * 32)
    with pytest.raises(RemoteProtocolError):
        beef.transaction("11" * 32)
    assert beef.part("11" * 32) is None


def named_parent() -> tuple[Beef, Tx, Tx]:
    _, _, middle, child = family()
    raw = b"\x02\x00\xbe\xef\x00\x02" + b"\x02" + internal(middle.txid) + b"\x00" + child.raw
    return parse_beef(raw), middle, child


def test_a_named_transaction_is_filled_in_from_what_we_know() -> None:
    beef, middle, child = named_parent()
    assert beef.txs[middle.txid].tx is None
    assert beef.part(middle.txid) is None
    with pytest.raises(RemoteProtocolError):
        beef.about(middle.txid).tx  # noqa: B018
    filled = beef.fill({middle.txid: middle, child.txid: middle})
    assert filled.transaction(middle.txid) == middle
    assert filled.tx == child


def test_a_repeated_entry_is_one_entry_and_keeps_its_proof() -> None:
    ancestry, coin, _, _ = family()
    once = parse_beef(ancestry.beef(coin, version=2))
    (bump,) = once.bumps
    head = b"\x02\x00\xbe\xef\x01" + bump.raw
    twice = parse_beef(head + b"\x03" + b"\x02" + internal(coin.txid) + b"\x01\x00" + coin.raw + b"\x00" + coin.raw)
    assert twice.txs == once.txs


def test_faults_of_form() -> None:
    ancestry, coin, _, child = family()
    raw = ancestry.beef(child)
    at = raw.rindex(b"\x01\x00" + b"\x01\0\0\0") if b"\x01\x00\x01\0\0\0" in raw else 0
    assert at, "the coin's proof mark and the next version"
    for bad in (
        b"",
        b"\x03" + raw[1:],  # no such version
        raw + b"\x00",
        raw[:-1],
        raw[:-1] + b"\x02",  # a proof mark that is neither
        raw[:at] + b"\x01\x01" + raw[at + 2 :],  # path 1 of 1
        b"\x01\x00\xbe\xef\x00\x00",  # nothing inside
        b"\x02\x00\xbe\xef\x00\x01\x03" + coin.raw,  # no such form
        b"\x01\x00\xbe\xef" + varint(2**60),
    ):
        with pytest.raises(RemoteProtocolError):
            parse_beef(bad)


def test_more_ancestors_than_we_read_are_refused_before_reading_them() -> None:
    ancestry, tip = diamond(12)
    raw = ancestry.beef(tip)
    assert len(parse_beef(raw, max_txs=13).txs) == 13
    with pytest.raises(RemoteProtocolError, match="13 items are more than the 12"):
        parse_beef(raw, max_txs=12)
