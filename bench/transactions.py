"""Three ways to handle transactions, side by side in one run: our wire/, bsv-sdk and bitcoinx.

Prints a rate for each and how many times faster ours is; `-` where a library has no such thing. Rates are the best of
several rounds on one thread. Run: python bench/transactions.py
"""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import bitcoinx
import bsv
from bsv.chaintracker import ChainTracker
from bsv.script.spend import Spend

from reconciler.wire import keys, proof
from reconciler.wire.beef import parse_beef
from reconciler.wire.draft import sign_inputs
from reconciler.wire.tx import Tx, TxIn, TxOut, parse_tx, sighash
from tests.unit.wire.chain import PURSE, SECRET, Ancestry, coinbase, diamond, pay

ROUNDS = 12
PER_ROUND = 100
IMPORTS = {"ours": "reconciler.wire.proof", "bsv-sdk": "bsv", "bitcoinx": "bitcoinx"}
# Seconds one verification may take before it is stopped and reported as such, and seconds to repeat a quick one for.
PATIENCE, ENOUGH = 10.0, 0.3


def rates(*candidates: tuple[Callable[[Any], object], Callable[[], Any]]) -> list[float]:
    """Acts per second of each (act, maker of its subject). Rounds alternate between the candidates, so that a busy moment
    of the machine falls on all; each act has a fresh subject, so that nothing is remembered.
    """
    best = [0.0] * len(candidates)
    for _ in range(ROUNDS):
        for at, (act, make) in enumerate(candidates):
            batch = [make() for _ in range(PER_ROUND)]
            start = time.perf_counter()
            for one in batch:
                act(one)
            best[at] = max(best[at], len(batch) / (time.perf_counter() - start))
    return best


def import_seconds(module: str) -> float:
    """Seconds a new process needs to import `module`, above an empty process; the best of three."""

    def lived(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
        return time.perf_counter() - start

    return min(lived(f"import {module}") for _ in range(3)) - min(lived("pass") for _ in range(3))


class Trusting(ChainTracker):  # type: ignore[misc]
    """A header source that knows every root, so that only the work before it is measured."""

    async def is_valid_root_for_height(self, root: str, height: int) -> bool:
        return True

    async def current_height(self) -> int:
        return 1


def their_beef(raw: bytes) -> None:
    """Read and verify with bsv-sdk."""
    assert asyncio.run(bsv.Transaction.from_beef(raw).verify(Trusting()))


def our_beef(raw: bytes) -> None:
    """Read and verify with ours."""
    proof.verify_beef(parse_beef(raw), lambda height, root: True)


def their_spend(tx: Any, source: TxOut) -> None:
    """Run the scripts of input 0 with bsv-sdk."""
    first = tx.inputs[0]
    checks = {
        "sourceTXID": first.source_txid, "sourceOutputIndex": first.source_output_index, "sourceSatoshis": source.satoshis,
        "lockingScript": bsv.Script(source.script), "transactionVersion": tx.version, "otherInputs": tx.inputs[1:],
        "inputIndex": 0, "unlockingScript": first.unlocking_script, "outputs": tx.outputs, "inputSequence": first.sequence,
        "lockTime": tx.locktime,
    }  # fmt: skip
    assert Spend(checks).validate()


def sdk_unsigned(raw: bytes, source: TxOut) -> Any:
    """An unsigned bsv-sdk transaction that knows what it spends."""
    tx = bsv.Transaction.from_hex(raw)
    for one in tx.inputs:
        one.satoshis, one.locking_script = source.satoshis, bsv.Script(source.script)
    return tx


def seconds_within(act: Callable[[bytes], None], raw: bytes) -> float | None:
    """How long one act takes, the best of ENOUGH seconds; None when the first is still busy after PATIENCE and was stopped."""

    def run(end: Any) -> None:
        took: list[float] = []
        while sum(took) < ENOUGH:
            start = time.perf_counter()
            act(raw)
            took.append(time.perf_counter() - start)
        end.send(min(took))

    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=run, args=(there,))
    child.start()
    took: float | None = here.recv() if here.poll(PATIENCE) else None
    child.kill()
    child.join()
    return took


def line(what: str, ours: float, *others: float | None) -> None:
    """One row of rates: the figures, and how many times faster ours is than each other one."""
    figures = "".join(f"{one:>14,.0f}" if one else f"{'-':>14}" for one in (ours, *others))
    ratios = "".join(f"{ours / one:>9.2f}x" if one else f"{'-':>10}" for one in others)
    print(f"{what:<34}{'/s':>6}{figures}   {ratios}")


def transactions() -> None:
    """Parsing, signing and verifying one payment of two inputs and two outputs."""
    coin = coinbase(1000, 1000)
    tx = pay([(coin, 0), (coin, 1)], [TxOut(700, PURSE), TxOut(900, PURSE)])
    bare = Tx(tuple(TxIn(one.txid, one.vout) for one in tx.inputs), tx.outputs)
    source, raw, sdk_key = coin.outputs[0], tx.raw, bsv.PrivateKey(SECRET)
    foreign_key, lock, flags = bitcoinx.PrivateKey(SECRET), bitcoinx.Script(PURSE), bitcoinx.SigHash(0x41)

    def sign_foreign(one: Any) -> None:
        foreign_key.sign(one.signature_hash(0, 1000, lock, flags), hasher=None)

    def verify_foreign(one: Any) -> None:
        limits = proof._interpreter()[1]
        assert bitcoinx.TxInputContext(one, 0, bitcoinx.TxOutput(1000, lock)).verify_input(limits, True)

    parsing = rates(
        (lambda one: parse_tx(one).txid, lambda: raw),
        (lambda one: bsv.Transaction.from_hex(one).txid(), lambda: raw),
        (lambda one: bitcoinx.Tx.from_bytes(one).hex_hash(), lambda: raw),
    )
    line("parse and txid", *parsing)
    signing = rates(
        (lambda one: keys.sign_digest(SECRET, sighash(one, 0, PURSE, 1000)), lambda: parse_tx(bare.raw)),
        (lambda one: sdk_key.sign(one.preimage(0)), lambda: sdk_unsigned(bare.raw, source)),
        (sign_foreign, lambda: bitcoinx.Tx.from_bytes(bare.raw)),
    )
    line("sighash and sign one input", *signing)
    verifying = rates(
        (lambda one: proof.unlocks(one, 0, source), lambda: parse_tx(raw)),
        (lambda one: their_spend(one, source), lambda: bsv.Transaction.from_hex(raw)),
        (verify_foreign, lambda: bitcoinx.Tx.from_bytes(raw)),
    )
    line("verify one P2PKH input", *verifying)
    assert sign_inputs(bare, coin.outputs, [SECRET] * 2).raw == raw


def envelopes() -> None:
    """Reading and verifying BEEF."""
    ancestry, coin = Ancestry(), coinbase(1000)
    ancestry.mine(coin, coinbase(1, tag=1))
    first = pay([(coin, 0)], [TxOut(900, PURSE)])
    second = pay([(first, 0)], [TxOut(800, PURSE)])
    ancestry.add(first, second)
    raw = ancestry.beef(second)
    line("BEEF, two deep: read, verify", *rates((our_beef, lambda: raw), (their_beef, lambda: raw)), None)
    for steps in (5, 10, 13, 20):
        ancestry, tip = diamond(steps)
        ancestry.mine(coinbase(1, tag=1))
        raw = ancestry.beef(tip)
        ours, theirs = seconds_within(our_beef, raw), seconds_within(their_beef, raw)
        assert ours
        told = f"{theirs * 1000:,.1f}" if theirs else f"> {PATIENCE * 1000:,.0f}"
        ratio = f"{theirs / ours:.2f}x" if theirs else f"> {PATIENCE / ours:,.0f}x"
        row = f"{f'BEEF, {steps} diamonds: read, verify':<34}{'ms':>6}{ours * 1000:>14,.1f}{told:>14}{'-':>14}"
        print(f"{row}   {ratio:>10}{'-':>10}")


def main() -> None:
    """Print the table."""
    print(f"{'':<40}{'ours':>14}{'bsv-sdk':>14}{'bitcoinx':>14}   {'ours against each':>20}")
    took = {name: import_seconds(module) for name, module in IMPORTS.items()}
    cells = "".join(f"{took[name] * 1000:>14,.0f}" for name in IMPORTS)
    ratios = "".join(f"{took[name] / took['ours']:>9.2f}x" for name in ("bsv-sdk", "bitcoinx"))
    print(f"{'import':<34}{'ms':>6}{cells}   {ratios}")
    transactions()
    envelopes()


if __name__ == "__main__":
    main()
