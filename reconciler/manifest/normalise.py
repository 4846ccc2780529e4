"""From a valid spec to its one canonical form: units parsed, defaults filled in, references collected.

A schema is compiled once into a tree of plans that visits only the fields with something to do. Plans are
tolerant: a value of the wrong shape passes unchanged, because the schema has already complained about it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from reconciler.manifest.fault import Fault, Path
from reconciler.manifest.shape import resolve
from reconciler.manifest.units import CODES, EXAMPLES, PARSERS, UnitError, show
from reconciler.model.canonical import Json

_MISSING = object()


class Link(NamedTuple):
    """A reference found in a document. `weak` ones must exist but are no dependency.

    A tuple, because thousands of documents refer to the same few resources, and equal tuples are quickly found.
    """

    path: Path
    kind: str
    name: str
    weak: bool = False


@dataclass(slots=True)
class Out:
    """What normalising found beside the value."""

    faults: list[Fault] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


Plan = Callable[[Json, Path, Out], Json]


def compile_plan(document: Json, node: Json) -> Plan:
    """The plan of one schema node; `document` holds the $defs it may refer to."""
    return _plan(document, node) or _keep


def _keep(value: Json, path: Path, out: Out) -> Json:
    return value


def _plan(document: Json, node: Json) -> Plan | None:
    node = resolve(document, node)
    if "x-unit" in node:
        return _unit(node["x-unit"])
    plan: Plan | None = None
    if isinstance(node.get("properties"), dict) or isinstance(node.get("additionalProperties"), dict):
        plan = _mapping(document, node)
    elif isinstance(node.get("items"), dict):
        inner = _plan(document, node["items"])
        plan = _list(inner) if inner else None
    if "x-ref" in node:
        plan = _reference(node["x-ref"], bool(node.get("x-weak")), plan)
    if "x-inert" in node:
        plan = _inert(node["x-inert"])
    if "x-refused" in node:
        plan = _refused(node["x-refused"])
    return plan


def _unit(unit: str) -> Plan:
    # The same few quantities stand in thousands of documents. Unhashable ones (rates as mappings) are parsed anew.
    parse, code = PARSERS[unit], CODES[unit]
    quick = lru_cache(maxsize=4096)(parse)

    def plan(value: Json, path: Path, out: Out) -> Json:
        try:
            stored = quick(value) if isinstance(value, str) else parse(value)
        except UnitError as error:
            out.faults.append(Fault(code, str(error), path, hint=f"write {EXAMPLES[unit]}"))
            return value
        except (TypeError, AttributeError, KeyError, ValueError):
            return value  # not even text or a number: the schema has said so
        if unit == "duration" and (isinstance(value, int) or value.isdecimal()):
            out.faults.append(Fault("W0501", f"{value} is read as milliseconds", path, hint=f"write {show(unit, stored)}"))
        return stored

    return plan


def _reference(kind: str, weak: bool, inner: Plan | None) -> Plan:
    def plan(value: Json, path: Path, out: Out) -> Json:
        if kind != "*" and isinstance(value, str):
            out.links.append(Link(path, kind, value, weak))
        elif (
            kind == "*" and isinstance(value, dict) and isinstance(value.get("kind"), str) and isinstance(value.get("name"), str)
        ):
            out.links.append(Link((*path, "name"), value["kind"], value["name"], weak))
        return inner(value, path, out) if inner else value

    return plan


def _inert(values: list[Json]) -> Plan:
    def plan(value: Json, path: Path, out: Out) -> Json:
        if any(value is inert or (isinstance(inert, str) and value == inert) for inert in values):
            out.faults.append(
                Fault("W0502", f'"{path[-1]}" is recorded, but this version does not act on it', path, hint="do not rely on it")
            )
        return value

    return plan


def _refused(hint: str) -> Plan:
    """A field that says what this version does not do, and that nobody should believe it does."""

    def plan(value: Json, path: Path, out: Out) -> Json:
        out.faults.append(Fault("E0116", f'"{path[-1]}" is not acted on by this version', path, hint, on_key=True))
        return value

    return plan


def _list(inner: Plan) -> Plan:
    def plan(value: Json, path: Path, out: Out) -> Json:
        if not isinstance(value, list):
            return value
        return [inner(item, (*path, index), out) for index, item in enumerate(value)]

    return plan


def _mapping(document: Json, node: Json) -> Plan | None:
    active: list[tuple[str, Json, Plan | None]] = []
    for name, child in node.get("properties", {}).items():
        plan = _plan(document, child)
        default = resolve(document, child).get("default", _MISSING)
        if default is not _MISSING and plan is not None:
            default = plan(copy.deepcopy(default), (name,), Out())
        if plan is not None or default is not _MISSING:
            active.append((name, default, plan))
    extra_node = node.get("additionalProperties")
    extra = _plan(document, extra_node) if isinstance(extra_node, dict) else None
    if not active and extra is None:
        return None
    known = frozenset(node.get("properties", {}))

    def plan_mapping(value: Json, path: Path, out: Out) -> Json:
        if not isinstance(value, dict):
            return value
        result = dict(value)
        for name, default, plan in active:
            if name in value:
                if plan is not None:
                    result[name] = plan(value[name], (*path, name), out)
            elif default is not _MISSING:
                result[name] = default
        if extra is not None:
            for name in value.keys() - known:
                result[name] = extra(value[name], (*path, name), out)
        return result

    return plan_mapping
