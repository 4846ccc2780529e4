"""The canonical order of a manifest: apiVersion, kind, metadata, spec, lifecycle, and below them as the schema lists fields.

Whole lines move, each with the comments above it and beside it. Only block mappings whose keys begin their
own line are sorted; flow collections and list items keep the form their author gave them. Line ends become
LF, trailing blanks go, and the file ends with one line break. What the text means never changes: a result
that reads differently is not returned.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from reconciler.manifest.emit import sort_keys
from reconciler.manifest.marks import Text, is_block
from reconciler.manifest.schema import packaged
from reconciler.manifest.shape import resolve
from reconciler.manifest.yaml import parse
from reconciler.model.canonical import Json

_ENVELOPE: Json = {
    "properties": {
        "apiVersion": {},
        "kind": {},
        "metadata": {"properties": {"name": {}, "renamedFrom": {}, "labels": {}, "annotations": {}}},
        "spec": {},
        "lifecycle": {},
    }
}


def format_text(data: bytes, schemas: Mapping[str, Json] | None = None) -> bytes:
    """The file in canonical order; formatting twice is formatting once. Refused when it is not readable YAML."""
    source = Text.read(data.replace(b"\r\n", b"\n"), "format the file")
    known = schemas if schemas is not None else packaged()
    trimmed = _trimmed(source)
    for lines in (_Arranger(source, trimmed, known).lines(), trimmed):
        body = "\n".join(lines).rstrip("\n")
        result = source.bytes(body + "\n" if body else "")
        if _meaning(result) == _meaning(data):
            return result
    return data


def _meaning(data: bytes) -> object:
    documents, broken = parse(data)
    # Order of keys is what changes; equality of dictionaries does not see it.
    return [document.value for document in documents], len(broken)


def _trimmed(source: Text) -> list[str]:
    """The lines without trailing blanks, except inside scalars of several lines, where blanks may count."""
    kept: set[int] = set()
    stack = list(source.nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, yaml.ScalarNode):
            kept.update(range(node.start_mark.line, node.end_mark.line))
        elif isinstance(node, yaml.MappingNode):
            stack += [part for pair in node.value for part in pair]
        else:
            stack += node.value
    return [line if number in kept else line.rstrip() for number, line in enumerate(source.text.split("\n"))]


class _Arranger:
    """Sorts the lines of every document."""

    def __init__(self, source: Text, lines: list[str], schemas: Mapping[str, Json]) -> None:
        self._source, self._lines, self._schemas = source, lines, schemas

    def lines(self) -> list[str]:
        """The whole file again."""
        result: list[str] = []
        done = 0
        for node in self._source.nodes:
            if not isinstance(node, yaml.MappingNode) or not self._sortable(node):
                continue
            first, last = node.start_mark.line, self._last(node)
            result += self._lines[done:first]
            result += self._mapping(node, first, last + 1, *self._schema(node))
            done = last + 1
        return result + self._lines[done:]

    def _schema(self, root: yaml.MappingNode) -> tuple[Json, Json]:
        kind = next((value.value for key, value in root.value if key.value == "kind"), "")
        document = self._schemas.get(kind if isinstance(kind, str) else "", _ENVELOPE)
        return document, document

    def _last(self, node: yaml.Node) -> int:
        """The line of a node's last content."""
        return self._source.text.count("\n", 0, self._source.end(node))

    def _sortable(self, node: yaml.Node) -> bool:
        """Whether it is a block mapping and every key begins its own line."""
        if not isinstance(node, yaml.MappingNode) or not is_block(node):
            return False
        if len({key.value for key, _ in node.value}) < len(node.value):
            return False
        return all(not self._lines[key.start_mark.line][: key.start_mark.column].strip() for key, _ in node.value)

    def _mapping(self, node: yaml.MappingNode, start: int, stop: int, document: Json, schema: Json) -> list[str]:
        """The lines [start, stop) that hold the mapping, sorted."""
        fields = resolve(document, schema).get("properties", {})
        chunks: dict[str, list[str]] = {}
        begin = start
        for number, (key, value) in enumerate(node.value):
            if number + 1 < len(node.value):
                end = self._boundary(max(self._last(key), self._last(value)) + 1, node.value[number + 1][0].start_mark)
            else:
                end = stop
            chunks[key.value] = self._chunk(key, value, begin, end, document, fields.get(key.value, {}))
            begin = end
        names = sort_keys(chunks, fields)
        first = chunks[names[0]]
        while names[0] != node.value[0][0].value and first and not first[0].strip():
            first.pop(0)
        return [line for name in names for line in chunks[name]]

    def _boundary(self, after: int, key: yaml.Mark) -> int:
        """Where the lines of the next entry begin: its comments, unless they are indented deeper, belong to it."""
        line = int(key.line)
        while line > after:
            text = self._lines[line - 1]
            if text.strip() and len(text) - len(text.lstrip()) > key.column:
                break
            line -= 1
        return line

    def _chunk(self, key: yaml.Node, value: yaml.Node, begin: int, end: int, document: Json, schema: Json) -> list[str]:
        below = value.start_mark.line
        if self._sortable(value) and isinstance(value, yaml.MappingNode) and below > key.start_mark.line:
            head = key.start_mark.line + 1
            return [*self._lines[begin:head], *self._mapping(value, head, end, document, schema)]
        return self._lines[begin:end]
