"""Mutual authentication and payment (BRC-103/104, BRC-105): our client at their server and at ours, their client at our door."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.adapters.chain import ArcChain
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.headers import HeaderSources
from reconciler.adapters.http import Http
from reconciler.adapters.wallet import FUNDING
from reconciler.kinds.network import read_net
from reconciler.model.errors import Refused, Uncertain
from reconciler.ports import Coin, StoredTx
from reconciler.wire import auth, identity_certificate, keys
from reconciler.wire.beef import parse_beef
from reconciler.wire.speaker import Speaker
from tests.conformance.networks import Network, theirs
from tests.conformance.parties import PRICE, Buyer, Door, opened, party
from tests.interop.lab import Lab, launched, script

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUYER", "SELLER"):
        monkeypatch.setenv(name, keys.sha256(name.encode()).hex())


# --- our client at their server, and at ours ----------------------------------------------------------------------


@dataclass(frozen=True)
class Shop:
    """A server that wants to know who asks, and what it took from whom."""

    name: str
    url: str
    key: str
    taken: Callable[[], Sequence[tuple[str, int]]]


@pytest.fixture(scope="module", params=["ours", "theirs"])
def shop(request: pytest.FixtureRequest, devnet: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Their server takes the proofs of any chain; ours asks the devnet's headers and broadcaster."""
    if request.param == "theirs":
        with launched("start-paid", "--port", "0", "--price", str(PRICE)) as (ready, _):
            url = ready["url"]

            def taken() -> list[tuple[str, int]]:
                return [(one["sender"], one["satoshis"]) for one in devnet.at(url, "GET", "/_lab/received").json()]

            yield Shop("theirs", url, ready["identityKey"], taken)
        return
    with pytest.MonkeyPatch.context() as patch, counter(devnet, tmp_path_factory.mktemp("shop") / "seller", patch) as door:
        yield Shop("ours", door.url, keys.public_key(keys.sha256(b"SELLER")).hex(), lambda: list(door.taken))


@contextmanager
def counter(devnet: Network, place: Path, patch: pytest.MonkeyPatch) -> Iterator[Door]:
    """Our door in a thread of its own."""
    patch.setenv("SELLER", keys.sha256(b"SELLER").hex())
    spec = {"chain": "devnet", "broadcasters": [{"url": devnet.arc}], "headers": {"url": devnet.headers}}
    ready: Future[tuple[Door, Callable[[], object]]] = Future()

    async def main() -> None:
        http, stop = Http(SystemClock()), asyncio.Event()
        loop = asyncio.get_running_loop()
        with party(place, "SELLER", ArcChain(http, HeaderSources(http))) as ports:
            async with opened(ports, read_net("devnet", spec)) as door:
                ready.set_result((door, lambda: loop.call_soon_threadsafe(stop.set)))
                await stop.wait()
        await http.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="our door")
    thread.start()
    door, stop = ready.result(60)
    yield door
    stop()
    thread.join()


@pytest.fixture
def buyer(
    shop: Shop, devnet: Network, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Buyer]:
    # A key of each test's own, so that what a server received is this test's.
    monkeypatch.setenv("BUYER", keys.sha256(request.node.name.encode()).hex())
    with party(tmp_path / "buyer", "BUYER") as ports:
        for _ in range(3):
            point, beef = devnet.faucet(ports.wallet.funding_script(), 2_000)
            raw, proof = parse_beef(beef).part(point.txid) or (b"", b"")
            with ports.ledger.begin() as tx:
                tx.put_transaction(StoredTx(point.txid, raw, "devnet", "mined", proof, 1, "x"))
                tx.put_coin(Coin(point, "devnet", 2_000, ports.wallet.funding_script(), FUNDING))
        yield Buyer(ports, shop.url, shop.key, shop.taken)


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
def test_a_server_believes_our_requests_and_we_its_answers(
    buyer: Buyer, method: str, path: str, headers: dict[str, str], body: bytes, seen: Any
) -> None:
    said = buyer.ask(path, method, headers, body)
    told = json.loads(said.body)
    assert (said.status, told["who"], told["method"]) == (200, buyer.who, method)
    assert told["body"] == (json.loads(body) if seen is ... else seen)


def test_an_empty_answer_of_a_server_is_believed(buyer: Buyer) -> None:
    assert (buyer.ask("/empty").status, buyer.ask("/empty").body) == (204, b"")


def test_another_key_than_declared_is_not_talked_to(buyer: Buyer) -> None:
    buyer.key = buyer.who
    with pytest.raises(Refused, match="declared is"):
        buyer.ask("/free")


def test_a_price_is_paid_once(buyer: Buyer) -> None:
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


def test_what_was_lost_on_the_way_back_is_never_paid_again(shop: Shop, buyer: Buyer) -> None:
    buyer.lose = "answer"
    with pytest.raises(Uncertain):
        buyer.ask("/paid", most=PRICE)
    buyer.lose = ""
    # The lab's wallet says no to a transaction it knows; ours takes it again. Either way no other one is shown.
    assert buyer.ask("/paid", most=PRICE).status == {"ours": 200, "theirs": 400}[shop.name]
    assert (buyer.received(), len(set(buyer.shown))) == ([PRICE], 1)


# --- their client at our door ---------------------------------------------------------------------------------------

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


@pytest.fixture
def visit(lab: Lab, tmp_path: Path) -> Callable[..., Any]:
    """Plays a scene, in a thread, while our door is open."""

    def act(scene: Callable[[Door], Any], **how: Any) -> Any:
        async def main() -> Any:
            http = Http(SystemClock())
            chain = ArcChain(http, theirs(lab))  # type: ignore[arg-type]
            spec = {"chain": "devnet", "broadcasters": [{"url": lab.url + "/arc"}], "headers": {"url": lab.url}}
            net = read_net("lab", spec)
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
    assert (paid["status"], json.loads(paid["body"])) == (200, {"secret": "forty-two"}), paid
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
