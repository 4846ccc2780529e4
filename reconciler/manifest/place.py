"""Where a fault stands. Files are read again for their marks, each at most once, and only if something is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from reconciler.manifest.fault import Fault, Path, pointer
from reconciler.manifest.link import Finding
from reconciler.manifest.yaml import child, compose, rebuilt
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.ref import Position

Layers = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a node stands: 1-based line and column, and how many characters of that line."""

    line: int
    column: int
    length: int


class Locator:
    """The places of one file's nodes. Reads the text once, when first asked."""

    def __init__(self, data: bytes) -> None:
        self._nodes = list(compose(data, []))
        self._lines = data.decode("utf-8-sig", "replace").splitlines()

    def span(self, ordinal: int, path: Path, *, on_key: bool = False) -> Span:
        """The node at `path` of the document, or the deepest one on the way that exists."""
        node, key = self._nodes[ordinal], None
        for part in path:
            found = child(node, part)
            if found is None:
                on_key = True
                break
            key, node = found
        block = isinstance(node, yaml.CollectionNode) and not node.flow_style
        shown = key if key is not None and (on_key or block) else node
        return self._span(shown)

    def depth(self, ordinal: int, path: Path) -> int:
        """How many parts of `path` the document itself holds."""
        node = self._nodes[ordinal]
        for number, part in enumerate(path):
            found = child(node, part)
            if found is None:
                return number
            node = found[1]
        return len(path)

    def faults(self, ordinal: int) -> list[Fault]:
        """What building the document's value complained about."""
        return rebuilt(self._nodes[ordinal])[1]

    def _span(self, node: yaml.Node) -> Span:
        start, end = node.start_mark, node.end_mark
        line = self._lines[start.line] if start.line < len(self._lines) else ""
        block = isinstance(node, yaml.CollectionNode) and not node.flow_style
        if block and isinstance(node, yaml.MappingNode) and node.value:
            return self._span(node.value[0][0])
        stop = end.column if end.line == start.line else len(line.rstrip())
        return Span(start.line + 1, start.column + 1, max(1, stop - start.column))


class Places:
    """The places of all files of one load. A layer is (file, ordinal of the document), the topmost patch first."""

    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self._texts = texts
        self._locators: dict[str, Locator] = {}

    def diagnostic(self, fault: Fault, layers: Layers, related: tuple[tuple[Position, str], ...] = ()) -> Diagnostic:
        """The fault at its line and column."""
        if fault.mark is not None:
            line, column, length = fault.mark
            at = Position(self._layer_of_mark(fault, layers), line, column, pointer(fault.path))
        else:
            file, span = self._span(layers, fault.path, fault.on_key)
            at, length = Position(file, span.line, span.column, pointer(fault.path)), span.length
        return Diagnostic(fault.severity, fault.code, fault.message, at, length, fault.hint, related)

    def found(self, finding: Finding) -> Diagnostic:
        """A finding of the linker at its line and column, with the places of its other ends."""
        related = tuple((self.position(entry.layers, path), text) for entry, path, text in finding.related)
        return self.diagnostic(finding.fault, finding.entry.layers, related)

    def position(self, layers: Layers, path: Path) -> Position:
        """The place of one node."""
        file, span = self._span(layers, path, on_key=False)
        return Position(file, span.line, span.column, pointer(path))

    def _layer_of_mark(self, fault: Fault, layers: Layers) -> str:
        """A marked fault belongs to the layer whose own reading found it; with one layer there is no question."""
        if len(layers) == 1:
            return layers[0][0]
        return next((file for file, ordinal in layers if fault in self._locator(file).faults(ordinal)), layers[-1][0])

    def _span(self, layers: Layers, path: Path, on_key: bool) -> tuple[str, Span]:
        """In the topmost layer that holds the node; else where its parent is.

        A missing field belongs to the base, unless a patch replaced the list around it.
        """
        depths = [self._locator(file).depth(ordinal, path) for file, ordinal in layers]
        deepest = max(depths)
        candidates = [layer for layer, depth in zip(layers, depths, strict=True) if depth == deepest]
        replaced = deepest == len(path) or any(isinstance(part, int) for part in path)
        file, ordinal = candidates[0] if replaced else candidates[-1]
        return file, self._locator(file).span(ordinal, path, on_key=on_key)

    def _locator(self, file: str) -> Locator:
        if file not in self._locators:
            self._locators[file] = Locator(self._texts[file])
        return self._locators[file]
