"""Overlay hosts that a Network has no longer, and what they have missed: told in order when they are declared again.

A host that leaves goes on listing the tokens it was shown. While it is away, whatever spends a token of its Network is noted;
were it shown only the last of that when it comes back, it would go on listing what the ones before have spent. It cannot be told
earlier, for a transaction that spends a token may make another, and nobody would tell it of that one's end.

Named values of the ledger hold it: `departed`, {"network url": how much had been noted when it left}, and `missed/<number>` for
each spend that was noted. A ledger that is made again does not know it, nor does a Network that was renamed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.kinds.network import net_of, read_net
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Verb
from reconciler.model.effect import Retract
from reconciler.model.endpoint import Endpoint
from reconciler.model.intent import Run
from reconciler.model.ref import Outpoint
from reconciler.ports import LedgerTransaction
from reconciler.wire.tx import parse_tx

_NAME = "departed"
# Spends after which a host that stays away is written off: it is not worth telling so much, and nobody would wait for it.
MOST = 5_000


def noted(tx: LedgerTransaction, run: Run, change: Change, outputs: Mapping[str, Any]) -> list[Retract]:
    """Note what a finished run did to hosts, or to tokens that hosts away may list; what those that are back are to be told."""
    if change.ref.kind == "Network":
        return _moved(tx, change)
    if tx.get(_NAME):
        for spend in _spends(tx, run, change, outputs):
            _miss(tx, spend)
    return []


def _moved(tx: LedgerTransaction, change: Change) -> list[Retract]:
    """Hosts that left are remembered; those that are back are forgotten, and what they missed is to be told."""
    gone = change.verb in (Verb.DELETE, Verb.FORGET)
    had = {} if change.before is None else _overlays(change.ref.name, change.before.body)
    has = {} if gone else _overlays(change.ref.name, change.body)
    known: dict[str, int] = dict(tx.get(_NAME) or {})
    back: list[Retract] = []
    for key in sorted(known):
        network, _, url = key.partition(" ")
        if url in has:
            back += _missed(tx, network, known.pop(key), has[url])
    count = int(tx.get(f"{_NAME}/count") or 0)
    for url in sorted(had.keys() - has.keys()):
        known.setdefault(f"{change.ref.name} {url}", count)
    if known != (tx.get(_NAME) or {}):
        tx.put(_NAME, known)
    return back


def _overlays(name: str, body: Mapping[str, Json]) -> dict[str, Endpoint]:
    return {host.url: host for host in read_net(name, body["spec"]).overlays}


def _spends(tx: LedgerTransaction, run: Run, change: Change, outputs: Mapping[str, Any]) -> Iterator[dict[str, Json]]:
    """The transactions of a run that spent recorded tokens, oldest first, as what a host would have to be told."""
    old = {token["outpoint"]: token for token in (change.before.outputs.get("tokens") if change.before else None) or ()}
    left = {token["outpoint"] for token in outputs.get("tokens") or ()}
    if change.before is None or not old.keys() - left:
        return
    network = net_of(change.before.body).name
    for intent in tx.intents(run.id):
        stored = tx.transaction(intent.result["txid"]) if intent.effect == "Sign" and intent.result.get("txid") else None
        if stored is None or stored.state not in ("sent", "seen", "mined"):
            continue
        gone = [str(one.outpoint) for one in parse_tx(stored.raw).inputs if str(one.outpoint) in old]
        if gone:
            made = [token["topic"] for token in outputs.get("tokens") or () if token["outpoint"].startswith(stored.txid)]
            topics = sorted({old[outpoint]["topic"] for outpoint in gone} | set(made))
            yield {"network": network, "txid": stored.txid, "topics": topics, "gone": gone, "owner": old[gone[0]]["identity"]}


def _miss(tx: LedgerTransaction, spend: Mapping[str, Json]) -> None:
    count = int(tx.get(f"{_NAME}/count") or 0)
    tx.put(f"missed/{count}", dict(spend))
    tx.put(f"{_NAME}/count", count + 1)
    known: Mapping[str, int] = tx.get(_NAME) or {}
    stay = {key: one for key, one in known.items() if count + 1 - one <= MOST}
    if len(stay) < len(known):
        tx.put(_NAME, stay)


def _missed(tx: LedgerTransaction, network: str, since: int, host: Endpoint) -> list[Retract]:
    """What was spent on a Network since a host left it, for that host, in the order it was spent."""
    found = []
    for number in range(since, int(tx.get(f"{_NAME}/count") or 0)):
        one: Mapping[str, Any] = tx.get(f"missed/{number}") or {}
        if one.get("network") == network:
            gone = tuple(Outpoint.parse(text) for text in one["gone"])
            found.append(Retract(one["txid"], tuple(one["topics"]), (host,), gone, one["owner"]))
    return found
