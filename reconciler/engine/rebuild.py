"""A ledger made again from manifests, keys and the network, at no cost: what is ours is recorded, nothing is signed or sent.

Resources are taken in the order they stand on each other. Coins of the purse are had from the header source's index of outputs;
where it has none, from the change of the transactions that were found, which may not be all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.engine.finish import record_of
from reconciler.engine.observe import networks, snapshot
from reconciler.engine.receive import FUNDING, keep, verified
from reconciler.engine.run import Runner
from reconciler.engine.survey import Survey
from reconciler.kinds import adoption, identity_keys, importing
from reconciler.kinds.adoption import Adopted
from reconciler.kinds.local import LocalController
from reconciler.kinds.network import Net, net_of, read_net
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Reason, Verb
from reconciler.model.errors import Conflict, ReconcilerError, Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import Absent, Present, Unknown
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.model.resource import DesiredState, Resource
from reconciler.planner.order import rank_of, topological
from reconciler.planner.resolve import Offer, request
from reconciler.ports import Coin, Ports, Reads
from reconciler.wire.tx import parse_tx

ADOPTED, LEFT = "adopted", "left"
# What a dry run would adopt.
FOUND = "found"


@dataclass(frozen=True, slots=True)
class Find:
    """What became of one resource that was not recorded: "adopted" (in a dry run "found") with what there is, or "left" with the
    reason.
    """

    ref: ResourceRef
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Purse:
    """Coins that were entered, and what could not be learned about others."""

    coins: tuple[Coin, ...] = ()
    unknown: tuple[str, ...] = ()


async def adopt(
    runner: Runner,
    survey: Survey,
    by: str,
    only: Collection[ResourceRef] | None = None,
    token: str = "",
    *,
    dry: bool = False,
) -> tuple[Find, ...]:
    """Record everything declared and unrecorded that is on the network and ours; or `only` some, with what they stand on.

    With a `token` (as kinds/importing.py reads it), that of the one resource named: Conflict when it is somebody else's. A `dry`
    run verifies all of it and records nothing.
    """
    desired = survey.desired
    if desired is None:
        raise Refused("bad-manifests", "cannot adopt while the manifests have errors", hint="reconciler validate")
    wanted = _closure(desired, only) if only is not None else frozenset(desired.resources)
    reads = snapshot(runner.ports, networks(desired.resources, survey.recorded.records))
    taker = _Taker(runner, survey, desired, reads, by, dry)
    known = dict(survey.recorded.records)
    order = topological(wanted, {ref: desired.resources[ref].requires for ref in wanted}, rank_of(runner.kinds))
    if token:
        (ref,) = only or ()
        await taker.require_ours(ref, token)
    found = []
    for ref in order:
        if ref in known:
            continue
        try:
            record, detail = await taker.take(desired.resources[ref], known)
        except ReconcilerError as error:
            found.append(Find(ref, LEFT, error.message))
            continue
        if record is not None:
            known[ref] = record
        found.append(Find(ref, LEFT if record is None else FOUND if dry else ADOPTED, detail))
    return tuple(found)


async def adopt_marked(runner: Runner, survey: Survey) -> bool:
    """Adopt what manifests mark with `lifecycle.adopt` and the network shows; whether anything was. Then the survey is stale."""
    wants = survey.desired.resources if survey.desired is not None else {}
    marked = {
        ref
        for ref, want in wants.items()
        if want.lifecycle.adopt and ref not in survey.recorded.records and isinstance(survey.observed.get(ref), Present)
    }
    found = await adopt(runner, survey, "lifecycle.adopt", marked) if marked else ()
    return any(one.what == ADOPTED for one in found)


def _closure(desired: DesiredState, only: Iterable[ResourceRef]) -> frozenset[ResourceRef]:
    found: set[ResourceRef] = set()
    open_ = [ref for ref in only if ref in desired.resources]
    while open_:
        ref = open_.pop()
        if ref not in found:
            found.add(ref)
            open_ += [other for other in desired.resources[ref].requires if other in desired.resources]
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Taker:
    """Takes resources into the ledger, one at a time."""

    runner: Runner
    survey: Survey
    desired: DesiredState
    reads: Reads
    by: str
    dry: bool = False

    async def take(self, want: Resource, known: Mapping[ResourceRef, Record]) -> tuple[Record | None, str]:
        """The record that was written, or would be, and what it rests on; or None and why there is none."""
        missing = sorted(ref for ref in want.requires if ref not in known)
        if missing:
            return None, f"it requires {missing[0]}, which is not recorded"
        seen = self.survey.observed.get(want.ref)
        if isinstance(seen, Unknown):
            return None, seen.reason
        body = self._body(want, known)
        found = await self._look(want, body, isinstance(seen, Absent))
        if found is None:
            return None, "nothing of it is on the network; apply makes it"
        record = await self._enter(want, found)
        if want.ref.kind == "Identity":
            # What stands on it may be signed with any of its keys.
            self.runner.ports.wallet.know(identity_keys.ring(want.ref.name, want.spec, found.outputs).sources)
        return record, _told(found)

    async def require_ours(self, ref: ResourceRef, token: str) -> None:
        want = self.desired.resources[ref]
        name = str(want.spec.get("networkRef"))
        if not adoption.knows(ref.kind) or name not in self.reads.networks:
            raise Refused("no-token", f"cannot import {ref}: things of this kind have no token", hint="reconciler adopt")
        await importing.require_ours(want, read_net(name, self.reads.networks[name]), token, self.reads, self._content)

    def _body(self, want: Resource, known: Mapping[ResourceRef, Record]) -> dict[str, Json]:
        kinds = self.runner.kinds
        exports = {ref: kinds[ref.kind].exports(known[ref].body, known[ref].outputs) for ref in want.requires}
        return request(want, kinds[want.ref.kind], {ref: Offer(exported) for ref, exported in exports.items()})

    async def _look(self, want: Resource, body: dict[str, Json], absent: bool) -> Adopted | None:
        if isinstance(self.runner.kinds[want.ref.kind], LocalController):
            return Adopted(body, {})
        if not adoption.knows(want.ref.kind) or not adoption.signers(want, self.reads):
            return None
        if want.ref.kind == "Identity" and (absent or not want.spec.get("register")):
            return adoption.unregistered(want, body, self.reads)
        return None if absent else await adoption.adopt(want, body, self.reads, self._content)

    async def _content(self, net: Net, sha256: str) -> bytes | None:
        """A signed document, from our own disk or from any storage host; what came from afar is kept."""
        ports = self.runner.ports
        if ports.blobs.has(sha256):
            return ports.blobs.get(sha256)
        for host in net.storage:
            try:
                content = await ports.storage.read(host, sha256)
            except (Unavailable, RemoteProtocolError, Refused):
                continue
            if content is not None:
                ports.blobs.put(content)
                return content
        return None

    async def _enter(self, want: Resource, found: Adopted) -> Record:
        ports, net = self.runner.ports, net_of(found.body) if found.proofs else None
        proven = [await verified(ports, beef, net) for beef in found.proofs.values()] if net is not None else []
        now = ports.clock.now()
        change = Change(want.ref, Verb.CREATE, Reason.UNMANAGED, found.version, after=want, body=found.body)
        record = record_of(change, found.outputs, self.desired.revision, now, (0, 0), "", {})
        if self.dry:
            return record
        async with self.runner.lease(f"ref/{want.ref}") as lease:
            with ports.ledger.begin() as tx:
                tx.check_fence(lease.key, lease.fence)
                if tx.record(want.ref) is not None:
                    raise Conflict("recorded", f"cannot adopt {want.ref}: it was recorded meanwhile", hint="plan again")
                for parsed, headers in proven:
                    assert net is not None
                    keep(tx, parsed, headers, net)
                tx.put_record(record)
                tx.advance()
                tx.note(
                    want.ref,
                    now,
                    "resource.adopted",
                    {"by": self.by, "generation": found.version, "tokens": sorted(found.proofs)},
                )
        return record


def _told(found: Adopted) -> str:
    count = len(found.outputs.get("tokens") or ())
    if not count:
        return "recorded as declared"
    copies = len(found.outputs.get("replicas") or {})
    words = f"version {found.version}, {count} {'token' if count == 1 else 'tokens'}"
    return f"{words}, copies on {copies} {'host' if copies == 1 else 'hosts'}"


# --- the purse -------------------------------------------------------------------------------------------


async def find_coins(ports: Ports, survey: Survey, by: str) -> Purse:
    """Enter every coin of the purse that the chain shows unspent and the ledger does not have."""
    wants = survey.desired.resources if survey.desired is not None else {}
    nets: dict[str, Net] = {}
    for name, spec in sorted(networks(wants, survey.recorded.records).items()):
        net = read_net(name, spec)
        nets.setdefault(net.chain, net)
    coins: list[Coin] = []
    unknown: list[str] = []
    for net in nets.values():
        try:
            coins += await _indexed(ports, net)
        except (Unavailable, Refused, RemoteProtocolError) as error:
            walked, told = await _walked(ports, net)
            coins += walked
            unknown.append(f"{error.message}; {told}")
    if coins:
        with ports.ledger.begin() as tx:
            tx.note(None, ports.clock.now(), "coins.found", {"by": by, **{str(coin.outpoint): coin.satoshis for coin in coins}})
    return Purse(tuple(coins), tuple(unknown))


async def _indexed(ports: Ports, net: Net) -> list[Coin]:
    """By the index of the header source; each with its proof."""
    script = ports.wallet.funding_script()
    listed = await ports.chain.unspent(script, net.headers)
    with ports.ledger.begin() as tx:
        known = {coin.outpoint for coin in tx.coins(chain=net.chain)}
    found = []
    for outpoint, _ in listed:
        if outpoint in known:
            continue
        parsed, headers = await verified(ports, await ports.chain.beef(outpoint.txid, net.headers), net)
        outputs = parsed.transaction(outpoint.txid).outputs
        if outpoint.vout >= len(outputs) or outputs[outpoint.vout].script != script:
            raise RemoteProtocolError(f"cannot believe the index of outputs: {outpoint} does not pay the purse")
        coin = Coin(outpoint, net.chain, outputs[outpoint.vout].satoshis, script, FUNDING)
        with ports.ledger.begin() as tx:
            keep(tx, parsed, headers, net)
            tx.put_coin(coin)
        found.append(coin)
    return found


async def _walked(ports: Ports, net: Net) -> tuple[list[Coin], str]:
    """Without an index: the change of transactions that the ledger has, as far as the chain shows it unspent."""
    with ports.ledger.begin() as tx:
        stored = [one for one in tx.transactions() if one.chain == net.chain and one.state != "rejected"]
        known = {coin.outpoint for coin in tx.coins(chain=net.chain)}
    script = ports.wallet.funding_script()
    change = _paying([(one.txid, one.raw) for one in stored], script)
    found: list[Coin] = []
    for outpoint, satoshis in change:
        if outpoint in known:
            continue
        try:
            spender = await ports.chain.spender(outpoint, net.headers)
        except (Unavailable, Refused, RemoteProtocolError):
            return found, "no coin can be told from a spent one: receive each payment again with reconciler wallet receive"
        if spender is None:
            found.append(Coin(outpoint, net.chain, satoshis, script, FUNDING))
    with ports.ledger.begin() as tx:
        for coin in found:
            tx.put_coin(coin)
    return found, "only the change of the transactions that were found is known: other coins have to be received again"


def _paying(transactions: Sequence[tuple[str, bytes]], script: bytes) -> list[tuple[Outpoint, int]]:
    return [
        (Outpoint(txid, vout), output.satoshis)
        for txid, raw in transactions
        for vout, output in enumerate(parse_tx(raw).outputs)
        if output.script == script
    ]
