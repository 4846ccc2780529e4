"""Where nodes begin and end in a text, exactly enough to splice it.

libyaml ends a block collection at the token after it, past comments and blank lines; editing needs the end
of its last content.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from reconciler.manifest.fault import Fault
from reconciler.manifest.yaml import compose
from reconciler.model.errors import Refused

_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Text:
    """A manifest as text and the node of each of its documents. Marks count characters after the byte order mark."""

    text: str
    nodes: tuple[yaml.Node, ...]
    bom: bool

    @classmethod
    def read(cls, data: bytes, doing: str) -> Text:
        """Refused when the file is not readable YAML; `doing` completes "cannot ..."."""
        broken: list[Fault] = []
        nodes = tuple(compose(data, broken))
        if broken:
            line = broken[0].mark[0] if broken[0].mark else 1
            raise Refused("unreadable-manifest", f"cannot {doing}: {broken[0].message} in line {line}", hint=broken[0].hint)
        text = data.decode("utf-8")
        return cls(text.removeprefix(_BOM), nodes, text.startswith(_BOM))

    def bytes(self, text: str) -> bytes:
        """A changed text as a file, with the byte order mark it came with."""
        return ((_BOM if self.bom else "") + text).encode()

    def line_start(self, index: int) -> int:
        """Offset of the first character of the line that holds `index`."""
        return self.text.rfind("\n", 0, index) + 1

    def line_end(self, index: int) -> int:
        """Offset of the line break (or the end) of the line that holds `index`, before a carriage return."""
        end = self.text.find("\n", index)
        end = len(self.text) if end < 0 else end
        return end - 1 if end > index and self.text[end - 1] == "\r" else end

    @property
    def newline(self) -> str:
        """The line break this text uses."""
        return "\r\n" if "\r\n" in self.text else "\n"

    def end(self, node: yaml.Node) -> int:
        """Offset just past the last character of a node's content."""
        if isinstance(node, yaml.ScalarNode):
            if node.style in ("|", ">"):
                return len(self.text[: node.end_mark.index].rstrip())
            return int(node.end_mark.index)
        if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
            return int(node.end_mark.index)
        return max(self.end(part) for part in leaves(node))


def leaves(node: yaml.CollectionNode) -> list[yaml.Node]:
    """The last entry of a collection: its key and value, or its item."""
    last = node.value[-1]
    return list(last) if isinstance(node, yaml.MappingNode) else [last]


def is_block(node: yaml.Node) -> bool:
    """Whether a node is a collection written with indentation."""
    return isinstance(node, yaml.CollectionNode) and not node.flow_style and bool(node.value)
