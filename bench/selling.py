"""The shop beside the published Express middleware, and its downloads beside nginx: closed loops, everything verified.

One machine, one run. The shop is `reconciler gateway` over a ledger of its own on a devnet of its own; each purchase is a 402, a
payment that is verified, sent to the broadcaster and entered durably, and the signed bytes. The peer (Node, @bsv/auth- and
payment-express-middleware) verifies scripts, keeps its payments in memory and sends them nowhere. The same buyers ask both.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from bench.measure import PASSPHRASE, ROOT, Verdict, title
from reconciler.devnet.control import faucet_at
from reconciler.wire.beef import parse_beef
from reconciler.wire.keys import public_key, sha256, sign_digest
from reconciler.wire.script import p2pkh, unlock_p2pkh
from reconciler.wire.tx import Tx, TxIn, TxOut, extended, sighash

PRICE, PURCHASES, WORKERS, HALF = 100, 1200, 16, 4
COINS, WORTH = 50, 400
FILE = 256 * 1024 * 1024
OFFSETS = {"overlay-1": 1, "overlay-2": 2, "arc": 10, "headers": 11, "eu1": 21, "us1": 22, "ap1": 23}
GATEWAY = 91
SECRET = sha256(b"the purse of a benchmark")

PLANS = f"""\
apiVersion: overlay.bsv/v1alpha1
kind: PricePlan
metadata: {{name: per-file}}
spec: {{model: per-request, rate: {PRICE}sat}}
---
apiVersion: overlay.bsv/v1alpha1
kind: PricePlan
metadata: {{name: once}}
spec: {{model: per-item, rate: {PRICE}sat}}
"""
DATASET = """\
apiVersion: overlay.bsv/v1alpha1
kind: Dataset
metadata: {{name: {name}}}
spec:
  identityRef: fx-desk
  networkRef: local
  content: {{file: data/{file}}}
  title: {name}
  license: CC0-1.0
  {price}
  replicas: 1
  retention: 30d
"""


class Stand:
    """A devnet, a published shop and its gateway, each a process, in a temporary directory."""

    def __init__(self, root: Path) -> None:
        self.root, self.base = root, _free()
        self.env = {**os.environ, "RECONCILER_PASSPHRASE": PASSPHRASE, "PYTHONPATH": str(ROOT)}
        shutil.copytree(ROOT / "examples/market-data", root, ignore=shutil.ignore_patterns(".state", ".keys", ".devnet"))
        for name in ("network.yaml", "reconciler.yaml"):
            path = root / name
            path.write_text(path.read_text().replace("127.0.0.1:90", f"127.0.0.1:{self.base // 100}"))
        network = root / "network.yaml"
        address = f'gateway: {{listen: "127.0.0.1:{self.base + GATEWAY}", publicUrl'
        network.write_text(network.read_text().replace("gateway: {publicUrl", address))
        (root / "feed.yaml").unlink()
        (root / "prices.yaml").write_text(PLANS)
        small = "pricePlanRef: per-file"
        sets = [("paid", "fx-2024.csv", small), ("free", "fx-2023.csv", "price: 0sat"), ("large", "large.bin", "price: 0sat")]
        (root / "datasets.yaml").write_text("---\n".join(DATASET.format(name=n, file=f, price=p) for n, f, p in sets))
        for name, size in (("fx-2024.csv", 4096), ("fx-2023.csv", 4096)):
            (root / "data" / name).write_bytes(os.urandom(size))
        with (root / "data/large.bin").open("wb") as file:
            for _ in range(FILE // 2**20):
                file.write(os.urandom(2**20))

    @property
    def url(self) -> str:
        """Where the shop is open."""
        return f"http://127.0.0.1:{self.base + GATEWAY}"

    @property
    def arc(self) -> str:
        """The broadcaster."""
        return f"http://127.0.0.1:{self.base + OFFSETS['arc']}"

    def run(self, *words: str) -> None:
        """A command that must go well."""
        command = [sys.executable, "-m", "reconciler", *words]
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"cannot measure: reconciler {' '.join(words)} ended with {done.returncode}\n{done.stderr[-2000:]}")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Published, and the gateway answering."""
        ports = (word for name, offset in OFFSETS.items() for word in ("--port", f"{name}={self.base + offset}"))
        self.run("devnet", "up", "--fund", *ports)
        try:
            self.run("apply", "--yes")
            self.run("devnet", "mine", "1")
            command = [sys.executable, "-m", "reconciler", "gateway"]
            gateway = subprocess.Popen(command, cwd=self.root, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                _wait(f"{self.url}/readyz")
                yield
            finally:
                gateway.send_signal(signal.SIGTERM)
                gateway.wait(30)
        finally:
            self.run("devnet", "down")

    def coins(self, count: int) -> Path:
        """A purse of so many mined coins for the buyers, as a file."""
        parents = [self._parent() for _ in range(-(-count // COINS))]
        self.run("devnet", "mine", "1")
        found = {tx.txid: (tx.raw.hex(), _get(f"{self.arc}/v1/tx/{tx.txid}")["merklePath"]) for tx in parents}
        path = self.root.parent / "purse.json"
        path.write_text(json.dumps({"secret": SECRET.hex(), "parents": found}))
        return path

    def _parent(self) -> Tx:
        mine = p2pkh(public_key(SECRET))
        outpoint, beef = faucet_at(self.arc, mine, COINS * WORTH + 1000)
        source = parse_beef(beef).transaction(outpoint.txid).outputs[outpoint.vout]
        outputs = tuple(TxOut(WORTH, mine) for _ in range(COINS))
        bare = Tx((TxIn(outpoint.txid, outpoint.vout),), outputs)
        signature = sign_digest(SECRET, sighash(bare, 0, mine, source.satoshis)) + b"\x41"
        tx = Tx((TxIn(outpoint.txid, outpoint.vout, unlock_p2pkh(signature, public_key(SECRET))),), outputs)
        body = json.dumps({"rawTx": extended(tx, [source]).hex()}).encode()
        with urlopen(Request(f"{self.arc}/v1/tx", body, {"content-type": "application/json"}), timeout=30) as answer:
            assert json.load(answer)["txid"] == tx.txid
        return tx


def main() -> list[Verdict]:
    """Every comparison."""
    with tempfile.TemporaryDirectory(prefix="reconciler-bench-") as folder:
        stand = Stand(Path(folder) / "shop")
        with stand.open():
            return [*_selling(stand), *_downloading(stand)]


def _selling(stand: Stand) -> list[Verdict]:
    from tests.interop.lab import launched

    title(f"Selling: {PURCHASES:,} purchases of {PRICE} satoshis, {WORKERS} buyers at once, verification on both sides")
    half = PURCHASES // 4
    unpaid = _buyers("the shop, unpaid", stand.url, "/content/free", PURCHASES, WORKERS, None)
    paid = _buyers("the shop, paid", stand.url, "/content/paid", PURCHASES, WORKERS, stand.coins(PURCHASES))
    calm = _buyers("the shop, paid, few at once", stand.url, "/content/paid", half, HALF, stand.coins(half))
    with launched("start-paid", "--port", "0", "--price", str(PRICE)) as (ready, _):
        peer = _buyers("Express, paid", ready["url"], "/paid", half, WORKERS, stand.coins(half))
        peer_calm = _buyers("Express, paid, few at once", ready["url"], "/paid", half, HALF, stand.coins(half))
    rate, theirs = _rate(paid), _rate(peer)
    return [
        Verdict("paid requests", f"{rate:,.0f} /s", f"Express {theirs:,.0f} /s", rate / theirs, 5),
        Verdict("paid requests, beside 500 /s", f"{rate:,.0f} /s", "500 /s", rate / 500, 1),
        Verdict("the same unpaid, beside paid", f"{_rate(unpaid):,.0f} /s", f"paid {rate:,.0f} /s", _rate(unpaid) / rate),
        Verdict("p95 of a purchase, few at once", f"{_at(calm, 95):.0f} ms", "100 ms", _at(calm, 95) / 100, 1, True),
        Verdict(
            "p95 of a purchase, few at once, beside Express", f"{_at(calm, 95):.0f} ms", f"{_at(peer_calm, 95):.0f} ms",
            _at(calm, 95) / _at(peer_calm, 95), None, True,
        ),
    ]  # fmt: skip


def _buyers(name: str, url: str, target: str, count: int, workers: int, coins: Path | None) -> dict[str, Any]:
    words = [sys.executable, "-m", "bench.buyers", url, target, str(count), str(workers), *([str(coins)] if coins else [])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"cannot measure {name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    quantiles = "  ".join(f"p{share} {_at(found, share):6.1f} ms" for share in (50, 95, 99))
    print(f"  {name:<30} {_rate(found):8,.0f} /s   {quantiles}   {workers} at once")
    return found


def _rate(found: dict[str, Any]) -> float:
    return float(found["answers"] / found["seconds"])


def _at(found: dict[str, Any], share: int) -> float:
    taken = found["ms"]
    return float(taken[min(len(taken) - 1, len(taken) * share // 100)])


# --- downloads ------------------------------------------------------------------------------------------


def _downloading(stand: Stand) -> list[Verdict]:
    if shutil.which("nginx") is None:
        print("\n  nginx is not here, so downloads are not compared: apt-get install nginx-light")
        return []
    title(f"Downloading: one file of {FILE // 2**20} MiB over one connection, with the access token of a purchase, beside nginx")
    ours_at = _token(stand)
    with _nginx(stand) as theirs_at:
        taken = [[_download(url) for url in (ours_at, theirs_at)] for _ in range(5)]
    ours, theirs = (sorted(column)[len(taken) // 2] for column in zip(*taken, strict=True))
    for name, seconds in (("the shop", ours), ("nginx", theirs)):
        print(f"  {name:<30} {FILE / 2**20 / seconds:8,.0f} MiB/s")
    said = (f"{FILE / 2**20 / seconds:,.0f} MiB/s" for seconds in (ours, theirs))
    return [Verdict("download", next(said), f"nginx {next(said)}", theirs / ours, 0.5)]


def _token(stand: Stand) -> str:
    """The address of the large file, with an access token in it."""
    from bench.buyers import token

    # Its host is the public one, which is nowhere.
    parts = urlsplit(asyncio.run(token(stand.url, "large")))
    return f"{stand.url}{parts.path}?{parts.query}"


@contextmanager
def _nginx(stand: Stand) -> Iterator[str]:
    """nginx on loopback, serving the directory of the data."""
    port, place = stand.base + GATEWAY + 1, stand.root.parent / "nginx"
    place.mkdir()
    # As root it would hand its workers to a user who may not look into this directory.
    user = "user root;" if os.geteuid() == 0 else ""
    places = " ".join(f"{one}_temp_path {place};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (place / "nginx.conf").write_text(
        f"daemon off; {user} worker_processes 1; pid {place}/pid; error_log {place}/error.log;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; sendfile on; {places}\n"
        f"server {{ listen 127.0.0.1:{port}; root {stand.root}/data; }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(place / "nginx.conf"), "-p", str(place)], stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/fx-2024.csv")
        yield f"http://127.0.0.1:{port}/{quote('large.bin')}"
    finally:
        process.terminate()
        process.wait(10)


def _download(url: str) -> float:
    """Seconds to read it all."""
    parts, buffer = urlsplit(url), bytearray(2**20)
    with socket.create_connection((parts.hostname, parts.port)) as line:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        began = time.perf_counter()
        line.sendall(f"GET {target} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n\r\n".encode())
        total = 0
        while count := line.recv_into(buffer):
            total += count
    if total < FILE:
        raise SystemExit(f"cannot measure {url}: {total} bytes came")
    return time.perf_counter() - began


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"cannot measure: {url} does not answer")


def _get(url: str) -> Any:
    with urlopen(url, timeout=30) as answer:
        return json.load(answer)


def _free() -> int:
    """A port with room for the network above it."""
    from examples.demo.shop import free_base

    return free_base()
