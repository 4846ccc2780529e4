"""The export is what BRC-102 describes, and every file that it names is there."""

import json
from pathlib import Path

import jsonschema
import pytest

from reconciler.cli.export import INFO, brc102, deployment
from reconciler.model.errors import Refused
from reconciler.wire.names import topic_ok

# The members, types and obligations that BRC-102 states, in the words of JSON Schema.
PATH = {"type": "string", "pattern": r"^\./.+\.ts$"}
CARS = {
    "if": {"properties": {"provider": {"const": "CARS"}}},
    "then": {"required": ["CARSCloudURL", "projectID", "deploy"]},
    "else": {"required": ["network"], "properties": {"run": {"items": {"enum": ["backend", "frontend"]}}}},
}
SCHEMA = {
    "type": "object",
    "required": ["schema", "schemaVersion", "configs"],
    "properties": {
        "schema": {"const": "bsv-app"},
        "schemaVersion": {"type": "string"},
        "topicManagers": {"type": "object", "propertyNames": {"pattern": "^tm_"}, "additionalProperties": PATH},
        "lookupServices": {
            "type": "object",
            "propertyNames": {"pattern": "^ls_"},
            "additionalProperties": {
                "type": "object",
                "required": ["serviceFactory", "hydrateWith"],
                "additionalProperties": False,
                "properties": {"serviceFactory": PATH, "hydrateWith": {"enum": ["mongo", "knex"]}},
            },
        },
        "configs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "provider"],
                "properties": {
                    "name": {"type": "string"},
                    "provider": {"enum": ["LARS", "CARS"]},
                    "network": {"enum": ["mainnet", "testnet"]},
                    "CARSCloudURL": {"type": "string", "format": "uri"},
                    "projectID": {"type": "string"},
                    "deploy": {"items": {"enum": ["backend", "frontend"]}},
                },
                **CARS,
            },
        },
    },
}


@pytest.mark.parametrize("cloud", [None, "https://cars.example.com"])
@pytest.mark.parametrize(("chain", "network"), [("test", "testnet"), ("main", "mainnet")])
def test_the_document_is_as_the_standard_has_it(tmp_path: Path, chain: str, network: str, cloud: str | None) -> None:
    brc102(tmp_path / "node", chain, cloud, "abc" if cloud else None)  # type: ignore[arg-type]
    found = json.loads((tmp_path / "node" / INFO).read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert found == deployment(chain, cloud, "abc" if cloud else None)
    assert [one["provider"] for one in found["configs"]] == (["LARS", "CARS"] if cloud else ["LARS"])
    assert {one["network"] for one in found["configs"]} == {network}
    assert all(topic_ok(name) for name in found["topicManagers"])
    named = [*found["topicManagers"].values(), *(one["serviceFactory"] for one in found["lookupServices"].values())]
    for path in named:
        assert "export default" in (tmp_path / "node" / path).read_text()


def test_the_documentation_is_the_published_page_and_imports_lead_somewhere(tmp_path: Path) -> None:
    brc102(tmp_path / "node")
    source = tmp_path / "node/backend/src"
    said = (source / "docs/tm_producer.ts").read_text().removeprefix("export default ")
    assert json.loads(said) == (Path(__file__).parents[3] / "specs/tm_producer.md").read_text()
    for path in source.rglob("*.ts"):
        for line in path.read_text().splitlines():
            if line.startswith("import ") and "'." in line:
                target = line.rpartition(" '")[2].rstrip("'")
                assert (path.parent / target).with_suffix(".ts").is_file(), line


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(Refused, match="not empty"):
        brc102(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
