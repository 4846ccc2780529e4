"""A fee rate of one's own: what the plan says it costs is what is paid, and never less than the miners ask."""

from pathlib import Path

import pytest
import typer

from reconciler.cli.planning import Wish, prepare
from reconciler.compose import Workspace
from reconciler.engine.execute import Executor
from reconciler.engine.finish import spent
from reconciler.model.change import FeeRate
from reconciler.model.errors import Refused
from reconciler.model.plan import Plan
from tests.e2e.scene import IDENTITY, NETWORK, Scene, play


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
    made = Scene(tmp_path)
    made.write({"network.yaml": NETWORK, "identity.yaml": IDENTITY})
    return made


def planned(scene: Scene, fee_rate: str | None) -> Plan:
    async def main() -> Plan:
        await scene.fund()
        async with scene.open() as space:
            return (await prepare(space, Wish(fee_rate=fee_rate))).plan

    return play(main, scene.world.clock)


def test_a_plan_pays_the_rate_that_was_named_and_says_so_before(scene: Scene) -> None:
    async def paid(space: Workspace) -> tuple[Plan, int]:
        plan = (await prepare(space, Wish(fee_rate="250sat/kB"))).plan
        assert (await Executor(space.runner, plan).run()).complete
        with space.ports.ledger.begin() as tx:
            return plan, sum(sum(spent(tx, change.run_id(plan.lineage))) for change in plan.acting)

    async def main() -> tuple[Plan, int]:
        await scene.fund()
        async with scene.open() as space:
            asked = (await prepare(space, Wish())).plan.cost
            plan, satoshis = await paid(space)
            assert plan.cost.locked == asked.locked and 2 * asked.fees < plan.cost.fees < 3 * asked.fees
            return plan, satoshis

    plan, satoshis = play(main, scene.world.clock)
    assert plan.cost.satoshis == satoshis


def test_less_than_the_miners_ask_is_refused_and_what_they_ask_is_not(scene: Scene) -> None:
    with pytest.raises(Refused, match="cannot pay 99 sat per 1000 bytes: Network/local asks 100 sat per 1000 bytes"):
        planned(scene, "99")
    assert planned(scene, "100").id == planned(scene, None).id


def test_a_rate_above_fees_max_prices_nothing(scene: Scene) -> None:
    scene.write({"network.yaml": NETWORK + "  fees: {max: 120sat/kB}\n"})
    assert planned(scene, "120").acting

    async def main() -> tuple[tuple[str, ...], Plan]:
        async with scene.open() as space:
            made = await prepare(space, Wish(fee_rate="121"))
            return made.head, made.plan

    head, plan = play(main, scene.world.clock)
    assert "Network/local: 121 sat per 1000 bytes are above fees.max" in head
    assert [str(change.ref) for change in plan.acting if change.cost.fees] == []


def test_a_bare_number_is_satoshis_per_1000_bytes() -> None:
    assert Wish(fee_rate="150").pays == Wish(fee_rate="150sat/kB").pays == FeeRate(150)
    assert Wish(fee_rate="1sat/B").pays == FeeRate(1000)
    assert Wish().pays is None
    with pytest.raises(typer.BadParameter, match="--fee-rate"):
        _ = Wish(fee_rate="cheap").pays
