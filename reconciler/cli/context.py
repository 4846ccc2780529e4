"""What every verb shares: the global flags, the settings they lead to, and the workspace those open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.settings import Settings

T = TypeVar("T")


@dataclass(slots=True)
class Globals:
    """The flags that every verb has."""

    directory: Path = Path()
    environment: str | None = None
    config: Path | None = None
    state: str | None = None
    output: str = "text"
    colour: bool = True
    quiet: bool = False
    verbose: bool = False
    log_format: str = "text"
    request_timeout: float | None = None


GLOBALS = Globals()


def settings() -> Settings:
    """The settings of the chosen directory; SettingsError when reconciler.yaml is wrong."""
    from reconciler.settings import load

    found = load(GLOBALS.directory.resolve(), config=GLOBALS.config, state=GLOBALS.state, environment=GLOBALS.environment)
    return replace(found, request_timeout=GLOBALS.request_timeout)


def with_workspace(work: Callable[[Workspace], Awaitable[T]], **doors: Any) -> T:
    """Open the workspace, do the work, close it."""
    import asyncio

    async def main() -> T:
        from reconciler.compose import workspace

        async with workspace(settings(), **doors) as space:
            return await work(space)

    return asyncio.run(main())
