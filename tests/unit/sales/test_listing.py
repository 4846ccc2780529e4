"""Looking through offers: what fits, in which order, page by page; and the words in which they are shown."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cli import main
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.model.sale import Edition, EditionFile
from reconciler.sales import showing
from reconciler.sales.listing import MAX_PAGE, SORTS, Query, facets, find, read_query
from reconciler.sales.offer import Offer
from reconciler.sales.preview import HEAD, preview
from reconciler.sales.shelf import Item, Producer, Service, cost

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SELLER = Producer("02" + "ab" * 32, "desk", "The Desk", regions=("EU",))
PER_ITEM = {"model": "per-item", "rate": 25}


def item(name: str, plan: dict[str, object] | None = None, days: int | None = 1, size: int = 1000, **said: object) -> Item:
    files = (EditionFile(f"data/{name}.csv", size, "cd" * 32, "text/csv"),)
    edition = Edition(name, 1, "ab" * 32, "ef" * 32, files)
    known: dict[str, object] = {"title": name.title(), "description": "", "tags": (), "license": None} | said
    offer = Offer(
        name=name, ref=ResourceRef("Dataset", name), media_type="text/csv", edition=edition, plan=plan or PER_ITEM, policy=None,
        access=None, sample=None, producer=SELLER.key, identity="desk", network="local",
        published=None if days is None else NOW - timedelta(days=days), **known,  # type: ignore[arg-type]
    )  # fmt: skip
    return Item(offer, SELLER, cost(offer))


def names(items: list[Item], query: Query) -> list[str]:
    return [one.offer.name for one in find(items, query, NOW).items]


def test_words_must_all_occur_and_those_of_the_title_weigh_most() -> None:
    shelf = [item("rates", description="gold"), item("gold", tags=("rates",)), item("copper", description="gold and rates")]
    assert names(shelf, Query("gold rates")) == ["gold", "rates", "copper"]
    assert names(shelf, Query("gold silver")) == []
    assert names(shelf, Query("GOLD.csv")) == ["gold"]


def test_freshness_counts_from_publication_and_what_is_unpublished_is_not_fresh() -> None:
    shelf = [item("new", days=1), item("old", days=30), item("never", days=None)]
    assert names(shelf, Query(max_age=timedelta(days=1))) == ["new"]
    assert names(shelf, Query(max_age=timedelta(days=1) - timedelta(seconds=1))) == []
    assert names(shelf, Query()) == ["new", "old", "never"]


def test_what_is_offered_globally_is_offered_in_every_region() -> None:
    everywhere = Service("feed", SELLER.key, "", "x", ("global",), frozenset({"wide"}), {}, "", None)
    one = item("wide")
    wide = Item(one.offer, one.producer, one.price, (everywhere,))
    assert names([item("near"), wide], Query(region="AP")) == ["wide"]
    assert names([item("near"), wide], Query(region="eu")) == ["near", "wide"]


def test_a_price_is_that_of_the_whole_and_what_has_none_fits_no_limit() -> None:
    by_size = item("large", {"model": "per-mb", "rate": 3}, size=2_500_000)
    by_time = item("live", {"model": "per-second", "rate": 1})
    assert (by_size.satoshis, by_time.satoshis) == (9, None)
    assert names([by_size, by_time, item("dear")], Query(max_price=9)) == ["large"]
    assert names([by_time, item("dear"), by_size], Query(sort="price")) == ["large", "dear", "live"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("abc")), max_size=12),
    st.integers(1, 5),
    st.sampled_from(SORTS),
    st.integers(0, 3),
)
def test_pages_together_are_the_answer_whatever_is_published_meanwhile(
    facts: list[tuple[int, int, str]], limit: int, sort: str, more: int
) -> None:
    def made(index: int, fact: tuple[int, int, str]) -> Item:
        return item(f"n{index:02}", {"model": "per-item", "rate": fact[0]}, fact[1], title=f"{fact[2]} x")

    shelf = [made(index, fact) for index, fact in enumerate(facts)]
    query = Query(text="x", sort=sort, limit=limit)
    whole = names(shelf, Query(text="x", sort=sort, limit=MAX_PAGE))
    seen: list[str] = []
    page = find(shelf, query, NOW)
    while True:
        assert len(page.items) <= limit
        seen += [one.offer.name for one in page.items]
        if page.next is None:
            break
        # Something that stands before what was seen appears between two pages.
        late = [*shelf, *(made(90 + index, (0, 0, "a")) for index in range(more))]
        page = find(late, Query(text="x", sort=sort, limit=limit, cursor=page.next), NOW)
    assert [name for name in seen if name < "n9"] == whole
    assert len(seen) == len(set(seen))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_a_cursor_from_elsewhere_is_refused_and_breaks_nothing(cursor: str) -> None:
    if cursor:
        with pytest.raises(Refused, match="cursor"):
            find([item("one")], Query(cursor=cursor), NOW)


def test_a_cursor_belongs_to_its_order() -> None:
    shelf = [item("one"), item("two")]
    cursor = find(shelf, Query(limit=1), NOW).next
    assert cursor is not None
    with pytest.raises(Refused):
        find(shelf, Query(sort="title", cursor=cursor), NOW)


def test_a_query_is_read_or_says_what_is_wrong() -> None:
    asked = read_query(
        {"q": [" gold "], "tag": ["a", "a", "b"], "maxPrice": ["5sat"], "maxAge": ["1w"], "limit": ["7"], "x": ["y"]}
    )
    assert asked == Query("gold", ("a", "b"), max_price=5, max_age=timedelta(days=7), limit=7)
    for name, value in (
        ("limit", "101"),
        ("limit", "²"),
        ("sort", "best"),
        ("maxPrice", "-1"),
        ("maxAge", "1 month"),
        ("q", "x" * 201),
    ):
        with pytest.raises(Refused, match=name):
            read_query({name: [value]})


def test_facets_count_items_and_not_words() -> None:
    found = facets([item("one", tags=("a", "b"), license="MIT"), item("two", tags=("b",))])
    assert found.tags == (("b", 2), ("a", 1)) and found.licenses == (("MIT", 1),) and found.regions == (("EU", 2),)


# --- previews -------------------------------------------------------------------------------------

CSV = b'day,note\n1,"a, b"\n2,c\n3,d\n'


def test_a_preview_shows_no_more_than_the_producer_allows() -> None:
    found = preview(CSV, "text/csv; charset=utf-8", {"rows": 2})
    assert found is not None and (found.columns, found.rows) == (("day", "note"), (("1", "a, b"), ("2", "c")))
    assert preview(CSV, "text/csv", None) is None
    few = preview(CSV, "text/csv", {"bytes": 21})
    assert few is not None and few.rows == (("1", "a, b"),)  # the row that the limit cuts is not shown
    text = preview(b'{"a": 1}\n{"a": 2}\n', "application/x-ndjson", {"rows": 1})
    assert text is not None and (text.columns, text.rows) == ((), (('{"a": 1}',),))
    assert preview(b"\x89PNG", "image/png", {"rows": 5}) is None
    assert preview(b"", "text/csv", {"rows": 5}) is None


def test_a_preview_of_a_long_file_leaves_out_the_row_that_was_cut() -> None:
    head = (b"n\n" + b"123456789\n" * HEAD)[:HEAD]
    found = preview(head, "text/csv", {"rows": 10**6})
    assert found is not None and set(found.rows) == {("123456789",)}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["text/csv", "text/plain", "application/json"]), st.integers(1, 9))
def test_a_preview_is_made_of_any_bytes(head: bytes, kind: str, rows: int) -> None:
    found = preview(head, kind, {"rows": rows})
    assert found is None or len(found.rows) <= rows


# --- commands -------------------------------------------------------------------------------------


def test_the_commands_that_are_shown_are_commands_of_the_program() -> None:
    program = typer.main.get_command(main.bind())
    for _, command in showing.how_to_buy(item("gold"), "https://shop.example.com"):
        name, *words = shlex.split(command.replace("\\\n", ""))
        assert name == "reconciler"
        verb = program
        while words and hasattr(verb, "commands"):
            verb = verb.commands[words.pop(0)]
        assert verb.make_context(verb.name, words) is not None


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (showing.money(1234567), "1\u202f234\u202f567 sat"),
        (showing.money(0), "free"),
        (showing.age(NOW - timedelta(days=3), NOW), "3 days ago"),
        (showing.age(NOW - timedelta(seconds=59), NOW), "just now"),
        (showing.age(NOW + timedelta(hours=1), NOW), "just now"),
        (showing.age(None, NOW), "not published yet"),
        (showing.size(1023), "1023 B"),
        (showing.size(1536), "1.5 KiB"),
        (showing.size(300 * 1024**2), "300 MiB"),
        (showing.terms({"model": "subscription", "rate": 900, "period": 30 * 86_400_000}, "per period"), "900 sat for 1 month"),
        (showing.terms({"model": "per-mb", "rate": 3, "free": {"units": 2}}, "per MB"), "3 sat per MB, the first 2 free"),
    ],
)
def test_amounts_are_said_in_words_one_reads_at_once(value: str, text: str) -> None:
    assert value == text
