"""Storage hosts that want to know us and be paid: declared in the Network, priced in the plan, paid once for each upload."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.execute import Fate
from reconciler.engine.till import Till
from reconciler.gateway.auth import Authenticated
from reconciler.gateway.payment import priced
from reconciler.kinds.network import read_net
from reconciler.model.change import Verb
from reconciler.wire import keys
from tests.e2e.market import side
from tests.e2e.scene import DATASET, FULL, NETWORK, Scene, play

QUOTE, CEILING = 40, 60
OPEN = ("/put", "/cdn", "/health", "/devnet")


@dataclass
class Host:
    """A storage host of the world behind our own door: everybody may ask its price, nobody unknown may store."""

    name: str
    inner: Any
    till: Till
    who: set[str] = field(default_factory=set)
    uploads: int = 0
    repeated: int = 0
    rots: bool = False

    def __post_init__(self) -> None:
        async def price(request: Request) -> int:
            return QUOTE

        ports = self.till.ports
        routes = [Route("/upload", priced(self.forward, price, self.till), methods=["POST"])]
        routes += [Route(path, self.forward) for path in ("/find", "/list", "/downloads")]
        self.guarded = Authenticated(Starlette(routes=routes), self.till.speaker, ports.clock, ports.entropy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/quote":
            await JSONResponse({"quote": QUOTE})(scope, receive, send)
        elif self.rots and scope["path"].startswith("/cdn"):
            await Response(b"something else")(scope, receive, send)
        else:
            await (self.inner if scope["path"].startswith(OPEN) else self.guarded)(scope, receive, send)

    async def forward(self, request: Request) -> Response:
        self.who.add(request.state.identity.hex())
        receipt = getattr(request.state, "receipt", None)
        if receipt is not None:
            self.uploads += not receipt.again
            self.repeated += receipt.again
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.inner), base_url=f"http://{self.name}.devnet") as client:
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            said = await client.request(request.method, target, content=await request.body())
        return Response(said.content, said.status_code, media_type=said.headers["content-type"])

    def earned(self) -> list[int]:
        with self.till.ports.ledger.begin() as tx:
            return [coin.satoshis for coin in tx.coins(state="free")]


@dataclass
class Rented(Scene):
    """A scene whose storage hosts want to be paid."""

    hosts: dict[str, Host] = field(default_factory=dict)

    def declare(self, ceiling: int = CEILING, **named: str) -> None:
        text = NETWORK
        for name, host in self.hosts.items():
            key = named.get(name) or host.till.speaker.identity.hex()
            text = text.replace(
                f'"http://{name}.devnet",', f'"http://{name}.devnet", identityKey: "{key}", maxPayment: {ceiling},'
            )
        self.write({**FULL, "network.yaml": text, "dataset.yaml": DATASET})
        (self.root / "advertisement.yaml").unlink(missing_ok=True)


@pytest.fixture
def scene(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rented]:
    import yaml

    (tmp_path / "desk").mkdir()
    made = Rented(tmp_path / "desk")
    net = read_net("local", yaml.safe_load(NETWORK)["spec"])
    with ExitStack() as stack:
        for number, name in enumerate(made.world.storage):
            monkeypatch.setenv(name.upper(), keys.sha256(name.encode()).hex())
            (tmp_path / name).mkdir()
            ports = stack.enter_context(side(made.world, tmp_path / name, empty, name.upper(), 20 + number))
            host = Host(name, made.world.apps[name], Till(ports, net, ports.wallet.speaker(), "wallet"))
            made.world.network.apps[f"{name}.devnet"] = made.hosts[name] = host
        made.declare()
        yield made


def test_uploads_are_priced_in_the_plan_and_each_is_paid_once(scene: Rented) -> None:
    async def act() -> None:
        await scene.fund()
        # The answer to one upload is lost after the host was paid.
        scene.world.network.arm(Fault(Trouble.LOSE, path="/upload", skip=3, times=1))
        async with scene.open() as space:
            plan, report = await scene.apply(space)
            planned = sum(change.cost.payments for change in plan.changes)
            # An identity's document on two hosts; a file and its manifest on two hosts.
            assert planned == 6 * CEILING
            while not report.complete:
                fates = {result.fate for result in report.results.values()}
                assert Fate.FAILED not in fates, report.results
                scene.world.clock.elapsed += 60
                plan, report = await scene.apply(space)
            again = await scene.plan(space)
            assert all(change.verb is Verb.NONE for change in again.changes), [
                c for c in again.changes if c.verb is not Verb.NONE
            ]
            me = space.ports.wallet.public_key("wallet")
            with space.ports.ledger.begin() as tx:
                payments = [entry["detail"] for entry in tx.history(limit=1000) if entry["event"] == "payment.made"]
                booked = sum(one.payments for one in tx.bookings(scene.world.clock.start))
        uploads = sum(host.uploads for host in scene.hosts.values())
        assert sum(host.repeated for host in scene.hosts.values()) == 1, "what was lost was shown again"
        earned = [satoshis for host in scene.hosts.values() for satoshis in host.earned()]
        assert (uploads, len(payments), earned, booked) == (6, 6, [QUOTE] * 6, 6 * QUOTE)
        assert set().union(*(host.who for host in scene.hosts.values())) == {me}

    play(act, scene.world.clock)


def test_a_host_that_is_dearer_than_declared_or_not_who_it_should_be_is_paid_nothing(scene: Rented) -> None:
    async def act() -> None:
        await scene.fund()
        others = dict.fromkeys(scene.hosts, keys.public_key(b"\x01" * 32).hex())
        for refused, named, ceiling in (("the limit is 39", {}, QUOTE - 1), ("declared is", others, CEILING)):
            scene.declare(ceiling, **named)
            async with scene.open() as space:
                _, report = await scene.apply(space)
                errors = " ".join(str(getattr(result, "error", "")) for result in report.results.values())
                assert refused in errors, report.results
        assert [host.earned() for host in scene.hosts.values()] == [[], [], []]

    play(act, scene.world.clock)


def test_a_host_whose_copies_cannot_be_read_is_paid_once_and_asked_again(scene: Rented) -> None:
    async def act() -> None:
        await scene.fund()
        for host in scene.hosts.values():
            host.rots = True
        async with scene.open() as space:
            for _ in range(4):
                _, report = await scene.apply(space)
                assert not report.complete
                scene.world.clock.elapsed += 600
            assert sum(host.uploads for host in scene.hosts.values()) == 1, "the first document, bought once"
            for host in scene.hosts.values():
                host.rots = False
            while not report.complete:
                _, report = await scene.apply(space)
                scene.world.clock.elapsed += 600
            with space.ports.ledger.begin() as tx:
                booked = sum(one.payments for one in tx.bookings(scene.world.clock.start))
        earned = [satoshis for host in scene.hosts.values() for satoshis in host.earned()]
        assert (earned, booked) == ([QUOTE] * 6, 6 * QUOTE)

    play(act, scene.world.clock)
