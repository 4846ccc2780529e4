"""What a field means, read from the same schema that validates it (`reconciler explain KIND.field`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.manifest.fault import listed, near
from reconciler.manifest.schema import packaged
from reconciler.manifest.shape import resolve
from reconciler.manifest.units import EXAMPLES
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """One field. `path` is dotted from the document root, with `[]` after lists; `fields` are its direct children.

    `reference` is the kind a name refers to; `source` says where the value comes from when it is omitted.
    """

    kind: str
    path: str
    type: str
    description: str
    required: bool
    default: Json = None
    unit: str | None = None
    choices: tuple[Json, ...] = ()
    rule: str | None = None
    reference: str | None = None
    source: str | None = None
    immutable: bool = False
    inert: tuple[Json, ...] = ()
    examples: tuple[Json, ...] = ()
    fields: tuple[FieldDoc, ...] = ()


def kind_named(name: str, schemas: Mapping[str, Json] | None = None) -> str:
    """The kind a person meant: `dataset`, `Dataset` and `datasets` are one. Refused("unknown-kind") otherwise."""
    known = schemas if schemas is not None else packaged()
    folded = {kind.lower(): kind for kind in known} | {f"{kind.lower()}s": kind for kind in known}
    folded |= {f"{kind.lower().removesuffix('y')}ies": kind for kind in known if kind.endswith("y")}
    if name.lower() in folded:
        return folded[name.lower()]
    meant = near(name, known)
    raise Refused(
        "unknown-kind", f"cannot find a kind {name!r}", hint=f"did you mean {meant}?" if meant else f"kinds: {', '.join(known)}"
    )


def schema(kind: str, schemas: Mapping[str, Json] | None = None) -> Json:
    """The JSON Schema of one kind."""
    return (schemas if schemas is not None else packaged())[kind_named(kind, schemas)]


def describe(kind: str, path: str = "", schemas: Mapping[str, Json] | None = None) -> FieldDoc:
    """The field at a dotted path, from the document root or below spec; list items may be written `[]` or left out."""
    document = schema(kind, schemas)
    parts = [part for part in path.replace("[]", "").split(".") if part]
    if parts and parts[0] not in document["properties"]:
        parts = ["spec", *parts]
    node, shown, required = document, "", True
    for part in parts:
        node, shown = _into_list(document, node, shown)
        fields, needed = _fields(document, node)
        if part in fields:
            required = part in needed
            inner = fields[part]
        elif isinstance(node.get("additionalProperties"), dict):
            required, inner = False, node["additionalProperties"]
        else:
            meant = near(part, fields)
            hint = f"did you mean {meant}?" if meant else f"fields: {', '.join(fields)}" if fields else "it has no fields"
            raise Refused(
                "unknown-field", f"cannot find a field {part!r} in {document['title']}{'.' if shown else ''}{shown}", hint=hint
            )
        node, shown = resolve(document, inner), f"{shown}.{part}" if shown else part
    return _doc(document, node, shown, required, deep=True)


def _fields(document: Json, node: Json) -> tuple[dict[str, Json], frozenset[str]]:
    """The fields a node has in any of the forms it allows, and those it must have in every form that has fields."""
    fields: dict[str, Json] = dict(node.get("properties", {}))
    needed = [frozenset(node.get("required", ()))] if fields else []
    for word in ("oneOf", "anyOf", "allOf"):
        for form in node.get(word, ()):
            more, must = _fields(document, resolve(document, form))
            fields = more | fields
            needed += [must] if more else []
    return fields, frozenset.intersection(*needed) if needed else frozenset()


def _into_list(document: Json, node: Json, shown: str) -> tuple[Json, str]:
    if isinstance(node.get("items"), dict) and node.get("type") == "array":
        return resolve(document, node["items"]), f"{shown}[]"
    return node, shown


def _doc(document: Json, node: Json, path: str, required: bool, *, deep: bool) -> FieldDoc:
    holder, below = _into_list(document, node, path)
    fields: list[FieldDoc] = []
    if deep:
        known, needed = _fields(document, holder)
        for name, inner in known.items():
            where = f"{below}.{name}" if below else name
            fields.append(_doc(document, resolve(document, inner), where, name in needed, deep=False))
    return FieldDoc(
        kind=document["title"],
        path=path,
        type=_type(document, node),
        description=node.get("description", ""),
        required=required,
        default=node.get("default"),
        unit=node.get("x-unit"),
        choices=tuple(node.get("enum", ())) or tuple(holder.get("enum", ())),
        rule=node.get("x-says") or holder.get("x-says") or EXAMPLES.get(node.get("x-unit", "")),
        reference=node.get("x-ref"),
        source=_source(node),
        immutable=bool(node.get("x-immutable")),
        inert=tuple(node.get("x-inert", ())),
        examples=tuple(node.get("examples", ())) or _examples(document, path),
        fields=tuple(fields),
    )


def _type(document: Json, node: Json) -> str:
    if "x-unit" in node:
        return str(node["x-unit"])
    if "const" in node:
        return f'"{node["const"]}"'
    if "enum" in node:
        return "one of " + listed([str(choice) for choice in node["enum"]])
    if "oneOf" in node and "type" not in node:
        return str(node.get("x-says", "one of several forms"))
    if isinstance(node.get("items"), dict) and node.get("type") == "array":
        return "list of " + _type(document, resolve(document, node["items"]))
    if isinstance(node.get("additionalProperties"), dict):
        return "mapping of names to " + _type(document, resolve(document, node["additionalProperties"]))
    names = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "mapping", "array": "list"}
    kinds = node.get("type", "anything")
    return listed([names.get(name, name) for name in ([kinds] if isinstance(kinds, str) else kinds)])


def _source(node: Json) -> str | None:
    if node.get("x-sole"):
        return f"the only {node['x-ref']} of the environment"
    if "x-inherit" in node:
        rule = node["x-inherit"]
        unless = f", unless {listed(rule['unless'])} is set" if rule.get("unless") else ""
        return f"{rule['field']} of the resource that {rule['via']} names{unless}"
    return None


def _examples(document: Json, path: str) -> tuple[Json, ...]:
    """What the example documents hold at this place."""
    found: list[Json] = []
    for example in document.get("examples", ()):
        value = example
        for part in path.replace("[]", "").split(".") if path else ():
            value = value[0] if isinstance(value, list) and value else value
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and value not in found:
            found.append(value)
    return tuple(found)
