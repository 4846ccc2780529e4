"""No text can become markup."""

import json
from html.parser import HTMLParser
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.gateway.markup import Markup, data_block, el, text


class Read(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40) | st.sampled_from(
    ["<b>", "</p>", '"', "'", "&lt;", "]]>", "-->"]
)


@settings(max_examples=150, deadline=None)
@given(WORDS, WORDS)
def test_a_parser_reads_back_what_was_written(inside: str, value: str) -> None:
    read = Read(el("p", inside, title=value))
    assert read.tags == [("p", {"title": value})] and read.said == inside


@settings(max_examples=150, deadline=None)
@given(st.recursive(st.text(max_size=20) | st.just("</script><!--") | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_nothing_in_a_data_block_ends_it(value: Any) -> None:
    block = data_block({"value": value})
    body = block.removeprefix('<script type="application/ld+json">').removesuffix("</script>")
    assert not set("<>&\u2028\u2029") & set(body) and json.loads(body) == {"value": value}


def test_elements_nest_and_attributes_may_be_left_out() -> None:
    assert el(
        "a", "x", None, [el("b", "<"), "&"], href="/?a=1&b=2", hidden=True, title=None, open=False, class_="c", aria_label="l"
    ) == ('<a href="/?a=1&amp;b=2" hidden class="c" aria-label="l">x<b>&lt;</b>&amp;</a>')
    assert el("input", name="q", value="") == '<input name="q" value="">'
    assert text(Markup("<i>")) == "<i>" and text("<i>") == "&lt;i&gt;"
