"""An identity whose key is elsewhere: a wallet of another library, over HTTP or behind a command, signs all it publishes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from bsv import PrivateKey
from bsv.wallet import ProtoWallet

from reconciler.adapters.keystore import KeyStore
from reconciler.adapters.signer import ORIGINATOR
from reconciler.adapters.wallet import LocalWallet
from reconciler.devnet.clock import SeededEntropy
from reconciler.model.effect import Lock
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.wire import keys
from reconciler.wire.message import verify_message
from tests.e2e.scene import IDENTITY, Scene, play

SECRET = keys.sha256(b"a key that is elsewhere")
PUBLIC = keys.public_key(SECRET)
# A command that has no key either: it hands the request to the wallet whose address is its argument.
COMMAND = """
import json, sys, urllib.request
asked = json.load(sys.stdin)
body = json.dumps(asked["args"]).encode()
request = urllib.request.Request(f"{sys.argv[1]}/{asked['method']}", body, {"content-type": "application/json"})
sys.stdout.write(urllib.request.urlopen(request).read().decode())
"""
Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]


@dataclass
class Elsewhere:
    """A BRC-100 wallet on loopback, by a library that is not ours; `answer` may stand in for it."""

    wallet: ProtoWallet = field(default_factory=lambda: ProtoWallet(PrivateKey(SECRET)))
    answer: Answer | None = None
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def reply(self, method: str, args: dict[str, Any]) -> tuple[int, Any]:
        if self.answer is not None:
            return self.answer(method, args)
        verbs = {"getPublicKey": self.wallet.get_public_key, "createSignature": self.wallet.create_signature}
        found = dict(verbs[method](args))
        assert "error" not in found, found
        return 200, {name: list(value) if isinstance(value, bytes) else value for name, value in found.items()}


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    made = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.asked.append((self.path, self.headers.get("originator", "")))
            status, said = made.reply(self.path[1:], json.loads(body))
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def signers(elsewhere: Elsewhere, way: str) -> dict[str, Any]:
    command = [sys.executable, "-S", "-c", COMMAND, elsewhere.url]
    return {"hsm": {"wallet": {"url": elsewhere.url}} if way == "wallet" else {"command": command}}


def wallet_of(place: Path, said: dict[str, Any]) -> LocalWallet:
    wallet = LocalWallet(KeyStore(place, SeededEntropy(1), place, said))
    wallet.know({"desk": {"signer": "hsm"}})
    return wallet


@pytest.mark.parametrize("way", ["wallet", "command"])
def test_what_an_identity_publishes_changes_and_withdraws_is_signed_elsewhere(
    scene: Scene, elsewhere: Elsewhere, way: str
) -> None:
    said = json.dumps({"wallet": {"key": {"file": ".keys/wallet.json"}}, "signers": signers(elsewhere, way)})
    key = "key: {signer: hsm}"
    scene.write({"reconciler.yaml": said, "identity.yaml": "\n".join(
        f"  {key}" if line.startswith("  key:") else line for line in IDENTITY.splitlines()
    )})  # fmt: skip
    if way == "command":
        # One resource is enough to see the other transport.
        for name in ("dataset.yaml", "advertisement.yaml", "price.yaml"):
            (scene.root / name).unlink()

    async def work() -> None:
        await scene.fund()
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert not [one for one in report.results.values() if one.error], report.results
            record = space.ports.ledger.read(space.ports.clock.now()).records[ResourceRef("Identity", "desk")]
            assert record.outputs["publicKey"] == PUBLIC.hex()
        if way == "command":
            return
        for path in scene.root.glob("*.yaml"):
            if path.name not in ("reconciler.yaml", "network.yaml"):
                path.unlink()
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert not [one for one in report.results.values() if one.error], report.results
            left = space.ports.ledger.read(space.ports.clock.now()).records
            assert {ref.kind for ref in left} == {"Network"}

    play(work, scene.world.clock)
    assert [path.name for path in (scene.root / ".keys").iterdir()] == ["wallet.json"]
    methods = {path for path, _ in elsewhere.asked}
    assert methods == {"/getPublicKey", "/createSignature"}
    if way == "wallet":
        assert {origin for _, origin in elsewhere.asked} == {ORIGINATOR}


def test_statements_and_keys_are_those_of_the_secret_itself(
    tmp_path: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = wallet_of(tmp_path, signers(elsewhere, "wallet"))
    monkeypatch.setenv("HERE", SECRET.hex())
    here = LocalWallet(KeyStore(tmp_path, SeededEntropy(1)))
    here.know({"desk": {"env": "HERE"}})
    assert wallet.exists("desk") and wallet.public_key("desk") == here.public_key("desk") == wallet.generate(
        "desk", {"signer": "hsm"}
    )
    assert verify_message(wallet.attest("desk", b"said"), b"said") == PUBLIC
    for counterparty in ("anyone", "self", keys.public_key(b"\x05" * 32).hex()):
        lock = Lock("desk", "some purpose", "7", counterparty)
        assert wallet._hand(lock).public == here._hand(lock).public
        digest = keys.sha256(b"digest")
        assert keys.verify_digest(here._hand(lock).public, digest, wallet._hand(lock).sign(digest))


@pytest.mark.parametrize(
    ("answer", "code", "why"),
    [
        (lambda method, args: (200, {"signature": [48, 6, 2, 1, 1, 2, 1, 1]}), "bad-signer", "does not verify"),
        (lambda method, args: (200, {"signature": "00"}), "bad-signer", "does not verify"),
        (lambda method, args: (200, {"signature": [999]}), "bad-signer", "does not verify"),
        (lambda method, args: (200, b"[]"), "bad-signer", "no JSON object"),
        (lambda method, args: (200, b"x" * 100_000), "bad-signer", "no JSON object"),
        (lambda method, args: (200, {"isError": True, "message": "locked"}), "signer-refused", "says no: locked"),
        (lambda method, args: (400, {"isError": True, "message": "not now"}), "signer-refused", "answers 400: not now"),
    ],
)
def test_an_answer_that_is_none_is_not_used(tmp_path: Path, elsewhere: Elsewhere, answer: Answer, code: str, why: str) -> None:
    wallet = wallet_of(tmp_path, signers(elsewhere, "wallet"))
    wallet.public_key("desk")
    elsewhere.answer = answer
    with pytest.raises(Refused, match=why) as refused:
        wallet.attest("desk", b"said")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ([sys.executable, "-S", "-c", "import sys; sys.exit('the token is not inserted')"], "signer-refused", "not inserted"),
        (["/no/such/program"], "no-signer", "No such file"),
        ([sys.executable, "-S", "-c", "print('{}')"], "bad-signer", "gives no public key"),
        ([sys.executable, "-S", "-c", "print('no')"], "bad-signer", "no JSON object"),
    ],
)
def test_a_command_that_fails_is_named(tmp_path: Path, words: list[str], code: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        wallet_of(tmp_path, {"hsm": {"command": words}}).public_key("desk")
    assert refused.value.code == code


def test_a_command_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.adapters.signer.PATIENCE", 0.2)
    hanging = {"hsm": {"command": [sys.executable, "-S", "-c", "import sys; sys.stdin.read(); import time; time.sleep(60)"]}}
    with pytest.raises(Refused, match="gave no answer"):
        wallet_of(tmp_path, hanging).public_key("desk")


@contextmanager
def refuses(why: str) -> Iterator[None]:
    with pytest.raises(Refused, match=why):
        yield


def test_what_takes_the_secret_itself_is_refused(tmp_path: Path, elsewhere: Elsewhere) -> None:
    wallet = wallet_of(tmp_path, signers(elsewhere, "wallet"))
    with refuses("cannot derive"):
        wallet.public_key("desk#premium")
    with refuses("cannot speak to hosts"):
        wallet.speaker("desk")
    with refuses("its secret is with signer 'hsm'"):
        wallet.backup("desk", tmp_path / "b.json", b"phrase")
    with refuses("its secret is with signer 'hsm'"):
        wallet.restore("desk", tmp_path / "b.json", b"phrase")
    unknown = LocalWallet(KeyStore(tmp_path, SeededEntropy(1)))
    unknown.know({"desk": {"signer": "hsm"}})
    assert not unknown.exists("desk")
    with refuses("cannot find signer 'hsm'"):
        unknown.public_key("desk")
