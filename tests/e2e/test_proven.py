"""`drift --verify`: a proof is believed as long as it leads to a block of the longest chain, and looking changes nothing."""

from collections import Counter
from pathlib import Path

import pytest

from reconciler.compose import Workspace
from reconciler.engine.confirm import confirm
from reconciler.engine.handlers import chain_nets
from reconciler.engine.proven import Proof, Standing, proofs
from reconciler.engine.survey import midnight
from reconciler.model.ref import ResourceRef
from tests.e2e.scene import FULL, Scene, play


async def looked(space: Workspace) -> list[Proof]:
    recorded = space.ports.ledger.read(midnight(space.ports.clock.now()))
    return await proofs(space.ports, recorded.records.values(), chain_nets(recorded))


def counted(found: list[Proof]) -> dict[Standing, int]:
    return dict(Counter(one.standing for one in found))


def test_proofs_are_waited_for_hold_and_fall_with_their_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
    scene = Scene(tmp_path)
    scene.write(dict(FULL))

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete
            first = await looked(space)
            assert {one.ref.kind for one in first} == {"Identity", "Dataset", "Advertisement"}
            assert counted(first) == {Standing.WAITING: len(first)} and "not in a block yet" in first[0].why

            scene.world.mine()
            await confirm(space.ports, chain_nets(space.ports.ledger.read(midnight(space.ports.clock.now()))))
            assert counted(await looked(space)) == {Standing.PROVEN: len(first)}

            scene.world.network.down.add("headers.devnet")
            assert counted(await looked(space)) == {Standing.UNKNOWN: len(first)}
            scene.world.network.calm()
            # The breaker of a host that was down gives it time.
            await space.ports.clock.sleep(600)

            serial = space.ports.ledger.read(midnight(space.ports.clock.now())).serial
            scene.world.chain.reorg(1)
            fallen = await looked(space)
            assert counted(fallen) == {Standing.BROKEN: len(first)}
            assert all("does not lead to block" in one.why for one in fallen)
            assert space.ports.ledger.read(midnight(space.ports.clock.now())).serial == serial
            (txid,) = {one.txid for one in fallen if one.ref == ResourceRef("Dataset", "rates")}
            with space.ports.ledger.begin() as tx:
                stored = tx.transaction(txid)
            assert stored is not None and stored.state == "mined"

    play(main, scene.world.clock)
