"""Two datasets that share a file: every storage host is given it once, though both want it there at the same moment."""

from collections import Counter

from reconciler.engine.execute import Report
from tests.e2e.scene import DATASET, Scene, play


def test_shared_content_is_sent_once(scene: Scene) -> None:
    twin = DATASET.replace("name: rates", "name: twin").replace("title: Rates", "title: Twin")
    scene.write(
        {"dataset.yaml": DATASET.replace("replicas: 2", "replicas: 3"), "twin.yaml": twin.replace("replicas: 2", "replicas: 3")}
    )

    async def main() -> Report:
        await scene.fund()
        async with scene.open() as space:
            return (await scene.apply(space))[1]

    assert play(main, scene.world.clock).complete
    for name, host in scene.world.storage.items():
        held = Counter(item.sha256 for item in host.state.objects.values())
        assert set(held.values()) == {1}, name
