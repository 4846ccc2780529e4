"""The words of a command line, before anybody reads them: global flags may stand after the verb, as they do in kubectl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# A command of the command-line library, or an option of one; typer may bring its own click, so their classes have no one name.
Command = Any
Option = Any


def ordered(words: Sequence[str], program: Command) -> list[str]:
    """The same words with the flags of `program` before its verb. A flag that the verb has, too, is the verb's."""
    front: list[str] = []
    rest: list[str] = []
    left, node = list(words), program
    while left:
        word = left.pop(0)
        if word == "--":
            return [*front, *rest, word, *left]
        if not word.startswith("-"):
            node = getattr(node, "commands", {}).get(word, node)
            rest.append(word)
            continue
        name = word.partition("=")[0]
        own = _option(node, name)
        found = own or _option(program, name)
        place = rest if found is None or (own is not None and node is not program) else front
        place.append(word)
        if found is not None and _takes_a_value(found) and name == word and left:
            place.append(left.pop(0))
    return [*front, *rest]


def _option(command: Command, name: str) -> Option | None:
    return next((one for one in command.params if name in (*one.opts, *one.secondary_opts)), None)


def _takes_a_value(option: Option) -> bool:
    return not getattr(option, "is_flag", False) and not getattr(option, "count", False)
