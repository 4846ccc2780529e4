"""New manifests: one resource from flags (`reconciler new`), or a whole repository (`reconciler init`)."""

from __future__ import annotations

import json
from collections.abc import Mapping

from reconciler.manifest.describe import kind_named
from reconciler.manifest.edit import parse_path
from reconciler.manifest.emit import block, flow, ordered
from reconciler.manifest.schema import API_VERSION, COMBINED, combined, packaged
from reconciler.manifest.shape import resolve
from reconciler.manifest.written import written
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused

# Where `init` puts the editor's schema, and the line that makes editors use it.
SCHEMA_FILE = f".schema/{COMBINED}"
MODELINE = f"# yaml-language-server: $schema=./{SCHEMA_FILE}"
# What each template publishes: (file, its bytes, dataset name, title, tags, capability).
_SAMPLES = {
    "financial": (
        "data/btc-daily.csv",
        "date,open,high,low,close\n2024-01-01,42283,44184,42180,44168\n2024-01-02,44187,45899,44148,44957\n",
        "btc-daily",
        "Bitcoin daily prices",
        ["bitcoin", "ohlc"],
        "crypto-price-history",
    ),
    "iot": (
        "data/greenhouse.csv",
        "time,sensor,celsius\n2024-06-01T00:00:00Z,north,21.4\n2024-06-01T00:10:00Z,north,21.1\n",
        "greenhouse",
        "Greenhouse temperatures",
        ["temperature", "sensor"],
        "sensor-history",
    ),
}
TEMPLATES = ("minimal", *_SAMPLES)


def to_yaml(value: Json) -> str:
    """Any JSON value as YAML that reads back as the same value; a mapping in block form. Ends with a line break."""
    lines = block(value) if isinstance(value, Mapping) and value else [flow(value)]
    return "\n".join(lines) + "\n"


def document_of(kind: str, name: str, spec: Mapping[str, Json], lifecycle: Mapping[str, Json]) -> str:
    """The manifest that says a normalised spec: units in words, defaults left out, fields in the order of the schema."""
    document: dict[str, Json] = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": written(kind, spec)}
    document |= {"lifecycle": dict(lifecycle)} if lifecycle else {}
    schema = packaged().get(kind)
    return to_yaml(document if schema is None else ordered(schema, schema, document))


def new_manifest(kind: str, name: str, values: Mapping[str, Json]) -> str:
    """One resource. `values` are by path (`title`, `content.file`, `metadata.labels`), a bare field being below spec.

    Required fields that were not given stand as comments, so that `validate` names them and the author sees them.
    """
    kind = kind_named(kind)
    schema = packaged()[kind]
    document: dict[str, Json] = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": {}}
    for path, value in values.items():
        place = document
        *parents, last = parse_path(path)
        for parent in parents:
            place = place.setdefault(str(parent), {})
            if not isinstance(place, dict):
                raise Refused("bad-path", f"cannot put a value at {path}: {parent} already holds one")
        place[str(last)] = value
    lines = block(ordered(schema, schema, document))
    spec = resolve(schema, schema["properties"]["spec"])
    missing = [field for field in spec.get("required", ()) if field not in document["spec"]]
    if missing:
        head = next(number for number, line in enumerate(lines) if line.startswith("spec:"))
        lines[head] = "spec:"
        notes = [f"  # {field}: needed. {resolve(schema, spec['properties'][field])['description']}" for field in missing]
        lines[head + 1 : head + 1] = notes
    return "\n".join(lines) + "\n"


def skeleton(template: str = "minimal", *, name: str = "main", chain: str = "devnet", overlay: str = "") -> Mapping[str, str]:
    """The files of a new repository by path: manifests, a sample to sell, the editor's schema, and a check for CI.

    `name` is the producer's Identity; `overlay` the address of an overlay host instead of the local one.
    Refused for a template that is not in TEMPLATES.
    """
    if template not in TEMPLATES:
        raise Refused("unknown-template", f"cannot find a template {template!r}", hint=f"templates: {', '.join(TEMPLATES)}")
    files = {
        "identity.yaml": _page("Who sells. The key is made on the first apply, outside this repository.", [_identity(name)]),
        "network.yaml": _page("Where it is sold, and what may be spent there.", [_network(chain, overlay)]),
        SCHEMA_FILE: json.dumps(combined(packaged()), indent=2, ensure_ascii=False) + "\n",
        ".gitignore": "/.state/\n*.key\n",
        ".github/workflows/manifests.yml": _WORKFLOW,
    }
    if template in _SAMPLES:
        path, text, dataset, title, tags, capability = _SAMPLES[template]
        price = new_manifest("PricePlan", "standard", {"model": "per-item", "rate": "5000sat"})
        published = {"title": title, "content.file": path, "tags": tags, "pricePlanRef": "standard", "license": "commercial"}
        offered = {
            "serviceType": "data-feed",
            "capability": capability,
            "for": [{"kind": "Dataset", "name": dataset}],
            "ship": ["tm_producer"],
            "slap": ["ls_producer"],
            "pricePlanRef": "standard",
        }
        files |= {
            path: text,
            "prices.yaml": _page("What it costs.", [price]),
            "datasets.yaml": _page("What is sold.", [new_manifest("Dataset", dataset, published)]),
            "advertisements.yaml": _page("How buyers find it.", [new_manifest("Advertisement", dataset, offered)]),
        }
    return dict(sorted(files.items()))


def _page(comment: str, documents: list[str]) -> str:
    return f"{MODELINE}\n# {comment}\n" + "---\n".join(documents)


def _identity(name: str) -> str:
    key = {"file": f"~/.config/reconciler/{name}.key", "generate": "ifMissing"}
    return new_manifest("Identity", name, {"displayName": name, "key": key})


def _network(chain: str, overlay: str) -> str:
    values: dict[str, Json] = {
        "chain": chain,
        "overlays": [{"url": overlay or "http://localhost:8080", "region": "EU"}],
        "fees": {"policy": "quoted", "max": "100sat/kB"},
        "wallet": {"dailyLimit": "200000sat"},
    }
    if chain == "devnet":
        values |= {
            "storage": [{"name": "eu1", "url": "http://localhost:8091", "region": "EU", "kind": "uhrp"}],
            "broadcasters": [{"name": "arc", "url": "http://localhost:8095"}],
            "headers": {"url": "http://localhost:8097"},
            "gateway": {"publicUrl": "http://localhost:8402"},
        }
    return new_manifest("Network", "local" if chain == "devnet" else chain, values)


_WORKFLOW = """\
# Reports every fault of the manifests beside the lines of a pull request.
name: manifests
on: [pull_request, push]
jobs:
  validate:
    runs-on: ubuntu-latest
    permissions:
      contents: read
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.11"}
      - run: pip install reconciler
      - run: reconciler validate --all -o github
"""
