"""A policy is edited: the plan shows whom it concerns, it costs nothing, and the shop goes by it at once."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.compose import Workspace
from reconciler.gateway.door import shop_of
from reconciler.model.plan import Plan
from reconciler.model.ref import ResourceRef
from reconciler.sales.opening import openings
from reconciler.sales.paywall import Barred, Purchase, Shop
from reconciler.wire import keys
from tests.e2e.scene import DATASET, FULL, IDENTITY, NETWORK, PRICE, Scene, play

BUYER = keys.public_key(keys.sha256(b"a buyer")).hex()
RATES = ResourceRef("Dataset", "rates")


def policy(kind: str, **spec: Any) -> str:
    return yaml.safe_dump({"apiVersion": "overlay.bsv/v1alpha1", "kind": kind, "metadata": {"name": "p"}, "spec": spec})


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Scene, Workspace], Awaitable[None]]], None]:
    """Plays a scene in a repository whose dataset is sold under two policies."""
    for name in ("DESK", "PURSE"):
        monkeypatch.setenv(name, keys.sha256(name.encode()).hex())

    def act(work: Callable[[Scene, Workspace], Awaitable[None]]) -> None:
        scene = Scene(tmp_path / "seller")
        named = "pricePlanRef: standard\n  paymentPolicyRef: p\n  accessPolicyRef: p"
        scene.write(
            {
                "reconciler.yaml": "wallet: {key: {env: PURSE}}\n",
                "network.yaml": NETWORK.replace("gateway: {", 'gateway: {listen: "127.0.0.1:0", '),
                "identity.yaml": re.sub(r"key: .*", "key: {env: DESK}", IDENTITY),
                "price.yaml": PRICE,
                "dataset.yaml": DATASET.replace("pricePlanRef: standard", named),
                "payment.yaml": policy("PaymentPolicy"),
                "access.yaml": policy(
                    "AccessPolicy", defaultTier="all", tiers=[{"name": "all", "quota": {"requestsPerMinute": 2}}]
                ),
                "data/rates.csv": FULL["data/rates.csv"],
            }
        )

        async def main() -> None:
            await scene.fund()
            async with scene.open() as space:
                await scene.apply(space)
                await work(scene, space)

        play(main, scene.world.clock)

    return act


def shop(space: Workspace) -> Shop:
    records = space.ports.ledger.read(space.ports.clock.now()).records
    (opening,), _ = openings(records)
    return shop_of(space.ports, opening, records, space.ports.wallet.speaker)  # type: ignore[attr-defined]


def ask(here: Shop) -> str:
    """What the shop says of a request by the buyer."""
    try:
        here.admitted(here.goods("rates"), BUYER)
    except Barred as barred:
        return f"{barred.code} {barred.retry_after}"
    return "served"


def acting(plan: Plan) -> dict[str, int]:
    return {str(change.ref): change.cost.satoshis for change in plan.acting}


@pytest.mark.row("P-DASH-15", "P-DB-65")
def test_a_blocked_key_is_refused_from_the_apply_on_and_nothing_is_published_anew(at: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        here = shop(space)
        assert [ask(here) for _ in range(3)] == ["served", "served", "quota-requests 60"]
        before = space.ports.ledger.read(space.ports.clock.now()).records[RATES]
        scene.write({"access.yaml": policy("AccessPolicy", blocked=[{"identityKey": BUYER, "reason": "resold"}])})
        plan, report = await scene.apply(space)
        assert acting(plan) == {"AccessPolicy/p": 0, "Dataset/rates": 0} and report.complete
        after = space.ports.ledger.read(space.ports.clock.now()).records[RATES]
        assert after.outputs["document"] == before.outputs["document"]
        scene.world.clock.advance(1)
        assert ask(here) == "blocked None"

    at(work)


@pytest.mark.row("P-PAY-09", "P-PAY-03")
def test_a_change_of_how_is_paid_is_planned_free_and_in_force(at: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        here = shop(space)
        assert here.methods(here.offers()["rates"], 25) == ["brc105"]
        # Named by the identity, it is inherited by what names none.
        inherited = IDENTITY.replace("register: true", "register: true\n  defaults: {paymentPolicyRef: p}")
        scene.write(
            {
                "payment.yaml": policy("PaymentPolicy", http={"min": "26sat"}),
                "identity.yaml": re.sub(r"key: .*", "key: {env: DESK}", inherited),
                "dataset.yaml": DATASET,
            }
        )
        plan, _ = await scene.apply(space)
        assert acting(plan) == {"PaymentPolicy/p": 0, "Dataset/rates": 0, "Identity/desk": 0}
        scene.world.clock.advance(1)
        assert here.offers()["rates"].access is None
        assert here.methods(here.offers()["rates"], 25) == [] and here.methods(here.offers()["rates"], 26) == ["brc105"]

    at(work)


@pytest.mark.row("P-PAY-08")
def test_a_broadcaster_that_nobody_knows_blocks_what_would_be_paid_by_it(at: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        scene.write({"payment.yaml": policy("PaymentPolicy", native={"enabled": True, "broadcasters": ["taal"]})})
        plan = await scene.plan(space)
        (blocked,) = [change for change in plan.changes if change.blocked]
        assert blocked.ref == RATES and "cannot take payments by taal: Network/local has no such broadcaster" in str(
            blocked.blocked
        )

    at(work)


@pytest.mark.row("P-PAY-05")
def test_a_demand_stands_for_the_window_of_the_policy(at: Callable[..., None]) -> None:
    async def work(scene: Scene, space: Workspace) -> None:
        scene.write({"payment.yaml": policy("PaymentPolicy", http={"window": "10m"})})
        await scene.apply(space)
        here = shop(space)
        goods = here.goods("rates")
        sale = Purchase(here, goods, here.terms(goods, BUYER, here.admitted(goods, BUYER)), BUYER)
        buyer = bytes.fromhex(BUYER)
        demand = here.till.ask(25, buyer, "this")
        stands = []
        for seconds in (0, 600, 1):
            scene.world.clock.advance(seconds)
            stands.append(here.till._was_asked(demand.prefix, buyer, "this", sale))
        assert stands == [True, True, False]

    at(work)
