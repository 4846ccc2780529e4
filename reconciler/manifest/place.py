"""Where a fault stands. Files are read again for their marks, each at most once, and only if something is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.manifest.fault import Fault, Path, pointer
from reconciler.manifest.link import Finding
from reconciler.manifest.yaml import Locator, Span
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.ref import Position

Layers = Sequence[tuple[str, int]]


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
