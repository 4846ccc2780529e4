"""One durable commit for all that enters in the same turn of the loop: a disk is asked once, however many wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.ports import Ledger, LedgerTransaction

Write = Callable[[LedgerTransaction], None]


@dataclass(slots=True)
class Entry:
    """One set of rows, and whoever waits for them to be durable."""

    write: Write
    done: asyncio.Future[None]


@dataclass(slots=True)
class Grouped:
    """Commits of many as one. A fault in the rows of one fails that one, and the others are committed without it."""

    ledger: Ledger
    commits: int = 0
    _waiting: list[Entry] = field(default_factory=list)

    async def commit(self, write: Write) -> None:
        """Returns once what `write` enters is durable. `write` may be called again, on a transaction begun anew."""
        loop = asyncio.get_running_loop()
        entry = Entry(write, loop.create_future())
        self._waiting.append(entry)
        if len(self._waiting) == 1:
            loop.call_soon(self._flush)
        await entry.done

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        while waiting:
            at: Entry | None = None
            try:
                with self.ledger.begin() as tx:
                    for at in waiting:
                        at.write(tx)
                    at = None
                self.commits += 1
            except BaseException as error:  # each who waits must hear of it, whatever it is
                failed = [at] if at is not None else waiting
                waiting = [one for one in waiting if one not in failed]
                for one in failed:
                    if not one.done.done():
                        one.done.set_exception(error)
                continue
            for one in waiting:
                # Whoever left meanwhile has its rows all the same.
                if not one.done.done():
                    one.done.set_result(None)
            return
