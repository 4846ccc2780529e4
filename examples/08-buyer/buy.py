"""Find tide tables, buy the best offer for at most 1000 satoshis, and fetch it."""

import asyncio
from pathlib import Path

from reconciler.compose import client


async def buy() -> None:
    """Search, quote, pay, fetch: doing it again pays nothing."""
    async with client(Path("buyer")) as buyer:
        best, *_ = await buyer.search(tags=["tides"])
        purchase = await buyer.pay(await buyer.quote(best.offer, cost=1000))
        for file in await buyer.fetch(purchase, Path("bought")):
            print(file.path, purchase.paid, "sat", file.sha256)


asyncio.run(buy())
