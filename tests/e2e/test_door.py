"""The shop's door on loopback: open when there is something to sell, moved with its declaration, and closed last of all."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from reconciler import compose
from reconciler.compose import Workspace, serve, vend, workspace
from reconciler.gateway.admin import listening
from reconciler.gateway.door import Door
from reconciler.model.ref import ResourceRef
from reconciler.sales.paywall import Shop
from reconciler.settings import load
from reconciler.telemetry import Metrics
from reconciler.wire.keys import sha256
from tests.e2e.market import FILES, KEYS, market
from tests.e2e.scene import DATASET, Scene, play


def free_port() -> int:
    with listening(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Scene, int]:
    """A repository that was applied, with a gateway on a free port."""
    for name in KEYS:
        monkeypatch.setenv(name, sha256(name.encode()).hex())
    scene, port = Scene(tmp_path), free_port()
    free = DATASET.replace("pricePlanRef: standard", "price: 0sat").replace("name: rates", "name: open")
    scene.write({**FILES, "network.yaml": FILES["network.yaml"].replace("8402", str(port)), "open.yaml": free})

    async def publish() -> None:
        async with market(scene):
            pass

    play(publish, scene.world.clock)
    return scene, port


def live(scene: Scene, work: Callable[[Workspace], Awaitable[None]]) -> None:
    """Real time and real sockets below, the same network beyond."""

    async def main() -> None:
        settings = replace(load(scene.root), listen=("127.0.0.1", 0))
        async with workspace(settings, transport=scene.world.transport(), entropy=scene.entropy) as space:
            await work(space)

    asyncio.run(main())


async def answered(port: int, path: str) -> httpx.Response:
    """The answer, once somebody listens."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        async with asyncio.timeout(20):
            while True:
                try:
                    return await http.get(path)
                except httpx.ConnectError:
                    await asyncio.sleep(0)


def is_closed(port: int) -> bool:
    with socket.socket() as asker:
        return asker.connect_ex(("127.0.0.1", port)) != 0


def test_the_shop_alone_opens_where_the_network_says_and_closes_when_told(published: tuple[Scene, int]) -> None:
    scene, port = published

    async def work(space: Workspace) -> None:
        stop, told = asyncio.Event(), []
        task = asyncio.ensure_future(vend(space, stop, Metrics(), told.append))
        answer = await answered(port, "/readyz")
        assert answer.json()["offers"] == 2 and told == ["https://shop.example.com"]
        assert (await answered(port, "/content/open/versions")).json()["versions"][0]["contentId"] == "open@1"
        # A header as large as payments are is read.
        async with httpx.AsyncClient() as http:
            large = await http.get(f"http://127.0.0.1:{port}/health", headers={"x-bsv-payment": "a" * 500_000})
        assert large.status_code == 200
        stop.set()
        await task
        assert is_closed(port)

    live(scene, work)


@pytest.mark.row("S-12")
def test_refusals_are_counted_by_their_check(published: tuple[Scene, int]) -> None:
    scene, _ = published

    async def work(space: Workspace) -> None:
        metrics = Metrics()
        door = compose._door(space, metrics)
        shops: list[Shop] = []
        await door.look(shops.append)
        for code in ("ERR_UNDERPAID", "too-fast", "ERR_UNDERPAID", "no-content"):
            shops[0].count(code)
        told = metrics.exposition().decode()
        assert 'reconciler_payments_refused_total{check="underpaid"} 2.0' in told
        assert 'reconciler_payments_refused_total{check="velocity"} 1.0' in told and "no-content" not in told
        stop = asyncio.Event()
        stop.set()
        await door.keep(stop)

    live(scene, work)


def test_the_daemon_keeps_the_shop_open(published: tuple[Scene, int]) -> None:
    scene, port = published

    async def work(space: Workspace) -> None:
        stop = asyncio.Event()
        task = asyncio.ensure_future(serve(space, stop, Metrics()))
        assert (await answered(port, "/health")).json() == {"status": "ok"}
        stop.set()
        await task
        assert is_closed(port)

    live(scene, work)


def test_a_request_in_hand_is_answered_before_the_door_closes(published: tuple[Scene, int]) -> None:
    scene, _ = published

    async def work(space: Workspace) -> None:
        with listening(("127.0.0.1", 0)) as handed:
            port, stop, begun, go_on = handed.getsockname()[1], asyncio.Event(), asyncio.Event(), asyncio.Event()
            speak = space.ports.wallet.speaker  # type: ignore[attr-defined]
            keeping = asyncio.ensure_future(Door(space.ports, speak, handed={"gateway": handed}).keep(stop))
            await answered(port, "/health")

            async def body() -> AsyncIterator[bytes]:
                yield b'{"contentId":'
                begun.set()
                await go_on.wait()
                yield b'"open"}'

            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                asking = asyncio.ensure_future(http.post("/quotes", content=body()))
                await begun.wait()
                stop.set()
                done, _ = await asyncio.wait([keeping], timeout=0.3)
                assert not done, "it waits for whoever is being served"
                go_on.set()
                answer = await asking
            assert answer.status_code == 201 and answer.json()["document"]["satoshis"] == 0
            await keeping
            # The address that was handed over is there for the next one who opens.
            stop.clear()
            keeping = asyncio.ensure_future(Door(space.ports, speak, handed={"gateway": handed}).keep(stop))
            assert (await answered(port, "/health")).status_code == 200
            stop.set()
            await keeping

    live(scene, work)


def test_a_door_moves_with_its_declaration(published: tuple[Scene, int]) -> None:
    scene, port = published

    async def work(space: Workspace) -> None:
        door = Door(space.ports, space.ports.wallet.speaker)  # type: ignore[attr-defined]
        await door.look()
        assert (await answered(port, "/health")).status_code == 200
        other, ref = free_port(), ResourceRef("Network", "local")
        with space.ports.ledger.begin() as tx:
            record = tx.record(ref)
            assert record is not None
            gateway = {**record.body["spec"]["gateway"], "listen": f"127.0.0.1:{other}"}
            tx.put_record(replace(record, body={**record.body, "spec": {**record.body["spec"], "gateway": gateway}}))
        await door.look()
        assert (await answered(other, "/health")).status_code == 200 and is_closed(port)
        with space.ports.ledger.begin() as tx:
            for name in ("rates", "open"):
                tx.drop_record(ResourceRef("Dataset", name))
        await door.look()
        assert is_closed(other) and door.told == {"cannot open the gateway of Network/local: nobody sells there yet"}

    live(scene, work)


def test_the_verb_opens_says_where_and_ends_on_sigterm(published: tuple[Scene, int]) -> None:
    scene, port = published
    with subprocess.Popen(
        [sys.executable, "-m", "reconciler", "gateway"], cwd=scene.root, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("open at https://shop.example.com" in line for line in lines), "it says where"
        answer = httpx.get(f"http://127.0.0.1:{port}/content/open/versions")
        assert answer.json()["versions"][0]["contentId"] == "open@1"
        process.terminate()
        assert process.wait(20) == 0
