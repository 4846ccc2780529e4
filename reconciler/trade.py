"""What a ledger keeps of sales, beside its coins and in the same commit. Part of ports.py, whose transaction has it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from reconciler.model.sale import Consumer, Due, Edition, Entitlement, Payment, PaymentState, Quote, Rating


class TradeRows(Protocol):
    """Rows of sales. Writing one that is there already, equal in its key, replaces it."""

    def edition(self, content: str, sequence: int) -> Edition | None:
        """A version of a dataset that was recorded at any time, whether or not the dataset still is; of several, the newest."""
        ...

    def edition_of(self, digest: str) -> Edition | None:
        """The version whose signed document has this digest."""
        ...

    def editions(self, content: str) -> Sequence[Edition]:
        """All versions of a dataset, the newest first."""
        ...

    def quote(self, quote_id: str) -> Quote | None: ...
    def forget_quotes(self, before: datetime) -> int:
        """Drop those that ran out before then; how many there were."""
        ...

    def put_quote(self, quote: Quote) -> None: ...

    def payment(self, payment_id: str) -> Payment | None: ...
    def payment_at(self, outpoint: str) -> Payment | None:
        """The payment that this output is."""
        ...

    def payments(
        self,
        *,
        state: PaymentState | None = None,
        consumer: str | None = None,
        content: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[Payment]:
        """Those for which all of it is so, oldest first."""
        ...  # fmt: skip

    def put_payment(self, payment: Payment) -> None:
        """Enter it, which also makes or updates the row of its consumer and the sums of its content; or move its state on.

        Conflict when its output is entered under another id: no money is counted twice.
        """
        ...

    def pending(self, consumer: str | None = None) -> int:
        """Satoshis taken that are in no block yet; of one buyer, or of all."""
        ...

    def paid_since(self, consumer: str, moment: datetime) -> int:
        """How many payments a buyer made since then."""
        ...

    def entitlement(self, entitlement_id: str) -> Entitlement | None: ...
    def entitlements(self, consumer: str, content: str) -> Sequence[Entitlement]:
        """Of a buyer to any version of a content, the newest first."""
        ...

    def rights(self, consumer: str, content: str) -> Sequence[Entitlement]:
        """Those of them that were neither revoked nor used up, the newest first; of a period it is not asked whether it ended."""
        ...

    def put_entitlement(self, entitlement: Entitlement) -> None: ...

    def dues(
        self, *, open_only: bool = True, payment: str | None = None, after: Due | None = None, most: int | None = None
    ) -> Sequence[Due]:
        """What parties are owed, oldest first; without `open_only`, also what was settled. At most so many, from one on."""
        ...

    def put_due(self, due: Due) -> None: ...

    def consumer(self, producer: str, consumer: str) -> Consumer | None: ...
    def consumers(self, producer: str | None = None) -> Sequence[Consumer]:
        """By producer, then by when they first came."""
        ...

    def put_consumer(self, consumer: Consumer) -> None: ...
    def served(self, producer: str, consumer: str, content: str, count: int, downloads: int, moment: datetime) -> None:
        """Add bytes and downloads to what is known of a consumer and of a content."""
        ...

    def rating(self, receipt: str) -> Rating | None: ...
    def ratings(self, content: str) -> Sequence[Rating]: ...
    def put_rating(self, rating: Rating) -> None: ...


class Trading(Protocol):
    """The part of a ledger that is looked at for every visitor."""

    def sales(self) -> AbstractContextManager[TradeRows]:
        """A snapshot, which waits for no writer, and no writer for it; nothing written in it is kept."""
        ...
