"""What every devnet promises over HTTP, held against the world in process and against served processes on loopback."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.devnet import control
from reconciler.devnet.clock import VirtualClock, run
from reconciler.devnet.config import Config
from reconciler.devnet.serve import Listener
from reconciler.devnet.world import Plan, World
from reconciler.model.change import FeeRate
from reconciler.model.ref import Outpoint
from reconciler.wire import advert, arc, descriptor, headers, overlay, storage, uhrp
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.bump import from_block, parse_bump
from reconciler.wire.proof import verify_beef
from reconciler.wire.script import p2pkh
from reconciler.wire.tx import Tx, TxIn, TxOut, extended
from tests.conformance import producer as conformance

RATE = FeeRate(100)
PLAN = Plan(overlays=(("overlay-1", "EU"), ("overlay-2", "US")), storage=(("eu1", "EU"), ("us1", "US")))


@dataclass
class Net:
    """A running devnet as a client sees it, and the faults its owner may cause."""

    client: httpx.AsyncClient
    urls: dict[str, str]
    drop: Callable[[str], Awaitable[None]]
    partition: Callable[[str], Awaitable[None]]
    restore: Callable[[str], Awaitable[None]]
    listen: Callable[[Any], contextlib.AbstractAsyncContextManager[str]]

    async def get(self, host: str, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(self.urls[host] + path, **more)

    async def post(self, host: str, path: str, **more: Any) -> httpx.Response:
        return await self.client.post(self.urls[host] + path, **more)

    async def switch(self, host: str, verb: str, **body: Any) -> dict[str, Any]:
        answer = await self.post(host, f"/devnet/{verb}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def broadcast(self, payload: bytes, **more: Any) -> arc.TxState | arc.Problem:
        answer = await self.post("arc", "/v1/tx", content=payload, headers=arc.submit_headers(**more))
        return arc.parse_answer(answer.status_code, answer.content)

    async def state(self, txid: str) -> arc.TxState | arc.Problem:
        answer = await self.get("arc", f"/v1/tx/{txid}")
        return arc.parse_answer(answer.status_code, answer.content)

    async def submit(self, beef: bytes, *topics: str, host: str = "overlay-1") -> dict[str, overlay.Admittance]:
        asked = overlay.submission(beef, topics)
        answer = await self.post(host, "/submit", content=asked.body, headers=asked.headers)
        assert answer.status_code == 200, answer.text
        return dict(overlay.parse_steak(answer.content))

    async def lookup(
        self, service: str, query: Any, *, host: str = "overlay-1", aggregated: bool = False
    ) -> tuple[overlay.Answer, ...]:
        body = overlay.lookup_request(service, query)
        answer = await self.post(host, "/lookup", json=body, headers=overlay.lookup_headers(aggregated))
        assert answer.status_code == 200, answer.text
        return overlay.parse_lookup(answer.headers["content-type"], answer.content)

    async def spender(self, at: Outpoint) -> str | None:
        answer = await self.get("headers", f"/v1/bsv/devnet/tx/{at.txid}/{at.vout}/spent")
        return headers.parse_spent(answer.status_code, answer.content)


class InProcess:
    def __init__(self) -> None:
        self.world = World(clock=VirtualClock(), plan=PLAN)

    def run(self, scenario: Callable[[Net], Awaitable[None]]) -> None:
        run(self._main(scenario), clock=self.world.clock)

    async def _main(self, scenario: Callable[[Net], Awaitable[None]]) -> None:
        async def soon(act: Callable[[str], None], name: str) -> None:
            act(name)

        async with httpx.AsyncClient(transport=self.world.transport(), timeout=2.0) as client:
            world = self.world
            await scenario(
                Net(
                    client,
                    world.urls,
                    lambda name: soon(world.drop, name),
                    lambda name: soon(world.partition, name),
                    lambda name: soon(world.restore, name),
                    self._listen,
                )
            )

    @contextlib.asynccontextmanager
    async def _listen(self, app: Any) -> AsyncIterator[str]:
        self.world.network.apps["listener.test"] = app
        yield "http://listener.test"
        del self.world.network.apps["listener.test"]


class Served:
    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.running = control.up(Config(state_dir, PLAN))

    def run(self, scenario: Callable[[Net], Awaitable[None]]) -> None:
        asyncio.run(self._main(scenario))

    async def _main(self, scenario: Callable[[Net], Awaitable[None]]) -> None:
        async def switch(act: Callable[[Path, str], None], name: str) -> None:
            await asyncio.to_thread(act, self.state_dir, name)

        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
            await scenario(
                Net(
                    client,
                    dict(self.running.urls),
                    lambda name: switch(control.drop, name),
                    lambda name: switch(control.partition, name),
                    lambda name: switch(control.restore, name),
                    self._listen,
                )
            )

    @contextlib.asynccontextmanager
    async def _listen(self, app: Any) -> AsyncIterator[str]:
        listener = Listener(app, 0)
        await listener.start()
        yield f"http://127.0.0.1:{listener.port}"
        await listener.stop()


@pytest.fixture(scope="module", params=["in-process", "served"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess | Served]:
    if request.param == "in-process":
        yield InProcess()
        return
    state_dir = tmp_path_factory.mktemp("devnet")
    yield Served(state_dir)
    assert control.down(state_dir)
    assert list(state_dir.iterdir()) == []


def everywhere(scenario: Callable[[Net], Awaitable[None]]) -> Callable[[Any], None]:
    """A scenario as a test of every kind of devnet."""

    def test(door: InProcess | Served) -> None:
        door.run(scenario)

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


class Producer(conformance.Producer):
    """A producer whose coins come over HTTP; every scenario has one of its own."""

    async def fund(self, net: Net, satoshis: int = 100_000) -> Outpoint:
        coin = await net.switch("arc", "faucet", lockingScript=self.purse.script.hex(), satoshis=satoshis)
        at = Outpoint(coin["txid"], coin["vout"])
        self.take(at, bytes.fromhex(coin["beef"]), satoshis)
        return at


def accepted(answer: arc.TxState | arc.Problem, status: str = "SEEN_ON_NETWORK") -> arc.TxState:
    assert isinstance(answer, arc.TxState), answer
    assert answer.status == status, answer
    return answer


def refused(answer: arc.TxState | arc.Problem, code: int) -> arc.Problem:
    assert isinstance(answer, arc.Problem), answer
    assert answer.status == code, answer
    return answer


# --- the chain --------------------------------------------------------------------------------------------------


@everywhere
async def test_a_faucet_coin_is_mined_and_provable(net: Net) -> None:
    producer = Producer("faucet")
    at = await producer.fund(net, 12_345)
    beef = parse_beef(write_beef(at.txid, producer.parts.get))
    assert beef.tx.outputs[at.vout] == TxOut(12_345, producer.purse.script)
    asked = [(entry.bump.height, entry.bump.root(txid)) for txid, entry in beef.txs.items() if entry.bump]
    answer = await net.post("headers", headers.VERIFY_PATH, json=headers.verify_request(asked))
    good = {
        (check.height, check.root) for check in headers.parse_verification(answer.content) if check.state.value == "CONFIRMED"
    }
    verify_beef(beef, lambda height, root: (height, root) in good)
    assert await net.spender(at) is None


@everywhere
async def test_a_transaction_is_seen_then_mined_with_a_proof(net: Net) -> None:
    producer = Producer("mined")
    coin = await producer.fund(net)
    tx = producer.pay(TxOut(500, p2pkh(producer.identity)))
    first = accepted(await net.broadcast(producer.beef(tx)))
    assert accepted(await net.broadcast(producer.beef(tx))) == first
    assert await net.spender(coin) == tx.txid
    mined = await net.switch("arc", "mine", blocks=2)
    state = accepted(await net.state(tx.txid), "MINED")
    assert (state.height, state.block) == (mined["height"] - 1, mined["blocks"][0])
    answer = await net.get("headers", headers.header_path(state.height, 2))
    block, after = headers.parse_by_height(answer.content, state.height)
    assert block.work_ok and block.hash == state.block and after.prev == block.hash
    assert parse_bump(state.proof).root(tx.txid) == block.merkle_root


@everywhere
async def test_every_body_form_of_a_submission_is_taken(net: Net) -> None:
    producer = Producer("forms")
    await producer.fund(net)
    sent = [producer.pay(TxOut(1, b"\x6a")) for _ in range(5)]
    source = parse_beef(producer.beef(sent[0])).transaction(sent[0].inputs[0].txid).outputs[sent[0].inputs[0].vout]
    accepted(await net.broadcast(extended(sent[0], [source])))
    accepted(await net.broadcast(sent[1].raw))
    for body, kind in ((sent[2].raw.hex(), "text/plain"), (json.dumps(arc.submit_json(sent[3].raw)), "application/json")):
        answer = await net.post("arc", "/v1/tx", content=body, headers={"content-type": kind})
        accepted(arc.parse_answer(answer.status_code, answer.content))
    items = [arc.submit_json(sent[4].raw), arc.submit_json(sent[0].raw), {"rawTx": "00" * 61}]
    answer = await net.post("arc", "/v1/txs", json=items)
    fresh, known, broken = arc.parse_answers(answer.status_code, answer.content)
    assert (accepted(fresh).txid, accepted(known).txid) == (sent[4].txid, sent[0].txid)
    refused(broken, 463)
    answer = await net.post("arc", "/v1/tx", content=b"{}", headers={"content-type": "application/json"})
    refused(arc.parse_answer(answer.status_code, answer.content), 400)


@everywhere
async def test_what_the_mempool_refuses_and_by_which_code(net: Net) -> None:
    producer, stranger = Producer("refusals"), Producer("stranger")
    coin = await producer.fund(net)
    parent = parse_beef(write_beef(coin.txid, producer.parts.get)).tx
    good = producer.pay(TxOut(500, b"\x6a"))
    cheap = producer.purse.pay(coin, 100_000, [TxOut(500, b"\x6a")], FeeRate(1))
    refused(await net.broadcast(cheap.raw), 465)
    forged = replace(good, inputs=stranger.purse.pay(coin, 100_000, [TxOut(500, b"\x6a")], RATE).inputs)
    refused(await net.broadcast(extended(forged, [parent.outputs[coin.vout]])), 461)
    greedy = replace(good, outputs=(TxOut(100_001, b"\x6a"),))
    refused(await net.broadcast(greedy.raw), 465)
    twice = replace(good, inputs=good.inputs * 2)
    refused(await net.broadcast(twice.raw), 462)
    made_up = Tx((TxIn("00" * 32, 0xFFFFFFFF, b"\x51" * 20),), (TxOut(1, b"\x6a"),))
    refused(await net.broadcast(made_up.raw), 462)
    refused(await net.broadcast(replace(good, outputs=()).raw), 464)
    refused(await net.broadcast(b"\x01\x00"), 463)
    orphan = replace(good, inputs=(TxIn("ab" * 32, 0, good.inputs[0].script),))
    refused(await net.broadcast(orphan.raw), 460)
    false = from_block(parse_bump(producer.parts[coin.txid][1]).height, ("cd" * 32, coin.txid), 1).raw
    lie = {**producer.parts, coin.txid: (parent.raw, false)}
    refused(await net.broadcast(write_beef(good.txid, lie.get)), 469)
    refused(await net.state(good.txid), 404)
    accepted(await net.broadcast(producer.beef(good)))


@everywhere
async def test_a_child_waits_for_its_parent(net: Net) -> None:
    producer = Producer("orphan")
    await producer.fund(net)
    parent, child = producer.pay(TxOut(500, b"\x6a")), producer.pay(TxOut(600, b"\x6a"))
    accepted(await net.broadcast(extended(child, [parent.outputs[1]])), "SEEN_IN_ORPHAN_MEMPOOL")
    accepted(await net.broadcast(producer.beef(parent)))
    accepted(await net.state(child.txid))
    await net.switch("arc", "mine")
    assert accepted(await net.state(child.txid), "MINED").block == accepted(await net.state(parent.txid), "MINED").block


@everywhere
async def test_of_two_spends_one_is_mined_and_the_other_rejected(net: Net) -> None:
    producer = Producer("double spend")
    coin = await producer.fund(net)
    first = producer.pay(TxOut(500, b"\x6a"))
    second, third = (producer.purse.pay(coin, 100_000, [TxOut(n, b"\x6a")], RATE) for n in (600, 700))
    accepted(await net.broadcast(producer.beef(first)))
    assert accepted(await net.broadcast(second.raw), "DOUBLE_SPEND_ATTEMPTED").competing == (first.txid,)
    assert accepted(await net.state(first.txid), "DOUBLE_SPEND_ATTEMPTED").competing == (second.txid,)
    await net.switch("arc", "mine")
    accepted(await net.state(first.txid), "MINED")
    accepted(await net.state(second.txid), "REJECTED")
    assert accepted(await net.broadcast(third.raw), "REJECTED").competing == (first.txid,)
    assert await net.spender(coin) == first.txid


@everywhere
async def test_a_reorganisation_voids_proofs_until_the_next_block(net: Net) -> None:
    producer = Producer("reorg")
    await producer.fund(net)
    kept, lost = producer.pay(TxOut(500, b"\x6a")), producer.pay(TxOut(600, b"\x6a"))
    accepted(await net.broadcast(producer.beef(lost)))  # its BEEF carries the parent
    await net.switch("arc", "mine")
    before = accepted(await net.state(kept.txid), "MINED")
    height = (await net.switch("arc", "reorg", depth=1, drop=[lost.txid]))["height"]
    assert height == before.height + 1
    stale = accepted(await net.state(kept.txid), "MINED_IN_STALE_BLOCK")
    assert stale.block == before.block and stale.proof == b""
    refused(await net.state(lost.txid), 404)
    assert await net.spender(Outpoint(kept.txid, 1)) is None
    root = parse_bump(before.proof).root(kept.txid)
    answer = await net.post("headers", headers.VERIFY_PATH, json=headers.verify_request([(before.height, root)]))
    assert headers.parse_verification(answer.content)[0].state is headers.Confirmation.INVALID
    answer = await net.get("headers", f"/api/v1/chain/header/state/{before.block}")
    assert answer.json()["state"] == "STALE"
    await net.switch("arc", "mine")
    after = accepted(await net.state(kept.txid), "MINED")
    assert after.block != before.block and after.height == height + 1
    accepted(await net.broadcast(lost.raw))


@everywhere
async def test_a_broadcaster_can_be_told_to_fail(net: Net) -> None:
    producer = Producer("fail next")
    await producer.fund(net)
    tx = producer.pay(TxOut(500, b"\x6a"))
    await net.switch("arc", "fail-next", status="REJECTED")
    accepted(await net.broadcast(producer.beef(tx)), "REJECTED")
    accepted(await net.state(tx.txid), "REJECTED")
    await net.switch("arc", "fail-next", code=503)
    refused(await net.broadcast(producer.beef(tx)), 503)
    accepted(await net.broadcast(producer.beef(tx)))
    await net.switch("arc", "fail-next", status="REJECTED")
    accepted(await net.broadcast(producer.beef(tx)))  # what the network holds is not taken back


@everywhere
async def test_callbacks_tell_what_became_of_a_transaction_in_order(net: Net) -> None:
    heard: list[tuple[str, arc.TxState]] = []
    deaf = 1

    async def hook(request: Request) -> Response:
        nonlocal deaf
        if deaf:
            deaf -= 1
            return Response(status_code=500)
        heard.extend((request.headers["authorization"], state) for state in arc.parse_callback(await request.body()))
        return Response(status_code=204)

    producer = Producer("callback")
    await producer.fund(net)
    tx = producer.pay(TxOut(500, b"\x6a"))
    async with net.listen(Starlette(routes=[Route("/hook", hook, methods=["POST"])])) as url:
        accepted(await net.broadcast(producer.beef(tx), callback=url + "/hook", callback_token="secret"))
        await net.switch("arc", "mine")
        assert heard == []  # the first attempt failed, and waits
        await net.switch("arc", "reorg", depth=1)
        await net.switch("arc", "mine")
    assert [state.status for _, state in heard] == ["MINED", "MINED_IN_STALE_BLOCK", "MINED"]
    assert {who for who, _ in heard} == {"Bearer secret"}
    assert {state.txid for _, state in heard} == {tx.txid}
    assert parse_bump(heard[2][1].proof).height == heard[2][1].height


# --- headers ----------------------------------------------------------------------------------------------------


@everywhere
async def test_headers_are_served_by_height_hash_and_tip(net: Net) -> None:
    tip = headers.parse_tip((await net.get("headers", headers.TIP_PATH)).content)
    last = headers.parse_by_height((await net.get("headers", headers.header_path(tip.height - 2, 10))).content, tip.height - 2)
    assert [header.height for header in last] == [tip.height - 2, tip.height - 1, tip.height] and last[-1] == tip
    by_hash = await net.get("headers", f"/api/v1/chain/header/{tip.hash}")
    assert by_hash.json() == headers.header_json(tip)
    assert (await net.get("headers", f"/api/v1/chain/header/{'00' * 32}")).status_code == 404
    assert (await net.get("headers", headers.header_path(tip.height + 1))).status_code == 404
    asked = [(tip.height, tip.merkle_root), (tip.height, "11" * 32), (tip.height + 1, tip.merkle_root)]
    answer = await net.post("headers", headers.VERIFY_PATH, json=headers.verify_request(asked))
    states = {(check.height, check.root): check.state.value for check in headers.parse_verification(answer.content)}
    assert [states[pair] for pair in asked] == ["CONFIRMED", "INVALID", "UNABLE_TO_VERIFY"]


@everywhere
async def test_merkle_roots_are_paged(net: Net) -> None:
    roots, key = [], ""
    while True:
        page = (await net.get("headers", "/api/v1/chain/merkleroot", params={"batchSize": 50, "lastEvaluatedKey": key})).json()
        roots += page["content"]
        key = page["page"]["lastEvaluatedKey"]
        if not key:
            break
    assert [entry["blockHeight"] for entry in roots] == list(range(page["page"]["totalElements"]))


# --- overlay ----------------------------------------------------------------------------------------------------


@everywhere
async def test_descriptors_keep_their_earlier_versions(net: Net) -> None:
    producer = Producer("descriptors")
    await producer.fund(net)
    lock = descriptor.lock_of("Dataset/btc")
    one = producer.pay(producer.describe("Dataset/btc", 1), producer.describe("Dataset/eth", 1))
    assert (await net.submit(producer.beef(one), "tm_producer"))["tm_producer"].admit == (0, 1)
    everything = descriptor.Query(identity=producer.identity.hex()).json()
    assert await net.lookup("ls_producer", everything, host="overlay-2") == (), "nodes do not talk to each other"
    two = producer.pay(producer.describe("Dataset/btc", 2, "v2"), tokens=[producer.token(one, 0, *lock)])
    assert (await net.submit(producer.beef(two), "tm_producer"))["tm_producer"] == overlay.Admittance((0,), (0,))
    query = descriptor.Query(identity=producer.identity.hex(), kind="Dataset", ascending=True).json()
    found = await net.lookup("ls_producer", query)
    assert [(answer.txid, answer.vout) for answer in found] == [(one.txid, 1), (two.txid, 0)]
    said = descriptor.parse_descriptor(parse_beef(found[1].beef).tx.outputs[0].script)
    assert (said.subject, said.version) == ("Dataset/btc", 2)
    assert await net.lookup("ls_producer", query, aggregated=True) == tuple(
        replace(answer, beef=again.beef)
        for answer, again in zip(found, await net.lookup("ls_producer", query, aggregated=True), strict=True)
    )


@everywhere
async def test_lookup_answers_carry_todays_proofs(net: Net) -> None:
    producer = Producer("proofs")
    await producer.fund(net)
    tx = producer.pay(producer.describe("Dataset/proved"))
    accepted(await net.broadcast(producer.beef(tx)))
    await net.submit(producer.beef(tx), "tm_producer")
    query = {"subject": "Dataset/proved", "identityKey": producer.identity.hex()}
    (before,) = await net.lookup("ls_producer", query)
    assert set(parse_beef(before.beef).txs) == {tx.txid, tx.inputs[0].txid}
    await net.switch("arc", "mine")
    for aggregated in (False, True):
        (after,) = await net.lookup("ls_producer", query, aggregated=aggregated)
        entries = parse_beef(after.beef).txs
        assert list(entries) == [tx.txid] and entries[tx.txid].bump is not None


@everywhere
async def test_a_node_that_lost_an_output_takes_the_same_transaction_again(net: Net) -> None:
    producer = Producer("evicted")
    await producer.fund(net)
    tx = producer.pay(producer.ship("tm_lost"))
    at, query = f"{tx.txid}.0", advert.query("SHIP", identity=producer.identity)
    await net.submit(producer.beef(tx), "tm_ship")
    await net.switch("overlay-1", "evict", outpoint=at)
    assert await net.lookup("ls_ship", query) == ()
    assert (await net.submit(producer.beef(tx), "tm_ship"))["tm_ship"].admit == (0,)
    assert len(await net.lookup("ls_ship", query)) == 1
    await net.switch("overlay-1", "evict", outpoint=at, remember=True)
    assert (await net.submit(producer.beef(tx), "tm_ship"))["tm_ship"] == overlay.Admittance()
    assert await net.lookup("ls_ship", query) == ()
    await net.switch("overlay-1", "wipe")
    assert (await net.submit(producer.beef(tx), "tm_ship"))["tm_ship"].admit == (0,)
    assert (await net.post("overlay-1", "/devnet/evict", json={"outpoint": "00" * 32 + ".0"})).status_code == 400


# --- storage ----------------------------------------------------------------------------------------------------


async def upload(net: Net, content: bytes, *, host: str = "eu1", minutes: int = 60, who: str = "") -> storage.UploadTarget:
    asking = {"x-bsv-auth-identity-key": who} if who else {}
    answer = await net.post(host, "/upload", json=storage.offer(len(content), minutes), headers=asking)
    target = storage.parse_upload(answer.status_code, answer.content)
    assert isinstance(target, storage.UploadTarget), target
    put = await net.client.put(target.url, content=content, headers={**target.headers, "content-type": "text/plain"})
    assert storage.parse_put(put.status_code, put.content) is None, put.text
    return target


async def find(net: Net, sha256_hex: str, host: str = "eu1", who: str = "") -> storage.StoredFile | storage.StorageError | None:
    asking = {"x-bsv-auth-identity-key": who} if who else {}
    answer = await net.get(host, storage.find_path(sha256_hex), headers=asking)
    return storage.parse_find(answer.status_code, answer.content)


@everywhere
async def test_uploaded_content_is_found_served_and_advertised(net: Net) -> None:
    content = b"hello overlay, " * 5000
    digest = hashlib.sha256(content).hexdigest()
    quoted = await net.post("eu1", "/quote", json=storage.offer(len(content), 60))
    assert storage.parse_quote(quoted.status_code, quoted.content) == 0
    assert await find(net, digest) is None
    await upload(net, content)
    held = await find(net, digest)
    assert isinstance(held, storage.StoredFile) and (held.size, held.media_type) == (len(content), "text/plain")
    whole = await net.get("eu1", "/" + held.name)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, content, "text/plain")
    for asked, start, stop in (("bytes=10-19", 10, 20), ("bytes=74990-", 74_990, 75_000), ("bytes=-5", 74_995, 75_000)):
        part = await net.get("eu1", "/" + held.name, headers={"range": asked})
        assert (part.status_code, part.content) == (206, content[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/75000"
    assert (await net.get("eu1", "/" + held.name, headers={"range": "bytes=75000-"})).status_code == 416
    listed = await net.get("eu1", "/list")
    uploads = storage.parse_list(listed.status_code, listed.content)
    assert storage.Listed(digest, held.expires) in uploads
    stats = (await net.get("eu1", "/devnet/stats")).json()
    for node in ("overlay-1", "overlay-2"):
        (answer,) = await net.lookup("ls_uhrp", uhrp.query(sha256=digest), host=node)
        promise = uhrp.parse_uhrp_token(parse_beef(answer.beef).tx.outputs[answer.vout].script)
        assert promise.identity.hex() == stats["identityKey"]
        assert (promise.sha256, promise.size, promise.expires) == (digest, len(content), held.expires)
        assert promise.url == "https://" + net.urls["eu1"].partition("://")[2] + "/" + held.name
        accepted_or_mined = await net.state(answer.txid)
        assert isinstance(accepted_or_mined, arc.TxState)


@everywhere
async def test_renewing_replaces_the_token(net: Net) -> None:
    content = b"renew me"
    digest = hashlib.sha256(content).hexdigest()
    await upload(net, content)
    (old,) = await net.lookup("ls_uhrp", uhrp.query(sha256=digest))
    answer = await net.post("eu1", "/renew", json=storage.renewal(digest, 30))
    done = storage.parse_renew(answer.status_code, answer.content)
    assert isinstance(done, storage.Renewal) and done.expires == done.previous + 1800
    (new,) = await net.lookup("ls_uhrp", uhrp.query(sha256=digest))
    assert await net.spender(Outpoint(old.txid, old.vout)) == new.txid
    assert uhrp.parse_uhrp_token(parse_beef(new.beef).tx.outputs[new.vout].script).expires == done.expires
    unknown = await net.post("eu1", "/renew", json=storage.renewal("11" * 32, 30))
    assert storage.parse_renew(unknown.status_code, unknown.content).code == "ERR_OLD_ADVERTISEMENT_NOT_FOUND"


@everywhere
async def test_an_upload_url_is_good_for_one_upload_of_that_size(net: Net) -> None:
    target = await upload(net, b"exactly these")
    again = await net.client.put(target.url, content=b"exactly these")
    assert (again.status_code, again.json()["description"]) == (400, "File exists")
    answer = await net.post("eu1", "/upload", json=storage.offer(10, 60))
    fresh = storage.parse_upload(answer.status_code, answer.content)
    for wrong in (b"too short", b"much too long"):
        put = await net.client.put(fresh.url, content=wrong)
        assert (put.status_code, put.json()["description"]) == (400, "Size mismatch")
    forged = await net.client.put(fresh.url.replace("fileSize=10", "fileSize=11"), content=b"x" * 11)
    assert forged.status_code == 401
    assert (await net.client.put(fresh.url, content=b"0123456789")).status_code == 200
    for body, code in (
        ({"retentionPeriod": 5}, "ERR_NO_SIZE"),
        ({"fileSize": 5}, "ERR_NO_RETENTION_PERIOD"),
        ({"fileSize": 5, "retentionPeriod": 10**9}, "ERR_INVALID_RETENTION_PERIOD"),
    ):
        answer = await net.post("eu1", "/upload", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert (await net.get("eu1", "/nowhere")).json()["code"] == "ERR_ROUTE_NOT_FOUND"


@everywhere
async def test_files_belong_to_who_uploaded_them(net: Net) -> None:
    alice, content = "02" + "aa" * 32, b"the file of alice"
    digest = hashlib.sha256(content).hexdigest()
    await upload(net, content, who=alice)
    assert await find(net, digest) is None
    assert isinstance(await find(net, digest, who=alice), storage.StoredFile)
    listed = await net.get("eu1", "/list")
    assert digest not in [item.sha256 for item in storage.parse_list(listed.status_code, listed.content)]


@everywhere
async def test_content_of_sixteen_bytes_is_kept_but_cannot_be_advertised(net: Net) -> None:
    content = b"sixteen bytes ok"
    digest = hashlib.sha256(content).hexdigest()
    await upload(net, content)
    assert isinstance(await find(net, digest), storage.StoredFile)
    assert await net.lookup("ls_uhrp", uhrp.query(sha256=digest)) == ()


@everywhere
async def test_a_storage_host_corrupts_loses_and_forgets_on_demand(net: Net) -> None:
    content = b"precious data"
    digest = hashlib.sha256(content).hexdigest()
    await upload(net, content, host="us1")
    held = await find(net, digest, "us1")
    assert isinstance(held, storage.StoredFile)
    assert await net.switch("us1", "corrupt", sha256=digest) == {"status": "success", "objects": 1}
    damaged = (await net.get("us1", "/" + held.name)).content
    assert len(damaged) == len(content) and damaged != content
    await net.switch("us1", "delete", sha256=digest)
    assert (await net.get("us1", "/" + held.name)).status_code == 404
    assert await find(net, digest, "us1") is None
    assert len(await net.lookup("ls_uhrp", uhrp.query(sha256=digest))) == 1  # a broken promise
    await net.switch("us1", "wipe")
    listed = await net.get("us1", "/list")
    assert storage.parse_list(listed.status_code, listed.content) == ()
    assert (await net.post("us1", "/devnet/corrupt", json={"sha256": digest})).status_code == 404


@everywhere
async def test_concurrent_uploads_are_counted_and_share_no_coin(net: Net) -> None:
    arrived, go = 0, asyncio.Event()

    async def slowly(content: bytes) -> AsyncIterator[bytes]:
        nonlocal arrived
        yield content[:1]
        arrived += 1
        if arrived == 3:
            # What left the client has reached the host only when the host says so.
            while (await net.get("us1", "/devnet/stats")).json()["openUploads"] < 3:
                continue
            go.set()
        await go.wait()
        yield content[1:]

    async def one(content: bytes) -> None:
        answer = await net.post("us1", "/upload", json=storage.offer(len(content), 60))
        target = storage.parse_upload(answer.status_code, answer.content)
        put = await net.client.put(target.url, content=slowly(content), headers={"content-length": str(len(content))})
        assert put.status_code == 200, put.text

    contents = [b"first of three", b"second of three", b"third of three"]
    await asyncio.gather(*(one(content) for content in contents))
    stats = (await net.get("us1", "/devnet/stats")).json()
    assert (stats["maxOpenUploads"], stats["openUploads"]) == (3, 0)
    for content in contents:
        assert len(await net.lookup("ls_uhrp", uhrp.query(sha256=hashlib.sha256(content).hexdigest()))) == 1


# --- weather ----------------------------------------------------------------------------------------------------


@everywhere
async def test_a_dropped_host_refuses_and_a_partitioned_one_is_silent(net: Net) -> None:
    await net.drop("overlay-2")
    with pytest.raises(httpx.ConnectError):
        await net.get("overlay-2", "/health")
    await net.restore("overlay-2")
    assert (await net.get("overlay-2", "/health")).status_code == 200
    await net.partition("overlay-2")
    with pytest.raises(httpx.TimeoutException):
        await net.get("overlay-2", "/health", timeout=0.2)
    assert (await net.get("overlay-1", "/health")).status_code == 200
    content = b"stored while a node was away"
    await upload(net, content)
    query = uhrp.query(sha256=hashlib.sha256(content).hexdigest())
    assert len(await net.lookup("ls_uhrp", query)) == 1
    await net.restore("overlay-2")
    await net.switch("arc", "mine")  # hosts run their errands
    assert len(await net.lookup("ls_uhrp", query, host="overlay-2")) == 1
