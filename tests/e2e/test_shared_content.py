"""Two resources that share a file: a storage host is given it once, though both want it there at the same moment."""

import asyncio

from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.perform import perform
from reconciler.model.effect import Blob, Store
from reconciler.model.endpoint import Endpoint
from tests.e2e.scene import Scene, play


def test_shared_content_is_sent_once(scene: Scene) -> None:
    # Answers take a while, as they do over a wire: otherwise one is done before the other begins.
    scene.world.network.arm(Fault(Trouble.DELAY, seconds=0.05))

    async def main() -> None:
        async with scene.open() as space:
            content = b"date,rate\n" * 1000
            blob = Blob(space.ports.blobs.put(content), len(content), "text/csv")
            effect = Store((blob,), Endpoint("eu1", "http://eu1.devnet", "EU", "uhrp"), 60 * 24)
            first, second = await asyncio.gather(perform(effect, space.ports), perform(effect, space.ports))
            assert first == second

    play(main, scene.world.clock)
    assert len(scene.world.storage["eu1"].state.objects) == 1
