"""Paid copies are prolonged before they end: once each time, for the quoted price, whatever becomes of the answer."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

from reconciler.adapters.http import Answer, Paid, Request
from reconciler.adapters.sql.queue import LEASE
from reconciler.compose import Workspace, workspace
from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.execute import Executor
from reconciler.engine.finish import spent
from reconciler.engine.survey import Surveyor
from reconciler.model.change import Cause, Reason, Verb
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from reconciler.planner.markdown import as_markdown
from reconciler.planner.render import as_text
from reconciler.settings import load
from tests.e2e.crash import DESK, OPEN_KEY, PROCESS, SEALED_KEY, WALLET, Fuse, Killed, MortalLedger, MortalTransport
from tests.e2e.scene import ANYTHING_GOES, DATASET, FULL, IDENTITY, NETWORK, PRICE, Scene, play

RATES = ResourceRef("Dataset", "rates")
DAY = 24 * 3600
PRICE_OF_TIME = 7
MONTHLY = DATASET + "  retention: 30d\n  renewBefore: 7d\n"
FILES = {
    "network.yaml": NETWORK,
    "identity.yaml": IDENTITY.replace(SEALED_KEY, OPEN_KEY),
    "price.yaml": PRICE,
    "dataset.yaml": MONTHLY,
    "data/rates.csv": FULL["data/rates.csv"],
    "reconciler.yaml": PROCESS,
}


@dataclass(slots=True)
class Purse:
    """A conversation that pays what a host asks, up to the limit, and counts."""

    paid: list[int] = field(default_factory=list)

    async def prepare(self, request: Request) -> Request:
        return request

    async def forgot(self, request: Request, answer: Answer) -> bool:
        return False

    async def accept(self, request: Request, answer: Answer) -> None:
        pass

    async def pay(self, request: Request, answer: Answer, limit: int) -> Paid | None:
        amount = int(answer.headers["x-bsv-payment-satoshis-required"])
        if amount > limit:
            return None
        self.paid.append(amount)
        return Paid(replace(request, headers={**request.headers, "x-bsv-payment": "{}"}), amount)


@dataclass(slots=True)
class Rented(Scene):
    """A scene whose storage hosts take money for more time, and whose program has a purse for it."""

    purse: Purse = field(default_factory=Purse)
    price: int = 0
    taken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in self.world.storage:
            self.world.network.apps[f"{name}.devnet"] = self._door(name)

    def _door(self, name: str) -> Any:
        inner = self.world.apps[name]

        async def door(scope: Any, receive: Any, send: Any) -> None:
            price = self.price
            if price and scope["path"] == "/quote":
                await JSONResponse({"quote": price})(scope, receive, send)
            elif price and scope["path"] == "/renew" and (b"x-bsv-payment", b"{}") not in scope["headers"]:
                headers = {"x-bsv-payment-satoshis-required": str(price)}
                await JSONResponse({}, 402, headers)(scope, receive, send)
            else:
                self.taken += [name] if scope["path"] == "/renew" else []
                await inner(scope, receive, send)

        return door

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Workspace]:
        settings = replace(load(self.root), limits=ANYTHING_GOES)
        world = self.world
        async with workspace(
            settings,
            transport=world.transport(),
            clock=world.clock,
            entropy=self.entropy,
            owner="test",
            conversation=self.purse,
        ) as space:
            yield space

    @property
    def renewals(self) -> int:
        """How often hosts have really prolonged something."""
        return sum(host.state.renewals for host in self.world.storage.values())

    def live(self, sha256: str) -> list[str]:
        """The hosts that serve this content now."""
        return [name for name, host in self.world.storage.items() if host.find(sha256, "devnet") is not None]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open keys: nothing here is about passphrases."""
    monkeypatch.setenv("DESK_KEY", DESK.hex())
    monkeypatch.setenv("WALLET_KEY", WALLET.hex())


@pytest.fixture
def scene(tmp_path: Path) -> Rented:
    """A dataset kept for a month at a time, renewed a week before."""
    made = Rented(tmp_path)
    made.write(dict(FILES))
    return made


async def converged(scene: Scene) -> None:
    await scene.fund()
    async with scene.open() as space:
        _, report = await scene.apply(space)
        assert report.complete, report


def record(space: Workspace, ref: ResourceRef = RATES) -> Record:
    return space.ports.ledger.read(space.ports.clock.now()).records[ref]


def digests(space: Workspace) -> set[str]:
    return {sha256 for copies in record(space).outputs["replicas"].values() for sha256 in copies}


def of(plan: Plan, ref: ResourceRef = RATES) -> Any:
    return next(change for change in plan.changes if change.ref == ref)


def booked(space: Workspace) -> int:
    """Satoshis paid to storage hosts, by the books."""
    with space.ports.ledger.begin() as tx:
        return sum(spent(tx, run.id)[1] for run in tx.runs())


@pytest.mark.slow
@pytest.mark.row("P-DIST-18", "P-AD-21")
def test_a_year_of_renewals_never_lapses_and_pays_exactly_what_it_must(scene: Rented) -> None:
    async def main() -> None:
        await converged(scene)
        scene.price = PRICE_OF_TIME
        async with scene.open() as space:
            kept, profile = digests(space), record(space, ResourceRef("Identity", "desk")).outputs["document"]["digest"]
            for _ in range(120):
                scene.world.clock.advance(3 * DAY)
                assert all(len(scene.live(sha256)) == 2 for sha256 in {*kept, profile}), "a copy lapsed"
                plan, report = await scene.apply(space)
                assert report.complete, report
                assert {change.reason for change in plan.acting} <= {Reason.EXPIRING}
                assert (await scene.plan(space)).empty
            # A month is prolonged when seven days of it are left: on days 24, 54, ... 354. Half a year on days 144 and 324.
            copies = 2 * len(kept)
            assert copies == 4
            expected = 12 * copies + 2 * 2
            assert (scene.renewals, len(scene.purse.paid)) == (expected, expected)
            assert booked(space) == expected * PRICE_OF_TIME == sum(scene.purse.paid)
            assert record(space).status.payments == 12 * copies * PRICE_OF_TIME
            assert digests(space) == kept
            ends = {copy["expires"] for held in record(space).outputs["replicas"].values() for copy in held.values()}
            assert min(ends) > (scene.world.clock.now().timestamp() + 7 * DAY)
            facts = record(space).status.facts["replicas"]
            assert {one["expires"] for one in facts.values()} == {min(ends)}

    play(main, scene.world.clock)


def test_the_plan_says_what_is_renewed_until_when_and_for_how_much(scene: Rented) -> None:
    async def main() -> None:
        await converged(scene)
        scene.price = PRICE_OF_TIME
        async with scene.open() as space:
            scene.world.clock.advance(22 * DAY)
            assert (await scene.plan(space)).empty
            scene.world.clock.advance(2 * DAY)
            plan = await scene.plan(space)
            change = of(plan)
            assert (change.verb, change.reason, change.cost.payments) == (Verb.REPAIR, Reason.EXPIRING, 4 * PRICE_OF_TIME)
            assert {delta.cause for delta in change.deltas} == {Cause.TIME}
            host, copies = min(record(space).outputs["replicas"].items())
            ends = datetime.fromtimestamp(next(iter(copies.values()))["expires"], UTC)
            delta = next(d for d in change.deltas if d.path == f"replicas.{host}.data/rates.csv.expires")
            assert delta.before == f"{ends:%Y-%m-%dT%H:%M:%SZ}"
            text = as_text(plan)
            assert "Renewals\n" in text
            assert "→ renew, storage 28 sat" in text
            assert f"{delta.before} → {delta.after}" in text
            assert "Drift" not in text
            assert "storage 28 sat" in as_markdown(plan)

    play(main, scene.world.clock)


def test_a_renewal_obeys_the_budget(scene: Rented) -> None:
    async def main() -> None:
        await converged(scene)
        scene.price = 1000
        scene.write({"dataset.yaml": MONTHLY + "lifecycle: {maxSpend: 3999sat}\n"})
        async with scene.open() as space:
            await scene.apply(space)
            scene.world.clock.advance(24 * DAY)
            assert "more than its maxSpend" in of(await scene.plan(space)).blocked
            plan = await scene.plan(space, Limits(delete_percent=None, spend_run=3999))
            assert plan.refusals
            # Enough for the renewals alone is not enough: what this generation cost before counts, too.
            scene.write({"dataset.yaml": MONTHLY + "lifecycle: {maxSpend: 4000sat}\n"})
            plan = await scene.plan(space)
            assert [one.name for one in plan.refusals] == ["max-spend"]
            assert "spent on generation" in of(plan).blocked
            assert scene.purse.paid == []
            scene.write({"dataset.yaml": MONTHLY + "lifecycle: {maxSpend: 6000sat}\n"})
            await scene.apply(space)
            assert len(scene.purse.paid) == 4

    play(main, scene.world.clock)


@pytest.mark.row("P-DIST-18")
@pytest.mark.parametrize(("lost", "skip"), [(Trouble.LOSE, 0), (Trouble.LOSE, 1), (Trouble.REFUSE, 0), (Trouble.REFUSE, 1)])
def test_a_lost_answer_or_request_never_pays_twice(scene: Rented, lost: Trouble, skip: int) -> None:
    """The first request of a renewal asks for the price, the second carries the payment; either may be lost on either way."""

    async def main() -> None:
        await converged(scene)
        scene.price = PRICE_OF_TIME
        async with scene.open() as space:
            scene.world.clock.advance(24 * DAY)
            before = {sha256: scene.live(sha256) for sha256 in digests(space)}
            scene.world.transport().arm(Fault(lost, path="/renew", skip=skip, times=1))
            await scene.apply(space)
            scene.world.transport().calm()
            await scene.apply(space)
            assert (await scene.plan(space)).empty
            assert (scene.renewals, len(scene.taken)) == (4, 4)
            assert booked(space) == 4 * PRICE_OF_TIME
            assert {sha256: scene.live(sha256) for sha256 in before} == before

    play(main, scene.world.clock)


def test_an_answer_lost_after_payment_is_found_again_by_another_process(scene: Rented) -> None:
    """The host prolonged it, took the money, and nobody heard: a new process looks before it pays."""

    async def main() -> None:
        await converged(scene)
        scene.price = PRICE_OF_TIME
        scene.world.clock.advance(24 * DAY)
        async with scene.open() as space:
            scene.world.transport().arm(Fault(Trouble.LOSE, host="us1.devnet", path="/renew", skip=1, times=1))
            await scene.apply(space)
            scene.world.transport().calm()
        paid = len(scene.purse.paid)
        async with scene.open() as space:
            await scene.apply(space)
            assert (await scene.plan(space)).empty
            assert scene.renewals == len(scene.purse.paid) == 4
            assert booked(space) == 4 * PRICE_OF_TIME
        assert paid <= 4

    play(main, scene.world.clock)


@contextlib.asynccontextmanager
async def mortal(scene: Rented, fuse: Fuse) -> AsyncIterator[Workspace]:
    """A process with a purse that dies when the fuse burns; the leases of the one before have run out."""
    scene.world.clock.advance((LEASE + timedelta(seconds=1)).total_seconds())
    async with workspace(
        replace(load(scene.root), limits=ANYTHING_GOES),
        transport=MortalTransport(scene.world.transport(), fuse),
        clock=scene.world.clock,
        entropy=scene.entropy,
        conversation=scene.purse,
    ) as space:
        ports = replace(space.ports, ledger=MortalLedger(space.ports.ledger, fuse))  # type: ignore[arg-type]
        runner = replace(space.runner, ports=ports, held=set(), checked={})
        yield replace(space, ports=ports, surveyor=Surveyor(ports, space.runner.kinds), runner=runner)


async def lived(scene: Rented, fuse: Fuse) -> bool:
    """One process that applies what is due; whether it lived to its end."""
    try:
        async with mortal(scene, fuse) as space:
            await scene.apply(space)
    except BaseExceptionGroup as group:
        _, rest = group.split(Killed)
        if rest is not None:
            raise rest from None
        return False
    except Killed:
        return False
    return not fuse.burnt


@pytest.mark.slow
@pytest.mark.row("P-DIST-18")
def test_killed_at_any_step_of_a_renewal_it_is_paid_for_once(scene: Rented) -> None:
    """Each month another step is the one at which the process dies, until there are no more steps."""

    async def main() -> None:
        alone = FILES["identity.yaml"].replace("register: true", "register: false")
        scene.write({"identity.yaml": alone, "dataset.yaml": MONTHLY.replace("replicas: 2", "replicas: 1")})
        await converged(scene)
        scene.price = PRICE_OF_TIME
        months, whole = 0, False
        while not whole:
            months += 1
            scene.world.clock.advance((24 if months == 1 else 30) * DAY)
            whole = await lived(scene, Fuse(at=months))
            assert await lived(scene, Fuse())
            assert len(scene.taken) == scene.renewals == 2 * months, f"killed at step {months}"
        assert months > 10
        async with scene.open() as space:
            assert booked(space) == 2 * months * PRICE_OF_TIME
            assert (await scene.plan(space)).empty

    play(main, scene.world.clock)


def test_a_price_that_rose_since_the_plan_is_not_paid(scene: Rented) -> None:
    async def main() -> None:
        await converged(scene)
        scene.price = PRICE_OF_TIME
        async with scene.open() as space:
            scene.world.clock.advance(24 * DAY)
            plan = await scene.plan(space)
            scene.price = PRICE_OF_TIME + 1
            report = await Executor(space.runner, plan).run()
            assert report.complete
            assert (scene.purse.paid, scene.renewals) == ([], 0)
            assert of(await scene.plan(space)).cost.payments == 4 * (PRICE_OF_TIME + 1), "the next plan asks for the new price"
            assert "refusing" not in record(space).outputs

    play(main, scene.world.clock)


@pytest.mark.row("P-DIST-07")
def test_a_host_that_refuses_to_renew_is_left_for_another(scene: Rented) -> None:
    async def main() -> None:
        await converged(scene)
        async with scene.open() as space:
            homes = set(record(space).outputs["replicas"])
            (spare,) = {"eu1", "us1", "ap1"} - homes
            bad, good = sorted(homes)
            inner = scene.world.network.apps[f"{bad}.devnet"]

            async def closed(scope: Any, receive: Any, send: Any) -> None:
                if scope["path"] == "/renew":
                    body = {"status": "error", "code": "ERR_OLD_ADVERTISEMENT_NOT_FOUND"}
                    await JSONResponse(body, 404)(scope, receive, send)
                else:
                    await inner(scope, receive, send)

            scene.world.network.apps[f"{bad}.devnet"] = closed
            scene.world.clock.advance(24 * DAY)
            await scene.apply(space)
            assert set(record(space).outputs["refusing"]) == {bad}
            plan, report = await scene.apply(space)
            assert report.complete
            assert [delta.path for delta in of(plan).deltas] == [f"replicas.{spare}"]
            assert set(record(space).outputs["replicas"]) == {good, spare}
            assert (await scene.plan(space)).empty
            scene.world.clock.advance(10 * DAY)
            assert all(set(scene.live(sha256)) == {good, spare} for sha256 in digests(space)), "two copies outlive the refusal"
            # An edit gives every host another chance.
            scene.world.network.apps[f"{bad}.devnet"] = inner
            scene.write({"dataset.yaml": MONTHLY.replace("title: Rates", "title: New")})
            await scene.apply(space)
            assert "refusing" not in record(space).outputs
            assert set(record(space).outputs["replicas"]) == {good, spare}, "what has moved stays where it is"

    play(main, scene.world.clock)


def test_where_there_is_no_other_host_an_ended_copy_is_stored_again(scene: Rented) -> None:
    async def main() -> None:
        scene.write({"dataset.yaml": MONTHLY.replace("replicas: 2", "replicas: 3")})
        await converged(scene)
        for name in scene.world.storage:
            scene.world.storage[name].price = 10**13
        async with scene.open() as space:
            scene.world.clock.advance(24 * DAY)
            scene.purse.paid.clear()
            limited = Limits(delete_percent=None)
            # Nobody can pay these hosts: the request with its payment is answered with 402 again.
            await scene.apply(space, limited)
            assert set(record(space).outputs["refusing"]) == set(scene.world.storage)
            assert of(await scene.plan(space)).verb is Verb.NONE
            for name in scene.world.storage:
                scene.world.storage[name].price = 0
            scene.world.clock.advance(7 * DAY)
            plan, report = await scene.apply(space)
            assert report.complete
            assert of(plan).reason is Reason.DRIFTED
            assert all(len(scene.live(sha256)) == 3 for sha256 in digests(space))

    play(main, scene.world.clock)


def test_a_margin_longer_than_the_retention_is_refused(scene: Rented) -> None:
    scene.write({"dataset.yaml": DATASET + "  retention: 5d\n  renewBefore: 5d\n"})

    async def main() -> None:
        async with scene.open() as space:
            (error,) = space.surveyor.load().errors
            assert "shorter than retention" in error.message

    play(main, scene.world.clock)
