"""A shop that dies while it is paid: whatever was written then, the buyer pays once, and has what he paid for."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from reconciler.engine.confirm import confirm
from reconciler.gateway.app import application
from reconciler.ports import LedgerTransaction
from reconciler.sales.paywall import Shop
from tests.e2e.crash import Killed
from tests.e2e.market import CSV, HOST, Buyer, Market, open_shop


class Mortal:
    """A ledger whose process is killed at its n-th commit: before that commit is durable, or right after it."""

    def __init__(self, inner: Any, at: int, after: bool) -> None:
        self.inner, self.left, self.after = inner, at, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @contextlib.contextmanager
    def begin(self) -> Iterator[LedgerTransaction]:
        with self.inner.begin() as tx:
            yield tx
            before = tx.history(limit=1)
            sells = bool(before) and before[0]["event"] == "payment.received"
            self.left -= sells
            dies = sells and self.left == 0
            if dies and not self.after:
                raise Killed
        if dies:
            raise Killed


def mortal(s: Market, at: int, after: bool) -> None:
    """The shop as a process that will be killed."""
    ports = replace(s.shop.ports, ledger=Mortal(s.shop.ports.ledger, at, after))  # type: ignore[arg-type]
    shop = Shop(ports, s.shop.identity, replace(s.shop.till, ports=ports), HOST)
    s.world.network.apps["shop.devnet"] = application(shop)


@pytest.mark.row("P-PAY-18")
@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("way", ["content", "purchase"])
def test_killed_between_payment_and_answer_it_is_paid_once(selling: Callable[..., None], way: str, after: bool) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        mortal(s, 1, after)
        with pytest.raises(Killed):
            await (b.get("/content/rates") if way == "content" else b.buy())
        assert len(s.payments()) == len(s.income()) == (1 if after else 0)
        s.shop = open_shop(s.scene, s.space, s.refused)
        again = b.anew()
        answer = await (again.get("/content/rates") if way == "content" else again.buy())
        assert answer.status // 100 == 2 and len(b.payments()) == len(s.payments()) == 1 and s.income() == [25]
        assert (await again.get("/content/rates")).body.decode() == CSV
        # Where nothing was asked of the buyer again, his change is free once he sees his payment on the network.
        await confirm(b.ports, {"devnet": s.shop.till.net})
        (paid,), (made,) = s.payments(), b.payments()
        assert paid.txid == made["txid"] and b.coins() == 5_000 - 25 - made["fee"] and s.refused == []

    selling(scene)
