"""A world is a function of its seed, can be copied back, and does what its plan says."""

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.devnet import mempool
from reconciler.devnet.blocks import MATURITY
from reconciler.devnet.chain import Chain
from reconciler.devnet.clock import VirtualClock, run
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.overlay import BadRequest
from reconciler.devnet.purse import Purse
from reconciler.devnet.world import Plan, World
from reconciler.kinds import controllers
from reconciler.manifest.load import Loader
from reconciler.model.change import FeeRate
from reconciler.model.errors import Invariant, Refused
from reconciler.model.ref import Outpoint
from reconciler.wire import advert, uhrp
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.keys import ANYONE, invoice, public_key, sha256, sign
from reconciler.wire.proof import verify_beef
from reconciler.wire.script import pushdrop
from reconciler.wire.tx import Tx, TxOut

PURSE = Purse(sha256(b"somebody"))


def live(world: World, act: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient(transport=world.transport()) as client:
            return await act(client)

    assert isinstance(world.clock, VirtualClock)
    return run(main(), clock=world.clock)


def pay(world: World, *outputs: TxOut, satoshis: int = 50_000) -> Tx:
    coin, _ = world.faucet(PURSE.script, satoshis)
    return PURSE.pay(coin, satoshis, outputs, FeeRate(100))


def beef(world: World, tx: Tx) -> bytes:
    return write_beef(tx.txid, lambda txid: (tx.raw, b"") if txid == tx.txid else world.chain.source(txid))


def ship(domain: str, topic: str = "tm_demo") -> TxOut:
    secret = PURSE.child(invoice(*advert.lock_of("SHIP")), ANYONE)
    fields = (b"SHIP", PURSE.public, domain.encode(), topic.encode())
    return TxOut(1, pushdrop(fields, public_key(secret), sign(secret, b"".join(fields))))


async def upload(client: httpx.AsyncClient, host: str, content: bytes) -> httpx.Response:
    answer = await client.post(f"http://{host}.devnet/upload", json={"fileSize": len(content), "retentionPeriod": 60})
    return await client.put(answer.json()["uploadURL"], content=content)


def history(world: World) -> tuple[str, ...]:
    async def act(client: httpx.AsyncClient) -> None:
        await upload(client, "eu1", b"some content")
        await upload(client, "us1", b"other content")

    live(world, act)
    world.mine(2)
    world.reorg(1)
    return tuple(block.hash for block in world.chain.state.blocks)


def test_the_same_seed_builds_the_same_world() -> None:
    assert history(World(seed=5)) == history(World(seed=5))
    assert history(World(seed=5))[0] != history(World(seed=6))[0]


def test_a_snapshot_brings_the_whole_world_back() -> None:
    world = World()
    content, digest = b"before", hashlib.sha256(b"before").hexdigest()
    live(world, lambda client: upload(client, "eu1", content))
    world.mine()
    before = world.snapshot()
    for _ in range(2):
        live(world, lambda client: upload(client, "eu1", b"after, and more"))
        world.mine(3)
        world.wipe("overlay-1")
        assert world.delete("eu1", digest) == 1
        world.restore_snapshot(before)
        assert world.chain.tip == before.chain.blocks[-1]
        assert world.nodes["overlay-1"].lookup("ls_uhrp", uhrp.query(sha256=digest)) != []
        assert world.storage["eu1"].find(digest, "devnet") is not None
    assert world.snapshot() == before


def test_a_copy_on_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invariant):
        World(plan=Plan(directory=tmp_path)).snapshot()


def test_two_hosts_may_not_share_a_name() -> None:
    with pytest.raises(Refused, match="one name"):
        World(plan=Plan(overlays=(("eu1", "EU"),)))


def test_the_manifest_of_a_world_is_valid_and_names_every_host() -> None:
    world = World()
    text = world.network_manifest("local")
    loaded = Loader(controllers()).load({"network.yaml": text.encode()}, lambda pattern: (), "r1")
    assert loaded.diagnostics == () and loaded.desired is not None
    (resource,) = loaded.desired.resources.values()
    spec = resource.spec
    assert (str(resource.ref), spec["chain"]) == ("Network/local", "devnet")
    named = {host["name"]: host["url"] for part in ("overlays", "storage", "broadcasters") for host in spec[part]}
    assert {**named, "headers": spec["headers"]["url"]} == world.urls


# --- chain ------------------------------------------------------------------------------------------------------


def test_every_header_links_and_meets_its_own_target() -> None:
    chain = Chain(VirtualClock())
    chain.mine(3)
    chain.reorg(2)
    headers = [block.header for block in chain.state.blocks]
    assert all(header.work_ok for header in headers)
    assert all(after.prev == before.hash and after.height == before.height + 1 for before, after in itertools.pairwise(headers))


def test_the_faucet_never_runs_dry_and_leaves_the_mempool_alone() -> None:
    world = World()
    pending = pay(world, TxOut(1, b"\x6a"))
    _, standing = mempool.submit(world.chain, beef(world, pending))
    coins = {world.faucet(PURSE.script, 1000)[0] for _ in range(MATURITY + 30)}
    assert len(coins) == MATURITY + 30
    assert all(world.chain.output(coin) == TxOut(1000, PURSE.script) for coin in coins)
    assert world.chain.standing(pending.txid) == standing
    with pytest.raises(Refused, match="cannot pay"):
        world.faucet(PURSE.script, 0)


def test_a_young_coinbase_cannot_be_spent() -> None:
    chain = Chain(VirtualClock())
    chain.mine()
    miner = Purse(sha256(b"faucet of devnet 0"))
    tx = miner.pay(Outpoint(chain.tip.txids[0], 0), 5_000_000_000, [TxOut(1, b"\x6a")], FeeRate(100))
    with pytest.raises(mempool.Rejection, match="100 blocks") as refusal:
        mempool.submit(chain, tx.raw)
    assert refusal.value.problem.status == 462
    chain.mine(MATURITY)
    assert mempool.submit(chain, tx.raw)[1].status == "SEEN_ON_NETWORK"


def test_a_dropped_transaction_takes_its_descendants_along() -> None:
    world = World()
    parent = pay(world, TxOut(20_000, PURSE.script))
    child = PURSE.pay(Outpoint(parent.txid, 0), 20_000, [TxOut(1, b"\x6a")], FeeRate(100))
    other = pay(world, TxOut(1, b"\x6a"))
    for tx in (parent, child, other):
        mempool.submit(world.chain, tx.raw)
    world.mine()
    world.reorg(1, [parent.txid])
    assert [world.chain.standing(tx.txid) is None for tx in (parent, child, other)] == [True, True, False]
    assert world.chain.spender(Outpoint(parent.txid, 0)) is None
    world.mine()
    verify_beef(parse_beef(write_beef(other.txid, world.chain.source)), world.chain.root_ok)
    with pytest.raises(Refused):
        world.reorg(MATURITY)


def test_checks_a_sender_may_skip() -> None:
    world = World()
    coin, _ = world.faucet(PURSE.script, 10_000)
    free = PURSE.pay(coin, 10_000, [TxOut(1, b"\x6a")], FeeRate(0))

    async def act(client: httpx.AsyncClient) -> list[int]:
        url, body = "http://arc.devnet/v1/tx", {"rawTx": free.raw.hex()}
        return [
            (await client.post(url, json=body, headers=headers)).status_code for headers in ({}, {"x-skipfeevalidation": "true"})
        ]

    assert live(world, act) == [465, 200]


def test_callbacks_are_given_up_after_ten_attempts() -> None:
    world = World()
    tx = pay(world, TxOut(1, b"\x6a"))
    caster = world.broadcasters["arc"]

    async def act(client: httpx.AsyncClient) -> None:
        headers = {"x-callbackurl": "http://nobody.devnet/hook"}
        await client.post("http://arc.devnet/v1/tx", json={"rawTx": tx.raw.hex()}, headers=headers)
        world.mine()
        for attempt in range(9):
            await world.settle()
            assert [callback.attempts for callback in caster.state.queue] == [attempt + 1]
        await world.settle()

    live(world, act)
    assert caster.state.queue == []
    assert sum(exchange.host == "nobody.devnet" for exchange in world.network.exchanges) == 10


# --- overlay ----------------------------------------------------------------------------------------------------


def test_an_index_may_lag_behind_the_answer() -> None:
    world = World(plan=Plan(index_lag=2.0))
    node, tx = world.nodes["overlay-1"], pay(world, ship("https://producer.example"))
    assert node.submit(beef(world, tx), ["tm_ship"])["tm_ship"].admit == (0,)

    async def later() -> None:
        assert node.lookup("ls_ship", {}) == []
        await asyncio.sleep(2)
        assert node.lookup("ls_ship", {}) == [Outpoint(tx.txid, 0)]

    assert isinstance(world.clock, VirtualClock)
    run(later(), clock=world.clock)


@pytest.mark.parametrize(("domain", "allowed", "admitted"), [
    ("http://127.0.0.1:8402", False, ()),
    ("http://127.0.0.1:8402", True, (0,)),
    ("http://localhost:8402", True, (0,)),
    ("http://127.0.0.1:8402/path", True, ()),
    ("ftp://127.0.0.1", True, ()),
    ("https://producer.example", False, (0,)),
])  # fmt: skip
def test_plain_http_is_advertised_only_where_it_is_allowed(domain: str, allowed: bool, admitted: tuple[int, ...]) -> None:
    world = World(plan=Plan(allow_http_ads=allowed))
    steak = world.nodes["overlay-1"].submit(beef(world, pay(world, ship(domain))), ["tm_ship"])
    assert steak["tm_ship"].admit == admitted


def test_a_stale_proof_is_not_believed() -> None:
    world = World()
    tx = pay(world, ship("https://producer.example"))
    old = beef(world, tx)
    world.reorg(1)
    with pytest.raises(BadRequest, match="Unable to verify SPV"):
        world.nodes["overlay-1"].submit(old, ["tm_ship"])
    world.mine()
    assert world.nodes["overlay-1"].submit(beef(world, tx), ["tm_ship"])["tm_ship"].admit == (0,)


def test_pages_of_a_lookup_are_newest_first_unless_asked_otherwise() -> None:
    world = World()
    node = world.nodes["overlay-1"]
    made = []
    for topic in ("tm_a", "tm_b", "tm_c"):
        tx = pay(world, ship("https://producer.example", topic))
        node.submit(beef(world, tx), ["tm_ship"])
        made.append(Outpoint(tx.txid, 0))
    assert node.lookup("ls_ship", "findAll") == made[::-1]
    assert node.lookup("ls_ship", {"findAll": True, "sortOrder": "asc", "skip": 1, "limit": 1}) == [made[1]]
    assert node.lookup("ls_ship", {"topics": ["tm_a", "tm_c"]}) == [made[2], made[0]]
    assert node.lookup("ls_ship", {"domain": "https://producer.example/"}) == []
    assert node.lookup("ls_slap", {}) == []


# --- storage ----------------------------------------------------------------------------------------------------


def test_a_host_can_keep_its_files_in_a_directory(tmp_path: Path) -> None:
    world = World(plan=Plan(directory=tmp_path))
    content = bytes(range(256)) * 1000
    digest = hashlib.sha256(content).hexdigest()

    async def act(client: httpx.AsyncClient) -> bytes:
        assert (await upload(client, "eu1", content)).status_code == 200
        (held,) = (tmp_path / "eu1").iterdir()
        return (await client.get(f"http://eu1.devnet/cdn/{held.name}", headers={"range": "bytes=100000-200000"})).content

    assert live(world, act) == content[100_000:200_001]
    assert world.corrupt("eu1", digest) == 1
    (held,) = (tmp_path / "eu1").iterdir()
    assert hashlib.sha256(held.read_bytes()).hexdigest() != digest
    world.wipe("eu1")
    assert list((tmp_path / "eu1").iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    world = World(plan=Plan(directory=tmp_path))

    async def act(client: httpx.AsyncClient) -> dict[str, Any]:
        answer = await client.post("http://eu1.devnet/upload", json={"fileSize": 100, "retentionPeriod": 60})
        put = await client.put(answer.json()["uploadURL"], content=b"x" * 99)
        assert put.status_code == 400
        return (await client.get("http://eu1.devnet/devnet/stats")).json()

    assert live(world, act)["objects"] == 0
    assert list((tmp_path / "eu1").iterdir()) == []


def test_a_host_with_a_price_wants_to_be_paid() -> None:
    world = World(plan=Plan(price=1_000_000))

    async def act(client: httpx.AsyncClient) -> tuple[int, httpx.Response]:
        offer = {"fileSize": 10**9, "retentionPeriod": 60 * 24 * 30}
        quoted = (await client.post("http://eu1.devnet/quote", json=offer)).json()["quote"]
        small = await client.post("http://eu1.devnet/quote", json=offer | {"fileSize": 1})
        assert small.json()["quote"] == 10
        return quoted, await client.post("http://eu1.devnet/upload", json=offer)

    quoted, refused = live(world, act)
    assert quoted == 1_000_000
    assert (refused.status_code, refused.headers["x-bsv-payment-satoshis-required"]) == (402, "1000000")


def test_content_expires() -> None:
    world = World()
    content = b"not for ever"
    digest = hashlib.sha256(content).hexdigest()
    live(world, lambda client: upload(client, "eu1", content))
    assert isinstance(world.clock, VirtualClock)
    world.clock.advance(3599)
    assert world.storage["eu1"].find(digest, "devnet") is not None
    world.clock.advance(1)
    assert world.storage["eu1"].find(digest, "devnet") is None
    assert live(world, lambda client: client.get("http://eu1.devnet/cdn/eu1-1")).status_code == 404


def test_tokens_reach_a_node_in_the_order_they_were_made() -> None:
    world = World()
    digest = hashlib.sha256(b"renewed").hexdigest()

    async def act(client: httpx.AsyncClient) -> None:
        world.network.arm(Fault(Trouble.REFUSE, host="overlay-1.devnet", times=2))
        await upload(client, "eu1", b"renewed")
        await client.post("http://eu1.devnet/renew", json={"uhrpUrl": uhrp.uhrp_url(digest), "additionalMinutes": 5})
        assert len(world.storage["eu1"].state.unsent) == 2
        await world.settle()

    live(world, act)
    assert world.storage["eu1"].state.unsent == {}
    held = world.storage["eu1"].find(digest, "devnet")
    assert held is not None
    assert world.nodes["overlay-1"].lookup("ls_uhrp", uhrp.query(sha256=digest)) == [held.token]


def test_a_node_that_answers_with_an_error_is_told_again() -> None:
    world = World()
    digest = hashlib.sha256(b"told twice").hexdigest()
    world.network.arm(Fault(Trouble.STATUS, host="overlay-1.devnet", status=503, times=1))
    live(world, lambda client: upload(client, "eu1", b"told twice"))
    assert world.nodes["overlay-1"].lookup("ls_uhrp", uhrp.query(sha256=digest)) == []
    live(world, lambda client: client.post("http://arc.devnet/devnet/mine", json={}))
    assert len(world.nodes["overlay-1"].lookup("ls_uhrp", uhrp.query(sha256=digest))) == 1


def test_a_renewed_promise_keeps_the_old_one_as_history() -> None:
    world = World()
    digest = hashlib.sha256(b"kept").hexdigest()
    live(world, lambda client: upload(client, "eu1", b"kept"))
    world.drop("overlay-1")
    body = {"uhrpUrl": uhrp.uhrp_url(digest), "additionalMinutes": 5}
    live(world, lambda client: client.post("http://eu1.devnet/renew", json=body))
    held = world.storage["eu1"].find(digest, "devnet")
    assert held is not None and held.token is not None
    steak = world.nodes["overlay-1"].submit(write_beef(held.token.txid, world.chain.source), ["tm_uhrp"])
    assert (steak["tm_uhrp"].admit, steak["tm_uhrp"].retain) == ((0,), (0,))
    assert world.nodes["overlay-1"].lookup("ls_uhrp", uhrp.query(sha256=digest)) == [held.token]
