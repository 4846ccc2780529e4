"""Two networks that must behave alike: the engine that others wrote, and our devnet, both on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from reconciler.devnet.config import Config
from reconciler.devnet.serve import Served
from reconciler.devnet.world import Plan
from reconciler.model.endpoint import Endpoint
from reconciler.model.ref import Outpoint
from reconciler.ports import Header
from reconciler.wire import overlay
from reconciler.wire.beef import parse_beef
from reconciler.wire.proof import verify_beef
from tests.conformance.producer import Producer
from tests.interop.lab import Lab

# A node answers a submission before it has indexed it; a lookup is repeated this often at most.
LOOKUPS = 200
# Plain http on loopback: to read the trusted certificates for each exchange would cost more than all the rest.
_CLIENT = httpx.Client(trust_env=False, timeout=30, verify=False)


@dataclass(frozen=True)
class Network:
    """One overlay node and the chain it believes, with nothing of the product between them and a test."""

    name: str
    url: str
    arc: str
    headers: str
    faucet: Callable[[bytes, int], tuple[Outpoint, bytes]]
    roots: Callable[[int], Sequence[str]]
    forget: Callable[[Outpoint, bytes], None]
    mine: Callable[[], object]
    # Answer the next submissions with that status code and body, whatever they hold.
    provoke: Callable[[int, dict[str, Any]], object]

    def root_ok(self, height: int, root: str) -> bool:
        """Whether its chain has that root there."""
        return root in self.roots(height)

    async def header(self, height: int, source: Endpoint) -> Header | None:
        """The half of the Chain port that proofs are held against; of the lab's chain only the roots are known."""
        return next((Header(height, "00" * 32, root, b"") for root in self.roots(height)), None)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One exchange with the node; any status is an answer."""
        return self.at(self.url, method, path, **options)

    def at(self, base: str, method: str, path: str, **options: Any) -> httpx.Response:
        """One exchange with another host."""
        return _CLIENT.request(method, base + path, **options)

    def producer(self, name: str) -> Producer:
        """A producer with one mined coin."""
        return Producer(name, self.faucet)

    def submit(self, beef: bytes, *topics: str, off_chain: bytes | None = None) -> dict[str, overlay.Admittance]:
        """What the node admits."""
        asked = overlay.submission(beef, topics, off_chain)
        answer = self.request("POST", "/submit", content=asked.body, headers=asked.headers)
        assert answer.status_code == 200, answer.text
        return dict(overlay.parse_steak(answer.content))

    def ask(self, service: str, query: Any, *, aggregated: bool = False) -> tuple[overlay.Answer, ...]:
        """What the node finds; every proof of it must hold."""
        headers = overlay.lookup_headers(aggregated)
        answer = self.request("POST", "/lookup", json=overlay.lookup_request(service, query), headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].partition(";")[0] == (overlay.OCTETS if aggregated else overlay.JSON)
        found = overlay.parse_lookup(answer.headers["content-type"], answer.content)
        for one in found:
            verify_beef(parse_beef(one.beef), self.root_ok)
        return found

    def until(self, service: str, query: Any, *txids: str) -> tuple[overlay.Answer, ...]:
        """The answer once it holds outputs of exactly these transactions, in any order; fails when it never does."""
        found: tuple[overlay.Answer, ...] = ()
        for _ in range(LOOKUPS):
            found = self.ask(service, query)
            if sorted(one.txid for one in found) == sorted(txids):
                return found
        raise AssertionError(f"{service} holds {[one.txid for one in found]}, not {txids}")

    def refusal(self, path: str, **options: Any) -> str:
        """The text of a 400 with the body that nodes give; the exchange must be refused so."""
        answer = self.request("POST", path, **options)
        assert answer.status_code == 400, (answer.status_code, answer.text)
        assert answer.json()["status"] == "error"
        return overlay.parse_refusal(answer.content)


def theirs(lab: Lab) -> Network:
    """The lab's node, whose chain believes what it is told."""

    def faucet(script: bytes, satoshis: int) -> tuple[Outpoint, bytes]:
        coin = lab.faucet(script, satoshis)
        return Outpoint(coin.txid, coin.vout), coin.beef

    def roots(height: int) -> Sequence[str]:
        return list(lab.chain()["roots"].get(str(height), ()))

    def forget(at: Outpoint, beef: bytes) -> None:
        bump = parse_beef(beef).txs[at.txid].bump
        assert bump is not None
        lab.forget(bump.height, bump.root(at.txid))

    def provoke(status: int, body: dict[str, Any]) -> object:
        return lab.tell("POST", "/_lab/arc/fail-next", [{"status": status, "body": body}])

    return Network("lab", lab.url, lab.url + "/arc", "", faucet, roots, forget, lab.mine, provoke)


@contextmanager
def ours(directory: Path, overlays: Sequence[str] = ("overlay-1",)) -> Iterator[Network]:
    """A devnet in a thread of its own while the block runs."""
    plan = Plan(seed=11, overlays=tuple((name, "EU") for name in overlays), storage=(), allow_http_ads=True)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="devnet")
    served = Served(Config(directory, plan))
    thread.start()

    def do(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    async def soon(act: Callable[[], Any]) -> Any:
        return act()

    def forget(at: Outpoint, beef: bytes) -> None:
        do(soon(lambda: served.world.reorg(1, [at.txid])))

    def roots(height: int) -> Sequence[str]:
        return [block.merkle_root for block in served.world.chain.state.blocks if block.height == height]

    def provoke(status: int, body: dict[str, Any]) -> object:
        said = {"status": body["txStatus"]} if "txStatus" in body else {"code": status}
        return _CLIENT.post(served.urls["arc"] + "/devnet/fail-next", json=said).raise_for_status()

    do(served.start())
    try:
        yield Network(
            "devnet",
            served.urls["overlay-1"],
            served.urls["arc"],
            served.urls["headers"],
            lambda script, satoshis: do(soon(lambda: served.world.faucet(script, satoshis))),
            roots,
            forget,
            lambda: _CLIENT.post(served.urls["arc"] + "/devnet/mine", json={}).raise_for_status(),
            provoke,
        )
    finally:
        do(served.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
