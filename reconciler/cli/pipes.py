"""Output that nobody reads any more: `reconciler history | head` ends as other programs do, by SIGPIPE.

Only our standard output may end us so. The signal itself stays ignored, as Python has it: a connection that a host has closed
must be an error like any other, or the daemon would die of it. And whoever stops reading our talk and logs stops nothing.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Data(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)
            raise


class _Talk(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def mind() -> None:
    """Let both standard streams notice that nobody reads them; one that was replaced, as by a test, is left alone."""
    for name, number, kind in (("stdout", 1, _Data), ("stderr", 2, _Talk)):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or type(getattr(stream.buffer, "raw", stream.buffer)) is not io.FileIO:
            continue
        raw = kind(number, "wb", closefd=False)
        file = io.BufferedWriter(raw) if isinstance(stream.buffer, io.BufferedWriter) else raw
        stream.flush()
        minded = io.TextIOWrapper(
            file,  # the bare one where Python, too, buffers nothing
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, minded)
