"""What the kinds that publish tokens share: making, finding, re-sending and retiring PushDrop outputs.

A token is recorded as JSON: {"outpoint", "topic", "service", "type", "name", "protocol", "keyId", "owner" (key name),
"identity" (hex33), "satoshis"}. All tokens of one change are made, and all replaced ones spent, in a single transaction, so
that there is never a gap and never a second identical advertisement (overlay hosts do not index those).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from reconciler.controller import Steps, ask
from reconciler.kinds import lookups
from reconciler.kinds.network import Net, aimed, net_of, read_net
from reconciler.model.canonical import Json
from reconciler.model.change import Cause, Change, Cost, FeeRate, FieldDelta, Verb
from reconciler.model.effect import Broadcast, Draft, Lock, Retract, Sign, Submit, TokenInput, TokenOutput
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused
from reconciler.model.observation import Absent, Observation, Present, Unknown
from reconciler.model.ref import Outpoint
from reconciler.model.resource import Resource
from reconciler.wire import draft as drafting

if TYPE_CHECKING:
    from reconciler.ports import Reads

Token = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token to be made: where it is admitted and found, what it says, and which child key locks it."""

    type: str
    name: str
    topic: str
    service: str
    fields: tuple[bytes, ...]
    protocol: str
    key_id: str
    owner: str

    def recorded(self, outpoint: str) -> Token:
        """The JSON a record keeps of it once it exists."""
        return {
            "outpoint": outpoint,
            "type": self.type,
            "name": self.name,
            "topic": self.topic,
            "service": self.service,
            "protocol": self.protocol,
            "keyId": self.key_id,
            "owner": self.owner,
            "identity": self.fields[1].hex(),
            "satoshis": 1,
        }


def draft_of(net: Net, rate: FeeRate, make: Sequence[Wanted], spend: Sequence[Token]) -> Draft:
    """The one transaction that makes and retires; what `price` prices is what `publish` signs."""
    outputs = tuple(TokenOutput(w.fields, Lock(w.owner, w.protocol, w.key_id)) for w in make)
    inputs = tuple(TokenInput(Outpoint.parse(t["outpoint"]), Lock(t["owner"], t["protocol"], t["keyId"])) for t in spend)
    return Draft(net.chain, outputs, inputs, rate)


def price(net: Net, change: Change, make: Sequence[Wanted], spend: Sequence[Token]) -> tuple[Cost, tuple[int, ...]]:
    """Exact cost of `publish` with the same arguments, and what its funding coin must hold."""
    if not make and not spend:
        return Cost(), ()
    if change.rate is None:
        raise Refused("no-fee-rate", f"cannot price {change.ref}: no broadcaster of Network/{net.name} quoted a fee")
    if make and spend and _elsewhere(net, change):
        parts = [_priced(net, change.rate, (), spend), _priced(net, change.rate, make, ())]
        return sum((cost for cost, _ in parts), Cost()), tuple(need for _, needs in parts for need in needs)
    return _priced(net, change.rate, make, spend)


def _priced(net: Net, rate: FeeRate, make: Sequence[Wanted], spend: Sequence[Token]) -> tuple[Cost, tuple[int, ...]]:
    """One transaction."""
    priced = drafting.price(draft_of(net, rate, make, spend), [t["satoshis"] for t in spend])
    return Cost(transactions=1, fees=priced.fee, locked=priced.locked), (priced.need,)


def stay_on_chain(net: Net, change: Change) -> None:
    """Refused when tokens of the record live on another chain: no transaction can spend them from this one."""
    if change.before is None or not survivors(change):
        return
    old = net_of(change.before.body).chain
    if old != net.chain:
        raise Refused(
            "other-chain",
            f"cannot move {change.ref} from chain {old} to {net.chain}: its tokens cannot follow",
            hint=f"retire it first (reconciler destroy --target {change.ref}), then declare it on the other chain",
        )


def publish(net: Net, change: Change, make: Sequence[Wanted], spend: Sequence[Token]) -> Steps[list[Token]]:
    """Sign, broadcast and submit one transaction; returns the new tokens as recorded. Nothing to do costs nothing.

    On the way to another network it takes two, the first to retire where the tokens were: whoever is shown one transaction
    that spends a token and makes another lists the other, and nobody would ever tell a host left behind that it is gone.
    """
    if not make and not spend:
        return []
    if change.rate is None:
        raise Refused("no-fee-rate", f"cannot publish {change.ref} without the fee rate it was priced with")
    old = _elsewhere(net, change)
    if old is None and change.verb is not Verb.REPAIR:
        # A host that never took a token may still list the one before it, and only what spent that tells it otherwise.
        yield from resend(net, [token for token in lost(change) if token in spend])
    if make and spend and old is not None:
        yield from _retire(net, old, change.rate, spend)
        spend = ()
    signed = yield from ask(Sign(draft_of(net, change.rate, make, spend)))
    txid = signed["txid"]
    yield from ask(Broadcast(txid, net.broadcasters))
    made = [w.recorded(f"{txid}.{vout}") for vout, w in enumerate(make)]
    yield from ask(submission(net, txid, made, gone=spend))
    left = _left(net, change)
    if left and spend:
        # Hosts that the network has no longer would go on listing what has been spent.
        there = submission(net, txid, (), gone=spend)
        yield from ask(Retract(txid, there.topics, left, there.gone, there.owner))
    return made


def _retire(net: Net, old: Net, rate: FeeRate, spend: Sequence[Token]) -> Steps[None]:
    """Spend tokens and show it to the hosts of the network they are on; nothing waits for those."""
    signed = yield from ask(Sign(draft_of(net, rate, (), spend)))
    yield from ask(Broadcast(signed["txid"], net.broadcasters))
    there = submission(old, signed["txid"], (), gone=spend)
    yield from ask(Retract(signed["txid"], there.topics, old.overlays, there.gone, there.owner))


def _elsewhere(net: Net, change: Change) -> Net | None:
    """The network the record's tokens are on, when it is another than they are to be on, or they are meant for other hosts."""
    name = change.before.body["spec"].get("networkRef") if change.before is not None else None
    if not name or change.before is None or f"Network/{name}" not in change.before.body["using"]:
        return None
    meant, before = ((body.get("spec") or {}).get("hosts") for body in (change.body or change.before.body, change.before.body))
    if name == net.name and meant == before:
        return None
    return aimed(net_of(change.before.body), change.before.body["spec"])


def _left(net: Net, change: Change) -> tuple[Endpoint, ...]:
    """The hosts that the network had when the record's tokens were submitted, and has no longer."""
    name = change.before.body["spec"].get("networkRef") if change.before is not None else None
    if name != net.name or change.before is None or f"Network/{name}" not in change.before.body["using"]:
        return ()
    ours = {host.url for host in net.overlays}
    before = aimed(net_of(change.before.body), change.before.body["spec"])
    return tuple(host for host in before.overlays if host.url not in ours)


def submission(net: Net, txid: str, made: Sequence[Token], gone: Sequence[Token] = ()) -> Submit:
    """The effect that hands a transaction to every host of the network and names what must be found, and what not."""
    want: dict[str, tuple[int, ...]] = {}
    for token in made:
        outpoint = Outpoint.parse(token["outpoint"])
        want[token["topic"]] = (*want.get(token["topic"], ()), outpoint.vout)
    topics = tuple(sorted({t["topic"] for t in (*made, *gone)}))
    lost = tuple(Outpoint.parse(t["outpoint"]) for t in gone)
    owner = next((t["identity"] for t in (*made, *gone)), "")
    return Submit(txid, topics, net.overlays, want, lost, owner, net.quorum, net.reach)


def resend(net: Net, tokens: Sequence[Token]) -> Steps[None]:
    """Give the world the same bytes again, free: broadcast and submit every transaction that made these tokens."""
    by_txid: dict[str, list[Token]] = {}
    for token in tokens:
        by_txid.setdefault(Outpoint.parse(token["outpoint"]).txid, []).append(token)
    for txid, made in sorted(by_txid.items()):
        yield from ask(Broadcast(txid, net.broadcasters))
        yield from ask(submission(net, txid, made))


async def observe_tokens(
    tokens: Sequence[Token], queries: Mapping[str, Json], net: Net, reads: Reads, facts: Mapping[str, Json] | None = None
) -> Observation:
    """Look for each token on each host; `queries` maps a lookup service to the query that lists ours.

    Present attributes: {"tokens": {outpoint: {"name", "hosts": {host: "held" | "missing" | "hidden" | "unreachable"}}}}. A
    token that some host denies is looked up on the chain: spent means Absent, with the survivors in the attributes. `facts`
    are those of the record's status: "dead" names transactions that lost to a rival, by txid, and what they made is gone,
    whatever hosts show; "hiding" names hosts that would not list a token however often it was sent, and until when it is
    left at that: there it is "hidden", not "missing".
    """
    known = facts or {}
    dead, now = known.get("dead") or {}, reads.clock.now()
    pairs = [(host, service) for host in net.overlays for service in sorted(queries)]
    held_by = await reads.together([lookups.held(reads, host, service, queries[service]) for host, service in pairs])
    answers = {(host.name, service): held for (host, service), held in zip(pairs, held_by, strict=True)}
    view: dict[str, Json] = {}
    spent: dict[str, str] = {}
    for token in tokens:
        outpoint, hosts = token["outpoint"], {}
        for host in net.overlays:
            held = answers[host.name, token["service"]]
            denied = "hidden" if _rests((known.get("hiding") or {}).get(host.name), outpoint, now) else "missing"
            hosts[host.name] = "unreachable" if held is None else "held" if outpoint in held else denied
        view[outpoint] = {"name": token["name"] or token["type"], "hosts": hosts}
        if (rival := dead.get(Outpoint.parse(outpoint).txid)) is not None:
            spent[outpoint] = rival
        elif {"missing", "hidden"} & set(hosts.values()) and (spender := await lookups.spender(reads, net, outpoint)):
            spent[outpoint] = spender
    states = {state for seen in view.values() for state in seen["hosts"].values()}
    if spent:
        return await _retired(spent, view, tokens, net, reads)
    if tokens and states <= {"unreachable"}:
        return Unknown(f"no overlay host of Network/{net.name} answered")
    return Present({"tokens": view})


def _rests(hiding: Json | None, outpoint: str, now: datetime) -> bool:
    """Whether a host that hides this token is left alone for now."""
    return hiding is not None and outpoint in hiding["outpoints"] and now < datetime.fromisoformat(hiding["next"])


def token_drift(seen: Present) -> list[FieldDelta]:
    """A delta for every host that lost a token it had been given."""
    return [
        FieldDelta(f"hosts.{host}.{view['name']}", "held", "missing", Cause.DRIFT)
        for view in (seen.attributes.get("tokens") or {}).values()
        for host, state in sorted(view["hosts"].items())
        if state == "missing"
    ]


def lost(change: Change) -> list[Token]:
    """The recorded tokens that some host was seen to lack: what a repair has to send again, and nothing else."""
    seen = change.seen.get("tokens") or {}
    recorded = change.before.outputs.get("tokens") or () if change.before else ()
    return [token for token in recorded if "missing" in (seen.get(token["outpoint"]) or {"hosts": {}})["hosts"].values()]


def anew(change: Change) -> bool:
    """Whether it is made again although nothing it says has changed: replaced, by order or for a field that cannot change in
    place, or published on another network. One transaction spends the old tokens and makes the new.
    """
    if change.verb is Verb.REPLACE:
        return True
    old = change.before.body["spec"].get("networkRef") if change.before is not None else None
    return bool(old) and change.verb is Verb.UPDATE and change.body["spec"].get("networkRef") not in (None, old)


def survivors(change: Change) -> list[Token]:
    """The tokens of the record that may still be spent: all of them, less those the world showed spent."""
    if change.before is None:
        return []
    spent = change.seen.get("spent") or {}
    return [token for token in change.before.outputs.get("tokens") or () if token["outpoint"] not in spent]


async def unrecorded(want: Resource, public_key: str, reads: Reads, adverts: Sequence[lookups.Question] = ()) -> Observation:
    """Whether this key already has tokens for a resource that the ledger does not know.

    Asked before any first spend: a lost or restored ledger must not pay for a second token. Present
    attributes: {"unrecorded": [outpoints]}.
    """
    name = want.spec.get("networkRef")
    if not name or name not in reads.networks:
        return Absent("it names no network, so it cannot be on one")
    net, asked = read_net(name, reads.networks[name]), [lookups.of_subject(public_key, str(want.ref)), *adverts]
    return await lookups.strangers(reads, net, asked)


async def _retired(
    spent: Mapping[str, str], view: Mapping[str, Json], tokens: Sequence[Token], net: Net, reads: Reads
) -> Observation:
    """Tokens of a record that the chain shows spent: Absent, unless another ledger has gone on with the resource.

    A ledger restored from a backup sees the same; were it to make the token again, there would be two, paid twice.
    """
    names = ", ".join(f"{view[o]['name']} by {txid}" for o, txid in sorted(spent.items()))
    asked = [lookups.of_subject(t["identity"], t["name"]) for t in tokens if t["type"] == "DESCRIPTOR"]
    others = await lookups.strangers(reads, net, asked, {t["outpoint"] for t in tokens}) if asked else Absent()
    if isinstance(others, Present):
        newer = ", ".join(others.attributes["unrecorded"])
        return Unknown(f"this ledger is behind: spent outside: {names}; the network holds {newer}, which is not on record")
    return others if isinstance(others, Unknown) else Absent(f"spent outside: {names}", {"tokens": view, "spent": spent})
