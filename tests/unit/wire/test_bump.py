from dataclasses import replace

import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.bump import Bump, Leaf, bump_from_json, bump_json, from_block, merkle_root, parse_bump
from reconciler.wire.bytesio import internal
from reconciler.wire.keys import sha256
from tests.unit.wire.chain import work

TXIDS = [sha256(bytes([n])).hex() for n in range(11)]


@pytest.mark.parametrize("count", range(1, 12))
def test_every_transaction_of_a_block_leads_to_one_root(count: int) -> None:
    block = TXIDS[:count]
    proofs = [from_block(7, block, index) for index in range(count)]
    assert {bump.root(txid) for bump, txid in zip(proofs, block, strict=True)} == {merkle_root(block)}
    for index, bump in enumerate(proofs):
        assert parse_bump(bump.raw) == bump
        assert bump_from_json(bump_json(bump)) == bump
        assert (bump.txids, bump.offset(block[index])) == ((block[index],), index)


def whole(block: list[str]) -> Bump:
    """A path that states every transaction and leaves all else to be computed."""
    leaves = [Leaf(n, internal(txid), True) for n, txid in enumerate(block)]
    spare = [Leaf(len(block), None)] if len(block) % 2 else []
    return Bump(7, ((*leaves, *spare),))


def test_a_path_that_stops_early_is_completed_from_below() -> None:
    bump = whole(TXIDS[:8])
    assert {bump.root(txid) for txid in TXIDS[:8]} == {merkle_root(TXIDS[:8])}
    assert parse_bump(bump.raw) == bump


def test_proving_every_transaction_is_linear() -> None:
    many = [sha256(n.to_bytes(2, "little")).hex() for n in range(512)]

    def proven(count: int) -> int:
        bump = whole(many[:count])
        return work(lambda: [bump.root(txid) for txid in many[:count]])

    assert proven(512) < 2.5 * proven(256)  # n log n


def test_a_transaction_that_is_not_there_is_not_proven() -> None:
    bump = from_block(7, TXIDS, 4)
    with pytest.raises(RemoteProtocolError, match="is not in it"):
        bump.root("11" * 32)
    assert "11" * 32 not in bump
    assert TXIDS[4] in bump


def test_a_missing_sibling_is_named() -> None:
    bump = from_block(7, TXIDS, 4)
    with pytest.raises(RemoteProtocolError, match="leaf at offset 0 is missing"):
        Bump(7, (*bump.levels[:2], (), *bump.levels[3:])).root(TXIDS[4])
    with pytest.raises(RemoteProtocolError, match="offset 5 is missing"):
        Bump(7, ((bump.levels[0][0],), *bump.levels[1:])).root(TXIDS[4])


def test_another_sibling_is_another_root() -> None:
    bump = from_block(7, TXIDS, 4)
    forged = Bump(7, (bump.levels[0], (replace(bump.levels[1][0], hash=bytes(32)),), *bump.levels[2:]))
    assert forged.root(TXIDS[4]) != merkle_root(TXIDS)


def test_a_stated_node_must_agree_with_what_lies_below_it() -> None:
    bump = from_block(7, TXIDS, 4)
    lying = Bump(7, (bump.levels[0], (*bump.levels[1], Leaf(2, bytes(32))), *bump.levels[2:]))
    with pytest.raises(RemoteProtocolError, match="is not the hash of those below"):
        lying.root(TXIDS[4])


LEAF = "00" * 32


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "07",
        "0700",  # no levels
        "070100",  # no leaf
        "0701010003" + LEAF,  # flags 3
        "0701010004" + LEAF,
        "0701010001",  # a duplicate with nothing to its left
        "0701020002" + LEAF + "0000" + LEAF,  # offset 0 twice
        "0702010002" + LEAF + "010200" + LEAF,  # level 1 of a two-level tree has offsets 0 and 1
        "07010100" + "02" + LEAF + "00",  # trailing byte
        "0701fd000102",  # 256 leaves promised
        "07ff",  # 255 levels promised
        "0741" + "010002" + LEAF + "00" * 64,  # 65 levels
        "ff0000000001000000" + "01010002" + LEAF,  # height above 32 bits
    ],
)
def test_malformed_paths(raw: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_bump(bytes.fromhex(raw))


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"blockHeight": 1, "path": "x"},
        {"blockHeight": 1, "path": ["x"]},
        {"blockHeight": True, "path": [[{"offset": 0, "hash": LEAF}]]},
        {"blockHeight": 1.0, "path": [[{"offset": 0, "hash": LEAF}]]},
        {"blockHeight": -1, "path": [[{"offset": 0, "hash": LEAF}]]},
        {"blockHeight": 1, "path": [["x"]]},
        {"blockHeight": 1, "path": [[{"offset": 0}]]},
        {"blockHeight": 1, "path": [[{"offset": 0, "hash": "xy"}]]},
        {"blockHeight": 1, "path": [[{"offset": 0, "hash": LEAF, "txid": 1}]]},
        {"blockHeight": 1, "path": [[{"offset": 1, "hash": LEAF, "duplicate": True}]]},
        {"blockHeight": 1, "path": [[{"offset": "0", "hash": LEAF}]]},
        {"blockHeight": 1, "path": [[]]},
    ],
)
def test_malformed_json(value: object) -> None:
    with pytest.raises(RemoteProtocolError):
        bump_from_json(value)


def test_only_a_transaction_of_the_block_can_be_proven() -> None:
    for index in (-1, 11):
        with pytest.raises(LocalProtocolError):
            from_block(7, TXIDS, index)
