"""Reads that go side by side end side by side: none is left running, and none is left behind unawaited."""

import asyncio
import inspect
from collections.abc import Coroutine

import pytest

from reconciler.engine.observe import WIDTH, together
from reconciler.model.errors import Unavailable

Read = Coroutine[None, None, int]


class Host:
    """Answers once the door is open; counts who is inside."""

    def __init__(self) -> None:
        self.door, self.inside, self.left = asyncio.Event(), 0, 0

    async def ask(self, number: int) -> int:
        self.inside += 1
        try:
            await self.door.wait()
            if number < 0:
                raise Unavailable("down", "cannot ask")
            return number
        finally:
            self.left += 1


def ended(reads: list[Read]) -> bool:
    return all(inspect.getcoroutinestate(read) == inspect.CORO_CLOSED for read in reads)


def test_the_answers_come_in_order_and_never_more_than_so_many_at_once() -> None:
    async def main() -> None:
        host = Host()
        pending = asyncio.ensure_future(together([host.ask(number) for number in range(3 * WIDTH)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert host.inside == WIDTH
        host.door.set()
        assert await pending == list(range(3 * WIDTH))

    asyncio.run(main())


@pytest.mark.parametrize("steps", [1, 2, 5], ids=["before any began", "as they begin", "while some wait for their turn"])
def test_cancelled_at_any_moment_every_read_is_over(steps: int) -> None:
    async def main() -> None:
        host = Host()
        reads = [host.ask(number) for number in range(2 * WIDTH)]
        pending = asyncio.ensure_future(together(reads))
        for _ in range(steps):
            await asyncio.sleep(0)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        assert ended(reads) and host.inside == host.left

    asyncio.run(main())


def test_one_that_fails_ends_the_others() -> None:
    async def main() -> None:
        host = Host()
        reads = [host.ask(number) for number in range(-1, 2 * WIDTH)]
        host.door.set()
        with pytest.raises(Unavailable):
            await together(reads)
        assert ended(reads)

    asyncio.run(main())
