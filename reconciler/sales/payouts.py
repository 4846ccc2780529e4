"""What the daemon pays out by itself: pots that are due, and refunds that have ended are entered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from reconciler.ports import Lease
from reconciler.sales.refund import reap
from reconciler.sales.settle import Settler

log = logging.getLogger("reconciler.engine")


@dataclass(slots=True)
class Payouts:
    """The handler of the key `settle`. `acts` says whether anything may be spent without being asked for."""

    settler: Settler
    acts: Callable[[], bool]

    async def handle(self, lease: Lease) -> datetime | None:
        """One look."""
        ports = self.settler.runner.ports
        with ports.ledger.begin() as tx:
            reap(tx, ports.clock.now())
        for one in await self.settler.settle(forced=False) if self.acts() else ():
            if one.txid or one.failed:
                how = {"ref": f"Identity/{one.pot.identity}", "outcome": one.txid or one.why}
                log.log(logging.WARNING if one.failed else logging.INFO, "dues.settled", extra=how)
        return None
