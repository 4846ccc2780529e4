"""Mutual authentication and payment with the published packages: our client at their server, their client at our door."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from reconciler.adapters.auth import Introduced
from reconciler.adapters.chain import ArcChain
from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.http import Answer, Http, Request
from reconciler.adapters.keystore import KeyStore
from reconciler.adapters.purse import Purse
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.adapters.wallet import FUNDING, LocalWallet
from reconciler.devnet.world import World
from reconciler.engine.till import Till
from reconciler.gateway.admin import Server, listening
from reconciler.gateway.auth import Authenticated
from reconciler.gateway.payment import priced
from reconciler.kinds.network import Net
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, Uncertain
from reconciler.ports import Coin, Header, Ports, StoredTx
from reconciler.wire import auth, identity_certificate, keys
from reconciler.wire.beef import parse_beef
from reconciler.wire.speaker import Speaker
from tests.interop.lab import Lab, launched, script

pytestmark = pytest.mark.slow
PRICE = 100


@contextmanager
def party(place: Path, secret: str, chain: Any = None) -> Iterator[Ports]:
    """The doors of one of us: a key, an empty ledger, and whatever chain there is."""
    place.mkdir()
    clock, entropy = SystemClock(), SystemEntropy()
    ledger, queue = open_ledger(place / "ledger.db", clock, entropy=entropy)
    doors: Any = dict.fromkeys(("source", "blobs", "overlay", "storage"))
    wallet = LocalWallet(KeyStore(place, entropy), {"env": secret})
    yield Ports(clock=clock, entropy=entropy, ledger=ledger, queue=queue, wallet=wallet, chain=chain, **doors)
    ledger.close()


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUYER", "SELLER"):
        monkeypatch.setenv(name, keys.sha256(name.encode()).hex())


# --- our client at their server -------------------------------------------------------------------


@dataclass
class Buyer:
    """Our client with a purse of devnet coins; their server takes any chain's proofs. `lose` what carries a payment."""

    ports: Ports
    url: str
    key: str
    lose: str = ""
    shown: list[str] = field(default_factory=list)

    def ask(self, path: str, method: str = "GET", headers: Any = None, body: bytes = b"", most: int = 0) -> Answer:
        """One request by a process that knows nothing but the ledger."""

        async def once() -> Answer:
            http = Http(self.ports.clock, transport=Lossy(self))
            wallet, entropy = self.ports.wallet, self.ports.entropy
            purse = Purse(self.ports.ledger, wallet, wallet.speaker, self.ports.clock, entropy)
            http.conversation = Introduced(http, wallet.speaker, entropy, purse)
            try:
                request = Request(method, self.url + path, headers or {}, body, {"identityKey": self.key})
                return await http.send(request, talk=True, max_payment=most)
            finally:
                await http.close()

        return asyncio.run(once())

    def received(self) -> list[int]:
        """What their wallet took, in satoshis."""
        with httpx.Client(trust_env=False) as client:
            return [one["satoshis"] for one in client.get(self.url + "/_lab/received").json() if one["sender"] == self.who]

    @property
    def who(self) -> str:
        return str(self.ports.wallet.public_key("wallet"))


class Lossy(httpx.AsyncBaseTransport):
    """A real connection that loses what a buyer is to lose."""

    def __init__(self, buyer: Buyer) -> None:
        self.inner, self.buyer = httpx.AsyncHTTPTransport(), buyer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        paying = "x-bsv-payment" in request.headers
        if paying:
            self.buyer.shown.append(request.headers["x-bsv-payment"])
        if paying and self.buyer.lose == "request":
            raise httpx.WriteError("lost on the way there")
        answer = await self.inner.handle_async_request(request)
        if paying and self.buyer.lose == "answer":
            await answer.aread()
            await answer.aclose()
            raise httpx.ReadError("lost on the way back")
        return answer

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.fixture(scope="module")
def shop() -> Iterator[tuple[str, str]]:
    """Their server: address and identity key."""
    with launched("start-paid", "--port", "0", "--price", str(PRICE)) as (ready, _):
        yield ready["url"], ready["identityKey"]


@pytest.fixture
def buyer(
    shop: tuple[str, str], tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Buyer]:
    # A key of each test's own, so that what their server received is this test's.
    monkeypatch.setenv("BUYER", keys.sha256(request.node.name.encode()).hex())
    with party(tmp_path / "buyer", "BUYER") as ports:
        world = World(seed=len(request.node.name))
        for _ in range(3):
            point, beef = world.faucet(ports.wallet.funding_script(), 2_000)
            raw, proof = parse_beef(beef).part(point.txid) or (b"", b"")
            with ports.ledger.begin() as tx:
                tx.put_transaction(StoredTx(point.txid, raw, "devnet", "mined", proof, 1, "x"))
                tx.put_coin(Coin(point, "devnet", 2_000, ports.wallet.funding_script(), FUNDING))
        yield Buyer(ports, *shop)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "seen"),
    [
        ("GET", "/free", {}, b"", None),
        ("GET", "/free?a=1&b=%C3%BC", {"x-bsv-topic": "one, two", "authorization": "Bearer x"}, b"", None),
        ("POST", "/free", {"content-type": "application/json"}, '{ "ö": "Zoë 🜚", "2": 1, "1": [] }'.encode(), ...),
        ("POST", "/free", {"content-type": "application/json; charset=utf-8"}, b"", {}),
        ("POST", "/free", {}, b"", None),
        ("PUT", "/free", {"content-type": "text/plain"}, "grüße".encode(), "grüße"),
        ("POST", "/free", {"content-type": "application/octet-stream"}, b"\x00\xff", "00ff"),
    ],
)
def test_their_server_believes_our_requests_and_we_its_answers(
    buyer: Buyer, method: str, path: str, headers: dict[str, str], body: bytes, seen: Any
) -> None:
    said = buyer.ask(path, method, headers, body)
    told = json.loads(said.body)
    assert (said.status, told["who"], told["method"]) == (200, buyer.who, method)
    assert told["body"] == (json.loads(body) if seen is ... else seen)


def test_their_empty_answer_is_believed(buyer: Buyer) -> None:
    assert (buyer.ask("/empty").status, buyer.ask("/empty").body) == (204, b"")


def test_another_key_than_theirs_is_not_talked_to(buyer: Buyer) -> None:
    buyer.key = buyer.who
    with pytest.raises(Refused, match="declared is"):
        buyer.ask("/free")


def test_their_price_is_paid_once(buyer: Buyer) -> None:
    with pytest.raises(Refused, match="more than 99 satoshis"):
        buyer.ask("/paid", most=PRICE - 1)
    assert buyer.received() == []
    said = buyer.ask("/paid", most=PRICE)
    assert (said.status, said.paid, json.loads(said.body)["secret"]) == (200, PRICE, "forty-two")
    assert (buyer.received(), len(buyer.shown)) == ([PRICE], 1)


def test_what_was_lost_on_the_way_there_is_shown_again(buyer: Buyer) -> None:
    buyer.lose = "request"
    for _ in range(2):
        with pytest.raises(Uncertain):
            buyer.ask("/paid", most=PRICE)
    buyer.lose = ""
    assert buyer.ask("/paid", most=PRICE).status == 200
    assert (buyer.received(), len(buyer.shown), len(set(buyer.shown))) == ([PRICE], 3, 1)


def test_what_was_lost_on_the_way_back_is_never_paid_again(buyer: Buyer) -> None:
    buyer.lose = "answer"
    with pytest.raises(Uncertain):
        buyer.ask("/paid", most=PRICE)
    buyer.lose = ""
    # This wallet of theirs says no to a transaction it knows; real ones take it again. Either way no other one is shown.
    for _ in range(2):
        assert buyer.ask("/paid", most=PRICE).status == 400
    assert (buyer.received(), len(buyer.shown), len(set(buyer.shown))) == ([PRICE], 3, 1)


# --- their client at our door ---------------------------------------------------------------------

# One client, one wallet, several requests: [[path, init], ...] on the command line, their answers on stdout.
SEVERAL = """
import { AuthFetch, PrivateKey, ProtoWallet } from '@bsv/sdk'
const [base, requests] = [process.argv[1], JSON.parse(process.argv[2])]
const wallet = new ProtoWallet(PrivateKey.fromRandom())
const client = new AuthFetch(wallet)
const out = []
for (const [path, init] of requests) {
  const answer = await client.fetch(base + path, init)
  out.push({ status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() })
}
const { publicKey } = await wallet.getPublicKey({ identityKey: true })
console.log(JSON.stringify({ who: publicKey, server: client.peers[base].identityKey, answers: out }))
process.exit(0)
"""


# A certifier, a subject who shows a field of theirs to whoever asks, and one request. Their keys are the hashes of these words.
CERTIFIED = """
import { createHash } from 'node:crypto'
import { AuthFetch, MasterCertificate, PrivateKey, ProtoWallet } from '@bsv/sdk'
const [base, type, honest] = [process.argv[1], process.argv[2], process.argv[3] === 'true']
const walletOf = (word) => new ProtoWallet(new PrivateKey(createHash('sha256').update(word).digest('hex'), 'hex'))
const [certifier, wallet] = [walletOf(honest ? 'certifier' : 'impostor'), walletOf('subject')]
const { publicKey: subject } = await wallet.getPublicKey({ identityKey: true })
const fields = { name: 'Zoë', City: 'Köln', age_: '17' }
const never = async () => '00'.repeat(32) + '.0'
const master = await MasterCertificate.issueCertificateForSubject(certifier, subject, fields, type, never)
wallet.listCertificates = async () => ({ certificates: [master] })
wallet.proveCertificate = async ({ fieldsToReveal, verifier }) => ({
  keyringForVerifier: await MasterCertificate.createKeyringForVerifier(
    wallet, master.certifier, verifier, master.fields, fieldsToReveal, master.masterKeyring, master.serialNumber)
})
const answer = await new AuthFetch(wallet).fetch(base + '/echo')
console.log(JSON.stringify({ status: answer.status, body: await answer.text(), subject, certifier: master.certifier }))
process.exit(0)
"""


class LabHeaders:
    """Headers of the lab's chain, of which only the Merkle roots are known."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    async def header(self, height: int, source: Endpoint) -> Header | None:
        roots = self.lab.chain()["roots"].get(str(height))
        return Header(height, "00" * 32, roots[0], b"") if roots else None


@dataclass
class Door:
    """Our door on loopback, what came through it, and what a thief heard."""

    url: str
    ports: Ports
    heard: list[dict[str, Any]] = field(default_factory=list)
    given: list[bool] = field(default_factory=list)

    def coins(self) -> list[int]:
        with self.ports.ledger.begin() as tx:
            return [coin.satoshis for coin in tx.coins(state="free")]


@asynccontextmanager
async def opened(ports: Ports, net: Net, **how: Any) -> AsyncIterator[Door]:
    speaker = ports.wallet.speaker()
    till = Till(ports, net, speaker, "wallet")
    socket = listening(("127.0.0.1", 0))
    door = Door(f"http://127.0.0.1:{socket.getsockname()[1]}", ports)

    async def echo(request: Asked) -> Response:
        body = await request.body()
        answer = JSONResponse({"who": request.state.identity.hex(), "body": body.decode(), "query": request.url.query})
        answer.headers.append("x-bsv-said", "one")
        answer.headers.append("x-bsv-said", "zwei, drei")
        return answer

    async def empty(request: Asked) -> Response:
        return Response(status_code=204)

    async def secret(request: Asked) -> Response:
        door.given.append(request.state.receipt.again)
        return JSONResponse({"secret": "siebzehn"})

    async def price(request: Asked) -> int:
        return PRICE

    routes = [
        Route("/echo", echo, methods=["GET", "POST", "PUT"]),
        Route("/empty", empty),
        Route("/paid", priced(secret, price, till)),
    ]
    guarded = Authenticated(Starlette(routes=routes), speaker, ports.clock, ports.entropy, **how)

    async def overheard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != auth.PATH:
            door.heard.append({"method": scope["method"], "path": scope["raw_path"].decode(), "headers": scope["headers"]})
        await guarded(scope, receive, send)

    config = uvicorn.Config(overheard, log_config=None, access_log=False, lifespan="off", h11_max_incomplete_event_size=1 << 20)
    server = Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[socket]))
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield door
    finally:
        server.should_exit = True
        await serving
        socket.close()


@pytest.fixture
def visit(lab: Lab, tmp_path: Path) -> Callable[..., Any]:
    """Plays a scene, in a thread, while our door is open."""

    def act(scene: Callable[[Door], Any], **how: Any) -> Any:
        async def main() -> Any:
            http = Http(SystemClock())
            chain = ArcChain(http, LabHeaders(lab))  # type: ignore[arg-type]
            net = Net("lab", "test", (), (), (Endpoint("arc", lab.url + "/arc"),), Endpoint("headers", lab.url), "", 1, None)
            with party(tmp_path / "seller", "SELLER", chain) as ports:
                async with opened(ports, net, **how) as door:
                    result = await asyncio.to_thread(scene, door)
            await http.close()
            return result

        return asyncio.run(main())

    return act


def test_their_client_gets_through_our_door_and_believes_what_it_hears(lab: Lab, visit: Callable[..., Any]) -> None:
    plain = {"content-type": "text/plain; charset=utf-8"}
    as_json = {"content-type": "application/json", "x-bsv-topic": "one, two", "authorization": "Bearer x"}
    asked = [
        ["/echo", {}],
        ["/echo?a=%20&b='", {"method": "POST", "headers": as_json, "body": '{"name":"Zoë 🜚","n":1.5}'}],
        ["/echo", {"method": "POST", "headers": {"content-type": "application/json"}}],
        ["/echo", {"method": "POST", "headers": {}}],
        ["/echo", {"method": "PUT", "headers": plain, "body": "grüße"}],
        ["/empty", {}],
        ["/nowhere", {}],
    ]

    def scene(door: Door) -> Any:
        return script(lab.home, "--input-type=module", "-e", SEVERAL, door.url, json.dumps(asked))

    told = visit(scene)
    answers = told["answers"]
    assert [answer["status"] for answer in answers] == [200, 200, 200, 200, 200, 204, 404]
    assert told["server"] == keys.public_key(keys.sha256(b"SELLER")).hex()
    bodies = [json.loads(answer["body"]) for answer in answers[:5]]
    assert {body["who"] for body in bodies} == {told["who"]}
    assert [body["body"] for body in bodies] == ["", '{"name":"Zoë 🜚","n":1.5}', "{}", "", "grüße"]
    assert answers[0]["headers"]["x-bsv-said"] == "one, zwei, drei"


def test_their_client_pays_our_price_once(lab: Lab, visit: Callable[..., Any]) -> None:
    def scene(door: Door) -> Any:
        paid = script(lab.home, "clients/paid-fetch.mjs", door.url + "/paid", "--faucet", lab.url)
        return paid, door.given, door.coins()

    paid, given, coins = visit(scene)
    assert (paid["status"], json.loads(paid["body"])) == (200, {"secret": "siebzehn"}), paid
    assert paid["headers"]["x-bsv-payment-satoshis-paid"] == str(PRICE)
    assert ([one["satoshis"] for one in paid["payments"]], given, coins) == ([PRICE], [False], [PRICE])


def test_one_satoshi_of_theirs_does_not_pay_for_a_hundred(lab: Lab, visit: Callable[..., Any]) -> None:
    def scene(door: Door) -> Any:
        paid = script(lab.home, "clients/paid-fetch.mjs", door.url + "/paid", "--faucet", lab.url, "--underpay", "1")
        return paid, door.given, door.coins()

    paid, given, coins = visit(scene)
    assert (paid["status"], json.loads(paid["body"])["code"], given, coins) == (400, "ERR_UNDERPAID", [], [])


def test_what_a_thief_heard_opens_nothing(lab: Lab, visit: Callable[..., Any]) -> None:
    def scene(door: Door) -> Any:
        script(lab.home, "clients/paid-fetch.mjs", door.url + "/paid", "--faucet", lab.url)
        answers = []
        with httpx.Client(trust_env=False) as thief:
            for request in list(door.heard):
                again = thief.build_request(request["method"], door.url + request["path"], headers=request["headers"])
                answers.append(thief.send(again))
                again.headers["x-bsv-auth-nonce"] = auth.fresh_nonce(bytes(32))
                answers.append(thief.send(again))
            answers.append(thief.get(door.url + "/paid"))
        return [(answer.status_code, answer.json()["code"]) for answer in answers], door.given

    answers, given = visit(scene)
    assert answers == [(401, "ERR_AUTH_FAILED")] * 4 + [(401, "UNAUTHORIZED")]
    assert given == [False]


@pytest.mark.parametrize("honest", [True, False])
def test_their_client_shows_the_certificate_that_our_door_asks_for(
    lab: Lab, visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    certifier, type_ = keys.public_key(keys.sha256(b"certifier")), "AQ" * 21 + "E="
    asked, judged = auth.Asked((certifier.hex(),), {type_: ("name", "City")}), []

    def judge(peer: bytes, certificates: Any) -> None:
        judged.extend((peer, one) for one in identity_certificate.shown(asked, peer, certificates))

    def unseal(key: bytes, sealed: bytes) -> bytes:
        return AESGCM(key).decrypt(sealed[:32], sealed[32:], None)

    def scene(door: Door) -> Any:
        return script(lab.home, "--input-type=module", "-e", CERTIFIED, door.url, type_, str(honest).lower())

    monkeypatch.setattr("reconciler.gateway.auth.CERTIFICATES_WITHIN", 5.0 if honest else 1.0)
    told = visit(scene, asked=asked, judge=judge)
    if not honest:
        assert (told["status"], json.loads(told["body"])["code"], judged) == (408, "CERTIFICATE_TIMEOUT", [])
        return
    assert (told["status"], json.loads(told["body"])["who"], told["certifier"]) == (200, told["subject"], certifier.hex())
    ((peer, certificate),) = judged
    assert peer.hex() == told["subject"] and set(certificate.fields) == {"name", "City", "age_"} and not certificate.revocable
    assert Speaker(keys.sha256(b"SELLER")).reveal(certificate, unseal) == {"name": "Zoë", "City": "Köln"}
