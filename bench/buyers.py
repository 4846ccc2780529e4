"""Buyers that send one request after another and believe no answer that is not signed: the load of a benchmark, one process.

    python -m bench.buyers URL TARGET COUNT WORKERS COINS

Every buyer has a key and a connection of his own, introduces himself (BRC-103), asks, is told the price (402), pays with one of
the coins in the file COINS (BRC-105) and asks again. Printed is one JSON object: seconds, answers, and the milliseconds of each.
Without coins nothing is paid, and every request is answered at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.wire import auth, authhttp, payment
from reconciler.wire.beef import write_beef
from reconciler.wire.keys import public_key, sign_digest
from reconciler.wire.script import p2pkh, unlock_p2pkh
from reconciler.wire.speaker import Speaker
from reconciler.wire.tx import Tx, TxIn, TxOut, parse_tx, sighash

# What the miners get of every payment, in satoshis; the change goes back to the purse.
FEE = 30


@dataclass(slots=True)
class Purse:
    """Mined transactions with their proofs, and their outputs that `secret` spends, each once."""

    secret: bytes
    parents: dict[str, tuple[bytes, bytes]]
    coins: deque[tuple[str, int, int]]

    @classmethod
    def read(cls, path: Path) -> Purse:
        """As `bench.selling` wrote it."""
        said = json.loads(path.read_text())
        parents = {txid: (bytes.fromhex(raw), bytes.fromhex(proof)) for txid, (raw, proof) in said["parents"].items()}
        mine = p2pkh(public_key(bytes.fromhex(said["secret"])))
        coins = deque(
            (txid, vout, output.satoshis)
            for txid, (raw, _) in parents.items()
            for vout, output in enumerate(parse_tx(raw).outputs)
            if output.script == mine
        )
        return cls(bytes.fromhex(said["secret"]), parents, coins)

    def pay(self, satoshis: int, script: bytes) -> bytes:
        """A transaction that pays, as Atomic BEEF."""
        txid, vout, held = self.coins.popleft()
        mine = p2pkh(public_key(self.secret))
        outputs = (TxOut(satoshis, script), TxOut(held - satoshis - FEE, mine))
        bare = Tx((TxIn(txid, vout),), outputs)
        signature = sign_digest(self.secret, sighash(bare, 0, mine, held)) + b"\x41"
        tx = Tx((TxIn(txid, vout, unlock_p2pkh(signature, public_key(self.secret))),), outputs)
        parts = {tx.txid: (tx.raw, b""), txid: self.parents[txid]}
        return write_beef(tx.txid, parts.get, atomic=True)


class Buyer:
    """One connection, kept alive."""

    def __init__(self, url: str, number: int) -> None:
        self.url, self.parts = url, urlsplit(url)
        self.speaker = Speaker(hashlib.sha256(f"buyer {number}".encode()).digest())
        self.host = b""
        self.theirs = self.ours = ""

    async def open(self) -> None:
        """Connect, and shake hands."""
        self.reader, self.writer = await asyncio.open_connection(self.parts.hostname, self.parts.port, limit=2**22)
        self.ours = self.speaker.nonce(os.urandom(auth.SEED_SIZE))
        hello = auth.Message("initialRequest", self.speaker.identity, self.ours, asked=auth.Asked().json())
        status, _, body = await self.exchange("POST", auth.PATH, {"content-type": "application/json"}, auth.write_message(hello))
        if status != 200:
            raise SystemExit(f"cannot measure {self.url}: no handshake, {status} {body[:200]!r}")
        said = auth.parse_message(body)
        self.speaker.check(said)
        self.host, self.theirs = said.identity, said.initial_nonce

    async def exchange(
        self, method: str, target: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """One request and its whole answer."""
        lines = [f"{method} {target} HTTP/1.1", f"host: {self.parts.netloc}", *(f"{k}: {v}" for k, v in headers.items())]
        if body:
            lines.append(f"content-length: {len(body)}")
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found: dict[str, str] = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            found[name.lower()] = value.strip()
        return int(head[0].split()[1]), found, await self.reader.readexactly(int(found.get("content-length", 0)))

    async def ask(self, target: str, more: dict[str, str], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """A signed GET, or POST where there is a body; its answer is checked to be signed for it."""
        request_id, method = os.urandom(authhttp.REQUEST_ID_SIZE), "POST" if body else "GET"
        payload = authhttp.request_payload(request_id, method, target, more.items(), body)
        stamp = self.speaker.stamp(payload, self.host, auth.fresh_nonce(os.urandom(auth.FRESH_SIZE)), self.theirs)
        status, headers, body = await self.exchange(method, target, {**more, **stamp.headers()}, body)
        signed = authhttp.parse_stamp(headers)
        if signed is None or not self.speaker.heard(
            signed, [authhttp.answer_payload(request_id, status, headers.items(), body, empty) for empty in authhttp.EMPTY]
        ):
            raise SystemExit(f"cannot measure {self.url}: {status} is not signed: {body[:300]!r}")
        return status, headers, body

    async def buy(self, target: str, purse: Purse | None) -> None:
        """Ask; pay where that is wanted; have it."""
        status, headers, body = await self.ask(target, {})
        if purse is not None and status != 402:
            raise SystemExit(f"cannot measure {self.url}: nobody wants to be paid, {status} {body[:300]!r}")
        if purse is not None:
            demand = payment.parse_demand(headers)
            suffix = self.speaker.nonce(os.urandom(auth.SEED_SIZE))
            envelope = purse.pay(demand.satoshis, self.speaker.script_to(self.host, demand.prefix, suffix))
            paid = payment.write_payment(payment.Payment(demand.prefix, suffix, envelope))
            status, _, body = await self.ask(target, {payment.HEADER: paid})
        if status != 200:
            raise SystemExit(f"cannot measure {self.url}: {status} {body[:300]!r}")


async def token(url: str, content: str) -> str:
    """Where the one file of a content that costs nothing streams from."""
    buyer = Buyer(url, 0)
    await buyer.open()
    body = json.dumps({"contentId": content}, separators=(",", ":")).encode()
    status, _, said = await buyer.ask("/purchases", {"content-type": "application/json"}, body)
    if status not in (200, 201):
        raise SystemExit(f"cannot measure {url}: {status} {said[:300]!r}")
    found = json.loads(said)
    return f"{found['files'][0]['url']}?access={found['access']['token']}"


async def load(url: str, target: str, count: int, workers: int, purse: Purse | None) -> dict[str, object]:
    """`count` purchases by so many buyers, each of whom begins the next when he has the last."""
    buyers = [Buyer(url, number) for number in range(workers)]
    for buyer in buyers:
        await buyer.open()
    left, taken = count, []

    async def work(buyer: Buyer) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await buyer.buy(target, purse)
            taken.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*map(work, buyers))
    return {"seconds": time.perf_counter() - began, "answers": len(taken), "ms": sorted(taken)}


if __name__ == "__main__":
    where, what, many, hands, *held = sys.argv[1:]
    print(json.dumps(asyncio.run(load(where, what, int(many), int(hands), Purse.read(Path(held[0])) if held else None))))
