"""Secrets stay where they belong: after a whole life of a repository, none is found in any file, log, answer or request."""

import base64
import json
import logging
import os
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from reconciler.adapters import keyfile
from reconciler.compose import Workspace
from reconciler.model.canonical import canonical
from reconciler.planner.guard import Limits
from reconciler.planner.planfile import write_plan
from reconciler.telemetry import JsonLines
from reconciler.wire.keys import ANYONE, child_secret, invoice, public_key, wif_encode
from reconciler.wire.message import PROTOCOL, key_id_for
from tests.cli.conftest import program
from tests.e2e.scene import FULL, IDENTITY, PRICE, Scene, play

ROOT = Path(__file__).parents[2]
PASSPHRASE = b"correct horse battery staple"
DESK, WALLET = bytes.fromhex("a1" * 31 + "5e"), bytes.fromhex("b2" * 31 + "7f")
DESTROY = Limits(destroy=True, delete_percent=None)
SEALED_KEY = "key: {file: .keys/desk.json, generate: ifMissing, encryption: {passphrase: {env: RECONCILER_PASSPHRASE}}}"


def forms(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Every way in which a secret could have been written down, by name."""
    yield "raw", secret
    yield "raw, reversed", secret[::-1]
    yield "hex", secret.hex().encode()
    yield "HEX", secret.hex().upper().encode()
    yield "as Python shows bytes", repr(secret)[2:-1].encode()
    yield "a list of numbers", ",".join(map(str, secret)).encode()
    yield "a list of numbers, spaced", ", ".join(map(str, secret)).encode()
    for ahead in range(3):
        # In the middle of other bytes, only the characters that no neighbour has a say in.
        first, last = -(-8 * ahead // 6), (8 * ahead + 8 * len(secret)) // 6
        yield f"base64 after {ahead} bytes", base64.b64encode(bytes(ahead) + secret)[first:last]
        yield f"base64url after {ahead} bytes", base64.urlsafe_b64encode(bytes(ahead) + secret)[first:last]
    if len(secret) == 32:
        yield "decimal", str(int.from_bytes(secret)).encode()
        for chain in ("main", "test"):
            yield f"WIF of {chain}", wif_encode(secret, chain).encode()


def texts(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a directory, and every database besides as the text of its rows: pages may tear a value apart."""
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        content, name = path.read_bytes(), str(path.relative_to(root))
        yield name, content
        if content.startswith(b"SQLite format 3\x00"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                yield f"{name} (dump)", "\n".join(database.iterdump()).encode()


def leaks(places: Iterable[tuple[str, bytes]], secrets: Mapping[str, bytes]) -> list[str]:
    """Where which secret stands, and how it is written."""
    sought = [(name, form, needle) for name, secret in secrets.items() for form, needle in forms(secret)]
    return [f"{place}: {name} as {form}" for place, content in places for name, form, needle in sought if needle in content]


def secrets_of(space: Workspace, desk: bytes, wallet: bytes) -> dict[str, bytes]:
    """Both keys, the passphrase, and every child key the product used so far."""
    found = {"desk": desk, "wallet": wallet, "passphrase": PASSPHRASE}
    found["funding key"] = child_secret(wallet, public_key(wallet), invoice("reconciler funding", "1"))
    records = space.ports.ledger.read(space.ports.clock.now()).records
    for ref, record in records.items():
        for token in record.outputs.get("tokens") or ():
            inv = invoice(token["protocol"], token["keyId"])
            found[f"{token['type']} key of {ref}"] = child_secret(desk, ANYONE, inv)
        if record.outputs.get("document"):
            document = json.loads(space.ports.blobs.get(record.outputs["document"]["digest"]))["document"]
            key_id = base64.b64encode(key_id_for(public_key(desk), canonical(document))).decode()
            found[f"signing key of {ref}, version {document['sequence']}"] = child_secret(desk, ANYONE, invoice(PROTOCOL, key_id))
    return found


@dataclass
class Tap(httpx.AsyncBaseTransport):
    """Everything that leaves over the network, as it leaves."""

    inner: httpx.AsyncBaseTransport
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        head = b"\n".join(name + b": " + value for name, value in request.headers.raw)
        self.sent.append((f"{request.method} {request.url}", str(request.url).encode() + head + await request.aread()))
        return await self.inner.handle_async_request(request)


@pytest.mark.parametrize("where", ["sealed files", "environment"])
@pytest.mark.row("P-ID-02", "P-SEC-01")
def test_a_whole_life_leaves_no_secret_behind(
    where: str, scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    if where == "environment":
        monkeypatch.setenv("DESK_KEY", wif_encode(DESK, "devnet"))
        monkeypatch.setenv("WALLET_KEY", wif_encode(WALLET, "devnet"))
        assert SEALED_KEY in IDENTITY
        scene.write({"identity.yaml": IDENTITY.replace(SEALED_KEY, "key: {env: DESK_KEY, generate: never}")})
        scene.write({"reconciler.yaml": "wallet: {key: {env: WALLET_KEY}}\n"})
    tap = Tap(scene.world.transport())
    monkeypatch.setattr(scene.world, "transport", lambda: tap)
    steps: list[object] = []
    scene.watch = steps.append
    secrets: dict[str, bytes] = {}

    def learn(space: Workspace) -> None:
        keys = [DESK, WALLET]
        if where == "sealed files":
            files = [scene.root / ".keys" / f"{name}.json" for name in ("desk", "wallet")]
            keys = [keyfile.unseal(path.read_bytes(), PASSPHRASE, str(path)) for path in files]
        secrets.update(secrets_of(space, *keys))

    def search() -> list[str]:
        lines = [JsonLines().format(record) + record.getMessage() + repr(record.__dict__) for record in caplog.records]
        said = capfd.readouterr()
        out = [*enumerate(lines), *enumerate(map(repr, steps)), ("stdout", said.out), ("stderr", said.err)]
        heard = [(f"said, {place}", text.encode()) for place, text in out]
        return leaks([*texts(scene.root), *tap.sent, *heard], secrets)

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            plan, report = await scene.apply(space)
            scene.write({"first.plan": write_plan(plan)})
            assert report.complete
            learn(space)
            scene.write({"price.yaml": PRICE.replace("25sat", "30sat"), "data/rates.csv": FULL["data/rates.csv"] + "x,1\n"})
            _, report = await scene.apply(space)
            assert report.complete
            learn(space)
            scene.world.wipe("overlay-1")
            _, report = await scene.apply(space)
            assert report.complete
            assert (scene.root / ".state" / "ledger.db-wal").exists(), "the log of the database is searched as well"
            assert search() == []
            _, report = await scene.apply(space, DESTROY)
            assert report.complete
        assert search() == []

    play(main, scene.world.clock)
    assert len(secrets) >= 3 + 1 + 5 + 5
    assert len(tap.sent) > 50
    assert steps
    keys = {path.name for path in scene.root.rglob("*.json") if path.parent.name == ".keys"}
    assert keys == ({"desk.json", "wallet.json"} if where == "sealed files" else set())


@pytest.mark.parametrize("form", [name for name, _ in forms(DESK)])
def test_the_search_finds_what_was_planted(form: str, tmp_path: Path) -> None:
    planted = dict(forms(DESK))[form]
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "deep" / "down" / "blob").write_bytes(b"\x00before" + planted + b"after\xff")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database, database:
        database.execute("create table t (a)")
        # Long enough that the value is torn over several pages of the file.
        database.execute("insert into t values (?)", ("x" * 4090 + planted.decode("latin-1"),))
        database.commit()
    found = leaks(texts(tmp_path), {"desk": DESK, "wallet": WALLET})
    assert any(line.startswith("deep/down/blob: desk as ") for line in found)
    if not form.startswith("raw"):
        assert any(line.startswith("ledger.db (dump): desk as ") for line in found)
    assert not any("wallet" in line for line in found)


def test_the_search_finds_a_secret_in_the_middle_of_base64() -> None:
    for ahead in range(4):
        text = base64.b64encode(b"a" * ahead + DESK + b"b" * 5)
        assert leaks([("log", text)], {"desk": DESK}), ahead


VERBS = (
    "validate", "plan --out first.plan", "apply --yes first.plan", "plan -o json", "set Dataset/btc-daily spec.title=Other",
    "apply --yes -o jsonl --events-to steps.jsonl", "status -o json", "get identity -o yaml", "describe Identity/corner-desk",
    "history", "events", "journal list", "doctor", "identity show corner-desk", "wallet address", "wallet balance",
    "devnet mine", "proof Dataset/btc-daily --out btc.proof",
    "identity backup corner-desk copy.json --passphrase-env RECONCILER_PASSPHRASE", "destroy --yes",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.row("P-ID-02", "P-SEC-01")
def test_no_verb_says_or_writes_a_secret(tmp_path: Path) -> None:
    """The command line on a devnet of its own; every word it says at its most talkative is kept and searched."""
    root, said = tmp_path / "shop", tmp_path / "said"
    said.mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
    environment = {**clean, "PYTHONPATH": str(ROOT), "RECONCILER_PASSPHRASE": PASSPHRASE.decode(), "TERM": "dumb"}

    def run(words: str, cwd: Path = root) -> str:
        command = [program(), "-v", "--log-format", "json", *words.split()]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        (said / f"{len(list(said.iterdir()))} {words.replace('/', '_')}").write_bytes(done.stdout + done.stderr)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
        return done.stdout.decode()

    run("init shop --template market-data --name Corner-Desk", tmp_path)
    run("devnet up --base-port 0")
    try:
        (root / "network.yaml").write_text(run("devnet manifest") + '  gateway: {publicUrl: "https://shop.example.com"}\n')
        run("wallet fund --satoshis 500000")
        for words in VERBS:
            run(words)
    finally:
        run("devnet down")
    files = sorted((root / ".keys").glob("*.json"))
    secrets = {path.name: keyfile.unseal(path.read_bytes(), PASSPHRASE, str(path)) for path in files}
    assert set(secrets) == {"wallet.json", "corner-desk.json"}
    wallet, desk = secrets["wallet.json"], secrets["corner-desk.json"]
    secrets["funding key"] = child_secret(wallet, public_key(wallet), invoice("reconciler funding", "1"))
    for subject in ("Identity/corner-desk", "Dataset/btc-daily", "Advertisement/btc-daily"):
        secrets[subject] = child_secret(desk, ANYONE, invoice("producer descriptor", subject))
    secrets["passphrase"] = PASSPHRASE
    assert leaks(texts(tmp_path), secrets) == []
    (said / "planted").write_text(f"oops: {desk.hex()}")
    assert leaks(texts(tmp_path), secrets) == ["said/planted: corner-desk.json as hex"]
