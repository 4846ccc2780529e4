"""What the kinds that publish tokens share: making, finding, re-sending and retiring PushDrop outputs.

A token is recorded as JSON: {"outpoint", "topic", "service", "type", "name", "protocol", "keyId", "owner" (key name),
"identity" (hex33), "satoshis"}. All tokens of one change are made, and all replaced ones spent, in a single transaction, so
that there is never a gap and never a second identical advertisement (overlay hosts do not index those).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.controller import Steps, ask
from reconciler.kinds.network import Net, read_net
from reconciler.model.canonical import Json
from reconciler.model.change import Cause, Change, Cost, FeeRate, FieldDelta
from reconciler.model.effect import Broadcast, Draft, Endpoint, Lock, Sign, Submit, TokenInput, TokenOutput
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import Absent, Observation, Present, Unknown
from reconciler.model.ref import Outpoint
from reconciler.model.resource import Resource
from reconciler.ports import Found, Reads
from reconciler.wire import descriptor
from reconciler.wire import draft as drafting
from reconciler.wire.beef import parse_beef

Token = Mapping[str, Json]
# Answers asked for at a time: the largest page ls_producer gives. One identity may own this many tokens in all.
PAGE = 1000
MOST_TOKENS = 1_000_000


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
    priced = drafting.price(draft_of(net, change.rate, make, spend), [t["satoshis"] for t in spend])
    return Cost(transactions=1, fees=priced.fee, locked=priced.locked), (priced.need,)


def publish(net: Net, change: Change, make: Sequence[Wanted], spend: Sequence[Token]) -> Steps[list[Token]]:
    """Sign, broadcast and submit one transaction; returns the new tokens as recorded. Nothing to do costs nothing."""
    if not make and not spend:
        return []
    if change.rate is None:
        raise Refused("no-fee-rate", f"cannot publish {change.ref} without the fee rate it was priced with")
    signed = yield from ask(Sign(draft_of(net, change.rate, make, spend)))
    txid = signed["txid"]
    yield from ask(Broadcast(txid, net.broadcasters))
    made = [w.recorded(f"{txid}.{vout}") for vout, w in enumerate(make)]
    yield from ask(submission(net, txid, made, gone=spend))
    return made


def submission(net: Net, txid: str, made: Sequence[Token], gone: Sequence[Token] = ()) -> Submit:
    """The effect that hands a transaction to every host of the network and names what must be found, and what not."""
    want: dict[str, tuple[int, ...]] = {}
    for token in made:
        outpoint = Outpoint.parse(token["outpoint"])
        want[token["topic"]] = (*want.get(token["topic"], ()), outpoint.vout)
    topics = tuple(sorted({t["topic"] for t in (*made, *gone)}))
    lost = tuple(Outpoint.parse(t["outpoint"]) for t in gone)
    owner = next((t["identity"] for t in (*made, *gone)), "")
    return Submit(txid, topics, net.overlays, want, lost, owner, net.quorum)


def resend(net: Net, tokens: Sequence[Token]) -> Steps[None]:
    """Give the world the same bytes again, free: broadcast and submit every transaction that made these tokens."""
    by_txid: dict[str, list[Token]] = {}
    for token in tokens:
        by_txid.setdefault(Outpoint.parse(token["outpoint"]).txid, []).append(token)
    for txid, made in sorted(by_txid.items()):
        yield from ask(Broadcast(txid, net.broadcasters))
        yield from ask(submission(net, txid, made))


async def observe_tokens(tokens: Sequence[Token], queries: Mapping[str, Json], net: Net, reads: Reads) -> Observation:
    """Look for each token on each host; `queries` maps a lookup service to the query that lists ours.

    Present attributes: {"tokens": {outpoint: {"name", "hosts": {host: "held" | "missing" | "unreachable"}}}}. A token
    that some host denies is looked up on the chain: spent means Absent, with the survivors in the attributes.
    """
    pairs = [(host, service) for host in net.overlays for service in sorted(queries)]
    held_by = await reads.together([_held(reads, host, service, queries[service]) for host, service in pairs])
    answers = {(host.name, service): held for (host, service), held in zip(pairs, held_by, strict=True)}
    view: dict[str, Json] = {}
    spent: dict[str, str] = {}
    for token in tokens:
        outpoint, hosts = token["outpoint"], {}
        for host in net.overlays:
            held = answers[host.name, token["service"]]
            hosts[host.name] = "unreachable" if held is None else "held" if outpoint in held else "missing"
        view[outpoint] = {"name": token["name"] or token["type"], "hosts": hosts}
        if "missing" in hosts.values() and (spender := await _spender(reads, net, outpoint)):
            spent[outpoint] = spender
    states = {state for seen in view.values() for state in seen["hosts"].values()}
    if spent:
        names = ", ".join(f"{view[o]['name']} by {txid}" for o, txid in sorted(spent.items()))
        return Absent(f"spent outside: {names}", {"tokens": view, "spent": spent})
    if tokens and states <= {"unreachable"}:
        return Unknown(f"no overlay host of Network/{net.name} answered")
    return Present({"tokens": view})


async def _held(reads: Reads, host: Endpoint, service: str, query: Json) -> frozenset[str] | None:
    held: set[str] = set()
    try:
        for skip in range(0, MOST_TOKENS, PAGE):
            found = await reads.overlay.lookup(host, service, {**query, "limit": PAGE, "skip": skip})
            held |= {str(answer.outpoint) for answer in found}
            if len(found) < PAGE:
                break
    except (Unavailable, RemoteProtocolError, Refused):
        return None
    return frozenset(held)


async def _spender(reads: Reads, net: Net, outpoint: str) -> str | None:
    try:
        return await reads.chain.spender(Outpoint.parse(outpoint), net.headers)
    except (Unavailable, RemoteProtocolError, Refused):
        return None


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


def survivors(change: Change) -> list[Token]:
    """The tokens of the record that may still be spent: all of them, less those the world showed spent."""
    if change.before is None:
        return []
    spent = change.seen.get("spent") or {}
    return [token for token in change.before.outputs.get("tokens") or () if token["outpoint"] not in spent]


async def unrecorded(want: Resource, public_key: str, reads: Reads) -> Observation:
    """Whether this key already has a descriptor for a resource that the ledger does not know.

    Asked before any first spend: a lost or restored ledger must not pay for a second token. Present
    attributes: {"unrecorded": [outpoints]}.
    """
    name = want.spec.get("networkRef")
    if not name or name not in reads.networks:
        return Absent("it names no network, so it cannot be on one")
    query = {"identityKey": public_key, "subject": str(want.ref)}
    hosts = read_net(name, reads.networks[name]).overlays
    held = await reads.together([_ours(reads, host, query) for host in hosts])
    if all(answer is None for answer in held):
        return Unknown(f"no overlay host of Network/{name} answered whether {want.ref} exists already")
    found = sorted({outpoint for answer in held if answer for outpoint in answer})
    return Present({"unrecorded": found}) if found else Absent("not found on any host")


async def _ours(reads: Reads, host: Endpoint, query: Mapping[str, Json]) -> frozenset[str] | None:
    """The outpoints of the answer that really are what was asked for: a host may ignore the query, or lie."""
    try:
        found = await reads.overlay.lookup(host, descriptor.SERVICE, {**query, "limit": PAGE})
    except (Unavailable, RemoteProtocolError, Refused):
        return None
    return frozenset(str(answer.outpoint) for answer in found if _describes(answer, query))


def _describes(answer: Found, query: Mapping[str, Json]) -> bool:
    try:
        tx = parse_beef(answer.beef).transaction(answer.outpoint.txid)
        said = descriptor.parse_descriptor(tx.outputs[answer.outpoint.vout].script) if tx else None
    except (RemoteProtocolError, IndexError):
        return False
    return said is not None and (said.identity.hex(), said.subject) == (query["identityKey"], query["subject"])
