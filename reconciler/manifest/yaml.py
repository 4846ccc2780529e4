"""YAML text to plain values, strictly, and the way back from a value to its line and column.

The dialect is the YAML 1.2 core schema on libyaml: only true/false are booleans; dates, yes/no, base-60
and leading-zero numbers stay text. Numbers with a fraction are refused, because canonical JSON has none.
Anchors and merge keys are allowed within a weight; tags are not. A syntax error costs its own document:
reading goes on at the next `---`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from reconciler.manifest.fault import Fault, Path
from reconciler.model.canonical import Json

# A file a person can review is a few hundred kilobytes at most; content files are not manifests.
MAX_FILE = 2 * 1024 * 1024
# Deepest nesting of one document. The schemas need nine; every recursion below rests on it.
MAX_DEPTH = 64
# Bytes one document may mean once its aliases are written out: what defuses exponential aliases.
MAX_WEIGHT = 4 * MAX_FILE
# libyaml's composer recurses on the C stack and dies near 100 000 levels. Below these counts a text cannot
# nest deep enough to matter; above them depth is counted first, on the event stream.
_MANY_BRACKETS = 5000
_LONG_LINE = 5000
# After so many broken documents one more diagnosis helps nobody.
_MAX_BROKEN = 20
# Texts up to this length are held once, however often they stand in manifests: kinds, names, references, units. What is longer
# is mostly written once, and looking for it would cost more than it spares.
_COMMON = 16
# RFC 8785 numbers are exact up to here.
_MAX_INTEGER = 2**53 - 1

_STR = "tag:yaml.org,2002:str"
_MAP = "tag:yaml.org,2002:map"
_SEQ = "tag:yaml.org,2002:seq"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), _NULL),
    **dict.fromkeys(("true", "True", "TRUE", "false", "False", "FALSE"), _BOOL),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN"), _FLOAT),
    "<<": _MERGE,
}
_INTEGER = re.compile(r"(?:[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FRACTION = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z")

# Sentences for what libyaml says in its own words.
_PLAIN = (
    ("',' or ']'", "a '[' that is not closed before this", "close it with ']'"),
    ("',' or '}'", "a '{' that is not closed before this", "close it with '}'"),
    ("mapping values are not allowed", "an unexpected ':'", "quote the text if it holds ': ', or check the indentation"),
    ("undefined alias", "an alias without its anchor", "an anchor (&name) must stand before its alias (*name)"),
    ("could not find expected ':'", "a line without its ':'", "write key: value"),
    ("did not find expected key", "a line that fits no mapping here", "check the indentation"),
    ("unexpected end of stream", "the text ends inside a quoted string", "close the quotes"),
    ("cannot start any token", "a character that must be quoted", "quote the value"),
    ("block sequence entries are not allowed", "an unexpected '-'", "put the list on the following lines"),
)


class _Reader(yaml.CSafeLoader):
    """libyaml's composer with our resolver: one dictionary and one regular expression instead of six."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            if not implicit[0]:
                return _STR
            word = _WORDS.get(value)
            if word is not None:
                return word
            if value[0] in "+-.0123456789":
                if _INTEGER.match(value):
                    return _INT
                if _FRACTION.match(value):
                    return _FLOAT
            return _STR
        return _MAP if kind is yaml.MappingNode else _SEQ

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Path resolvers do not exist here."""

    def ascend_resolver(self) -> None:
        """Path resolvers do not exist here."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document as a plain value. `at` is the line and column of metadata.name, or of the document."""

    value: Json
    at: tuple[int, int]
    ordinal: int
    faults: tuple[Fault, ...] = ()


def parse(data: bytes) -> tuple[tuple[Document, ...], tuple[Fault, ...]]:
    """Every document that could be read, and the faults of those that could not."""
    documents: list[Document] = []
    broken: list[Fault] = []
    for ordinal, node in enumerate(compose(data, broken)):
        if node.tag == _NULL and isinstance(node, yaml.ScalarNode):
            continue
        value, faults = rebuilt(node)
        documents.append(Document(value, _name_mark(node), ordinal, tuple(faults)))
    return tuple(documents), tuple(broken)


def compose(data: bytes, broken: list[Fault]) -> Iterator[yaml.Node]:
    """The node of every readable document; what cannot be read is appended to `broken`."""
    text = _text(data, broken)
    while text is not None:
        reader = _Reader(text)
        resume = 0
        try:
            while (node := reader.get_node() if reader.check_node() else None) is not None:
                fault = _weigh(node) if "&" in text else None
                if fault is None:
                    yield node
                else:
                    broken.append(fault)
            return
        except yaml.MarkedYAMLError as error:
            fault, resume = _syntax(error, text)
            broken.append(fault)
        finally:
            reader.dispose()
        text = _rest(text, resume) if len(broken) < _MAX_BROKEN else None


def _text(data: bytes, broken: list[Fault]) -> str | None:
    if len(data) > MAX_FILE:
        broken.append(Fault("E0102", f"a manifest of {len(data)} bytes; at most {MAX_FILE} are read", mark=(1, 1, 1)))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = len(data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8", "replace")) + 1
        broken.append(Fault("E0101", "a byte that is not UTF-8", mark=(line, column, 1), hint="save the file as UTF-8"))
        return None
    bad = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        column = bad.start() - text.rfind("\n", 0, bad.start())
        broken.append(Fault("E0101", f"a control character (U+{ord(bad.group()):04X})", mark=(line, column, 1)))
        return None
    return None if _too_deep(text, broken) else text


def _too_deep(text: str, broken: list[Fault]) -> bool:
    if text.count("[") + text.count("{") < _MANY_BRACKETS and max(map(len, text.splitlines()), default=0) < _LONG_LINE:
        return False
    reader, depth = _Reader(text), 0
    try:
        while reader.check_event():
            event = reader.get_event()
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    mark = event.start_mark
                    broken.append(_deep((mark.line + 1, mark.column + 1, 1) if mark else (1, 1, 1)))
                    return True
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return False  # composing meets the same error and tells it
    finally:
        reader.dispose()
    return False


def _deep(mark: tuple[int, int, int] | None, path: Path = ()) -> Fault:
    return Fault("E0102", f"nesting deeper than {MAX_DEPTH} levels", path, mark=mark)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[Fault, int]:
    """The fault, and the 0-based line from which the next document may be looked for."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    said = f"{error.context or ''} {error.problem or ''}"
    code = "E0105" if "alias" in said or "anchor" in said else "E0101"
    lines = text.splitlines()
    length = max(1, len(lines[line].rstrip()) - column) if line < len(lines) else 1
    if line < len(lines) and "\t" in lines[line][: column + 1] and "cannot start any token" in said:
        return Fault(code, "a tab where spaces are wanted", hint="indent with spaces", mark=(line + 1, column + 1, 1)), line
    for part, sentence, hint in _PLAIN:
        if part in said:
            return Fault(code, sentence, hint=hint, mark=(line + 1, column + 1, 1)), line
    return Fault(code, error.problem or "unreadable YAML", hint=error.context, mark=(line + 1, column + 1, min(length, 80))), line


def _rest(text: str, line: int) -> str | None:
    """The text from the next document on, with the lines before it emptied so that marks stay true."""
    lines = text.split("\n")
    started = next((n for n, content in enumerate(lines) if content.strip() and not content.lstrip().startswith("#")), 0)
    for number in range(max(line, started + 1), len(lines)):
        if lines[number].startswith("---"):
            return "\n" * number + "\n".join(lines[number:])
    return None


def _weigh(root: yaml.Node) -> Fault | None:
    """Refuse what its aliases would make recursive or enormous, without writing it out."""
    known: dict[int, int] = {}

    def weight(node: yaml.Node, depth: int) -> int:
        if id(node) in known:
            return known[id(node)]
        if isinstance(node, yaml.ScalarNode):
            return len(node.value) + 1
        known[id(node)] = MAX_WEIGHT + 1  # met again below itself: recursive, so endless
        if depth > MAX_DEPTH:
            return 0  # building reports the depth
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(weight(part, depth + 1) for part in parts)
        return known[id(node)]

    if weight(root, 0) <= MAX_WEIGHT:
        return None
    mark = root.start_mark
    message = "aliases that would write out to more than a manifest may hold"
    return Fault("E0102", message, mark=(mark.line + 1, mark.column + 1, 1), hint="repeat less, or generate the file")


class _Builder:
    """Nodes to values, collecting the faults of one document."""

    __slots__ = ("faults",)

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def build(self, node: yaml.Node, path: Path, depth: int) -> Json:
        tag = node.tag
        if tag == _MAP and isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if tag == _SEQ and isinstance(node, yaml.SequenceNode):
            if depth >= MAX_DEPTH:
                self.faults.append(_deep(None, path))
                return []
            return [
                _held(item.value) if item.tag == _STR else self.build(item, (*path, index), depth + 1)
                for index, item in enumerate(node.value)
            ]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self.faults.append(Fault("E0105", f"the tag {tag!r} is not allowed", path, hint="write the plain value"))
        return {} if isinstance(node, yaml.MappingNode) else []

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Json]:
        if depth >= MAX_DEPTH:
            self.faults.append(_deep(None, path))
            return {}
        value: dict[str, Json] = {}
        merged: yaml.Node | None = None
        for key, item in node.value:
            name = key.value
            if key.tag != _STR:
                if key.tag == _MERGE and merged is None:
                    merged = item
                elif key.tag == _MERGE:
                    self.faults.append(_at_key(key, "E0103", "a second merge key", path))
                else:
                    shown = name if isinstance(key, yaml.ScalarNode) else "a collection"
                    self.faults.append(_at_key(key, "E0104", f"the key {shown} is not text", path, hint="quote it"))
                continue
            if name in value:
                self.faults.append(_at_key(key, "E0103", f'"{name}" stands twice in one mapping', path))
                continue
            value[sys.intern(name)] = _held(item.value) if item.tag == _STR else self.build(item, (*path, name), depth + 1)
        if merged is not None:
            self._merge(merged, value, path, depth)
        return value

    def _merge(self, node: yaml.Node, value: dict[str, Json], path: Path, depth: int) -> None:
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(part, yaml.MappingNode):
                self.faults.append(_at_key(part, "E0105", "a merge key of something that is no mapping", path))
                continue
            for name, item in self._mapping(part, path, depth + 1).items():
                value.setdefault(name, item)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Json:
        tag, text = node.tag, node.value
        if tag in (_STR, _MERGE):
            return text
        if tag == _NULL:
            return None
        if tag == _BOOL and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if tag == _INT and _INTEGER.match(text):
            number = int(text, 0) if len(text) <= 20 else _MAX_INTEGER + 1
            if abs(number) <= _MAX_INTEGER:
                return number
            self.faults.append(
                Fault("E0106", f"{text[:40]} is beyond 2^53 - 1 and has no exact form", path, hint="quote it if it is text")
            )
            return text
        if tag == _FLOAT:
            self.faults.append(
                Fault("E0106", f"{text} is a number with a fraction, which has no exact form", path, hint=f'quote it: "{text}"')
            )
            return text
        self.faults.append(Fault("E0105", f"the tag {tag!r} is not allowed", path, hint="write the plain value"))
        return text


def _held(text: str) -> str:
    """The text, as the one object that stands for all short texts that say the same: libyaml makes a new one at each place."""
    return sys.intern(text) if len(text) <= _COMMON else text


def _at_key(node: yaml.Node, code: str, message: str, path: Path, hint: str | None = None) -> Fault:
    mark = node.start_mark
    length = node.end_mark.column - mark.column if node.end_mark.line == mark.line else 1
    return Fault(code, message, path, hint, mark=(mark.line + 1, mark.column + 1, max(1, length)))


def child(node: yaml.Node, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    """The (key node, value node) one step down, looking through merge keys; None where there is none."""
    if isinstance(node, yaml.SequenceNode):
        return (None, node.value[part]) if isinstance(part, int) and part < len(node.value) else None
    if not isinstance(node, yaml.MappingNode):
        return None
    merged: list[yaml.Node] = []
    for key, item in node.value:
        if key.value == str(part):
            return key, item
        if key.tag == _MERGE:
            merged = item.value if isinstance(item, yaml.SequenceNode) else [item]
    return next((found for inner in merged if (found := child(inner, part)) is not None), None)


def _name_mark(root: yaml.Node) -> tuple[int, int]:
    mark = root.start_mark
    metadata = child(root, "metadata")
    if metadata is not None:
        name = child(metadata[1], "name")
        if name is not None:
            mark = name[1].start_mark
    return mark.line + 1, mark.column + 1


def reads_as_itself(text: str) -> bool:
    """Whether the text, written plain, is text and not a number, a truth value or null."""
    return text not in _WORDS and not _INTEGER.match(text) and not _FRACTION.match(text)


def rebuilt(node: yaml.Node) -> tuple[Json, list[Fault]]:
    """The value of one composed document, and what is wrong with it."""
    builder = _Builder()
    return builder.build(node, (), 0), builder.faults
