"""Broadcasters that call back: the daemon looks at once, and believes what it finds, not what it was told."""

import asyncio
import json
import socket
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from reconciler.compose import Workspace, workspace
from reconciler.doors import callbacks
from reconciler.engine.confirm import confirm
from reconciler.engine.handlers import chain_nets
from reconciler.gateway.callbacks import PATH, Listener, routes
from reconciler.model.errors import Refused
from reconciler.ports import StoredTx
from reconciler.settings import load
from reconciler.telemetry import Metrics
from reconciler.wire import arc
from reconciler.wire.tx import Tx, TxIn, TxOut
from tests.e2e import holes
from tests.e2e.scene import FULL, Scene, play

keys, scene = holes.keys, holes.scene
SETTINGS = "callbacks: {url: 'http://shop.devnet/callbacks/broadcast', token: {env: CALLBACK_TOKEN}}\n"


def states(space: Workspace) -> dict[str, str]:
    with space.ports.ledger.begin() as tx:
        return {one.txid: one.state for one in tx.transactions()}


@pytest.mark.usefixtures("keys")
def test_a_broadcaster_tells_of_a_block_and_a_liar_moves_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACK_TOKEN", "between us")
    heard: list[str] = []

    def hint(txids: Sequence[str]) -> int:
        heard.extend(txids)
        return len(txids)

    async def look(space: Workspace) -> None:
        await confirm(space.ports, chain_nets(space.ports.ledger.read(space.ports.clock.now())))

    async def story() -> None:
        scene.write({**FULL, "reconciler.yaml": SETTINGS})
        scene.world.network.apps["shop.devnet"] = Starlette(routes=routes(Listener(lambda: b"between us", hint)))
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            ours = {txid for txid, state in states(space).items() if state == "seen"}
            lie = json.dumps(arc.callback_json(arc.TxState(min(ours), "MINED", 500, "ab" * 32, b"", "", (), ""))).encode()
            async with httpx.AsyncClient(transport=scene.world.transport()) as client:
                answer = await client.post(
                    f"http://shop.devnet{PATH}", content=lie, headers={"authorization": "Bearer between us"}
                )
            assert (answer.status_code, heard) == (200, [min(ours)])
            await look(space)
            assert {states(space)[txid] for txid in ours} == {"seen"}, "nothing was mined, whatever was said"
            heard.clear()
            scene.world.mine()
            await scene.world.settle()
            assert ours <= set(heard), "each was submitted with the address and the token"
            await look(space)
            assert {states(space)[txid] for txid in ours} == {"mined"}

    play(story, scene.world.clock)


def test_the_door_wakes_the_daemon_for_what_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACK_TOKEN", "between us")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "reconciler.yaml").write_text(SETTINGS.replace("}}", f"}}, listen: '127.0.0.1:{port}'}}"))
    payment = Tx((TxIn("11" * 32, 0),), (TxOut(500, b""),))

    async def post(token: str) -> tuple[int, str]:
        told = arc.callback_json(arc.TxState(payment.txid, "REJECTED"))
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{port}{PATH}", json=told, headers={"authorization": f"Bearer {token}"})
            return answer.status_code, answer.json()["result"]

    async def story() -> None:
        settings, metrics = load(tmp_path), Metrics()
        async with workspace(settings) as space, callbacks(settings, space.ports, metrics):
            assert await post("between us") == (200, "unknown")
            assert space.ports.queue.depth(space.ports.clock.now())[0] == 0
            with space.ports.ledger.begin() as tx:
                tx.put_transaction(StoredTx(payment.txid, payment.raw, "devnet", state="seen"))
            assert await post("somebody else") == (401, "refused")
            assert await post("between us") == (200, "heard")
            lease = space.ports.queue.claim("us", space.ports.clock.now())
            assert lease is not None
            assert lease.key == "confirm"
            assert states(space) == {payment.txid: "seen"}
        text = metrics.exposition().decode()
        assert 'reconciler_callback_total{result="heard"} 1.0' in text
        assert 'reconciler_callback_total{result="refused"} 1.0' in text

    asyncio.run(story())


def test_a_token_that_is_not_there_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLBACK_TOKEN", raising=False)
    (tmp_path / "reconciler.yaml").write_text(SETTINGS.replace("}}", "}, listen: '127.0.0.1:1'}"))

    async def story() -> None:
        settings = load(tmp_path)
        async with workspace(settings) as space, callbacks(settings, space.ports, Metrics()):
            raise AssertionError("the door stands open for nobody")

    with pytest.raises(Refused, match="CALLBACK_TOKEN"):
        asyncio.run(story())
