"""The whole product against an overlay engine that others wrote: published, found, edited, repaired, revoked, downloaded.

The chain, its headers and the storage hosts are ours and stand on loopback; the overlay node is not. It checks every
BEEF of ours against the Merkle roots it was told. `tm_producer` is our own topic, so the node plays it by admitting everything.
"""

import asyncio
import hashlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from reconciler.adapters.clock import SystemClock
from reconciler.compose import Workspace, workspace
from reconciler.devnet.config import Config
from reconciler.devnet.serve import Served
from reconciler.devnet.world import Plan as WorldPlan
from reconciler.engine.execute import Executor, Report
from reconciler.engine.receive import receive
from reconciler.engine.recover import recover
from reconciler.kinds.network import read_net
from reconciler.model.change import Cause, Verb
from reconciler.model.plan import Plan
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from reconciler.settings import load
from reconciler.wire import advert
from reconciler.wire.beef import parse_beef
from reconciler.wire.overlay import Answer, lookup_headers, lookup_request, parse_lookup
from reconciler.wire.proof import verify_beef
from reconciler.wire.uhrp import uhrp_url
from tests.e2e.scene import ADVERTISEMENT, ANYTHING_GOES, DATASET, IDENTITY, PRICE
from tests.interop.lab import ROOT, Lab, running
from tests.interop.tls import Certificate, certify, over_tls

pytestmark = pytest.mark.slow

DATASET_REF, IDENTITY_REF, FEED_REF = (
    ResourceRef("Dataset", "rates"),
    ResourceRef("Identity", "desk"),
    ResourceRef("Advertisement", "feed"),
)
PUBLIC_URL = "https://shop.example.com"
# The node answers a submission before it has indexed it; a lookup is repeated this often at most.
LOOKUPS = 300
HASTE = 50


class Hasty(SystemClock):
    """The real time of day, and a fiftieth of the patience."""

    async def sleep(self, seconds: float) -> None:
        """Wait a little."""
        await asyncio.sleep(seconds / HASTE)


@dataclass
class Node:
    """The third party's node, which can be started again on its own port with nothing in its memory."""

    lab: Lab
    stack: ExitStack

    def restart(self) -> None:
        port = urlsplit(self.lab.url).port
        assert port is not None
        self.stack.close()
        self.lab = self.stack.enter_context(running(port))


@dataclass(frozen=True)
class Shop:
    """A producer's repository, the hosts around it, and the node that is not ours."""

    root: Path
    served: Served
    node: Node
    files: Certificate

    @property
    def lab(self) -> Lab:
        return self.node.lab

    def tell_roots(self) -> None:
        """Give the node the headers it would have from a chain of its own."""
        blocks = self.served.world.chain.state.blocks
        self.lab.tell("POST", "/_lab/roots", [{"height": b.height, "merkleRoot": b.merkle_root} for b in blocks])

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Workspace]:
        """The product as a process would open it, over real sockets."""
        transport = httpx.AsyncHTTPTransport(verify=self.files.trusted)
        settings = replace(load(self.root), limits=ANYTHING_GOES)
        async with workspace(settings, transport=transport, clock=Hasty(), owner="test") as space:
            yield space

    async def fund(self, space: Workspace) -> None:
        space.ports.wallet.generate("wallet", {})
        _, beef = self.served.world.faucet(space.ports.wallet.funding_script(), 1_000_000)
        self.tell_roots()
        spec = yaml.safe_load((self.root / "network.yaml").read_text())["spec"]
        assert len(await receive(space.ports, beef, read_net("local", spec))) == 1

    def outputs(self, space: Workspace, ref: ResourceRef) -> Any:
        return space.ports.ledger.read(space.ports.clock.now()).records[ref].outputs

    def ask(self, service: str, query: Any, *, aggregated: bool = False) -> tuple[Answer, ...]:
        """What the node itself answers, read by our codecs; every proof must hold against the devnet's headers."""
        headers = lookup_headers(aggregated)
        answer = self.lab.request("POST", "/lookup", json=lookup_request(service, query), headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("application/octet-stream" if aggregated else "application/json")
        found = parse_lookup(answer.headers["content-type"], answer.content)
        for one in found:
            verify_beef(parse_beef(one.beef), self.served.world.chain.root_ok)
        return found

    def held(self, service: str, query: Any) -> set[str]:
        return {f"{one.txid}.{one.vout}" for one in self.ask(service, query)}

    def settled(self, tokens: Sequence[Any], *, gone: Sequence[Any] = ()) -> None:
        """Wait until the node's index shows exactly what it was told; fails when it never does."""
        for service in {token["service"] for token in (*tokens, *gone)}:
            wanted, unwanted = ({t["outpoint"] for t in some if t["service"] == service} for some in (tokens, gone))
            for _ in range(LOOKUPS):
                found = self.held(service, {"identityKey": (*tokens, *gone)[0]["identity"]})
                if wanted <= found and not unwanted & found:
                    break
            else:
                raise AssertionError(f"{service} holds {found}, not {wanted}")

    def tokens(self, space: Workspace) -> list[Any]:
        """Every token on record."""
        records = space.ports.ledger.read(space.ports.clock.now()).records.values()
        return [token for record in records for token in record.outputs.get("tokens") or ()]


async def plan(space: Workspace, limits: Limits | None = None) -> Plan:
    survey = await space.surveyor.survey()
    assert survey.loaded.desired is not None, survey.loaded.errors
    assert not survey.notes, survey.notes
    return space.surveyor.plan(survey, limits or space.settings.limits)


async def apply(space: Workspace, limits: Limits | None = None) -> tuple[Plan, Report]:
    await recover(space.runner)
    made = await plan(space, limits)
    assert not made.refusals, made.refusals
    return made, await Executor(space.runner, made).run()


def purse(space: Workspace) -> int:
    return space.ports.ledger.read(space.ports.clock.now()).purses["devnet"].total


def network(served: Served, overlay: str, storage: dict[str, str]) -> str:
    """The Network manifest of a shop."""
    spec = {
        "chain": "devnet",
        "overlays": [{"name": "theirs", "url": overlay, "region": "EU"}],
        "ack": "all",
        "storage": [{"name": name, "url": url, "region": "EU", "kind": "uhrp"} for name, url in storage.items()],
        "broadcasters": [{"name": "arc", "url": served.urls["arc"]}],
        "headers": {"url": served.urls["headers"]},
        "gateway": {"publicUrl": PUBLIC_URL},
    }
    head = {"apiVersion": "overlay.bsv/v1alpha1", "kind": "Network", "metadata": {"name": "local"}}
    return json.dumps({**head, "spec": spec})


@asynccontextmanager
async def opened(root: Path, node: Node, seed: int) -> AsyncIterator[Shop]:
    """A repository whose storage hosts speak https and advertise to the node."""
    files = certify(root.parent)
    hosts = (("eu1", "EU"), ("us1", "US"))
    config = Config(root.parent / "devnet", WorldPlan(seed=seed, overlays=(), storage=hosts))
    async with AsyncExitStack() as stack:
        served = Served(config)
        stack.push_async_callback(served.stop)
        await served.start()
        urls = {}
        for name, host in served.world.storage.items():
            urls[name] = await stack.enter_async_context(over_tls(served.world.apps[name], files))
            host.public_url, host.overlays = urls[name], {"theirs": node.lab.url}
        csv = f"date,rate\n2024-01-01,1.{seed}\n2024-01-02,2.{seed}\n"
        texts = {
            "network.yaml": network(served, node.lab.url, urls),
            "identity.yaml": IDENTITY,
            "price.yaml": PRICE,
            "dataset.yaml": DATASET,
            "advertisement.yaml": ADVERTISEMENT,
            "data/rates.csv": csv,
        }
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        yield Shop(root, served, node, files)


Visit = Callable[[Shop, Workspace], Awaitable[None]]


@pytest.fixture
def visit(tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[Visit], None]:
    """Run a test in a shop where everything has been applied once, and the node has indexed it."""
    monkeypatch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
    seed = int.from_bytes(hashlib.sha256(request.node.name.encode()).digest()[:3], "big")

    async def main(work: Visit) -> None:
        async with opened(tmp_path / "repo", node, seed) as shop, shop.open() as space:
            await shop.fund(space)
            before = purse(space)
            made, report = await apply(space)
            assert report.complete, report
            assert before - purse(space) == made.cost.satoshis > 0
            shop.settled(shop.tokens(space))
            await work(shop, space)

    return lambda work: asyncio.run(main(work))


@pytest.fixture
def node() -> Iterator[Node]:
    """A node of each test's own: its play of `tm_producer` cannot tell producers apart, and it is started again on the way."""
    with ExitStack() as stack:
        yield Node(stack.enter_context(running()), stack)


def find_ours(shop: Shop, space: Workspace) -> dict[str, tuple[str, Any]]:
    """Per advertising service: the outpoint we recorded, and a query that finds it and nothing else."""
    key = shop.outputs(space, IDENTITY_REF)["publicKey"]
    at = {token["service"]: token["outpoint"] for token in shop.outputs(space, FEED_REF)["tokens"]}
    identity = bytes.fromhex(key)
    return {
        "ls_ship": (at["ls_ship"], advert.query(advert.SHIP, identity=identity, names=["tm_rates"])),
        "ls_slap": (at["ls_slap"], advert.query(advert.SLAP, identity=identity, names=["ls_rates"])),
    }


@pytest.mark.row("P-AD-15", "P-AD-16", "P-PUB-01", "P-PUB-18", "P-ID-16", "P-REG-11")
def test_what_is_applied_is_listed_by_their_node_and_read_by_their_client(visit: Callable[[Visit], None]) -> None:
    async def work(shop: Shop, space: Workspace) -> None:
        key = shop.outputs(space, IDENTITY_REF)["publicKey"]
        for service, (outpoint, query) in find_ours(shop, space).items():
            for aggregated in (False, True):
                (answer,) = shop.ask(service, query, aggregated=aggregated)
                assert f"{answer.txid}.{answer.vout}" == outpoint
            for options in ((), ("--json",)):
                theirs = shop.lab.client("lookup", shop.lab.url, service, json.dumps(query), *options)
                assert theirs["ok"], theirs
                (found,) = theirs["outputs"]
                said = found["advertisement"]
                assert f"{found['txid']}.{found['outputIndex']}" == outpoint
                assert (said["domain"], said["identityKey"]) == (PUBLIC_URL, key)
                assert said["topicOrService"] == {"ls_ship": "tm_rates", "ls_slap": "ls_rates"}[service]
        descriptors = {t["outpoint"] for t in shop.tokens(space) if t["service"] == "ls_producer"}
        assert len(descriptors) == 3
        assert descriptors <= shop.held("ls_producer", {})
        again = await plan(space)
        assert again.empty, [(str(c.ref), c.verb, c.deltas) for c in again.changes]

    visit(work)


@pytest.mark.row("P-AD-08", "P-AD-09", "P-REG-10")
def test_an_edited_price_replaces_the_descriptors_there_and_nothing_else(visit: Callable[[Visit], None]) -> None:
    async def work(shop: Shop, space: Workspace) -> None:
        old, before = shop.tokens(space), purse(space)
        (shop.root / "price.yaml").write_text(PRICE.replace("25sat", "30sat"))
        made, report = await apply(space)
        assert report.complete, report
        assert before - purse(space) == made.cost.satoshis > 0
        new = shop.tokens(space)
        gone = [t for t in old if t not in new]
        assert {t["name"] for t in gone} == {"Dataset/rates", "Advertisement/feed"}
        shop.settled(new, gone=gone)
        assert (await plan(space)).empty

    visit(work)


@pytest.mark.row("P-REG-11", "P-ID-08")
def test_a_node_that_forgot_everything_is_given_it_again_for_free(visit: Callable[[Visit], None]) -> None:
    async def work(shop: Shop, space: Workspace) -> None:
        before, tokens = purse(space), shop.tokens(space)
        shop.node.restart()
        assert shop.held("ls_ship", "findAll") == set()
        lost = await plan(space)
        assert {(c.ref, c.verb) for c in lost.acting} == {(r, Verb.REPAIR) for r in (DATASET_REF, IDENTITY_REF, FEED_REF)}
        named = {delta.path for change in lost.acting for delta in change.deltas if delta.cause is Cause.DRIFT}
        assert named == {f"hosts.theirs.{token['name']}" for token in tokens}
        assert lost.cost.satoshis == 0
        shop.tell_roots()
        _, report = await apply(space)
        assert report.complete, report
        shop.settled(tokens)
        assert (purse(space), shop.tokens(space)) == (before, tokens)
        assert (await plan(space)).empty

    visit(work)


def test_an_eviction_is_named_until_it_is_undone_and_costs_nothing(visit: Callable[[Visit], None]) -> None:
    """Their engine remembers the transaction as done, so sending it again changes nothing until the node is rebuilt."""

    async def work(shop: Shop, space: Workspace) -> None:
        before, tokens = purse(space), shop.tokens(space)
        (ship,) = [t for t in tokens if t["type"] == "SHIP"]
        txid, _, vout = ship["outpoint"].partition(".")
        evicted = {"txid": txid, "outputIndex": int(vout), "service": "ls_ship"}
        shop.lab.request("POST", "/admin/evictOutpoint", json=evicted, headers={"authorization": "Bearer lab"})
        shop.settled([t for t in tokens if t is not ship], gone=[ship])
        made, _ = await apply(space)
        assert [(c.ref, c.verb, c.cost.satoshis) for c in made.acting] == [(FEED_REF, Verb.REPAIR, 0)]
        assert [delta.path for delta in made.acting[0].deltas] == ["hosts.theirs.tm_rates"]
        assert ship["outpoint"] not in shop.held("ls_ship", "findAll")
        assert not (await plan(space)).empty, "what the node still denies is not in order"
        shop.node.restart()
        shop.tell_roots()
        _, report = await apply(space)
        assert report.complete, report
        shop.settled(tokens)
        assert (purse(space), shop.tokens(space)) == (before, tokens)
        assert (await plan(space)).empty

    visit(work)


@pytest.mark.row("P-REG-11")
def test_what_is_destroyed_is_revoked_there(visit: Callable[[Visit], None]) -> None:
    async def work(shop: Shop, space: Workspace) -> None:
        tokens, queries = shop.tokens(space), find_ours(shop, space)
        _, report = await apply(space, Limits(destroy=True, delete_percent=None))
        assert report.complete, report
        shop.settled((), gone=tokens)
        assert shop.tokens(space) == []
        for service, (_, query) in queries.items():
            assert shop.ask(service, query) == ()
            assert shop.lab.client("lookup", shop.lab.url, service, json.dumps(query))["outputs"] == []

    visit(work)


@pytest.mark.row("P-REG-11")
def test_a_node_that_lags_behind_the_chain_is_waited_for(visit: Callable[[Visit], None]) -> None:
    """It refuses a proof from a block it has not heard of; the transaction is out, so giving up would only pay again."""

    async def work(shop: Shop, space: Workspace) -> None:
        old, before = shop.tokens(space), purse(space)
        blocks = shop.served.world.chain.state.blocks
        shop.lab.tell("DELETE", "/_lab/roots", [{"height": b.height, "merkleRoot": b.merkle_root} for b in blocks])
        (shop.root / "price.yaml").write_text(PRICE.replace("25sat", "30sat"))
        made, report = await apply(space)
        assert not report.complete
        assert "merkle path" in " ".join(result.why for result in report.results.values())
        shop.tell_roots()
        while not (await plan(space)).empty:
            _, report = await apply(space)
            assert report.complete, report
        assert before - purse(space) == made.cost.satoshis, "nothing is paid for twice"
        new = shop.tokens(space)
        shop.settled(new, gone=[t for t in old if t not in new])

    visit(work)


@pytest.mark.row("P-PUB-23", "P-PUB-01")
def test_their_storage_client_finds_and_downloads_what_we_published(
    visit: Callable[[Visit], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(shop: Shop, space: Workspace) -> None:
        monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(shop.files.certificate))
        content = (shop.root / "data/rates.csv").read_bytes()
        (file,) = shop.outputs(space, DATASET_REF)["files"]
        assert file["uhrp"] == uhrp_url(hashlib.sha256(content).hexdigest())
        for _ in range(LOOKUPS):
            if len(shop.ask("ls_uhrp", {"uhrpUrl": file["uhrp"]})) == 2:
                break
        copy = shop.root.parent / "downloaded"
        # The storage hosts answer on this very loop.
        done = await asyncio.to_thread(shop.lab.client, "uhrp-download", shop.lab.url, file["uhrp"], "--out", str(copy))
        assert done["ok"], done
        hosts = {url.partition("/cdn/")[0] for url in done["urls"]}
        assert hosts == {host.public_url for host in shop.served.world.storage.values()}
        assert copy.read_bytes() == content
        assert (done["size"], done["sha256"]) == (len(content), file["sha256"])
        assert done["mimeType"].startswith("text/csv")

    visit(work)


@pytest.mark.row("P-REG-11", "P-AD-15", "P-AD-16")
def test_the_command_line_converges_and_revokes_there(tmp_path: Path, node: Node) -> None:
    """Processes of the program as its users start it, trusting the hosts' certificate as any program on the machine would."""

    async def main() -> None:
        async with opened(tmp_path / "repo", node, seed=77) as shop:
            own = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
            trust = {"RECONCILER_PASSPHRASE": "correct horse battery staple", "SSL_CERT_FILE": str(shop.files.certificate)}

            async def run(*words: str) -> str:
                """A command that must succeed; what it said."""
                command = [sys.executable, "-m", "reconciler", "-C", str(shop.root), *words]
                environment = {**own, **trust, "PYTHONPATH": str(ROOT)}
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment
                )
                said, _ = await process.communicate()
                assert process.returncode == 0, f"{words}: {said.decode()}"
                return said.decode()

            await run("wallet", "fund", "--satoshis", "100000")
            shop.tell_roots()
            await run("apply", "--yes")
            async with shop.open() as space:
                tokens, queries = shop.tokens(space), find_ours(shop, space)
            shop.settled(tokens)
            assert [len(shop.held(service, "findAll")) for service in queries] == [1, 1]
            await run("plan", "--detailed-exitcode")
            await run("destroy", "--yes")
            shop.settled((), gone=tokens)
            assert [len(shop.held(service, "findAll")) for service in queries] == [0, 0]

    asyncio.run(main())
