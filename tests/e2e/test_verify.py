"""`identity verify` looks at what others see: points from facts, manifests against the chain, and prices at the door."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.cli.verifying import Seen, Wanted, looked
from reconciler.compose import Workspace
from reconciler.engine.confirm import confirm
from reconciler.engine.probes import note
from reconciler.engine.reputation import gather
from reconciler.engine.till import Till
from reconciler.gateway.auth import Authenticated
from reconciler.gateway.payment import priced
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.model.sale import Method, Payment, PaymentState
from reconciler.planner.reputation import reputation
from reconciler.wire.proof import parse_header
from reconciler.wire.speaker import Speaker
from tests.e2e.scene import NETWORK, Scene, play

ALL = Wanted(advertisements=True, payment=True, reputation=True, least=None)


async def published(scene: Scene, space: Workspace) -> None:
    await scene.apply(space)
    scene.world.mine(2)
    await confirm(space.ports, {"devnet": scene.net()})


async def seen(space: Workspace, wanted: Wanted = ALL) -> Seen:
    space.ports.wallet.know({"desk": {"file": ".keys/desk.json", "encryption": {"passphrase": {"env": "RECONCILER_PASSPHRASE"}}}})
    return await looked(space, "desk", space.ports.wallet.public_key("desk"), wanted)


def wrong(found: Seen) -> list[tuple[str, str]]:
    return [(one.what, one.detail) for one in found.findings if one.ok is False]


@pytest.mark.row("P-ID-07", "P-ID-17")
def test_facts_are_gathered_from_chain_books_and_looks(scene: Scene) -> None:
    async def work() -> None:
        await scene.fund()
        async with scene.open() as space:
            assert await gather(space.ports, "desk") == []
            await published(scene, space)
            (first, *_) = rows = await gather(space.ports, "desk")
            point = Outpoint.parse(first["outpoint"])
            header = await space.ports.chain.header(first["height"], scene.net().headers)
            assert header is not None and first["at"] == parse_header(header.raw, header.height).time
            assert scene.world.chain.standing(point.txid).height == first["height"]  # type: ignore[union-attr]
            looks = [row for row in rows if row["fact"] == "looks"]
            assert {row["subject"] for row in looks} == {"Identity/desk", "Dataset/rates", "Advertisement/feed"}
            before = (sum(row["sound"] for row in looks), sum(row["asked"] for row in looks))
            assert before[0] == before[1] > 0
            # A copy is spoilt, and the next look says so.
            record = space.ports.ledger.read(space.ports.clock.now()).records[ResourceRef("Dataset", "rates")]
            host = sorted(record.outputs["replicas"])[0]
            scene.world.corrupt(host, record.outputs["files"][0]["sha256"])
            survey = await space.surveyor.survey()
            note(space.ports, survey.recorded, survey.observed)
            paid = Payment("r1", "Identity/desk", "02" * 33, 25, Method.BRC105, space.ports.clock.now(), "rates", outpoint="aa.0")
            with space.ports.ledger.begin() as tx:
                tx.put_payment(replace(paid, state=PaymentState.CONFIRMED))
                tx.put_payment(replace(paid, id="r2", outpoint="bb.0", state=PaymentState.REFUNDED))
                tx.put_payment(replace(paid, id="r3", outpoint="cc.0", producer="Identity/other"))
            rows = await gather(space.ports, "desk")
            assert [row["outcome"] for row in rows if row["fact"] == "sale"] == ["kept", "refunded"]
            assert not any("02" * 33 in str(row) for row in rows), "no buyer is named"
            after = [row for row in rows if row["fact"] == "looks"]
            assert sum(row["asked"] for row in after) - sum(row["sound"] for row in after) == 1
            year = reputation(rows, first["at"] + 365 * 86_400)
            assert (year.age, year.sales, year.revoked) == (30, 3, 0)
            low = await seen(space, replace(ALL, advertisements=False, payment=False, least=70))
            assert [what for what, _ in wrong(low)][-1] == "reputation"

    play(work, scene.world.clock)


@pytest.mark.row("P-ID-08", "P-DOD-02")
def test_what_is_advertised_is_held_against_the_manifest_and_the_chain(scene: Scene) -> None:
    only = replace(ALL, payment=False, reputation=False)

    async def work() -> None:
        await scene.fund()
        async with scene.open() as space:
            await published(scene, space)
            found = await seen(space, only)
            assert wrong(found) == [] and all(one.ok for one in found.findings)
            assert sum(one.what.endswith("as declared") for one in found.findings) == 3
            assert sum(one.what.endswith("on chain") for one in found.findings) == 5
        text = (scene.root / "advertisement.yaml").read_text()
        scene.write({"advertisement.yaml": text.replace("data-feed", "dataset")})
        (scene.root / "dataset.yaml").unlink()
        scene.write(
            {"advertisement.yaml": text.replace("data-feed", "dataset").replace("for: [{kind: Dataset, name: rates}]", "")}
        )
        async with scene.open() as space:
            told = dict(wrong(await seen(space, only)))
            assert "serviceType" in told["Advertisement/feed as declared"]
            assert told["Dataset/rates as declared"] == "advertised, and no longer declared"
            token = space.ports.ledger.read(space.ports.clock.now()).records[ResourceRef("Identity", "desk")].outputs["tokens"][0]
            scene.world.chain.state.spent[Outpoint.parse(token["outpoint"])] = ("ef" * 32, 0)
            told = dict(wrong(await seen(space, only)))
            assert f"spent by {'ef' * 32}" in told["Identity/desk on chain"]
        scene.write({"network.yaml": "kind: [\n"})
        async with scene.open() as space:
            assert "manifests" in dict(wrong(await seen(space, only)))

    play(work, scene.world.clock)


@pytest.mark.row("P-ID-09")
def test_our_door_must_want_the_price_and_for_a_key_of_ours(scene: Scene) -> None:
    door: list[object] = []

    async def app(scope: object, receive: object, send: object) -> None:
        await door[0](scope, receive, send)  # type: ignore[operator]

    world_transport = scene.world.transport

    def transport() -> object:
        network = world_transport()
        network.apps["shop.example.com"] = app  # type: ignore[assignment]
        return network

    scene.world.transport = transport  # type: ignore[method-assign, assignment]
    only = replace(ALL, advertisements=False, reputation=False)

    def opened(space: Workspace, speaker: Speaker, price: int) -> None:
        async def content(request: Request) -> Response:
            return JSONResponse({"bytes": "the content"})

        async def cost(request: Request) -> int:
            return price

        till = Till(space.ports, scene.net(), speaker, "wallet")
        routes = [Route("/content/rates", priced(content, cost, till))]
        door[:] = [Authenticated(Starlette(routes=routes), speaker, space.ports.clock, space.ports.entropy)]

    async def price(space: Workspace) -> tuple[bool | None, str]:
        (one,) = [one for one in (await seen(space, only)).findings if one.what == "price of Dataset/rates"]
        return one.ok, one.detail

    async def work() -> None:
        await scene.fund()
        async with scene.open() as space:
            await published(scene, space)
            free = sum(coin.satoshis for coin in _coins(space))
            opened(space, Speaker(b"\x07" * 32), 25)
            assert (await price(space))[0] is False and "not ours" in (await price(space))[1]
            speaker = space.ports.wallet.speaker()  # type: ignore[attr-defined]
            opened(space, speaker, 25)
            # The door that forgot us, and then is another's no longer, is met anew.
            assert await price(space) == (True, "25 sat at https://shop.example.com")
            opened(space, speaker, 0)
            assert await price(space) == (
                False, "cannot find a price at https://shop.example.com/content/rates: it answers 200",
            )  # fmt: skip
            door[:] = [Starlette()]
            assert (await price(space))[0] is False
            assert sum(coin.satoshis for coin in _coins(space)) == free, "nothing was paid"
        scene.write({"network.yaml": NETWORK.replace("shop.example.com", "nobody.example.com")})
        async with scene.open() as space:
            await scene.apply(space)
            assert (await price(space))[0] is None

    play(work, scene.world.clock)


def _coins(space: Workspace) -> list[object]:
    with space.ports.ledger.begin() as tx:
        return list(tx.coins(state="free"))
