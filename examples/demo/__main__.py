"""The main job, from nothing, on an overlay network of its own: `make demo`.

It drives the real program as a person would: manifests become an identity, advertisements and datasets; a process that is
killed in the middle of an apply pays nothing twice; then a daemon follows a git repository, takes what is signed, leaves what
is not, heals a host, replaces a key, and asks before half of it goes. Everything happens in a temporary directory and on
loopback, and ends by itself.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from examples.demo import first_day, gitops, market
from examples.demo.author import Author, require
from examples.demo.shop import Shop

NEXT = """
Next, in a directory of your own (`reconciler` is .venv/bin/reconciler):
  go through it by hand              docs/tutorial/market-data.md
  run it with systemd, from git      docs/tutorial/operator.md
  begin with what you sell           reconciler init shop --template market-data
"""


def play(shop: Shop) -> None:
    """Every act, in order."""
    author = Author(shop.root)
    first_day.publish(shop)
    first_day.kill_and_recover(shop)
    good = gitops.follow(shop, author)
    gitops.ignore(shop, author, good)
    gitops.heal(shop)
    gitops.rotate(shop, author)
    gitops.prove(shop)
    gitops.halve(shop, author)
    url = market.reopen(shop, author, good)
    market.settle(shop, market.buy(shop, url))


def main() -> int:
    """Play it all, and leave nothing running or lying about."""
    require("git", "ssh-keygen")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reconciler-demo-") as folder:
        shop = Shop(Path(folder) / "shop")
        try:
            play(shop)
        finally:
            ended = shop.stop_daemon()
            shop.start("devnet", "down").wait()
    if ended != 0:
        raise SystemExit(f"demo: the daemon ended with {ended}")
    print(f"\nDone in {time.monotonic() - began:.0f} s. Nothing is left running.\n{NEXT}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
