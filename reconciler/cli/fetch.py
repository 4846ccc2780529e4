"""`fetch` brings published content back from storage hosts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.retrieve import Fetched


def bind(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(fetch)


def fetch(
    key: Annotated[str, typer.Argument(metavar="KIND/NAME", help="A Dataset that was applied.")],
    to: Annotated[Path, typer.Option("--to", help="The directory that its files go below.", file_okay=False)],
    file: Annotated[list[str] | None, typer.Option("--file", help="Only this file of it; may be given several times.")] = None,
    host: Annotated[str, typer.Option("--from", help="Only from this storage host.")] = "",
    region: Annotated[str, typer.Option("--region", help="Where you are, for rules that balance reads by region.")] = "",
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")] = "text",
) -> int:
    """Bring a dataset's files back from storage hosts, verified by hash; what was cut off is gone on with."""
    from reconciler.manifest.describe import kind_named
    from reconciler.model.ref import ResourceRef
    from reconciler.planner import phrases

    ref = ResourceRef.parse(key)
    ref = ResourceRef(kind_named(ref.kind), ref.name)

    def told(one: Fetched) -> None:
        if form == "text":
            output.data(f"{one.place}  {phrases.size(one.size)}  " + (f"from {one.host}" if one.host else "was there"))

    async def work(space: Workspace) -> list[Fetched]:
        from reconciler.engine.retrieve import retrieve
        from reconciler.model.errors import Refused

        with space.ports.ledger.begin() as tx:
            record = tx.record(ref)
        if record is None:
            raise Refused("not-published", f"cannot fetch {ref}: it has not been published", hint="reconciler apply")
        return await retrieve(space.ports, record, file or (), to, host, region, told)

    found = with_workspace(work)
    if form == "json":
        output.document(
            [{"path": one.path, "place": str(one.place), "bytes": one.size, "host": one.host or None} for one in found]
        )
    return exits.OK
