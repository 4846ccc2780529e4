"""A fault before it has a place in a file, and the table of every code.

Documents are judged as plain values, because that is fast and most are sound. Only a faulty one is read
again for its lines and columns, which is when a Fault becomes a Diagnostic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler.model.diagnostic import Severity

Path = tuple[str | int, ...]

# Stable for ever: scripts and editors match on them. A code that falls out of use is not given away again.
CODES: dict[str, str] = {
    "E0101": "the file is not readable YAML",
    "E0102": "the file exceeds a limit",
    "E0103": "a key stands twice in one mapping",
    "E0104": "a key is not text",
    "E0105": "a tag, alias or merge key that is not allowed",
    "E0106": "a number that has no exact form",
    "E0107": "unknown field",
    "E0108": "missing field",
    "E0109": "wrong type",
    "E0110": "not one of the possible values",
    "E0111": "malformed or out of range",
    "E0112": "fields that exclude or need each other",
    "E0113": "status does not belong in a file",
    "E0114": "not a resource of this format",
    "E0115": "unknown kind",
    "E0116": "a field that this version does not act on, and whose effect somebody would miss",
    "E0201": "unreadable duration",
    "E0202": "unreadable size",
    "E0203": "unreadable amount of money",
    "E0204": "unreadable percentage",
    "E0205": "unreadable fee rate",
    "E0206": "a path that leaves the repository",
    "E0301": "a resource is declared twice",
    "E0302": "a rename from what is declared itself, or renamed twice",
    "E0310": "unknown environment",
    "E0311": "a patch of something that does not exist",
    "E0312": "a reference to something that does not exist",
    "E0313": "an omitted reference that has no default",
    "E0314": "resources that need each other in a circle",
    "E0315": "a topic alias that no network defines",
    "E0401": "the kind forbids it",
    "E0402": "no content file matches",
    "E0403": "content that may not be read",
    "E0404": "the source cannot be read",
    "E0405": "two selectors choose one resource",
    "E0406": "nothing is declared, though something is recorded",
    "W0501": "a bare number of milliseconds",
    "W0502": "a field that has no effect yet",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one document: `path` leads from the document root; `on_key` points at the key, not the value.

    `mark` (1-based line, column, and length) is set where the text itself could not be read.
    """

    code: str
    message: str
    path: Path = ()
    hint: str | None = None
    on_key: bool = False
    mark: tuple[int, int, int] | None = None

    @property
    def severity(self) -> Severity:
        """E stops a revision, W is told."""
        return Severity.WARNING if self.code.startswith("W") else Severity.ERROR


def pointer(path: Path) -> str:
    """RFC 6901 JSON pointer of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def parse_pointer(text: str) -> Path:
    """The path of a JSON pointer; the leading slash may be missing, and digits become indices."""
    parts = text.removeprefix("/").split("/") if text.strip("/") else []
    plain = (part.replace("~1", "/").replace("~0", "~") for part in parts)
    return tuple(int(part) if part.isdecimal() else part for part in plain)


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    choices: Sequence[str] = sorted(set(known))
    folded = {choice.lower(): choice for choice in choices}
    import difflib  # only faulty manifests pay for it

    found = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def listed(words: Sequence[str], joint: str = "or") -> str:
    """The words as one phrase: `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {joint} {words[-1]}"
