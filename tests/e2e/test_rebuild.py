"""A lost ledger: made again from manifests, keys and the network, at no cost, and gone on with."""

import shutil
from pathlib import Path

import pytest
import yaml

from reconciler.compose import Workspace
from reconciler.devnet.world import Plan, World
from reconciler.engine.handlers import Handlers
from reconciler.engine.policy import block_of, recalled
from reconciler.engine.rebuild import ADOPTED, FOUND, LEFT, Find, adopt, find_coins
from reconciler.engine.receive import receive
from reconciler.kinds import importing
from reconciler.manifest.scaffold import document_of
from reconciler.model.change import Reason, Verb
from reconciler.model.errors import Conflict, Refused
from reconciler.model.ref import ResourceRef
from reconciler.ports import Lease
from reconciler.wire.uhrp import uhrp_url
from tests.e2e.scene import DATASET, FULL, NETWORK, Scene, play

DATASET_REF = ResourceRef("Dataset", "rates")


def held(space: Workspace) -> int:
    """Satoshis in the purse."""
    purse = space.ports.ledger.read(space.ports.clock.now()).purses.get("devnet")
    return purse.total if purse else 0


async def rebuilt(space: Workspace) -> dict[str, Find]:
    survey = await space.surveyor.survey()
    found = await adopt(space.runner, survey, "tester")
    await find_coins(space.ports, survey, "tester")
    return {str(one.ref): one for one in found}


def lose(scene: Scene) -> None:
    shutil.rmtree(scene.root / ".state")


async def published(scene: Scene, *versions: str, shop: dict[str, str] = FULL) -> tuple[int, dict[str, object]]:
    """Apply a shop, and further versions of its file; what the purse holds then, and the dataset's outputs."""
    scene.write(dict(shop))
    await scene.fund()
    async with scene.open() as space:
        _, report = await scene.apply(space)
        assert report.complete, report
        for text in versions:
            scene.world.mine()
            scene.write({"data/rates.csv": text})
            _, report = await scene.apply(space)
            assert report.complete, report
        return held(space), dict(space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF].outputs)


@pytest.mark.parametrize("mined", [True, False])
def test_a_lost_ledger_is_rebuilt_at_no_cost_and_its_next_plan_is_empty(scene: Scene, mined: bool) -> None:
    async def main() -> None:
        purse, before = await published(scene, "date,rate\n2024-01-03,1.20\n", "date,rate\n2024-01-03,1.30\n")
        if mined:
            scene.world.mine()
        sent = len(scene.world.chain.state.txs)
        lose(scene)
        async with scene.open() as space:
            assert not (await scene.plan(space)).empty
            found = await rebuilt(space)
            assert {one.what for one in found.values()} == {ADOPTED}, found
            plan = await scene.plan(space)
            assert plan.empty, [(str(c.ref), c.verb, c.deltas, c.blocked) for c in plan.changes if c.verb is not Verb.NONE]
            assert held(space) == purse
            assert len(scene.world.chain.state.txs) == sent
            after = space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF]
            for name in ("publicKey", "document", "tokens", "files", "merkleRoot", "previous"):
                assert after.outputs[name] == before[name], name
            assert after.generation == 3 and len(before["previous"]) == 2  # type: ignore[arg-type]
        # And it goes on where it was: the next version spends the token of the last.
        scene.write({"data/rates.csv": "date,rate\n2024-01-04,1.40\n"})
        async with scene.open() as space:
            plan, report = await scene.apply(space)
            assert report.complete and len(plan.acting) == 1
            record = space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF]
            assert record.outputs["previous"] == [*before["previous"], before["tokens"][0]["outpoint"]]  # type: ignore[index,misc]
            assert record.outputs["document"]["sequence"] == 4
            (token,) = await space.ports.overlay.lookup(scene.net().overlays[0], "ls_producer", {"subject": "Dataset/rates"})
            assert str(token.outpoint) == record.outputs["tokens"][0]["outpoint"]

    play(main, scene.world.clock)


def test_what_was_published_before_an_edit_is_adopted_as_it_was_and_then_updated(scene: Scene) -> None:
    async def main() -> None:
        await published(scene)
        lose(scene)
        edits = {
            "dataset.yaml": DATASET.replace("title: Rates", "title: Daily rates").replace(
                "  pricePlanRef: standard\n", "  price: 7sat\n"
            ),
            "identity.yaml": FULL["identity.yaml"].replace("The Desk", "The New Desk"),
            "advertisement.yaml": FULL["advertisement.yaml"].replace("[tm_rates]", "[tm_rates, tm_more]"),
            "network.yaml": NETWORK.replace("shop.example.com", "store.example.com"),
            "data/rates.csv": "date,rate\n2025-01-01,2.00\n",
        }
        scene.write(edits)
        async with scene.open() as space:
            found = await rebuilt(space)
            assert {one.what for one in found.values()} == {ADOPTED}, found
            plan = await scene.plan(space)
            verbs = {str(change.ref): (change.verb, change.reason) for change in plan.acting}
            assert verbs["Dataset/rates"] == (Verb.UPDATE, Reason.SPEC_CHANGED)
            assert {"Identity/desk", "Advertisement/feed"} <= set(verbs)
            (title,) = [d for c in plan.acting for d in c.deltas if d.path == "spec.title"]
            assert (title.before, title.after) == ("Rates", "Daily rates")
            _, report = await scene.apply(space)
            assert report.complete, report
            assert (await scene.plan(space)).empty
        topics = scene.world.nodes["overlay-1"].state.held
        live = {topic: sum(not one.spent for one in topics[topic].values()) for topic in ("tm_ship", "tm_slap", "tm_producer")}
        assert live == {"tm_ship": 2, "tm_slap": 1, "tm_producer": 3}

    play(main, scene.world.clock)


def test_what_a_manifest_marks_is_adopted_by_the_daemon_and_nothing_else(scene: Scene) -> None:
    async def main() -> None:
        await published(scene)
        sent = len(scene.world.chain.state.txs)
        lose(scene)
        marked = DATASET.replace("spec:", "lifecycle: {adopt: true}\nspec:", 1)
        scene.write({"dataset.yaml": marked})
        async with scene.open() as space:
            handlers = Handlers(space.runner, space.surveyor, space.settings.limits, "auto")
            await handlers.plan(Lease("plan", 1, "test", space.ports.clock.now()))
            records = space.ports.ledger.read(space.ports.clock.now()).records
            # The identity it stands on comes with it; the advertisement nobody marked waits for a person.
            assert {"Dataset/rates", "Identity/desk"} <= set(map(str, records))
            assert "Advertisement/feed" not in set(map(str, records))
            assert len(scene.world.chain.state.txs) == sent

    play(main, scene.world.clock)


def test_silence_is_no_absence_and_a_lost_document_is_said(scene: Scene) -> None:
    async def main() -> None:
        _, before = await published(scene)
        lose(scene)
        scene.world.drop("overlay-1")
        async with scene.open() as space:
            found = await rebuilt(space)
            assert found["Network/local"].what == ADOPTED
            assert found["Identity/desk"].what == LEFT and "answered" in found["Identity/desk"].detail
        scene.world.restore("overlay-1")
        scene.world.network.down.clear()
        for name in ("eu1", "us1", "ap1"):
            scene.world.delete(name, before["document"]["digest"])  # type: ignore[index]
        async with scene.open() as space:
            await space.ports.clock.sleep(3600)
            found = await rebuilt(space)
            assert found["Dataset/rates"].what == LEFT
            assert before["document"]["digest"] in found["Dataset/rates"].detail  # type: ignore[index]
            assert found["Advertisement/feed"].what == LEFT

    play(main, scene.world.clock)


def test_the_token_of_somebody_else_is_not_imported(scene: Scene) -> None:
    async def main() -> None:
        _, before = await published(scene)
        outpoint = before["tokens"][0]["outpoint"]  # type: ignore[index]
        lose(scene)
        shutil.rmtree(scene.root / ".keys")
        async with scene.open() as space:
            desired = (await space.surveyor.survey()).desired
            assert desired is not None
            space.ports.wallet.generate("desk", desired.resources[ResourceRef("Identity", "desk")].spec["key"])
            survey = await space.surveyor.survey()
            with pytest.raises(Conflict, match=f"belongs to {before['publicKey']}"):
                await adopt(space.runner, survey, "tester", {DATASET_REF}, outpoint)
            assert not space.ports.ledger.read(space.ports.clock.now()).records

    play(main, scene.world.clock)


def test_without_an_index_of_outputs_only_the_change_of_our_tokens_is_found(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        purse, _ = await published(scene)
        lose(scene)
        routes = scene.world.headers.app.router.routes
        routes[:] = [route for route in routes if "unspent" not in getattr(route, "path", "")]
        async with scene.open() as space:
            survey = await space.surveyor.survey()
            await adopt(space.runner, survey, "tester")
            found = await find_coins(space.ports, survey, "tester")
            assert len(found.unknown) == 1 and "received again" in found.unknown[0]
            assert 0 < sum(coin.satoshis for coin in found.coins) <= purse
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


@pytest.mark.row("P-DIST-18")
@pytest.mark.parametrize("gone", [False, True], ids=["all there", "one damaged"])
def test_earlier_versions_that_are_kept_are_known_again(scene: Scene, gone: bool) -> None:
    texts = [f"date,rate\n2024-01-0{number},1.{number}\n" for number in range(2, 5)]
    shop = FULL | {"dataset.yaml": DATASET + "  keepVersions: 2\n"}

    async def main() -> None:
        _, before = await published(scene, *texts, shop=shop)
        older = before["versions"]
        assert [one["sequence"] for one in older] == [3, 2]  # type: ignore[attr-defined]
        lose(scene)
        if gone:
            scene.world.delete(next(iter(before["replicas"])), older[0]["files"][0]["sha256"])  # type: ignore[index,call-overload]
        async with scene.open() as space:
            assert {one.what for one in (await rebuilt(space)).values()} == {ADOPTED}
            after = space.ports.ledger.read(space.ports.clock.now()).records[DATASET_REF].outputs
            assert after["versions"] == (older[1:] if gone else older)  # type: ignore[index]
            assert after["previous"] == before["previous"]
            if not gone:
                assert {host: set(held) for host, held in after["replicas"].items()} == {
                    host: set(held)
                    for host, held in before["replicas"].items()  # type: ignore[attr-defined]
                }
            plan = await scene.plan(space)
            assert plan.empty, [(str(c.ref), c.verb, c.deltas, c.blocked) for c in plan.changes if c.verb is not Verb.NONE]

    play(main, scene.world.clock)


def test_a_token_is_meant_by_its_outpoint_its_transaction_or_a_file(scene: Scene) -> None:
    async def main() -> None:
        _, before = await published(scene)
        outpoint = before["tokens"][0]["outpoint"]  # type: ignore[index]
        sha256 = before["files"][0]["sha256"]  # type: ignore[index]
        lose(scene)
        async with scene.open() as space:
            survey = await space.surveyor.survey()

            async def dry(said: str, ref: ResourceRef = DATASET_REF) -> dict[ResourceRef, str]:
                return {
                    one.ref: one.what for one in await adopt(space.runner, survey, "t", {ref}, importing.read(said), dry=True)
                }

            url = uhrp_url(sha256)
            document = uhrp_url(before["document"]["digest"])  # type: ignore[index]
            for said in (outpoint, outpoint[:64], outpoint[:64].upper(), url, f"uhrp://{url}", document):
                assert (await dry(said))[DATASET_REF] == FOUND, said
            for said, error, why in (
                ("ab" * 32, Refused, "lists a token of ours from abab"),
                (f"{'ab' * 32}.0", Refused, f"lists {'ab' * 32}.0"),
                (uhrp_url("ab" * 32), Refused, "does not list XU"),
            ):
                with pytest.raises(error, match=why):
                    await dry(said)
            # A transaction that made something else of ours: what it made is named, and nothing is chosen.
            other = ResourceRef("Identity", "desk")
            with pytest.raises(Refused, match=f"made no token of it: {outpoint} describes Dataset/rates under"):
                await dry(outpoint[:64], other)
            with pytest.raises(Refused, match="only a Dataset lists content"):
                await dry(url, other)
            for nonsense in ("rates", "ab" * 31, f"{'ab' * 32}.x", "XUnothing"):
                with pytest.raises(Refused, match="cannot tell which token"):
                    importing.read(nonsense)
            assert not space.ports.ledger.read(space.ports.clock.now()).records

    play(main, scene.world.clock)


EXAMPLES = sorted(path.parent for path in (Path(__file__).parents[2] / "examples").glob("*/network.yaml"))


def in_process(folder: Path, into: Path) -> Scene:
    """An example, and a world in process that has the hosts it names."""
    shutil.copytree(folder, into, ignore=shutil.ignore_patterns(".*"))
    said = yaml.safe_load((into / "network.yaml").read_text())["spec"]

    def labels(key: str) -> list[tuple[str, str]]:
        return [(one["name"], one.get("region", "")) for one in said[key]]

    plan = Plan(
        overlays=labels("overlays"), storage=labels("storage"), broadcasters=[one["name"] for one in said["broadcasters"]]
    )
    for file in into.rglob("*.yaml"):
        text = file.read_text()
        for one in (*said["overlays"], *said["storage"], *said["broadcasters"], {"name": "headers", **said["headers"]}):
            text = text.replace(one["url"], f"http://{one['name']}.devnet")
        file.write_text(text)
    return Scene(into, World(plan=plan))


@pytest.mark.parametrize("folder", EXAMPLES, ids=[folder.name for folder in EXAMPLES])
def test_the_ledger_of_every_example_is_rebuilt_and_its_next_plan_is_empty(folder: Path, tmp_path: Path) -> None:
    scene = in_process(folder, tmp_path / "shop")

    async def main() -> None:
        async with scene.open() as space:
            space.ports.wallet.generate("wallet", space.settings.wallet_key)
            _, beef = scene.world.faucet(space.ports.wallet.funding_script(), 1_000_000)
            await receive(space.ports, beef, scene.net())
            _, report = await scene.apply(space)
            assert report.complete, report
            purse = held(space)
        sent = len(scene.world.chain.state.txs)
        lose(scene)
        async with scene.open() as space:
            found = await rebuilt(space)
            assert {one.what for one in found.values()} == {ADOPTED}, found
            plan = await scene.plan(space)
            assert plan.empty, [(str(c.ref), c.verb, c.deltas, c.blocked) for c in plan.changes if c.verb is not Verb.NONE]
            assert held(space) == purse and len(scene.world.chain.state.txs) == sent

    play(main, scene.world.clock)


def test_a_dry_run_verifies_all_of_it_and_records_nothing(scene: Scene) -> None:
    async def main() -> None:
        await published(scene)
        lose(scene)
        async with scene.open() as space:
            survey = await space.surveyor.survey()
            dry = await adopt(space.runner, survey, "tester", dry=True)
            assert {one.what for one in dry} == {FOUND} and len(dry) == 5
            assert not space.ports.ledger.read(space.ports.clock.now()).records
            with space.ports.ledger.begin() as tx:
                assert not tx.history() and not tx.transactions()
            real = await adopt(space.runner, survey, "tester")
            assert [(one.ref, one.detail) for one in real] == [(one.ref, one.detail) for one in dry]

    play(main, scene.world.clock)


def test_manifests_written_from_the_ledger_are_what_is_published(scene: Scene) -> None:
    life = "lifecycle: {deletionPolicy: Orphan, prune: never, drift: {correct: never, ignore: [/spec/title]}, maxSpend: 900sat}\n"

    async def main() -> None:
        scene.write({"dataset.yaml": DATASET + life, "price.yaml": FULL["price.yaml"].replace("25sat", "1200sat")})
        await scene.fund()
        async with scene.open() as space:
            await scene.apply(space)
            records = space.ports.ledger.read(space.ports.clock.now()).records
            texts = {ref: document_of(ref.kind, ref.name, one.body["spec"], block_of(one)) for ref, one in records.items()}
            for file in scene.root.glob("*.yaml"):
                file.unlink()
            for ref, text in texts.items():
                scene.write({f"{ref.kind}.yaml": text})
            assert (await scene.plan(space)).empty
            before = records[DATASET_REF]
            after = (await space.surveyor.survey()).desired
            assert after is not None and after.resources[DATASET_REF].lifecycle == recalled(before)
            assert "replicas: 2\n" in texts[DATASET_REF] and "maxSpend: 900" in texts[DATASET_REF]

    play(main, scene.world.clock)
