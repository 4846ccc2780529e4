"""The main job, from nothing, on an overlay network of its own: `make demo`.

It drives the real program as a person would: manifests become an identity, advertisements and datasets; an edited line
converges under the daemon; a process killed in the middle of an apply pays nothing twice; a proof is checked offline.
Everything happens in a temporary directory and on loopback, and ends by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE = 60.0
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def title(number: int, text: str) -> None:
    """Announce a step."""
    line = f"{number}. {text}"
    print(f"\n\x1b[1;36m{line}\x1b[0m" if COLOUR else f"\n{line}", flush=True)


def note(text: str) -> None:
    """Say what to look at."""
    print(f"\x1b[2m   {text}\x1b[0m" if COLOUR else f"   {text}", flush=True)


class Shop:
    """A producer's repository in a temporary directory, and the commands typed in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {**os.environ, "RECONCILER_PASSPHRASE": "only a demonstration"}
        self.daemon: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        """The program in this interpreter."""
        return [sys.executable, "-m", "reconciler", "-C", str(self.root), *words]

    def run(self, *words: str, show: bool = True, ok: tuple[int, ...] = (0,)) -> int:
        """Type a command; its output goes to the terminal."""
        if show:
            print(
                f"\n\x1b[1m$ reconciler {' '.join(words)}\x1b[0m" if COLOUR else f"\n$ reconciler {' '.join(words)}", flush=True
            )
        done = subprocess.run(self.command(*words), env=self.env, stdout=None if show else subprocess.DEVNULL, check=False)
        if done.returncode not in ok:
            raise SystemExit(f"demo: `reconciler {' '.join(words)}` ended with {done.returncode}")
        return done.returncode

    def read(self, *words: str) -> dict[str, object]:
        """A command's JSON."""
        done = subprocess.run(self.command(*words, "-o", "json"), env=self.env, capture_output=True, check=False)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def ledger(self, question: str) -> list[tuple[object, ...]]:
        """Look into the ledger from outside, read-only."""
        with sqlite3.connect(f"file:{self.root}/.state/ledger.db?mode=ro", uri=True, timeout=5) as db:
            return db.execute(question).fetchall()

    def start_daemon(self) -> None:
        """`reconciler run` in the background, its log in a file."""
        log = (self.root / "daemon.log").open("ab")
        self.daemon = subprocess.Popen(self.command("run"), env=self.env, stdout=log, stderr=log)

    def stop_daemon(self) -> None:
        """SIGTERM, and wait for it to drain."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(PATIENCE)

    def until(self, what: str, question: str) -> None:
        """Wait until the ledger answers with at least one row."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if self.ledger(question):
                    return
            except sqlite3.OperationalError:
                pass  # not created yet, or being written
            time.sleep(0.02)
        raise SystemExit(f"demo: waited {PATIENCE:.0f} s in vain until {what}")


def free_base() -> int:
    """A port with room for the network above it."""
    for base in range(21000, 29000, 100):
        try:
            for port in (base, base + 1, base + 10, base + 11, base + 21, base + 22, base + 23, base + 90):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise SystemExit("demo: no free ports on loopback")


def settle_in(root: Path, base: int) -> Shop:
    """Copy the example, with ports that are free here, and hold one file back for later."""
    shutil.copytree(HERE / "market-data", root, ignore=shutil.ignore_patterns(".state", ".keys", ".devnet"))
    for name in ("network.yaml", "reconciler.yaml"):
        text = (root / name).read_text()
        text = text.replace("127.0.0.1:90", f"127.0.0.1:{base // 100}").replace("127.0.0.1:8401", f"127.0.0.1:{base + 90}")
        (root / name).write_text(text)
    shutil.move(root / "data" / "fx-2015.csv", root / "fx-2015.csv")
    return Shop(root)


def story(shop: Shop, base: int) -> None:
    """What a new producer does on the first day."""
    title(1, "A network in a box: headers, a broadcaster, two overlay nodes, three storage hosts")
    ports = {"overlay-1": 1, "overlay-2": 2, "arc": 10, "headers": 11, "eu1": 21, "us1": 22, "ap1": 23}
    shop.run("devnet", "up", *(word for name, offset in ports.items() for word in ("--port", f"{name}={base + offset}")))
    shop.run("wallet", "fund")

    title(2, "Manifests, validated and priced before anything happens")
    shop.run("validate")
    shop.run("plan", "--out", "plan.json")

    title(3, "Applied: keys, signed documents, files on two hosts each, tokens on the overlay")
    shop.run("apply", "plan.json", "--yes")
    shop.run("status")
    note("a second plan has nothing left to do:")
    shop.run("plan", "--detailed-exitcode")

    title(4, "The daemon converges an edit: a new price, and one more file")
    shop.start_daemon()
    shop.until("the daemon had looked once", "select 1 from cursors where name = 'source'")
    shop.run("set", "PricePlan/per-file", "spec.rate=3000sat")
    shutil.move(shop.root / "fx-2015.csv", shop.root / "data" / "fx-2015.csv")
    version = (
        "select 1 from records where ref = 'Dataset/fx-history' and json_extract(document, '$.outputs.document.sequence') >= 2"
    )
    shop.until("the daemon published the new version", version)
    settled = "select 1 where not exists (select 1 from runs where state = 'open')"
    shop.until("nothing was under way", settled)
    shop.stop_daemon()
    shop.run("history")


def kill_and_recover(shop: Shop) -> None:
    """SIGKILL between signing and recording, then the same command again."""
    title(5, "Killed in the middle of an apply (SIGKILL), then started again")
    shop.run("set", "PricePlan/per-file", "spec.rate=2750sat")
    planned = shop.read("plan")
    before = balance(shop)
    child = subprocess.Popen(shop.command("apply", "--yes"), env=shop.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = "select 1 from intents i join runs r on r.id = i.run where r.state = 'open' and i.effect = 'Broadcast'"
    shop.until("a transaction was on its way", begun)
    child.kill()
    child.wait()
    note(f"killed process {child.pid} while a transaction was on its way; open runs in the journal:")
    shop.run("journal", "list")
    shop.run("apply", "--yes")
    spent = before - balance(shop)
    wanted = planned["totals"]["satoshis"]  # type: ignore[index]
    note(f"planned {wanted} sat, spent {spent} sat: nothing was paid twice")
    if spent != wanted:
        raise SystemExit("demo: the purse does not agree with the plan")


def balance(shop: Shop) -> int:
    """Satoshis in the purse, whatever state its coins are in."""
    found = shop.read("wallet", "balance")["devnet"]
    return sum(int(found[state]) for state in ("free", "pending", "reserved"))  # type: ignore[index]


def heal_and_prove(shop: Shop) -> None:
    """Damage is named and repaired for free; a proof needs nobody's word."""
    title(6, "A storage host loses everything; the plan names it, the repair is free")
    shop.run("devnet", "wipe", "eu1")
    shop.run("plan", "--detailed-exitcode", ok=(2,))
    shop.run("apply", "--yes")

    title(7, "A proof that a stranger checks offline")
    shop.run("devnet", "mine", "1")
    file = "data/fx-2020.csv"
    shop.run("proof", "Dataset/fx-history", "--file", file, "--out", str(shop.root / "fx-2020.proof.json"))
    content = str(shop.root / file)
    shop.run("verify", "dataset", str(shop.root / "fx-2020.proof.json"), "--content", content)


def main() -> int:
    """Play it all, and leave nothing running or lying about."""
    began = time.monotonic()
    base = free_base()
    with tempfile.TemporaryDirectory(prefix="reconciler-demo-") as folder:
        shop = settle_in(Path(folder) / "shop", base)
        try:
            story(shop, base)
            kill_and_recover(shop)
            heal_and_prove(shop)
        finally:
            shop.stop_daemon()
            shop.run("devnet", "down", show=False, ok=(0, 1))
    print(f"\nDone in {time.monotonic() - began:.0f} s. Nothing is left running.")
    print("Next: copy examples/market-data to a directory of your own, run `reconciler devnet up` and")
    print("`reconciler wallet fund` there, then edit a manifest; docs/tutorial/market-data.md goes through it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
