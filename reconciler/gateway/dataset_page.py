"""The page of one dataset: what it is, a look inside, its files and proofs, and the commands that buy it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from reconciler.gateway.markup import Child, Markup, el
from reconciler.gateway.pages import Place, frame
from reconciler.model.canonical import Json
from reconciler.sales import showing
from reconciler.sales.preview import Preview
from reconciler.sales.shelf import Item

# Files that are listed; the JSON has all of them.
MOST_FILES = 200


def dataset_page(place: Place, item: Item, look: Preview | None, scores: Sequence[int], data: Json) -> str:
    """One offer; `look` is what may be seen of its first file before buying, `scores` are what buyers gave it."""
    offer = item.offer
    crumbs = el(
        "p",
        el("a", "Catalog", href="/catalog"),
        " / ",
        el("a", item.producer.title, href=showing.producer_path(item.producer.key)),
        class_="crumbs",
    )
    tags = el("ul", *(el("li", _tag(tag)) for tag in offer.tags), class_="tags", aria_label="Tags") if offer.tags else None
    intro = el(
        "div",
        el("h1", offer.title),
        el("p", offer.description, class_="lead") if offer.description else None,
        tags,
        el(
            "dl",
            *(el("div", el("dt", name), el("dd", value)) for name, value in _known(place, item, scores) if value),
            class_="known",
        ),
    )
    rest = el("div", _sample(item, look), _files(item), _proof(item), _versions(item), class_="rest")
    page = el("div", intro, _buy(place, item), rest, class_="page")
    return frame(place, offer.title, crumbs, page, data=data, about=offer.description)


def _tag(tag: str) -> Markup:
    return el("a", tag, href=f"/catalog?{urlencode({'tag': tag})}")


def _known(place: Place, item: Item, scores: Sequence[int]) -> Sequence[tuple[str, Child]]:
    offer = item.offer
    stamp = showing.rfc3339(offer.published)
    return (
        ("Published", el("time", showing.age(offer.published, place.now), datetime=stamp, title=stamp)),
        ("License", offer.license),
        ("Size", f"{showing.size(item.size)} in {len(offer.files)} file{'' if len(offer.files) == 1 else 's'}"),
        ("Version", offer.version or f"number {offer.sequence}"),
        ("Format", offer.media_type or "several"),
        ("Regions", " ".join(item.regions)),
        ("Service", ", ".join(item.capabilities)),
        ("Rated by buyers", showing.rated(scores)),
        ("Producer", el("a", item.producer.title, href=showing.producer_path(item.producer.key))),
    )


def _sample(item: Item, look: Preview | None) -> Markup | None:
    if look is None:
        return None
    name = item.offer.files[0].path
    if look.columns:
        head = el("tr", *(el("th", column, scope="col") for column in look.columns))
        rows = (el("tr", *(el("td", cell) for cell in row)) for row in look.rows)
        table = el("table", el("caption", f"First rows of {name}", class_="hidden"), el("thead", head), el("tbody", *rows))
        inside = el("div", table, class_="scroll", tabindex=0, role="region", aria_label="Sample")
    else:
        inside = el("pre", "\n".join(row[0] for row in look.rows), class_="text")
    link = el("a", "the sample as a file", href=showing.content_path(item.offer.name, "/sample"))
    return el("section", el("h2", "A look inside"), inside, el("p", f"The beginning of {name}; ", link, ".", class_="note"))


def _files(item: Item) -> Markup:
    files = item.offer.files[:MOST_FILES]
    head = el(
        "tr",
        el("th", "File and its SHA-256", scope="col"),
        el("th", "Size", scope="col", class_="n"),
        el("th", "Type", scope="col"),
    )
    rows = (
        el(
            "tr",
            el("td", file.path, el("code", file.sha256)),
            el("td", showing.size(file.size), class_="n"),
            el("td", file.media_type),
        )
        for file in files
    )
    table = el(
        "table", el("caption", "Files with their hashes", class_="hidden"), el("thead", head), el("tbody", *rows), class_="files"
    )
    left = len(item.offer.files) - len(files)
    more = el("p", f"{left} more in ", el("a", "the JSON", href="?format=json"), ".", class_="note") if left else None
    shown = el("div", table, class_="scroll", tabindex=0, role="region", aria_label="Files")
    return el("section", el("h2", "Files"), shown, more)


def _proof(item: Item) -> Markup:
    offer = item.offer
    known: tuple[tuple[str, str | None], ...] = (
        ("Signed manifest, SHA-256", offer.digest),
        ("Merkle root over the files", offer.merkle_root),
        ("Anchored on chain in", offer.outpoint),
        ("Signed by", offer.producer),
    )
    listed = el("dl", *(el("div", el("dt", name), el("dd", el("code", value))) for name, value in known if value), class_="proof")
    link = el("a", "The proof as one file", href=showing.content_path(offer.name, "/proof"))
    return el("section", el("h2", "Proof"), listed, el("p", link, ": checked offline with reconciler verify.", class_="note"))


def _versions(item: Item) -> Markup | None:
    offer = item.offer
    if not offer.older:
        return None
    rows = (
        el("li", el("a", one.id, href=showing.content_path(one.id)), " ", el("code", one.digest))
        for one in (offer.edition, *offer.older)
    )
    return el("section", el("h2", "Versions"), el("ul", *rows))


def _buy(place: Place, item: Item) -> Markup:
    lines = item.price.lines if item.price is not None and len(item.price.lines) > 1 else ()
    sums = el("p", *((line.text, el("br")) for line in lines)) if lines else None
    amount = item.offer.plan["rate"] if item.satoshis is None else item.satoshis
    steps = (el("li", said, el("pre", el("code", command))) for said, command in showing.how_to_buy(item, place.base))
    ways: tuple[Child, ...] = (
        el("h2", "How to buy it" if item.satoshis else "How to get it"),
        el("ol", *steps, class_="steps"),
    )
    return el(
        "aside",
        el("span", showing.money(amount), class_="amount"),
        el("p", _terms(item)),
        sums,
        None if item.satoshis is None else ways,
        class_="buy",
        aria_label="Price",
    )


def _terms(item: Item) -> str:
    """What the amount above is for, and by which rate it comes about, where that is another number."""
    count = len(item.offer.files)
    whole = f"for all {count} files" if count > 1 else "for the file"
    if item.satoshis is None:
        return f"{item.unit}; not sold as files"
    if item.satoshis == 0:
        return "no payment needed"
    if item.offer.plan["model"] == "subscription":
        return showing.terms(item.offer.plan, item.unit)
    simple = item.satoshis == item.offer.plan["rate"]
    return f"{whole}, {showing.size(item.size)}" if simple else f"{whole}; {showing.terms(item.offer.plan, item.unit)}"
