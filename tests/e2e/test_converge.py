"""The walking product, in process: plan, apply, drift, repair, update, destroy, on the devnet under virtual time."""

import json
import sqlite3

import pytest

from reconciler.engine.confirm import confirm
from reconciler.model.change import Reason, Verb
from reconciler.model.plan import Plan
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.planner.guard import Limits
from reconciler.wire.advert import parse_advert
from reconciler.wire.descriptor import parse_descriptor
from reconciler.wire.document import open_envelope
from tests.e2e.scene import DATASET, FULL, PRICE, Scene, play

DESTROY = Limits(destroy=True, delete_percent=None)
DATASET_REF, IDENTITY_REF = ResourceRef("Dataset", "rates"), ResourceRef("Identity", "desk")


def acting(plan: Plan) -> dict[str, str]:
    return {str(change.ref): change.verb.value for change in plan.changes if change.verb is not Verb.NONE}


def live_tokens(scene: Scene) -> dict[str, list[str]]:
    """Unspent outputs per topic, as the overlay node itself has them."""
    held = scene.world.nodes["overlay-1"].state.held
    return {
        topic: sorted(str(outpoint) for outpoint, one in held.get(topic, {}).items() if not one.spent)
        for topic in ("tm_ship", "tm_slap", "tm_producer")
    }


@pytest.mark.row("P-REG-11", "P-REG-21", "P-AD-15", "P-AD-16", "P-PUB-01", "P-PUB-07", "P-PUB-18", "P-ID-04", "P-ID-16")
def test_manifests_become_tokens_documents_and_replicas(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            before = space.ports.ledger.read(space.ports.clock.now()).purses["devnet"].total
            plan, report = await scene.apply(space)
            assert report.complete, report
            after = space.ports.ledger.read(space.ports.clock.now())
            spent = before - after.purses["devnet"].total
            assert spent == plan.cost.satoshis == after.spent_today > 0
            tokens = live_tokens(scene)
            assert {topic: len(held) for topic, held in tokens.items()} == {"tm_ship": 1, "tm_slap": 1, "tm_producer": 3}
            record = after.records[DATASET_REF]
            # A second party reads everything back: the token, the document it anchors, the files that lists.
            found = await space.ports.overlay.lookup(scene.net().overlays[0], "ls_producer", {"subject": "Dataset/rates"})
            (answer,) = found
            script = scene.world.chain.output(answer.outpoint).script
            said = parse_descriptor(script)
            assert said.digest == record.outputs["document"]["digest"]
            assert len(record.outputs["replicas"]) == 2
            for name, copies in record.outputs["replicas"].items():
                host = next(h for h in scene.net().storage if h.name == name)
                assert set(copies) == {said.digest, record.outputs["files"][0]["sha256"]}
                for sha256 in copies:
                    assert (await space.ports.storage.check(host, sha256))["state"] == "ok"
            document, signer = open_envelope(space.ports.blobs.get(said.digest))
            assert signer == after.records[IDENTITY_REF].outputs["publicKey"] == said.identity.hex()
            assert document["files"][0]["sha256"] == record.outputs["files"][0]["sha256"]
            (ship,) = [Outpoint.parse(o) for o in tokens["tm_ship"]]
            assert parse_advert(scene.world.chain.output(ship).script).name == "tm_rates"
            again = await scene.plan(space)
            assert again.empty, acting(again)

    play(main, scene.world.clock)


def test_plan_writes_nothing(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            serial = space.ports.ledger.read(space.ports.clock.now()).serial
            first, second = await scene.plan(space), await scene.plan(space)
            assert first.id == second.id
            assert space.ports.ledger.read(space.ports.clock.now()).serial == serial
            assert live_tokens(scene) == {"tm_ship": [], "tm_slap": [], "tm_producer": []}
            assert not (scene.root / ".keys" / "desk.json").exists()

    play(main, scene.world.clock)


@pytest.mark.row("P-ID-08", "P-PUB-24", "P-SEC-02")
@pytest.mark.parametrize("damage", ["evict", "wipe-overlay", "corrupt", "delete", "wipe-storage"])
def test_damage_is_named_and_repaired_for_free(scene: Scene, damage: str) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            record = space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF]
            token = Outpoint.parse(record.outputs["tokens"][0]["outpoint"])
            host = sorted(record.outputs["replicas"])[0]
            file = record.outputs["files"][0]["sha256"]
            world = scene.world
            {
                "evict": lambda: world.evict("overlay-1", token),
                "wipe-overlay": lambda: world.wipe("overlay-1"),
                "corrupt": lambda: world.corrupt(host, file),
                "delete": lambda: world.delete(host, file),
                "wipe-storage": lambda: world.wipe(host),
            }[damage]()
            plan = await scene.plan(space)
            change = next(c for c in plan.changes if c.ref == DATASET_REF)
            assert (change.verb, change.reason, change.cost.satoshis) == (Verb.REPAIR, Reason.DRIFTED, 0)
            named = " ".join(f"{d.path} {d.after}" for d in change.deltas)
            assert {"corrupt": "corrupt", "evict": "missing"}.get(damage, "missing") in named
            assert (host if damage in ("corrupt", "delete", "wipe-storage") else "overlay-1") in named
            coins = space.ports.ledger.read(space.ports.clock.now()).purses["devnet"]
            _, report = await scene.apply(space)
            assert report.complete, report
            assert space.ports.ledger.read(space.ports.clock.now()).purses["devnet"] == coins
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_token_spent_by_another_copy_of_us_is_made_again_once(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            record = space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF]
        outpoint = record.outputs["tokens"][0]["outpoint"]
        # Another copy of us: the same repository and keys, a ledger of its own.
        other = Scene(scene.root, scene.world, scene.entropy)
        await spend_elsewhere(other, record.outputs["tokens"][0])
        async with scene.open() as space:
            plan = await scene.plan(space)
            change = next(c for c in plan.changes if c.ref == DATASET_REF)
            assert (change.verb, change.reason) == (Verb.CREATE, Reason.LOST)
            assert outpoint in json.dumps(dict(change.seen))
            assert change.cost.transactions == 1
            plan, report = await scene.apply(space)
            assert report.complete, report
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


async def spend_elsewhere(scene: Scene, token: dict[str, str]) -> None:
    """Retire a token with the producer's own key, from outside its ledger."""
    from reconciler.model.change import FeeRate
    from reconciler.model.effect import Draft, Lock, TokenInput
    from reconciler.ports import Coin
    from reconciler.wire.beef import write_beef

    async with scene.open() as space:
        wallet = space.ports.wallet
        wallet.know({"desk": {"file": ".keys/desk.json", "encryption": {"passphrase": {"env": "RECONCILER_PASSPHRASE"}}}})
        outpoint = Outpoint.parse(token["outpoint"])
        coin_at, _ = scene.world.faucet(wallet.funding_script(), 500)
        coin = Coin(coin_at, "devnet", 500, wallet.funding_script(), Lock("wallet", "reconciler funding", "1", "self"))
        draft = Draft("devnet", (), (TokenInput(outpoint, Lock("desk", token["protocol"], token["keyId"])),), FeeRate(100))
        parent = scene.world.chain.source(outpoint.txid)
        assert parent is not None
        signed = wallet.sign(draft, [coin], {outpoint.txid: parent[0]})

        def source(txid: str) -> tuple[bytes, bytes] | None:
            return (signed.raw, b"") if txid == signed.txid else scene.world.chain.source(txid)

        beef = write_beef(signed.txid, source)
        await space.ports.chain.broadcast(beef, signed.txid, scene.net().broadcasters)
        await space.ports.overlay.submit(scene.net().overlays[0], beef, ["tm_producer"])


@pytest.mark.row("P-AD-08", "P-AD-09", "P-REG-10")
def test_an_edited_price_moves_only_what_embeds_it(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            old = live_tokens(scene)
            scene.write({"price.yaml": PRICE.replace("25sat", "30sat")})
            plan = await scene.plan(space)
            assert acting(plan) == {"PricePlan/standard": "update", "Dataset/rates": "update", "Advertisement/feed": "update"}
            _, report = await scene.apply(space)
            assert report.complete
            new = live_tokens(scene)
            assert new["tm_ship"] == old["tm_ship"]
            assert new["tm_slap"] == old["tm_slap"]
            assert len(set(new["tm_producer"]) & set(old["tm_producer"])) == 1
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_more_replicas_cost_no_transaction(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            scene.write({"dataset.yaml": DATASET.replace("replicas: 2", "replicas: 3")})
            plan, report = await scene.apply(space)
            assert report.complete
            assert plan.cost.transactions == 0
            assert len(space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF].outputs["replicas"]) == 3
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_more_replicas_than_hosts_is_a_plan_error(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        scene.write({"dataset.yaml": DATASET.replace("replicas: 2", "replicas: 4")})
        async with scene.open() as space:
            plan = await scene.plan(space)
            change = next(c for c in plan.changes if c.ref == DATASET_REF)
            assert change.blocked is not None
            assert "3 storage hosts" in change.blocked

    play(main, scene.world.clock)


@pytest.mark.row("P-PUB-26")
def test_new_bytes_are_a_new_version_that_spends_the_old_token(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            old = space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF].outputs
            scene.write({"data/rates.csv": FULL["data/rates.csv"] + "2024-01-03,1.12\n"})
            _, report = await scene.apply(space)
            assert report.complete
            new = space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF].outputs
            assert new["document"]["sequence"] == 2
            assert new["previous"] == [old["tokens"][0]["outpoint"]]
            assert scene.world.chain.spender(Outpoint.parse(old["tokens"][0]["outpoint"])) is not None
            document, _ = open_envelope(space.ports.blobs.get(new["document"]["digest"]))
            assert document["previous"] == old["tokens"][0]["outpoint"]
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_destroy_leaves_nothing_on_the_node(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            plan, report = await scene.apply(space, DESTROY)
            assert report.complete
            order = [str(change.ref) for change in plan.acting]
            assert order.index("Advertisement/feed") < order.index("Dataset/rates") < order.index("Identity/desk")
            assert live_tokens(scene) == {"tm_ship": [], "tm_slap": [], "tm_producer": []}
            assert space.ports.ledger.read(space.ports.clock.now()).records == {}

    play(main, scene.world.clock)


@pytest.mark.row("P-PUB-19")
def test_confirmations_rise_with_blocks_and_fall_with_a_reorg(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            nets = {"devnet": scene.net()}
            assert await confirm(space.ports, nets) == []
            scene.world.mine()
            moved = await confirm(space.ports, nets)
            assert {(m.before, m.after) for m in moved} == {("seen", "mined")}
            with space.ports.ledger.begin() as tx:
                assert all(t.proof for t in tx.transactions())
            scene.world.reorg(1)
            moved = await confirm(space.ports, nets)
            assert {(m.before, m.after) for m in moved} == {("mined", "seen")}
            scene.world.mine()
            assert {m.after for m in await confirm(space.ports, nets)} == {"mined"}
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_silence_of_every_host_defers_and_spends_nothing(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            scene.world.drop("overlay-1")
            plan = await scene.plan(space)
            assert {v for k, v in acting(plan).items() if k != "PricePlan/standard"} == {"defer"}
            assert not plan.acting

    play(main, scene.world.clock)


@pytest.mark.row("P-DB-12", "P-DB-26", "P-DB-36", "P-DB-37", "P-DB-91", "P-DB-92", "P-DB-93", "P-DB-95", "P-DB-96", "P-DB-97")
def test_the_catalog_shows_what_was_done_and_measured(scene: Scene) -> None:
    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            record = space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF]
        with sqlite3.connect(scene.root / ".state" / "ledger.db") as other:
            other.row_factory = sqlite3.Row
            (content,) = other.execute("select * from published_content").fetchall()
            assert content["uhrp_hash"] == record.outputs["files"][0]["sha256"]
            assert content["brc22_transaction_id"] == record.outputs["tokens"][0]["outpoint"].partition(".")[0]
            rows = other.execute("select * from content_distribution order by overlay_node_id").fetchall()
            assert [row["overlay_node_id"] for row in rows] == sorted(record.outputs["replicas"])
            for row in rows:
                assert (row["distribution_status"], row["replication_factor"], row["availability_score"]) == (
                    "available",
                    2,
                    100.0,
                )
                assert row["node_response_time_ms"] is not None
                assert row["last_sync_at"] is not None
            assert len(other.execute("select * from producer_advertisements").fetchall()) == 1
            assert len(other.execute("select * from producer_identities").fetchall()) == 1

    play(main, scene.world.clock)
