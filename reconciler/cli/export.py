"""`export`: what others need who host our topic, in the forms their tools read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from reconciler.cli import exits, output
from reconciler.model.canonical import Json

INFO = "deployment-info.json"
# Where the files of specs/brc102 go, below backend/src.
_MODULES = {
    "ProducerTopicManager.ts": "topic-managers",
    "ProducerLookupServiceFactory.ts": "lookup-services",
    "descriptor.ts": "rules",
}
# What the modules are written against; LARS and CARS install it.
_PACKAGE: Mapping[str, Json] = {
    "name": "tm-producer",
    "version": "1.0.0",
    "private": True,
    "type": "module",
    "dependencies": {"@bsv/overlay": "^0.4.6", "@bsv/sdk": "^2.1.0", "knex": "^3.1.0"},
}
_COMPILER: Mapping[str, Json] = {
    "compilerOptions": {
        "target": "ES2022",
        "module": "NodeNext",
        "moduleResolution": "NodeNext",
        "outDir": "dist",
        "strict": False,
    },
    "include": ["src"],
}


def bind(app: typer.Typer) -> None:
    """Add the verb."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Files for whoever hosts our topic.")
    group.callback()(_group)
    group.command()(brc102)
    app.add_typer(group, name="export")


def _group() -> None:
    """Files for whoever hosts our topic."""


def brc102(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory, or an empty one.")],
    chain: Annotated[Literal["test", "main"], typer.Option("--chain", help="The chain that the hosts serve.")] = "test",
    cloud: Annotated[str | None, typer.Option("--cars-url", help="A CARS cloud to deploy to.")] = None,
    project: Annotated[str | None, typer.Option("--project-id", help="The project there.")] = None,
) -> int:
    """Write deployment-info.json (BRC-102) for tm_producer and ls_producer, with modules and documentation for LARS and CARS."""
    from reconciler.manifest.schema import folder
    from reconciler.model.errors import Refused

    if (cloud is None) is not (project is None):
        raise typer.BadParameter("--cars-url and --project-id go together")
    if directory.exists() and any(directory.iterdir()):
        raise Refused("not-empty", f"cannot write to {directory}: it is not empty", hint="name a new directory")
    specs = folder()
    source = Path("backend") / "src"
    files = {source / place / name: (specs / "brc102" / name).read_text("utf-8") for name, place in _MODULES.items()}
    page = json.dumps((specs / "tm_producer.md").read_text("utf-8"), ensure_ascii=False)
    files[source / "docs" / "tm_producer.ts"] = f"export default {page}\n"
    files[Path("backend") / "package.json"] = _text(_PACKAGE)
    files[Path("backend") / "tsconfig.json"] = _text(_COMPILER)
    files[Path(INFO)] = _text(deployment(chain, cloud, project))
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text, "utf-8")
        output.data(str(path))
    output.say(f"host it: cd {directory} && lars, or with a CARS cloud: cars")
    return exits.OK


def deployment(chain: str, cloud: str | None = None, project: str | None = None) -> dict[str, Json]:
    """The document that BRC-102 describes, for our topic and its lookup service."""
    network = "mainnet" if chain == "main" else "testnet"
    configs: list[Json] = [{"name": "Local LARS", "provider": "LARS", "network": network, "run": ["backend"]}]
    if cloud is not None:
        there: dict[str, Json] = {"name": "CARS", "provider": "CARS", "network": network, "CARSCloudURL": cloud}
        configs.append({**there, "projectID": project, "deploy": ["backend"]})
    from reconciler.wire import descriptor

    factory = "./backend/src/lookup-services/ProducerLookupServiceFactory.ts"
    return {
        "schema": "bsv-app",
        "schemaVersion": "1.0",
        "topicManagers": {descriptor.TOPIC: "./backend/src/topic-managers/ProducerTopicManager.ts"},
        "lookupServices": {descriptor.SERVICE: {"serviceFactory": factory, "hydrateWith": "knex"}},
        "configs": configs,
    }


def _text(value: Mapping[str, Json]) -> str:
    return json.dumps(value, indent=2) + "\n"
