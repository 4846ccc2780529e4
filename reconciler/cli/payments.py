"""`payments`: what came in, what is owed of it, and what is given back. `consumers`: who it came from."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.asking import require_yes
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.sale import Due, Payment
    from reconciler.sales.customers import Customer
    from reconciler.sales.settle import Pot, Settled

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
State = Literal["pending", "confirmed", "rejected", "refunding", "refunded"]
# Characters of a receipt or a key that a table shows.
_SHORT = 16


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What buyers paid: list it, share it, give it back.")
    family.command("list")(list_)
    family.command()(settle)
    family.command()(refund)
    app.add_typer(family, name="payments")
    app.command()(consumers)


def list_(
    state: Annotated[State | None, typer.Option("--state", help="Only payments that are so.")] = None,
    consumer: Annotated[str | None, typer.Option("--consumer", metavar="KEY", help="Only those of this identity key.")] = None,
    content: Annotated[str | None, typer.Option("--content", metavar="NAME", help="Only those for this dataset.")] = None,
    form: Form = "text",
) -> int:
    """List payments, oldest first, and what parties are still owed of them."""

    async def work(space: Workspace) -> tuple[list[Payment], list[Due], dict[str, str]]:
        from reconciler.model.sale import PaymentState
        from reconciler.sales.refund import wanted

        with space.ports.ledger.begin() as tx:
            found = tx.payments(state=PaymentState(state) if state else None, consumer=consumer, content=content)
            asked = {one.id: why for one in found if (why := wanted(tx, one.id)) is not None}
            return list(found), list(tx.dues()), asked

    found, dues, asked = with_workspace(work)
    owed: dict[str, int] = {}
    for due in dues:
        owed[due.payment] = owed.get(due.payment, 0) + due.satoshis
    if form == "json":
        output.document([{**_facts(one, owed.get(one.id, 0)), "refundAsked": asked.get(one.id)} for one in found])
        return exits.OK
    rows = [
        (
            one.id[:_SHORT],
            one.state,
            one.method,
            f"{one.satoshis:,}",
            f"{owed.get(one.id, 0):,}",
            _named(one),
            one.consumer[:_SHORT],
        )
        for one in found
    ]
    header = ("RECEIPT", "STATE", "METHOD", "SATOSHIS", "OWED", "CONTENT", "CONSUMER")
    output.data(output.table(rows, header, output.style_for(sys.stdout, GLOBALS.colour)))
    for one in found:
        if one.id in asked and one.state in ("pending", "confirmed"):
            output.say(f"{one.id}: its buyer asks for a refund{': ' if asked[one.id] else ''}{asked[one.id]}")
    return exits.OK


def _named(one: Payment) -> str:
    return f"{one.content}@{one.sequence}" if one.content else one.stream or "-"


def _facts(one: Payment, owed: int) -> dict[str, Any]:
    from reconciler.model.codec import timestamp

    return {
        "receiptId": one.id, "state": one.state, "method": one.method, "satoshis": one.satoshis, "producer": one.producer,
        "consumer": one.consumer, "contentId": _named(one), "outpoint": one.outpoint, "template": one.template,
        "splits": [dict(share) for share in one.splits], "owed": owed, "created": timestamp(one.created),
        "confirmed": timestamp(one.confirmed) if one.confirmed else None, "refund": one.refund,
    }  # fmt: skip


def settle(
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is owed and do nothing.")] = False,
    form: Form = "text",
) -> int:
    """Pay out what parties are owed now, however little: one transaction for each identity, network and policy."""

    async def work(space: Workspace) -> tuple[tuple[Pot, ...], list[Settled]]:
        from reconciler.compose import settler
        from reconciler.planner.phrases import count, sats

        here = settler(space)
        pots = await here.owed()
        for pot in pots:
            shares = ", ".join(f"{share.party} {sats(share.satoshis)}" for share in pot.shares())
            output.say(f"Identity/{pot.identity} owes {sats(pot.satoshis)} of {count(len(pot.dues), 'share')}: {shares}")
        if not pots:
            output.say("nothing to do: nobody is owed anything of a payment that is in a block")
        if pots and not dry_run:
            require_yes("pay out what is owed", yes=yes)
        return pots, [] if dry_run else await here.settle()

    pots, done = with_workspace(work)
    if form == "json":
        told = [
            {
                "identity": pot.identity,
                "network": pot.network,
                "owed": pot.satoshis,
                "parties": [one.json() for one in pot.shares()],
            }
            for pot in pots
        ]
        output.document({"owed": told, "settled": [{"txid": one.txid, "satoshis": one.satoshis, "why": one.why} for one in done]})
    else:
        for one in done:
            output.data(one.txid) if one.txid else output.fail(one.why)
    return exits.ERROR if any(one.failed for one in done) else exits.OK


def refund(
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="The payment, by the id of its receipt.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history.")] = "",
    yes: Yes = False,
    form: Form = "text",
) -> int:
    """Give a payment back to its buyer, whole, and take away what it bought. The fee is yours."""

    async def work(space: Workspace) -> Payment:
        from reconciler.compose import settler
        from reconciler.sales.refund import Refunder

        require_yes(f"give payment {receipt} back", yes=yes)
        here = settler(space)
        return await Refunder(here.runner, here.speak).refund(receipt, reason)

    found = with_workspace(work)
    if form == "json":
        output.document(_facts(found, 0))
    else:
        output.data(found.refund or "")
        output.say(f"gave back {found.satoshis:,} sat")
    return exits.OK


def consumers(
    active: Annotated[bool, typer.Option("--active", help="Only those who are neither suspended nor blocked.")] = False,
    high_value: Annotated[bool, typer.Option("--high-value", help="Only those who paid most.")] = False,
    top: Annotated[int, typer.Option("--top", metavar="PERCENT", min=1, max=100, help="Of all, so many paid most.")] = 10,
    status: Annotated[bool, typer.Option("--payment-status", help="Show how their payments stand, too.")] = False,
    table: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all columns as CSV; - prints.")] = None,
    form: Form = "text",
) -> int:
    """List buyers, those who paid most first: where each stands by the AccessPolicies, and what each is worth."""

    async def work(space: Workspace) -> list[Customer]:
        return _known(space, top)

    found = [
        one
        for one in with_workspace(work)
        if (not active or one.consumer.status == "active") and (not high_value or one.high_value)
    ]
    if table is not None:
        from reconciler.sales.customers import write_csv

        _write(table, write_csv(found))
    elif form == "json":
        output.document([one.row() for one in found])
    else:
        rows = [_row(one, status) for one in found]
        header = ("CONSUMER", "STATUS", "TIER", "PAID", "PAYMENTS", "LAST", "HIGH VALUE")
        more = ("PENDING", "REFUNDED") if status else ()
        output.data(output.table(rows, (*header, *more), output.style_for(sys.stdout, GLOBALS.colour)))
    return exits.OK


def _row(one: Customer, status: bool) -> tuple[str, ...]:
    said, last = one.consumer, datetime.strftime(one.consumer.last, "%Y-%m-%d")
    shown = (said.consumer[:_SHORT], said.status, said.tier, f"{said.satoshis:,}", str(one.payments), last)
    more = (f"{one.pending:,}", f"{one.refunded:,}") if status else ()
    return (*shown, "yes" if one.high_value else "-", *more)


def _known(space: Workspace, top: int) -> list[Customer]:
    """Every buyer, with what the policies that are in force declare, which their rows then say as well."""
    from reconciler.sales.customers import customers, declared, policies

    now = space.ports.clock.now()
    records = space.ports.ledger.read(now).records
    with space.ports.ledger.begin() as tx:
        known = []
        for one in tx.consumers():
            said = declared(one, policies(records, one.producer), now)
            if said != one:
                tx.put_consumer(said)
            known.append(said)
        return customers(known, tx.payments(), top)


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        sys.stdout.write(text)
    else:
        # Line ends are the table's own (RFC 4180).
        path.write_bytes(text.encode())
        output.say(f"wrote {path}")
