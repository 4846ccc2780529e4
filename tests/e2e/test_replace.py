"""Replacing: one transaction spends the old token and makes the new, so that at every moment there is exactly one."""

from reconciler.cli.planning import Wish, prepare
from reconciler.engine.execute import Executor
from reconciler.engine.progress import Progress
from reconciler.model.change import Verb
from reconciler.model.ref import Outpoint, ResourceRef
from tests.e2e.scene import Scene, play

RATES = ResourceRef("Dataset", "rates")


def test_at_no_moment_are_both_or_neither_found(scene: Scene) -> None:
    seen: list[frozenset[str]] = []

    def live() -> frozenset[str]:
        held = scene.world.nodes["overlay-1"].state.held["tm_producer"]
        tokens = {str(at): one for at, one in held.items()}
        return frozenset(at for at, one in tokens.items() if not one.spent and one.fact.subject == str(RATES))

    def watch(_: Progress) -> None:
        seen.append(live())

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            (old,) = live()
        scene.watch = watch
        async with scene.open() as space:
            prepared = await prepare(space, Wish(recreate=(str(RATES),)))
            (change,) = prepared.plan.acting
            assert change.verb is Verb.REPLACE and change.cost.transactions == 1
            report = await Executor(space.runner, prepared.plan).run()
            assert report.complete, report
            (new,) = live()
            assert new != old and {len(one) for one in seen} == {1} and {old, new} == set().union(*seen)
            # One transaction did both.
            spender = scene.world.chain.spender(Outpoint.parse(old))
            assert spender is not None and spender[0] == Outpoint.parse(new).txid

    play(main, scene.world.clock)
