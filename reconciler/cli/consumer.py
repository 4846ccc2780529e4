"""`consumer`: buying. Find what is on offer, ask a price, pay it once, and keep the proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import consumer_data, exits, output
from reconciler.cli.buying import As, At, Cost, Form, OnNetwork, amount, ceiling, key, moment, priced, split, told, with_client
from reconciler.cli.context import GLOBALS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.consumer.client import Client, Ranked, RankedService
    from reconciler.consumer.offers import Anchor, Offer
    from reconciler.consumer.purchases import Purchase
    from reconciler.consumer.rank import Score
    from reconciler.consumer.said import Quote

MaxPrice = Annotated[
    str | None,
    typer.Option("--max-price", metavar="PRICE", help="5000 for all of it, or with a unit: 15sat/minute, 2sat/MB."),
]
Regions = Annotated[list[str] | None, typer.Option("--region", help="Prefer these regions; a,b or repeated.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show the terms of each score.")]
Measure = Annotated[bool, typer.Option("--measure/--no-measure", help="Ask each producer once how soon it answers.")]
Sort = Annotated[Literal["score", "price", "name", "newest"], typer.Option("--sort", help="In which order.")]


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Buy data: find, quote, pay, fetch, prove.")
    for verb in (init, discover, search, quote, pay):
        family.command()(verb)
    consumer_data.bind(family)
    app.add_typer(family, name="consumer")


# --- starting -------------------------------------------------------------------------------------


def init(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where; this directory if omitted.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What the buyer is called.")] = "buyer",
    overlay_url: Annotated[
        list[str] | None,
        typer.Option("--overlay-url", metavar="URL", help="An overlay host instead of the devnet's (repeatable)."),
    ] = None,
    chain: Annotated[
        Literal["devnet", "test", "main"], typer.Option("--chain", help="Which chain the network is on.")
    ] = "devnet",
    per_request: Annotated[str, typer.Option("--per-request", metavar="SATS", help="Budget of one purchase.")] = "10000sat",
    per_day: Annotated[str, typer.Option("--per-day", metavar="SATS", help="Budget of a day.")] = "50000sat",
    form: Form = "text",
) -> int:
    """Write a buyer's repository: one Identity with a budget, and the Network it buys on. Nothing is overwritten."""
    from reconciler.cli import starter

    files = starter.buyer(name, chain, overlay_url or [], {"perRequest": per_request, "perDay": per_day})
    root = directory or GLOBALS.directory
    starter.write(root, files)
    if form == "json":
        output.document({"directory": str(root.resolve()), "files": sorted(files)})
        return exits.OK
    for path in sorted(files):
        output.data(str(root / path) if directory else path)
    go = f"cd {root}; " if directory else ""
    fund = "reconciler wallet fund" if chain == "devnet" else "reconciler wallet address"
    output.say(f"next: {go}export RECONCILER_PASSPHRASE='choose one'; {fund}; reconciler apply; reconciler consumer search")
    return exits.OK


# --- finding --------------------------------------------------------------------------------------


def discover(
    service_type: Annotated[str, typer.Option("--service-type", help="Only services of this type.")] = "",
    capability: Annotated[str, typer.Option("--capability", help="Only services that can do this.")] = "",
    producer: Annotated[str, typer.Option("--producer", metavar="KEY", help="Only of this producer.")] = "",
    max_price: MaxPrice = None,
    region: Regions = None,
    sort: Sort = "score",
    explain: Explain = False,
    measure: Measure = True,
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """List services that producers advertise, verified, best first."""

    async def work(buyer: Client) -> tuple[list[RankedService], tuple[str, ...]]:
        most, regions = ceiling(max_price), split(region)
        found = await buyer.discover(
            service_type=service_type, capability=capability, producer=producer, most=most, regions=regions, measure=measure
        )
        return found, buyer.notes

    found, notes = with_client(work, identity, network)
    found.sort(key=lambda one: _order(sort, one.score, one.service.price.get("rate"), one.service.name, one.service.anchor))
    if form == "json":
        output.document({"services": [_service(one) for one in found], "notes": list(notes)})
        return exits.OK
    if not found:
        output.say("no service fits; reconciler consumer search looks for content")
    else:
        rows = [
            (
                s.producer[:16] + "…",
                s.name,
                s.service_type or "-",
                s.capability or "-",
                priced(s.price),
                s.url or "-",
                str(o.points),
            )
            for s, o in ((one.service, one.score) for one in found)
        ]
        output.data(output.table(rows, ("PRODUCER", "SERVICE", "TYPE", "CAPABILITY", "PRICE", "AT", "SCORE")))
        _explained([(one.service.name, one.score) for one in found] if explain else ())
    told(notes)
    return exits.OK


def search(
    words: Annotated[str, typer.Argument(metavar="[WORDS]", help="Words in title, description or tags.")] = "",
    tags: Annotated[list[str] | None, typer.Option("--tags", help="Only with all of these; a,b or repeated.")] = None,
    producer: Annotated[str, typer.Option("--producer", metavar="KEY", help="Only of this producer.")] = "",
    terms: Annotated[str, typer.Option("--license", help="Only under this licence.")] = "",
    max_price: MaxPrice = None,
    region: Regions = None,
    sort: Sort = "score",
    explain: Explain = False,
    measure: Measure = True,
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """List content on offer, verified, best first."""

    async def work(buyer: Client) -> tuple[list[Ranked], tuple[str, ...]]:
        most, regions = ceiling(max_price), split(region)
        found = await buyer.search(
            words, tags=split(tags), producer=producer, terms=terms, most=most, regions=regions, measure=measure
        )
        return found, buyer.notes

    found, notes = with_client(work, identity, network)
    found.sort(key=lambda one: _order(sort, one.score, one.offer.satoshis, one.offer.name, one.offer.anchor))
    if form == "json":
        output.document({"offers": [_offer(one) for one in found], "notes": list(notes)})
        return exits.OK
    if not found:
        output.say("nothing on offer fits")
    else:
        rows = [_row(one.offer, one.score) for one in found]
        output.data(output.table(rows, ("CONTENT", "TITLE", "PRODUCER", "PRICE", "SIZE", "LICENSE", "PUBLISHED", "SCORE")))
        _explained([(one.offer.name, one.score) for one in found] if explain else ())
        output.say(f"next: reconciler consumer quote {found[0].offer.name}")
    told(notes)
    return exits.OK


def _row(offer: Offer, score: Score) -> tuple[str, ...]:
    from reconciler.planner import phrases

    at = offer.anchor.published
    day = at.strftime("%Y-%m-%d") if at is not None else "unmined"
    size, terms = phrases.size(offer.size), offer.license or "-"
    return (offer.name, offer.title or "-", key(offer.producer), priced(offer.price), size, terms, day, str(score.points))


def _order(sort: str, score: Score, price: int | None, name: str, anchor: Anchor) -> tuple[Any, ...]:
    keys: dict[str, tuple[Any, ...]] = {
        "score": (-score.points,),
        "price": (price is None, price or 0),
        "name": (),
        "newest": (-(anchor.published.timestamp() if anchor.published else 2**62),),
    }
    return (*keys[sort], name, anchor.outpoint)


def _explained(scores: Sequence[tuple[str, Score]]) -> None:
    for name, score in scores:
        output.data(f"\n{name}: {score.points} of 1000")
        rows = [(term.name, f"{term.value} x {term.weight} / 1000", str(term.points), term.why) for term in score.terms]
        output.data(output.table(rows, ("TERM", "VALUE", "POINTS", "BECAUSE")))


def _score(score: Score) -> dict[str, Any]:
    terms = [{"term": t.name, "value": t.value, "weight": t.weight, "points": t.points, "why": t.why} for t in score.terms]
    return {"points": score.points, "terms": terms}


def _anchor(anchor: Anchor) -> dict[str, Any]:
    return {
        "outpoint": anchor.outpoint,
        "digest": anchor.digest,
        "version": anchor.version,
        "height": anchor.height,
        "published": moment(anchor.published),
    }


def _offer(one: Ranked) -> dict[str, Any]:
    offer = one.offer
    return {
        "contentId": offer.name,
        "producer": offer.producer,
        "title": offer.title,
        "description": offer.description,
        "tags": list(offer.tags),
        "license": offer.license,
        "price": dict(offer.price),
        "satoshis": offer.satoshis,
        "size": offer.size,
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in offer.files],
        "merkleRoot": offer.merkle_root,
        "gateway": offer.service.url if offer.service else None,
        "recall": offer.recall or None,
        "anchor": _anchor(offer.anchor),
        "score": _score(one.score),
    }


def _service(one: RankedService) -> dict[str, Any]:
    service = one.service
    return {
        "name": service.name,
        "producer": service.producer,
        "url": service.url,
        "serviceType": service.service_type,
        "capability": service.capability,
        "regions": list(service.regions),
        "offers": list(service.offers),
        "price": dict(service.price),
        "anchor": _anchor(service.anchor),
        "score": _score(one.score),
    }


# --- buying ---------------------------------------------------------------------------------------


def quote(
    content: Annotated[str, typer.Argument(metavar="CONTENT", help="NAME, PRODUCER/NAME, or NAME@VERSION.")],
    provider: Annotated[str, typer.Option("--provider", metavar="KEY", help="Of this producer, where several have one.")] = "",
    cost: Cost = None,
    at: At = "",
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """Ask a producer for a signed price. Nothing is paid, and nothing is owed."""
    most = amount(cost)
    wanted = f"{provider}/{content}" if provider else content
    found = with_client(lambda buyer: buyer.quote(wanted, most, at=at), identity, network)
    if form == "json":
        output.document(_quoted(found))
        return exits.OK
    from reconciler.consumer.said import lines_of

    output.data(f"{found.id}  {found.content}@{found.sequence}  {found.satoshis} sat  until {moment(found.expires)}")
    for line in lines_of(found.lines):
        output.data(f"  {line}")
    output.say(f"signed by {found.producer}")
    output.say(f"next: reconciler consumer pay {found.id}")
    return exits.OK


def _quoted(found: Quote) -> dict[str, Any]:
    return {
        "quoteId": found.id,
        "contentId": found.content,
        "sequence": found.sequence,
        "digest": found.digest,
        "producer": found.producer,
        "url": found.url,
        "units": found.units,
        "satoshis": found.satoshis,
        "price": [dict(line) for line in found.lines],
        "methods": list(found.methods),
        "issued": moment(found.issued),
        "expires": moment(found.expires),
    }


def pay(
    quote_id: Annotated[str | None, typer.Argument(metavar="QUOTE", help="The id that consumer quote showed.")] = None,
    option: Annotated[str | None, typer.Option("--quote-id", metavar="QUOTE", help="The same as the argument.")] = None,
    cost: Cost = None,
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """Pay a quote and keep the receipt. Running it again is harmless: what was paid for is paid for once."""
    chosen, most = quote_id or option, amount(cost)
    if chosen is None:
        raise typer.BadParameter("which quote? reconciler consumer quote CONTENT shows an id")
    one = with_client(lambda buyer: buyer.pay(chosen, most), identity, network)
    show(one, form)
    return exits.OK


def show(one: Purchase, form: str) -> None:
    """A purchase that was had."""
    if form == "json":
        output.document(bought(one))
        return
    output.data(f"{one.id}  {one.content}@{one.sequence}  {one.paid} sat  receipt {one.receipt_id}")
    output.say(f"next: reconciler consumer access {one.content} --to DIRECTORY")


def bought(one: Purchase) -> dict[str, Any]:
    """A purchase as a document."""
    return {
        "purchase": one.id,
        "contentId": one.content,
        "sequence": one.sequence,
        "digest": one.digest,
        "producer": one.producer,
        "state": one.state,
        "satoshis": one.paid,
        "receiptId": one.receipt_id,
        "files": [{name: file[name] for name in ("path", "size", "sha256")} for file in one.files],
    }
