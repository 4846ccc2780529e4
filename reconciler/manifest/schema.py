"""The packaged schemas: where they are found, and each compiled once into all that loading needs.

specs/<kind>.v1alpha1.json is the source of every shape. Beside JSON Schema 2020-12 it carries annotations:
`x-unit` (units.py), `x-ref` (a reference to that kind; `*` for {kind, name}), `x-sole` (omitted, it is the
only resource of that kind), `x-weak` (must exist, but is no dependency), `x-inherit` (omitted, it is taken
from another resource), `x-alias` (dotted entries are looked up in another resource), `x-immutable` (a change
makes the thing anew), `x-inert` (values without effect yet), `x-refused` (a field that is refused, with what to do instead) and
`x-says` (the rule as a phrase).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema_rs

from reconciler.manifest.normalise import Plan, compile_plan
from reconciler.manifest.shape import resolve
from reconciler.model.canonical import Json
from reconciler.model.errors import Invariant

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

API_VERSION = "overlay.bsv/v1alpha1"
COMBINED = "overlay.bsv_v1alpha1.json"
_SUFFIX = ".v1alpha1.json"
# A wheel carries specs/ inside the package; a source checkout keeps it at the top.
_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "specs", _PACKAGE.parent / "specs")


@dataclass(frozen=True, slots=True)
class Inherit:
    """`field`, when absent, is taken from `source` (dotted, below spec) of what the reference `via` names."""

    field: str
    via: str
    source: str
    unless: tuple[str, ...]
    kind: str | None


@dataclass(frozen=True, slots=True)
class Schema:
    """One kind's schema, ready for use: `is_valid` is quick, `validator` explains.

    `sole` are (field, kind, weak) references that may be omitted; `aliases` are (field, via, source) lists
    whose dotted entries stand for others, named by a mapping in what the reference `via` names.
    """

    kind: str
    document: Json
    is_valid: Callable[[Json], bool]
    validator: Callable[[], Draft202012Validator]
    spec: Plan
    lifecycle: Plan
    sole: tuple[tuple[str, str, bool], ...]
    inherits: tuple[Inherit, ...]
    aliases: tuple[tuple[str, str, str], ...] = ()


@cache
def folder() -> Path:
    """Where this installation keeps its schemas; Invariant when it has none."""
    for place in _FOLDERS:
        if place.is_dir():
            return place
    raise Invariant("no-schemas", "cannot find the schemas of this installation", hint="install the package again")


@cache
def packaged() -> Mapping[str, Json]:
    """Every shipped schema by kind, in alphabetic order."""
    files = sorted(file for file in folder().iterdir() if file.name.endswith(_SUFFIX) and file.name != COMBINED)
    found = [json.loads(file.read_text("utf-8")) for file in files]
    return {schema["title"]: schema for schema in found}


@cache
def packaged_schema(kind: str) -> Schema:
    """The compiled schema of a shipped kind; KeyError for any other."""
    return compile_schema(packaged()[kind])


class Schemas(Mapping[str, Schema]):
    """The schemas of some kinds, each compiled when it is first asked for: few repositories use them all.

    `own` are documents that stand in for the shipped ones.
    """

    def __init__(self, kinds: Iterable[str], own: Mapping[str, Json] | None = None) -> None:
        self._kinds = tuple(kinds)
        self._own = own or {}
        self._compiled: dict[str, Schema] = {}

    def __getitem__(self, kind: str) -> Schema:
        found = self._compiled.get(kind)
        if found is None:
            if kind not in self._kinds:
                raise KeyError(kind)
            found = compile_schema(self._own[kind]) if kind in self._own else packaged_schema(kind)
            self._compiled[kind] = found
        return found

    def __contains__(self, kind: object) -> bool:
        return kind in self._kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


def compile_schema(document: Json) -> Schema:
    """Compile one schema document (see the module's list of annotations)."""
    properties = document["properties"]
    fields = {name: resolve(document, node) for name, node in resolve(document, properties["spec"])["properties"].items()}
    inherits = []
    for name, node in fields.items():
        if "x-inherit" in node:
            rule = node["x-inherit"]
            inherits.append(Inherit(name, rule["via"], rule["field"], tuple(rule.get("unless", ())), node.get("x-ref")))
    return Schema(
        kind=document["title"],
        document=document,
        is_valid=jsonschema_rs.Draft202012Validator(document).is_valid,
        validator=cache(lambda: _slow_validator(document)),
        spec=compile_plan(document, properties["spec"]),
        lifecycle=compile_plan(document, properties["lifecycle"]),
        sole=tuple((name, node["x-ref"], bool(node.get("x-weak"))) for name, node in fields.items() if node.get("x-sole")),
        inherits=tuple(inherits),
        aliases=tuple(
            (name, node["x-alias"]["via"], node["x-alias"]["field"]) for name, node in fields.items() if "x-alias" in node
        ),
    )


def _slow_validator(document: Json) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # only faulty documents pay for its import

    return Draft202012Validator(document)


def combined(schemas: Mapping[str, Json]) -> Json:
    """One self-contained schema for editors, which chooses by kind."""
    shared: dict[str, Json] = {}
    kinds: dict[str, Json] = {}
    for kind, schema in sorted(schemas.items()):
        shared |= schema["$defs"]
        kinds[kind] = {key: value for key, value in schema.items() if key not in ("$schema", "$id", "$defs")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:overlay.bsv:v1alpha1",
        "title": API_VERSION,
        "description": "Any resource of overlay.bsv/v1alpha1; the field kind chooses its shape.",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"kind": {"enum": sorted(kinds), "description": "What sort of resource this is."}},
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in sorted(kinds)],
        "$defs": {**shared, **kinds},
    }
