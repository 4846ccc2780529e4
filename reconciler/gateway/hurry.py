"""Connections that are ended when a request takes too long to arrive.

A client that opens a connection and says nothing, or sends its head or body a byte at a time, costs a connection each and may
hold as many as there are. Between requests the server closes idle connections by itself; within one, it would wait for ever.
The head of a request is bounded, too: this reads HTTP with h11, which keeps 64 KiB of an unfinished head and no more.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds for a whole request, from the open connection to the end of its body: 16 MiB at half a megabyte a second.
PATIENCE = 30.0


class Hurried(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, for clients that get on with it."""

    patience = PATIENCE

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From here on a request is expected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect()

    def data_received(self, data: bytes) -> None:
        """The clock runs until the request is whole, and again from the first byte of the next."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._expect()
        else:
            self._arrived()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected of it any more."""
        self._arrived()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.patience, self.transport.abort)

    def _arrived(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
