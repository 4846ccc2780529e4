"""Diagnostics as people and tools read them: excerpt with caret, SARIF, GitHub annotations, JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reconciler.manifest.fault import CODES
from reconciler.model.canonical import Json
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.ref import Position

# Given a role ("error", "warning", "note", "place", "gutter", "source", "caret", "hint") and a text; returns it coloured.
Style = Callable[[str, str], str]
# A source line is shown whole up to this width, else the part around the caret.
_WIDTH = 120


def _plain(role: str, text: str) -> str:
    return text


def render(diagnostic: Diagnostic, texts: Mapping[str, bytes], style: Style | None = None) -> str:
    """One diagnostic with its source line; `texts` are the files it was loaded from. Ends without a newline."""
    paint = style or _plain
    word = diagnostic.severity.value
    head = f"{paint(word, f'{word}[{diagnostic.code}]')}: {diagnostic.message}"
    lines = [head, *_excerpt(diagnostic.at, diagnostic.length, diagnostic.hint, texts, paint)]
    for at, text in diagnostic.related:
        lines += [f"{paint('note', 'note')}: {text}", *_excerpt(at, 1, None, texts, paint)]
    return "\n".join(lines)


def report(diagnostics: Sequence[Diagnostic], texts: Mapping[str, bytes], style: Style | None = None) -> str:
    """Every diagnostic, one below the other; empty text for none."""
    return "\n".join(render(one, texts, style) for one in diagnostics)


def summary(errors: int, warnings: int, resources: int, files: int, seconds: float | None = None) -> str:
    """The closing line of `validate`."""
    took = f", {seconds:.2f}s" if seconds is not None else ""
    parts = (_count(errors, "error"), _count(warnings, "warning"), _count(resources, "resource"), _count(files, "file"))
    return "{}, {} in {} ({}{})".format(*parts, took)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _excerpt(at: Position, length: int, hint: str | None, texts: Mapping[str, bytes], paint: Style) -> list[str]:
    number = str(at.line)
    width = max(2, len(number))
    bar = paint("gutter", f"{'':{width}} |")
    place = [f"{paint('gutter', f'{chr(32) * width}-->')} {paint('place', str(at))}"]
    source = _line(texts, at)
    if source is None:
        return [*place, f"{bar} {paint('hint', hint)}"] if hint else place
    start = max(0, at.column - 1 - _WIDTH // 2) if len(source) > _WIDTH else 0
    shown = source[start : start + _WIDTH]
    column = min(at.column - 1 - start, len(shown))
    run = max(1, min(length, len(shown) - column))
    note = f" {paint('hint', hint)}" if hint else ""
    return [
        *place,
        bar,
        f"{paint('gutter', f'{number:>{width}} |')} {paint('source', shown)}",
        f"{bar} {' ' * column}{paint('caret', '^' * run)}{note}",
    ]


def _line(texts: Mapping[str, bytes], at: Position) -> str | None:
    data = texts.get(at.file)
    if data is None:
        return None
    lines = data.decode("utf-8-sig", "replace").splitlines()
    return lines[at.line - 1].replace("\t", " ").rstrip() if at.line <= len(lines) else ""


def as_json(diagnostics: Sequence[Diagnostic]) -> Json:
    """One mapping per diagnostic, for `-o json`."""
    return [
        {
            "severity": one.severity.value,
            "code": one.code,
            "message": one.message,
            **_where(one.at),
            "length": one.length,
            "hint": one.hint,
            "related": [{**_where(at), "message": text} for at, text in one.related],
        }
        for one in diagnostics
    ]


def _where(at: Position) -> dict[str, Json]:
    return {"file": at.file, "line": at.line, "column": at.column, "pointer": at.pointer}


def sarif(diagnostics: Sequence[Diagnostic], version: str) -> Json:
    """SARIF 2.1.0, as code scanning services take it. `version` is the program's."""
    used = sorted({one.code for one in diagnostics})
    results = [
        {
            "ruleId": one.code,
            "ruleIndex": used.index(one.code),
            "level": one.severity.value,
            "message": {"text": _sentence(one)},
            "locations": [_location(one.at, one.length)],
            **({"relatedLocations": [_location(at, 1, text) for at, text in one.related]} if one.related else {}),
        }
        for one in diagnostics
    ]
    rules = [{"id": code, "shortDescription": {"text": CODES.get(code, code)}} for code in used]
    driver = {"name": "reconciler", "version": version, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _location(at: Position, length: int, text: str | None = None) -> dict[str, Json]:
    region = {"startLine": at.line, "startColumn": at.column, "endColumn": at.column + length}
    message = {"message": {"text": text}} if text else {}
    return {"physicalLocation": {"artifactLocation": {"uri": at.file}, "region": region}, **message}


def github(diagnostics: Sequence[Diagnostic]) -> str:
    """Workflow commands that annotate a pull request, one line each."""
    return "\n".join(
        f"::{one.severity.value} file={_property(one.at.file)},line={one.at.line},col={one.at.column},"
        f"endColumn={one.at.column + one.length},title={one.code}::{_data(_sentence(one))}"
        for one in diagnostics
    )


def _sentence(one: Diagnostic) -> str:
    return f"{one.message} ({one.hint})" if one.hint else one.message


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def worst(diagnostics: Sequence[Diagnostic], *, strict: bool = False) -> bool:
    """Whether these stop the revision; `strict` counts warnings too."""
    return any(strict or one.severity is Severity.ERROR for one in diagnostics)
