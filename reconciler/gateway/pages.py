"""The storefront as HTML: what a page consists of. It works without a script, and loads nothing from anywhere.

Every page is a function from values to text; what others wrote (titles, names, rows) is escaped where it becomes an element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from reconciler.gateway.markup import Child, Markup, data_block, el
from reconciler.gateway.style import ICON, SHEET
from reconciler.model.canonical import Json
from reconciler.sales import showing
from reconciler.sales.listing import Facets, Page, Query
from reconciler.sales.shelf import Item, Producer, Service, Shelf

# Younger than this is told by colour, too.
FRESH = timedelta(days=7)
_AGES = (("", "any time"), ("1d", "last day"), ("7d", "last week"), ("30d", "last month"), ("365d", "last year"))
_SORTS = (("", "best first"), ("newest", "newest"), ("price", "lowest price"), ("title", "title"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands: the shop's name, its public address without a slash at the end, and the moment it is shown."""

    shop: str
    base: str
    now: datetime


def frame(place: Place, title: str, *body: Child, data: Json = None, about: str = "", robots: bool = True) -> str:
    """A whole document around the body; `data` is JSON-LD for machines that read pages."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("title", title if title == place.shop else f"{title} · {place.shop}"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="description", content=about) if about else None,
        None if robots else el("meta", name="robots", content="noindex"),
        el("link", rel="alternate", type="application/ld+json", href="/catalog.jsonld"),
        el("link", rel="icon", href=ICON),
        el("style", Markup(SHEET)),
        data_block(data) if data is not None else None,
    )
    top = el("header", el("div", el("a", place.shop, href="/catalog", class_="brand"), _nav(), class_="wrap"), class_="top")
    skip = el("a", "Skip to the content", href="#main", class_="skip")
    main = el("main", *body, id="main", class_="wrap")
    return "<!doctype html>\n" + el("html", head, el("body", skip, top, main, _footer()), lang="en")


def _nav() -> Markup:
    links = (("Catalog", "/catalog"), ("For machines", "/catalog?format=json"), ("API", "/openapi.json"))
    return el("nav", *(el("a", words, href=href) for words, href in links), aria_label="Main")


def _footer() -> Markup:
    links = (
        ("JSON", "/catalog?format=json"),
        ("DCAT", "/catalog.jsonld"),
        ("OpenAPI", "/openapi.json"),
        ("Signed service document", "/.well-known/overlay-producer.json"),
    )
    said = el("span", "Prices are in satoshis. Every file can be proven with its hash, offline.")
    nav = el("nav", *(el("a", words, href=href) for words, href in links), aria_label="Machine-readable forms")
    return el("footer", el("div", said, nav, class_="wrap"))


# --- the catalog ----------------------------------------------------------------------------------


def catalog_page(
    place: Place, page: Page, query: Query, known: Facets, *, title: str, lead: str, path: str = "/catalog", data: Json = None
) -> str:
    """What was found, and the ways to look for something else."""
    hero = el("div", el("h1", title), el("p", lead, class_="lead") if lead else None, _form(query, known, path), class_="hero")
    count = f"{page.total} dataset{'' if page.total == 1 else 's'}"
    asked = f" for “{query.text}”" if query.text else ""
    clear = el("a", "clear the search", href=path) if _narrowed(query) else None
    if page.items:
        found: Child = [
            el("p", el("span", count + asked), clear, class_="count"),
            *(_card(place, item) for item in page.items),
            _pager(page, query, path),
        ]
    else:
        found = _empty(query, path)
    return frame(place, title, hero, found, data=data, about=lead)


def _form(query: Query, known: Facets, path: str) -> Markup:
    term = el(
        "input",
        type="search",
        name="q",
        id="q",
        value=query.text or None,
        placeholder="Search titles, tags, files …",
        maxlength=200,
    )
    label = el("label", "Search the catalog", for_="q", class_="hidden")
    search = el("div", label, term, el("button", "Search", type="submit"), class_="search")
    fields: list[Child] = [
        _choice("License", "license", query.license, [("", "any"), *((name, name) for name, _ in known.licenses)]),
        _choice("Region", "region", query.region, [("", "any"), *((name, name) for name, _ in known.regions)]),
        _choice("Published", "maxAge", _age_value(query.max_age), _AGES),
        _limit(query.max_price),
        _choice("Order", "sort", query.sort, _SORTS),
        *(el("input", type="hidden", name="tag", value=tag) for tag in query.tags),
        el("input", type="hidden", name="capability", value=query.capability) if query.capability else None,
        el("button", "Apply", type="submit", class_="quiet"),
    ]
    chips = el(
        "ul", *(el("li", _chip(tag, query, path)) for tag in _chips(query, known)), class_="tags facets", aria_label="Tags"
    )
    return el("form", search, el("div", *fields, class_="filters"), chips, action=path, method="get", role="search")


def _choice(label: str, name: str, chosen: str, options: Sequence[tuple[str, str]]) -> Markup:
    extra = [] if any(chosen == value for value, _ in options) else [(chosen, chosen)]
    shown = (el("option", words, value=value, selected=value == chosen) for value, words in (*options, *extra))
    return el("label", label, el("select", *shown, name=name))


def _limit(price: int | None) -> Markup:
    box = el("input", type="text", name="maxPrice", value=price, inputmode="numeric", placeholder="any", autocomplete="off")
    return el("label", "Price up to, sat", box)


def _chips(query: Query, known: Facets) -> list[str]:
    return list(dict.fromkeys([*query.tags, *(tag for tag, _ in known.tags)]))


def _chip(tag: str, query: Query, path: str) -> Markup:
    """A tag that narrows the search, or takes the narrowing back."""
    on = tag in query.tags
    tags = tuple(one for one in query.tags if one != tag) if on else (*query.tags, tag)
    return el("a", tag, href=address(path, query, tags=tags), aria_current="true" if on else None)


def address(path: str, query: Query, *, tags: tuple[str, ...] | None = None, cursor: str = "") -> str:
    """The address that asks a query, from the first page on unless a cursor is given."""
    said: list[tuple[str, str]] = [
        ("q", query.text),
        *(("tag", tag) for tag in (query.tags if tags is None else tags)),
        ("license", query.license),
        ("producer", query.producer),
        ("region", query.region),
        ("capability", query.capability),
        ("maxPrice", "" if query.max_price is None else str(query.max_price)),
        ("maxAge", _age_value(query.max_age)),
        ("sort", query.sort),
        ("cursor", cursor),
    ]
    text = urlencode([(name, value) for name, value in said if value])
    return f"{path}?{text}" if text else path


def _age_value(age: timedelta | None) -> str:
    if age is None:
        return ""
    milliseconds = age // timedelta(milliseconds=1)
    days, rest = divmod(milliseconds, 86_400_000)
    return f"{milliseconds}ms" if rest else f"{days}d"


def _narrowed(query: Query) -> bool:
    return address("", query) != ""


def _card(place: Place, item: Item) -> Markup:
    offer = item.offer
    heading = el("h2", el("a", offer.title, href=showing.catalog_path(offer.name)))
    tags = el("ul", *(el("li", el("span", tag)) for tag in offer.tags[:6]), class_="tags") if offer.tags else None
    body = el("div", heading, el("p", _short(offer.description)) if offer.description else None, tags, _facts(place, item))
    return el("article", body, _price(item), class_="item")


def _short(words: str, most: int = 240) -> str:
    return words if len(words) <= most else words[:most].rsplit(" ", 1)[0] + " …"


def _facts(place: Place, item: Item) -> Markup:
    offer, count = item.offer, len(item.offer.files)
    facts: list[Child] = [
        el("li", item.producer.title) if item.producer.title != place.shop else None,
        el("li", _when(place, item)),
        el("li", f"{count} file{'' if count == 1 else 's'}, {showing.size(item.size)}"),
        el("li", offer.license) if offer.license else None,
        el("li", " ".join(item.regions)) if item.regions else None,
        el("li", f"version {offer.version}") if offer.version else None,
    ]
    return el("ul", *facts, class_="facts")


def _when(place: Place, item: Item) -> Markup:
    moment = item.offer.published
    fresh = moment is not None and place.now - moment <= FRESH
    stamp = showing.rfc3339(moment)
    return el(
        "time",
        f"published {showing.age(moment, place.now)}" if moment else "not published yet",
        datetime=stamp,
        title=stamp,
        class_="age fresh" if fresh else "age",
    )


def _price(item: Item) -> Markup:
    if item.satoshis is None:
        amount, unit = showing.money(item.offer.plan["rate"]), item.unit
    else:
        amount, unit = showing.money(item.satoshis), "for all of it" if item.satoshis else "no payment needed"
    return el("div", el("span", amount, class_="amount"), el("small", unit), class_="tag")


def _pager(page: Page, query: Query, path: str) -> Markup | None:
    if page.next is None:
        return None
    return el("nav", el("a", "More", href=address(path, query, cursor=page.next), rel="next"), class_="pager", aria_label="Pages")


def _empty(query: Query, path: str) -> Markup:
    if not _narrowed(query):
        return el(
            "div",
            el("h2", "Nothing is on sale yet"),
            el("p", "Datasets appear here as soon as they are published."),
            class_="empty",
        )
    asked = f"Nothing fits “{query.text}”" if query.text else "Nothing fits"
    hint = el("p", "Try fewer words, a higher price, or ", el("a", "look at everything", href=path), ".")
    return el("div", el("h2", asked), hint, class_="empty")


# --- a producer -----------------------------------------------------------------------------------


def producer_page(place: Place, producer: Producer, shelf: Shelf) -> str:
    """Who sells, with which key, which services, and the whole price list."""
    items = shelf.of(producer.key)
    known = [
        ("Contact", _contact(producer.contact) if producer.contact else None),
        ("Regions", " ".join(producer.regions) or None),
        ("Abilities", ", ".join(producer.capabilities) or None),
        ("Identity key", el("span", producer.key, class_="key")),
        ("Anchored in", el("span", producer.outpoint, class_="key") if producer.outpoint else None),
    ]
    body = el(
        "div",
        el("h1", producer.title),
        el("p", producer.description, class_="lead") if producer.description else None,
        el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in known if value), class_="known"),
    )
    mine = [one for one in shelf.services.values() if one.provider == producer.key]
    services = el("section", el("h2", "Services"), *(_service(one) for one in mine)) if mine else None
    return frame(place, producer.title, el("div", body, class_="hero"), price_list(items), services, about=producer.description)


def _contact(text: str) -> Child:
    if text.startswith(("https://", "http://")):
        return el("a", text, href=text, rel="noopener nofollow")
    return el("a", text, href=f"mailto:{text}") if "@" in text and " " not in text else text


def price_list(items: Sequence[Item]) -> Markup:
    """What everything costs."""
    rows = (
        el(
            "tr",
            el("td", el("a", item.offer.title, href=showing.catalog_path(item.offer.name))),
            el("td", showing.terms(item.offer.plan, item.unit)),
            el("td", "" if item.satoshis is None else showing.money(item.satoshis), class_="n"),
        )
        for item in items
    )
    head = el(
        "tr", el("th", "Dataset", scope="col"), el("th", "Price", scope="col"), el("th", "All of it", scope="col", class_="n")
    )
    table = el("table", el("caption", "What everything costs", class_="hidden"), el("thead", head), el("tbody", *rows))
    shown: Child = el("div", table, class_="scroll") if items else el("p", "Nothing is on sale yet.", class_="note")
    return el("section", el("h2", "Prices"), shown)


def _service(service: Service) -> Markup:
    said = [service.kind, service.capability, " ".join(service.regions), str(service.availability.get("target") or "")]
    document = el("a", "signed document", href=f"/.well-known/overlay-producer.json?{urlencode({'service': service.name})}")
    return el("p", el("strong", service.name), " · ", " · ".join(word for word in said if word), " · ", document)


# --- something went wrong -------------------------------------------------------------------------


def error_page(place: Place, status: int, title: str, detail: str, hint: str = "") -> str:
    """A problem for people: what it is, and what to do."""
    term = el("input", type="search", name="q", aria_label="Search the catalog", placeholder="Search the catalog")
    form = el(
        "form", term, el("button", "Search", type="submit"), action="/catalog", method="get", class_="search", role="search"
    )
    said = el("p", detail[:1].upper() + detail[1:] + ("." if detail and detail[-1] not in ".!?" else ""), class_="lead")
    more = el("p", hint[:1].upper() + hint[1:] + ".", class_="note") if hint else None
    number = el("span", f"Error {status}", class_="amount")
    return frame(place, title, el("div", number, el("h1", title), said, more, form, class_="fault"), robots=False)
