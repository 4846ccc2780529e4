"""The published JavaScript client buys a dataset from our running shop, unmodified, and believes what it gets."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.chain import ArcChain
from reconciler.adapters.http import Http
from reconciler.compose import workspace
from reconciler.gateway.admin import listening
from reconciler.gateway.door import Door
from reconciler.model.ref import ResourceRef
from reconciler.ports import Header, Ports
from reconciler.settings import load
from reconciler.wire.keys import sha256
from tests.e2e.market import CSV, FILES, KEYS, market
from tests.e2e.scene import Scene, play
from tests.interop.lab import Lab, script

pytestmark = pytest.mark.slow
RATE = 25


class LabHeaders:
    """Headers of the lab's chain, of which only the Merkle roots are known."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    async def header(self, height: int, source: object) -> Header | None:
        roots = self.lab.chain()["roots"].get(str(height))
        return Header(height, "00" * 32, roots[0], b"") if roots else None


@pytest.fixture
def visit(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Plays a scene, in a thread, in front of a shop on loopback whose payments are judged by the lab's chain."""
    for name in KEYS:
        monkeypatch.setenv(name, sha256(name.encode()).hex())
    scene = Scene(tmp_path)
    scene.write(FILES)

    async def publish() -> None:
        async with market(scene):
            pass

    play(publish, scene.world.clock)

    def act(work: Callable[[str, Ports], Any]) -> Any:
        async def main() -> Any:
            async with workspace(load(scene.root), transport=scene.world.transport(), entropy=scene.entropy) as space:
                http, ref = Http(space.ports.clock), ResourceRef("Network", "local")
                with space.ports.ledger.begin() as tx:
                    record = tx.record(ref)
                    assert record is not None
                    spec = {**record.body["spec"], "broadcasters": [{"name": "arc", "url": lab.url + "/arc"}]}
                    tx.put_record(replace(record, body={**record.body, "spec": spec}))
                ports = replace(space.ports, chain=ArcChain(http, LabHeaders(lab)))  # type: ignore[arg-type]
                with listening(("127.0.0.1", 0)) as handed:
                    stop, opened = asyncio.Event(), asyncio.Event()
                    speak = space.ports.wallet.speaker  # type: ignore[attr-defined]
                    door = Door(ports, speak, handed={"gateway": handed})
                    keeping = asyncio.ensure_future(door.keep(stop, lambda shop: opened.set()))
                    await opened.wait()
                    try:
                        return await asyncio.to_thread(work, f"http://127.0.0.1:{handed.getsockname()[1]}", ports)
                    finally:
                        stop.set()
                        await keeping
                        await http.close()

        return asyncio.run(main())

    return act


@pytest.mark.row("P-PAY-01", "C-13")
def test_their_client_buys_a_dataset_and_has_it_again_for_nothing(lab: Lab, visit: Callable[..., Any]) -> None:
    def scene(url: str, ports: Ports) -> Any:
        first = script(lab.home, "clients/paid-fetch.mjs", url + "/content/rates", "--faucet", lab.url)
        again = script(lab.home, "clients/paid-fetch.mjs", url + "/content/rates", "--faucet", lab.url)
        bought = script(
            lab.home, "clients/paid-fetch.mjs", url + "/purchases", "--faucet", lab.url,
            "--method", "POST", "--body", '{"contentId":"rates"}',
        )  # fmt: skip
        with ports.ledger.sales() as rows:
            return first, again, bought, list(rows.payments())

    first, again, bought, payments = visit(scene)
    assert (first["status"], first["body"]) == (200, CSV), first
    assert first["headers"]["x-bsv-payment-satoshis-paid"] == str(RATE)
    assert (again["status"], again["body"], again["payments"]) == (200, CSV, [])
    receipt = json.loads(bought["body"])
    assert (bought["status"], bought["payments"]) == (200, []) and receipt["receiptId"] == first["headers"]["x-bsv-receipt-id"]
    (paid,) = payments
    assert (paid.consumer, paid.satoshis, paid.id) == (first["clientIdentityKey"], RATE, receipt["receiptId"])


def test_their_client_cannot_underpay(lab: Lab, visit: Callable[..., Any]) -> None:
    def scene(url: str, ports: Ports) -> Any:
        said = script(lab.home, "clients/paid-fetch.mjs", url + "/content/rates", "--faucet", lab.url, "--underpay", "1")
        with ports.ledger.sales() as rows:
            return said, list(rows.payments())

    said, payments = visit(scene)
    assert CSV not in json.dumps(said) and not said.get("ok") and payments == [], said
