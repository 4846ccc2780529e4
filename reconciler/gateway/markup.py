"""HTML that cannot be broken by what it shows: elements are made by functions, and text is escaped unless an element made it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

from reconciler.model.canonical import Json

_VOID = frozenset({"meta", "link", "input", "br", "hr"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]


def el(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """An element. `class_` and `for_` lose their underscore, others turn it into a dash; False and None leave one out."""
    said = "".join(
        f" {_named(key)}{_valued(value)}" for key, value in attributes.items() if value is not None and value is not False
    )
    return Markup(f"<{name}{said}>" if name in _VOID else f"<{name}{said}>{text(children)}</{name}>")


def text(child: Child) -> Markup:
    """Children as markup: what no element made is escaped."""
    if child is None:
        return Markup()
    if isinstance(child, str):
        return child if isinstance(child, Markup) else Markup(escape(child))
    return Markup("".join(text(one) for one in child))


def data_block(value: Json) -> Markup:
    """JSON-LD inside a page. It is data, not a script: nothing in it can end the element."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for mark, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        body = body.replace(mark, escaped)
    return Markup(f'<script type="application/ld+json">{body}</script>')


def _named(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _valued(value: str | int | bool) -> str:
    return "" if value is True else f'="{escape(str(value))}"'
