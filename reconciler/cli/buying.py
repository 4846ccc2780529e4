"""What the buyer's verbs share: the client they work through, their flags, and the words for prices, keys and times."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from reconciler.cli import context, output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.consumer.ceiling import Ceiling
    from reconciler.consumer.client import Client

T = TypeVar("T")

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
As = Annotated[str, typer.Option("--as", metavar="IDENTITY", help="Who buys; the only Identity with role consumer if omitted.")]
OnNetwork = Annotated[str, typer.Option("--network", help="Name of the Network; the Identity's, or the only one, if omitted.")]
At = Annotated[str, typer.Option("--at", metavar="URL", help="Where the producer is reached, if not where it says.")]
Cost = Annotated[
    str | None, typer.Option("--cost", metavar="SATS", help="The most that it may cost; if more is asked, nothing is paid.")
]


def with_client(work: Callable[[Client], Awaitable[T]], identity: str = "", network: str = "") -> T:
    """Open the buyer of this directory, do the work, close it."""
    import asyncio

    async def main() -> T:
        from reconciler.compose import client

        async with client(context.settings(), identity, network) as buyer:
            return await work(buyer)

    return asyncio.run(main())


def amount(text: str | None) -> int | None:
    """Satoshis that were written on the command line."""
    from reconciler.manifest import units

    if text is None:
        return None
    try:
        return units.satoshis(int(text) if text.strip().isdecimal() else text)
    except units.UnitError as error:
        raise typer.BadParameter(f"--cost: {error}") from error


def ceiling(text: str | None) -> Ceiling | None:
    """A price with its unit that was written on the command line."""
    from reconciler.consumer.ceiling import read_ceiling
    from reconciler.model.errors import Refused

    if text is None:
        return None
    try:
        return read_ceiling(text)
    except Refused as error:
        raise typer.BadParameter(f"--max-price: {error.message}") from error


def split(values: list[str] | None) -> list[str]:
    """What was given by repeating a flag, or by commas."""
    return [word.strip() for value in values or () for word in value.split(",") if word.strip()]


def key(text: str) -> str:
    """A key as people compare it: its beginning."""
    return f"{text[:16]}…"


def priced(price: Mapping[str, Any]) -> str:
    """A published price in words."""
    return f"{price['rate']} sat {price['model']}" if price else "free"


def moment(at: datetime | None) -> str | None:
    """A time as it is written everywhere."""
    from reconciler.model.codec import timestamp

    return None if at is None else timestamp(at.replace(microsecond=0))


def told(notes: tuple[str, ...], *, always: bool = False) -> None:
    """What was left out, to whoever wants to know."""
    if not notes or context.GLOBALS.quiet:
        return
    if always or context.GLOBALS.verbose:
        for note in notes:
            output.say(f"left out: {note}")
    else:
        output.say(f"{len(notes)} left out; -v says why")


class Meter:
    """Progress of downloads on a terminal; silence elsewhere."""

    def __init__(self) -> None:
        self._shown = ""
        self._live = sys.stderr.isatty() and not context.GLOBALS.quiet

    def __call__(self, path: str, done: int, size: int) -> None:
        """Say how far a file has come, when that is another number than before."""
        text = f"{path}  {100 * done // size if size else 100} %"
        if self._live and text != self._shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._shown = text

    def close(self) -> None:
        """Wipe the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
