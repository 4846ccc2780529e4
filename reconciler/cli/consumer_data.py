"""The verbs of `consumer` about what was bought: fetch it, prove it, sum it, and judge whether it may be used."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.buying import As, At, Cost, Form, Meter, OnNetwork, amount, key, moment, with_client

if TYPE_CHECKING:
    from reconciler.consumer.client import Client
    from reconciler.consumer.fetch import Fetched
    from reconciler.consumer.purchases import Line, Purchase

Known = Annotated[str, typer.Argument(metavar="PURCHASE", help="Its id, its receipt's id, or what was bought.")]
Content = Annotated[str, typer.Argument(metavar="CONTENT", help="NAME or PRODUCER/NAME.")]
_WORDS = {True: "ok", False: "failed", None: "open"}


def bind(family: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (access, report, receipts, status, refund, ready, lineage, verify):
        family.command()(verb)


# --- fetching -------------------------------------------------------------------------------------


def access(
    content: Annotated[
        str | None, typer.Argument(metavar="CONTENT|URL", help="What was bought, or a URL that has a price.")
    ] = None,
    option: Annotated[str | None, typer.Option("--content-id", metavar="CONTENT", help="The same as the argument.")] = None,
    to: Annotated[
        Path, typer.Option("--to", "--output", metavar="PATH", help="A directory, or the name of a lone file.")
    ] = Path(),
    file: Annotated[list[str] | None, typer.Option("--file", help="Only this file of it; may be given several times.")] = None,
    cost: Cost = None,
    at: At = "",
    identity: As = "",
    network: OnNetwork = "",
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--format", help="How the answer is written.")] = "text",
) -> int:
    """Fetch what was bought, verified by hash; with --cost, buy it first if it was not."""
    chosen, most = content or option, amount(cost)
    if chosen is None:
        raise typer.BadParameter("what? reconciler consumer receipts lists what was bought")
    if chosen.startswith(("http://", "https://")):
        return _get(chosen, to, most, identity, network, form)
    meter = Meter()

    async def work(buyer: Client) -> tuple[Purchase, list[Fetched]]:
        one = await _owned(buyer, chosen, most, at)
        return one, await buyer.fetch(one, to, paths=file or (), told=meter)

    try:
        one, found = with_client(work, identity, network)
    finally:
        meter.close()
    if form == "json":
        output.document({"purchase": one.id, "receiptId": one.receipt_id, "files": [_fetched(file) for file in found]})
        return exits.OK
    from reconciler.planner import phrases

    for fetched in found:
        output.data(f"{fetched.place}  {phrases.size(fetched.size)}  {fetched.source or 'was there'}")
        for address, why in fetched.passed.items():
            output.say(f"passed over {address}: {why}")
    output.say(f"SHA-256 verified; next: reconciler consumer ready {one.content}")
    return exits.OK


async def _owned(buyer: Client, content: str, most: int | None, at: str) -> Purchase:
    """What was bought of that name; bought now where that is allowed."""
    from reconciler.consumer.purchases import HAD
    from reconciler.model.errors import Refused

    try:
        one = buyer.purchase(content)
        if one.state == HAD:
            return one
    except Refused:
        pass
    if most is None:
        hint = f"reconciler consumer quote {content}, then pay; or say what it may cost with --cost"
        raise Refused("not-bought", f"cannot fetch {content}: it was not bought", hint=hint)
    return await buyer.pay(await buyer.quote(content, most, at=at), most)


def _get(url: str, to: Path, most: int | None, identity: str, network: str, form: str) -> int:
    """One paid request; the answer goes to a file."""
    from reconciler.model.errors import Conflict

    name = url.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1] or "answer"
    place = to / name if to.is_dir() else to
    if place.exists():
        raise Conflict("in-the-way", f"cannot write {place}: it exists", hint="name another place with --to")
    reply = with_client(lambda buyer: buyer.get(url, most or 0), identity, network)
    part = place.with_name(f".part-{place.name}")
    part.write_bytes(reply.body)
    part.replace(place)
    if form == "json":
        output.document({"path": str(place), "size": len(reply.body), "satoshis": reply.paid, "producer": reply.peer})
    else:
        output.data(f"{place}  {len(reply.body)} bytes  {reply.paid} sat")
        output.say(f"signed by {reply.peer}")
    return exits.OK


def _fetched(one: Fetched) -> dict[str, Any]:
    return {
        "path": one.path,
        "place": str(one.place),
        "size": one.size,
        "sha256": one.sha256,
        "source": one.source or None,
        "passed": dict(one.passed),
    }


# --- what was bought ------------------------------------------------------------------------------


def report(
    time_range: Annotated[str, typer.Option("--time-range", metavar="DURATION", help="How far back.")] = "24h",
    include_payments: Annotated[bool, typer.Option("--include-payments", help="Every purchase, not only sums.")] = False,
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """Sum what was bought and what it cost, by producer, and what is left of the budget."""
    from reconciler.consumer.report import Report
    from reconciler.manifest import units

    try:
        span = timedelta(milliseconds=units.duration(time_range))
    except units.UnitError as error:
        raise typer.BadParameter(f"--time-range: {error}") from error

    async def work(buyer: Client) -> Report:
        return buyer.report(buyer.till.ports.clock.now() - span)

    found = with_client(work, identity, network)
    if form == "json":
        facts: dict[str, Any] = {
            "producers": [{"producer": producer, **sums.json()} for producer, sums in sorted(found.producers.items())],
            "total": found.total.json(),
            "budget": found.budget,
        }
        output.document({**facts, "payments": [line.json() for line in found.lines]} if include_payments else facts)
        return exits.OK
    columns = ("purchases", "receipts", "satoshis", "fees", "bytes")
    named = [(key(producer), sums) for producer, sums in sorted(found.producers.items())]
    rows = [(name, *(str(getattr(sums, column)) for column in columns)) for name, sums in [*named, ("total", found.total)]]
    output.data(output.table(rows, ("PRODUCER", *(column.upper() for column in columns))))
    if include_payments and found.lines:
        output.data("")
        output.data(_listed(list(found.lines)))
    for name, window in found.budget.items():
        left = "no limit" if window["limit"] is None else f"{window['left']} of {window['limit']} sat left"
        output.say(f"budget {name}: {window['spent']} sat spent, {left}")
    return exits.OK


def _listed(lines: list[Line]) -> str:
    rows = [
        (
            line.id,
            str(moment(line.moment)),
            _bought(line),
            key(line.producer),
            str(line.satoshis),
            str(line.fee),
            (line.purchase.receipt_id if line.purchase else "") or "-",
        )
        for line in lines
    ]
    return output.table(rows, ("PURCHASE", "AT", "CONTENT", "PRODUCER", "SATOSHIS", "FEE", "RECEIPT"))


def _bought(line: Line) -> str:
    one = line.purchase
    if one is None:
        return "-"
    return f"{one.content}@{one.sequence}" if one.sequence else one.content


def receipts(
    known: Annotated[str | None, typer.Argument(metavar="[PURCHASE]", help="One of them, to be written to --out.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write its receipt with the payment's proof here.")] = None,
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """List receipts; or write one with its proof to a file, for `reconciler verify receipt`."""
    if known is not None and out is not None:
        data = with_client(lambda buyer: buyer.receipt(known), identity, network)
        out.write_bytes(data)
        if form == "json":
            output.document({"path": str(out), "size": len(data)})
        else:
            output.data(f"{out}: {len(data)} bytes")
            output.say(f"check it anywhere: reconciler verify receipt {out}")
        return exits.OK

    async def work(buyer: Client) -> list[Line]:
        lines = buyer.receipts()
        return lines if known is None else [line for line in lines if line.id == buyer.purchase(known).id]

    lines = with_client(work, identity, network)
    if form == "json":
        output.document([line.json() for line in lines])
    elif not lines:
        output.say("nothing was bought yet; reconciler consumer search shows what there is")
    else:
        output.data(_listed(lines))
    return exits.OK


def status(
    known: Annotated[str, typer.Argument(metavar="PURCHASE|TXID", help="A purchase, or a transaction of the purse.")],
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """Say how final a purchase and its transaction are."""
    found = with_client(lambda buyer: buyer.status(known), identity, network)
    one = found.purchase
    facts = {
        "purchase": one.id if one else None,
        "contentId": one.content if one else None,
        "state": one.state if one else None,
        "fault": (one.fault or None) if one else None,
        "payment": found.payment or None,
        "txid": found.txid or None,
        "transaction": found.transaction or None,
        "height": found.height,
        "confirmations": found.confirmations,
    }
    if form == "json":
        output.document(facts)
        return exits.OK
    output.data(output.table([(name, str(value)) for name, value in facts.items() if value not in (None, "")], ("FACT", "VALUE")))
    if one is not None and found.payment == "open":
        output.say("its payment is signed and nobody has acknowledged it: buy it again, which shows the same one")
    return exits.OK


def refund(
    known: Known,
    reason: Annotated[str, typer.Option("--reason", help="Why; the producer reads it.")] = "",
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """Ask the producer for the money back, and show what it says."""
    said = with_client(lambda buyer: buyer.refund(known, reason), identity, network)
    if form == "json":
        output.document(dict(said))
    else:
        output.data("; ".join(f"{name}: {value}" for name, value in said.items()))
    return exits.OK


# --- judging --------------------------------------------------------------------------------------


def ready(content: Content, identity: As = "", network: OnNetwork = "", form: Form = "text") -> int:
    """Say whether content may be used by the readiness policy of the Identity: allow, warn or block (exit code 4)."""
    from reconciler.consumer.ready import BLOCK

    found = with_client(lambda buyer: buyer.ready(content), identity, network)
    if form == "json":
        reasons = [{"rule": one.rule, "verdict": one.verdict, "detail": one.detail} for one in found.reasons]
        output.document({"contentId": content, "verdict": found.verdict, "reasons": reasons})
    else:
        output.data(found.verdict)
        output.data(output.table([(one.rule, one.verdict, one.detail) for one in found.reasons], ("RULE", "VERDICT", "BECAUSE")))
    return exits.GUARD if found.verdict == BLOCK else exits.OK


def lineage(content: Content, identity: As = "", network: OnNetwork = "", form: Form = "text") -> int:
    """Show the versions of content, each proven to follow the one before, and what it was made of."""
    found = with_client(lambda buyer: buyer.lineage(content), identity, network)
    if form == "json":
        versions = [
            {
                "version": v.version,
                "outpoint": v.outpoint,
                "digest": v.digest,
                "height": v.height,
                "published": moment(v.published),
            }
            for v in found.versions
        ]
        facts = {"versions": versions, "inputs": [dict(one) for one in found.inputs], "complete": found.complete}
        output.document({**facts, "note": found.note or None})
        return exits.OK
    rows = [(str(v.version), v.outpoint, str(v.height or "unmined"), moment(v.published) or "-") for v in found.versions]
    output.data(output.table(rows, ("VERSION", "TOKEN", "BLOCK", "PUBLISHED")))
    for one in found.inputs:
        output.data("made of " + ", ".join(f"{name} {value}" for name, value in one.items()))
    output.say("proven back to the first version" if found.complete else f"not proven further back: {found.note or 'not asked'}")
    return exits.OK


def verify(
    known: Known,
    content: Annotated[Path | None, typer.Option("--content", help="Where its files are, to be compared.")] = None,
    identity: As = "",
    network: OnNetwork = "",
    form: Form = "text",
) -> int:
    """Check a purchase: its receipt, the signed manifest that it names, and the files on disk."""
    checks = with_client(lambda buyer: buyer.verify(known, content), identity, network)
    good = all(check.ok is not False for check in checks)
    if form == "json":
        output.document({"ok": good, "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]})
    else:
        output.data(output.table([(c.name, _WORDS[c.ok], c.detail) for c in checks], ("CHECK", "RESULT", "DETAIL")))
    return exits.OK if good else exits.ERROR
