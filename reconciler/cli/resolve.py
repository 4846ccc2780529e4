"""`journal resolve`: a person decides about a run that cannot go on by itself, or a purse that somebody else spends from."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.readonly import Behind
    from reconciler.engine.resolve import Matter

_PURSE = "coins/"


def resolve(
    matter: Annotated[str, typer.Argument(metavar="ID", help="Id of a run, or coins/CHAIN.")],
    retry: Annotated[bool, typer.Option("--retry", help="Send the same bytes again, and go on.")] = False,
    give_up: Annotated[bool, typer.Option("--give-up", help="Never sent, or proven dead: release what it holds.")] = False,
    accept: Annotated[str | None, typer.Option("--accept", metavar="TXID", help="Take it for done by this transaction.")] = None,
    write_off: Annotated[
        bool, typer.Option("--write-off", help="The coins are gone, and what they bought is not missed.")
    ] = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; it goes into the history.")] = None,
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")] = "text",
) -> int:
    """Show the ways out and what each costs, or take exactly one of them. Exit code 7 while it is undecided."""
    chosen = [
        name for name, said in (("retry", retry), ("give-up", give_up), ("accept", accept), ("write-off", write_off)) if said
    ]
    purse = matter.startswith(_PURSE)
    if len(chosen) > 1 or (chosen and purse != (chosen == ["write-off"])):
        raise typer.BadParameter("choose one of " + ("--write-off" if purse else "--retry, --give-up, --accept TXID"))
    if chosen and not (reason or "").strip():
        raise typer.BadParameter("say why, with --reason; it is kept with your name")

    async def work(space: Workspace) -> int:
        if purse:
            return await _resolve_purse(space, matter, reason or "", bool(chosen), form)
        return await _resolve_run(space, matter, chosen, accept or "", reason or "", form)

    return with_workspace(work)


async def _resolve_run(space: Workspace, run_id: str, chosen: list[str], txid: str, reason: str, form: str) -> int:
    from reconciler.engine.resolve import Word, consider
    from reconciler.engine.resolve import resolve as settle

    found = await consider(space.runner, run_id)
    if not chosen:
        _tell_matter(found, form)
        return exits.ATTENTION
    told = await settle(space.runner, found, chosen[0], Word(getpass.getuser(), reason), txid)
    _tell_done({"id": run_id, "choice": chosen[0], "satoshis": found.way(chosen[0]).satoshis, "told": told}, form)
    return exits.OK


def _tell_matter(found: Matter, form: str) -> None:
    ways = [
        {"choice": way.name, "satoshis": way.satoshis, "says": way.says, "blocked": way.blocked or None} for way in found.ways
    ]
    if form == "json":
        output.document({"id": found.run.id, "key": found.run.key.removeprefix("ref/"), "why": found.why, "ways": ways})
        return
    output.data(f"{found.run.id}  {found.run.key.removeprefix('ref/')}\n{found.why}\n")
    for way in ways:
        output.data(f"  --{way['choice']:<9} {way['satoshis']:>8} sat  {way['says']}")
        if way["blocked"]:
            output.data(f"{'':<24}not now: {way['blocked']}")
    output.say("undecided; take one way, with --reason")


async def _resolve_purse(space: Workspace, matter: str, reason: str, sure: bool, form: str) -> int:
    from reconciler.engine.handlers import require_newest
    from reconciler.engine.readonly import behind
    from reconciler.engine.stale import write_off
    from reconciler.model.errors import Attention, Refused

    try:
        # What is lost is asked for once more, so that all of it is shown and nothing is written off that came back.
        await require_newest(space.runner)
    except Attention:
        pass
    with space.ports.ledger.begin() as tx:
        found = behind(tx)
    coins = [coin for coin in found.coins if f"{_PURSE}{coin.chain}" == matter] if found else []
    if not coins:
        raise Refused("settled", f"cannot resolve {matter}: no coin of it is known to be spent elsewhere")
    total = sum(coin.satoshis for coin in coins)
    if not sure:
        shown = [{"outpoint": str(coin.outpoint), "satoshis": coin.satoshis, "spentBy": coin.txid} for coin in coins]
        if form == "json":
            output.document({"id": matter, "why": found.message if found else "", "lost": total, "coins": shown})
        else:
            rows = [(str(coin.outpoint), f"{coin.satoshis} sat", coin.txid) for coin in coins]
            output.data(output.table(rows, ("COIN", "WORTH", "SPENT BY")))
            output.data(f"  --write-off {total:>8} sat  lost to this ledger, and whatever they paid for is not on record here")
            output.say("undecided; restore the newest ledger instead if there is one, or say --write-off, with --reason")
        return exits.ATTENTION
    write_off(space.ports, coins, by=getpass.getuser(), why=reason)
    _tell_done({"id": matter, "choice": "write-off", "satoshis": total, "told": f"{len(coins)} coins are written off"}, form)
    return exits.OK


def _tell_done(done: dict[str, Any], form: str) -> None:
    if form == "json":
        output.document(done)
    else:
        output.say(f"{done['id']}: {done['told']}")


def purses(found: Behind | None) -> list[dict[str, Any]]:
    """The purses that wait for a word, as rows of `journal list`."""
    from reconciler.model.codec import timestamp

    if found is None:
        return []
    return [
        {
            "run": f"{_PURSE}{chain}",
            "key": f"{_PURSE}{chain}",
            "state": "read-only",
            "verb": "spend",
            "began": timestamp(found.since),
            "version": None,
            "steps": 0,
            "settled": 0,
            "error": None,
            "attention": found.message,
        }
        for chain in sorted({coin.chain for coin in found.coins})
    ]
