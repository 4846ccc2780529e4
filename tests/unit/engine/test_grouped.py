"""Many commits as one: durable for each before it is answered, and a fault of one is nobody else's."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.adapters.sql.ledger import open_ledger
from reconciler.engine.grouped import Grouped
from reconciler.model.errors import Unavailable
from reconciler.ports import Ledger, LedgerTransaction


class Counted:
    """A ledger that counts its commits, and can be full."""

    def __init__(self, inner: Ledger) -> None:
        self.inner, self.commits, self.full = inner, 0, False

    @contextmanager
    def begin(self) -> Iterator[LedgerTransaction]:
        with self.inner.begin() as tx:
            yield tx
            if self.full:
                raise Unavailable("ledger-disk", "cannot use the ledger: it is full")
        self.commits += 1

    def known(self) -> list[int]:
        with self.inner.begin() as tx:
            return [number for number in range(40) if tx.get(str(number)) is not None]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Counted]:
    inner, _ = open_ledger(tmp_path / "ledger.db")
    yield Counted(inner)
    inner.close()


async def entered(ledger: Counted, group: Grouped, number: int, bad: frozenset[int] = frozenset()) -> None:
    def write(tx: LedgerTransaction) -> None:
        tx.put(str(number), "here")
        if number in bad:
            raise ZeroDivisionError(number)

    await group.commit(write)
    assert number in ledger.known(), "it was answered before it was durable"


def test_what_comes_together_is_one_commit(ledger: Counted) -> None:
    async def main() -> None:
        group = Grouped(ledger)  # type: ignore[arg-type]
        await asyncio.gather(*(entered(ledger, group, number) for number in range(20)))
        assert ledger.commits == group.commits == 1
        await entered(ledger, group, 20)
        await entered(ledger, group, 21)
        assert ledger.commits == 3

    asyncio.run(main())


def test_a_fault_of_some_fails_these_and_commits_the_others_once(ledger: Counted) -> None:
    async def main() -> None:
        group, bad = Grouped(ledger), frozenset({3, 7})  # type: ignore[arg-type]
        results = await asyncio.gather(*(entered(ledger, group, number, bad) for number in range(10)), return_exceptions=True)
        assert [number for number, one in enumerate(results) if one is not None] == [3, 7]
        assert all(isinstance(results[number], ZeroDivisionError) for number in bad)
        assert ledger.known() == [0, 1, 2, 4, 5, 6, 8, 9] and ledger.commits == 1

    asyncio.run(main())


def test_a_commit_that_fails_fails_all_who_wait_for_it(ledger: Counted) -> None:
    async def main() -> None:
        group = Grouped(ledger)  # type: ignore[arg-type]
        ledger.full = True
        results = await asyncio.gather(*(entered(ledger, group, number) for number in range(3)), return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in results) and ledger.known() == []
        ledger.full = False
        await entered(ledger, group, 1)
        assert ledger.known() == [1]

    asyncio.run(main())


def test_whoever_leaves_has_entered_all_the_same(ledger: Counted) -> None:
    async def main() -> None:
        group = Grouped(ledger)  # type: ignore[arg-type]
        gone = asyncio.ensure_future(entered(ledger, group, 1))
        stays = asyncio.ensure_future(entered(ledger, group, 2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone, stays])
        assert gone.cancelled() and stays.exception() is None and ledger.known() == [1, 2] and ledger.commits == 1

    asyncio.run(main())
