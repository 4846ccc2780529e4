"""Every benchmark beside its peer, in one run: figures as they come, and at the end a table of ratios and goals.

    python bench/run.py [--only NAME ...] [--json FILE]

Nothing is written unless --json asks for it. Absolute figures are this machine's; ratios are what carries over.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import journal
from bench.measure import PASSPHRASE, Verdict, title


def _startup() -> list[Verdict]:
    from bench import startup

    return startup.main()


def _planning() -> list[Verdict]:
    from bench import planning

    return planning.main()


def _applying() -> list[Verdict]:
    from bench import applying

    return applying.main()


def _journal() -> list[Verdict]:
    title("Journal: commits of one intent, beside bare sqlite3")
    with tempfile.TemporaryDirectory() as directory:
        taken = journal.commits(Path(directory), 2000)
    found = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        ours, theirs = (journal.quantile(taken[side], share) for side in ("ledger", "sqlite3"))
        found.append(Verdict(f"journal commit, {name}", f"{ours:.3f} ms", f"sqlite3 {theirs:.3f} ms", ours / theirs, None, True))
        print(f"  {name}  ledger {ours:8.3f} ms   sqlite3 {theirs:8.3f} ms")
    return found


def _storing() -> list[Verdict]:
    from bench import storing

    return storing.main()


def _selling() -> list[Verdict]:
    from bench import selling

    return selling.main()


def _transactions() -> list[Verdict]:
    from bench import transactions
    from tests.unit.wire.chain import PURSE, Ancestry, coinbase, pay

    title("Transactions: ours, bsv-sdk and bitcoinx")
    transactions.main()
    ancestry, coin = Ancestry(), coinbase(1000)
    ancestry.mine(coin, coinbase(1, tag=1))
    first = pay([(coin, 0)], [transactions.TxOut(900, PURSE)])
    second = pay([(first, 0)], [transactions.TxOut(800, PURSE)])
    ancestry.add(first, second)
    raw = ancestry.beef(second)
    ours, theirs = transactions.rates((transactions.our_beef, lambda: raw), (transactions.their_beef, lambda: raw))
    return [Verdict("read and verify a BEEF, two deep", f"{ours:,.0f} /s", f"bsv-sdk {theirs:,.0f} /s", ours / theirs, 1)]


BENCHMARKS: dict[str, Callable[[], list[Verdict]]] = {
    "startup": _startup,
    "planning": _planning,
    "applying": _applying,
    "journal": _journal,
    "transactions": _transactions,
    "storing": _storing,
    "selling": _selling,
}


def main() -> None:
    """Run what was asked for, and sum up."""
    parser = argparse.ArgumentParser(description="Performance beside peers, as ratios.")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="these benchmarks")
    parser.add_argument("--json", type=Path, help="write the summary to this file")
    chosen = parser.parse_args()
    os.environ["RECONCILER_PASSPHRASE"] = PASSPHRASE
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()} on {os.cpu_count()} cores, load {load:.1f} before the first measurement")
    found = [verdict for name in chosen.only for verdict in BENCHMARKS[name]()]
    title("Summary")
    print(f"{'':<44}{'ours':>20}{'peer':>28}{'ratio':>10}  {'goal':>9}")
    for verdict in found:
        print(verdict.line())
    if chosen.json:
        chosen.json.write_text(json.dumps({"load": load, "verdicts": [one.json() for one in found]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
