"""Change one field of one resource in a manifest's text; every other byte stays (`reconciler set`).

The text is spliced at libyaml's marks. Afterwards it is read again and must hold exactly the change that
was asked for; otherwise nothing is returned.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from reconciler.manifest.emit import flow, scalar
from reconciler.manifest.judge import name_of
from reconciler.manifest.marks import Text, is_block
from reconciler.manifest.yaml import parse, rebuilt
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef

Keys = tuple[str | int, ...]
_STEP = re.compile(r'"([^"]+)"|\[(\d+)\]|([^.\[\]"]+)')
_ROOTS = ("spec", "metadata", "lifecycle", "kind", "apiVersion")


def parse_value(text: str) -> Json:
    """A value as typed on a command line: YAML, so `[a, b]` is a list and `25sat` is text. Refused when it is neither."""
    documents, broken = parse(text.encode())
    faults = [*broken, *(fault for document in documents for fault in document.faults)]
    if faults:
        raise Refused("bad-value", f"cannot read {text!r} as a value: {faults[0].message}", hint=faults[0].hint)
    return documents[0].value if documents else None


def parse_path(path: str) -> Keys:
    """`capabilities`, `spec.tiers[0].rate` or `topics."a.b"` as keys from the document root; a bare field is below spec."""
    keys: list[str | int] = []
    rest = path
    while rest:
        step = _STEP.match(rest)
        if step is None:
            raise Refused(
                "bad-path", f"cannot read the path {path!r}", hint='write it like spec.tiers[0].rate or spec.topics."a.b"'
            )
        quoted, index, word = step.groups()
        keys.append(quoted or (int(index) if index is not None else word))
        rest = rest[step.end() :].removeprefix(".")
    if not keys:
        raise Refused("bad-path", "cannot change a field without a path", hint="write it like spec.title")
    return tuple(keys) if keys[0] in _ROOTS else ("spec", *keys)


def set_value(data: bytes, kind: str, name: str, path: str, op: str, value: Json) -> bytes:
    """The file with `path` of Kind/name set (`=`), or the value added to (`+=`) or removed from (`-=`) the list there.

    Adding what is already there changes nothing. Refused when the resource or the place does not exist.
    """
    ref, keys = ResourceRef(kind, name), parse_path(path)
    if op not in ("=", "+=", "-="):
        raise Refused("bad-operator", f"cannot apply the operator {op!r}", hint="use =, += or -=")
    source = Text.read(data, f"change {ref}")
    before = [document.value for document in parse(data)[0]]
    ordinals = [document.ordinal for document in parse(data)[0] if name_of(document.value) == ref]
    if len(ordinals) != 1:
        found = "is not in this file" if not ordinals else "stands in this file more than once"
        raise Refused("unknown-resource", f"cannot change {ref}: it {found}")
    wanted = [_applied(one, keys, op, value, path) if name_of(one) == ref else one for one in before]
    if wanted == before:
        return data
    after = source.bytes(_Edit(source, source.nodes[ordinals[0]]).apply(keys, op, value))
    documents, broken = parse(after)
    if broken or [document.value for document in documents] != wanted:
        raise Refused("cannot-edit", f"cannot change {path} of {ref} without touching more than it", hint="edit the file by hand")
    return after


def _applied(document: Json, keys: Keys, op: str, value: Json, path: str) -> Json:
    """What the document must mean afterwards."""
    key, rest = keys[0], keys[1:]
    here: Json
    result: Any
    if isinstance(key, int):
        if not isinstance(document, list) or key >= len(document):
            raise Refused("bad-path", f"cannot find {path}: there is no entry {key}")
        here, result = document[key], list(document)
    else:
        if not isinstance(document, dict) and document is not None:
            raise Refused("bad-path", f"cannot find {path}: {key} is not inside a mapping")
        here, result = (document or {}).get(key), dict(document or {})
    result[key] = _applied(here, rest, op, value, path) if rest else _combined(here, op, value, path)
    return result


def _combined(here: Json, op: str, value: Json, path: str) -> Json:
    if op == "=":
        return value
    if here is not None and not isinstance(here, list):
        raise Refused("not-a-list", f"cannot apply {op} to {path}: it is not a list", hint="use =")
    if op == "+=":
        return here if here and value in here else [*(here or []), value]
    if not here or value not in here:
        raise Refused("not-in-list", f"cannot remove {flow(value)} from {path}: it is not there")
    return [item for item in here if item != value]


class _Edit:
    """Splices for one document."""

    def __init__(self, source: Text, root: yaml.Node) -> None:
        self._source, self._text, self._root = source, source.text, root

    def apply(self, keys: Keys, op: str, value: Json) -> str:
        """The whole text, changed."""
        node, key = self._root, None
        for depth, part in enumerate(keys):
            found = _own(node, part)
            if found is None:
                missing = list(keys[depth:])
                return self._insert(key, node, missing, [value] if op == "+=" else value)
            key, node = found
        if op == "=" or not isinstance(node, yaml.SequenceNode):
            return self._replace(key, node, value if op == "=" else [value])
        return self._append(key, node, value) if op == "+=" else self._remove(key, node, value)

    def _splice(self, start: int, end: int, text: str) -> str:
        return self._text[:start] + text + self._text[end:]

    def _replace(self, key: yaml.Node | None, node: yaml.Node, value: Json) -> str:
        start, end = node.start_mark.index, self._source.end(node)
        if key is not None and (is_block(node) or start == end):
            colon = self._text.index(":", key.end_mark.index) + 1
            if start == end or node.start_mark.line == key.start_mark.line:
                return self._splice(colon, max(colon, end), f" {flow(value)}")
            # The comment behind the key stays; the lines of the old value go.
            kept = self._text[colon : self._source.line_end(colon)]
            return self._splice(colon, self._source.line_end(end), f" {flow(value)}{kept}")
        return self._splice(start, end, flow(value))

    def _append(self, key: yaml.Node | None, node: yaml.SequenceNode, value: Json) -> str:
        if not node.value:
            return self._replace(key, node, [value])
        if node.flow_style:
            end = self._source.end(node.value[-1])
            return self._splice(end, end, f", {flow(value)}")
        end = self._source.line_end(self._source.end(node))
        return self._splice(end, end, f"{self._source.newline}{' ' * node.start_mark.column}- {flow(value)}")

    def _remove(self, key: yaml.Node | None, node: yaml.SequenceNode, value: Json) -> str:
        items = [rebuilt(item)[0] for item in node.value]
        kept = [item for item in items if item != value]
        gone = [number for number, item in enumerate(items) if item == value]
        if not kept or len(gone) != 1:
            return self._replace(key, node, kept)
        number, item = gone[0], node.value[gone[0]]
        if not node.flow_style:
            start = self._source.line_start(item.start_mark.index)
            end = self._source.line_end(self._source.end(item))
            return self._splice(start, end + len(self._source.newline), "")
        if number:
            return self._splice(self._source.end(node.value[number - 1]), self._source.end(item), "")
        return self._splice(item.start_mark.index, node.value[1].start_mark.index, "")

    def _insert(self, key: yaml.Node | None, node: yaml.Node, missing: list[str | int], value: Json) -> str:
        for part in reversed(missing[1:]):
            value = {part: value}
        name = str(missing[0])
        if not isinstance(node, yaml.MappingNode) or not node.value:
            return self._replace(key, node, {name: value})
        if node.flow_style:
            end = max(self._source.end(part) for part in node.value[-1])
            return self._splice(end, end, f", {scalar(name)}: {flow(value)}")
        end = self._source.line_end(self._source.end(node))
        return self._splice(end, end, f"{self._source.newline}{' ' * node.start_mark.column}{scalar(name)}: {flow(value)}")


def _own(node: yaml.Node, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    """One step down without looking through merge keys: those belong to another place."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        return (None, node.value[part]) if part < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next(((key, item) for key, item in node.value if key.value == str(part)), None)
    return None
