"""An overlay node: what it admits, what it remembers, what it answers (BRC-22, BRC-24).

The behaviours that surprise clients of deployed nodes are kept on purpose. One unknown topic fails the whole submission. A
transaction seen before, a manager that fails and a pure revocation all answer with the same empty lists. Spends are
applied before admissions, so a token replaced in one transaction is never missing. Nodes do not talk to each other.

`index_lag` delays what a submission changes by that many seconds, as nodes do that answer first and store afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler.devnet.chain import Chain
from reconciler.devnet.topics import BadQuery, Fact, services, topics
from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.overlay import Admittance
from reconciler.wire.proof import verify_beef
from reconciler.wire.tx import Tx, parse_tx

Steak = dict[str, Admittance]


class BadRequest(Exception):
    """The node's no; the text is its `message`, the status always 400."""


@dataclass(frozen=True, slots=True)
class Held:
    """An admitted output and what it says; a spent one is kept as history where its topic wants that."""

    fact: Fact
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What one transaction changes in one topic once it takes effect."""

    due: datetime
    topic: str
    spent: tuple[Outpoint, ...]
    kept: frozenset[Outpoint]
    admitted: Mapping[Outpoint, Fact]


@dataclass(slots=True)
class NodeState:
    """Everything a node remembers, as containers of immutable values."""

    held: dict[str, dict[Outpoint, Held]] = field(default_factory=dict)
    index: dict[str, dict[Outpoint, Fact]] = field(default_factory=dict)
    applied: dict[tuple[str, str], None] = field(default_factory=dict)
    parts: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    waiting: list[Admission] = field(default_factory=list)

    def copy(self) -> NodeState:
        """An independent state that is equal now."""
        held = {topic: dict(outputs) for topic, outputs in self.held.items()}
        index = {service: dict(rows) for service, rows in self.index.items()}
        return NodeState(held, index, dict(self.applied), dict(self.parts), list(self.waiting))


class Node:
    """The engine of one overlay node. It verifies against the world's longest chain."""

    def __init__(self, name: str, chain: Chain, *, allow_http_ads: bool = False, index_lag: float = 0.0) -> None:
        self.name, self.chain, self.index_lag = name, chain, index_lag
        self.topics, self.services = topics(allow_http_ads=allow_http_ads), services()
        self.state = NodeState()

    # --- submit ------------------------------------------------------------------------------------------------

    def submit(self, envelope: bytes, names: Sequence[str]) -> Steak:
        """Judge a BEEF under these topics and answer with what was admitted; BadRequest, and nothing happens, on any fault."""
        self._settle()
        for name in names:
            if name not in self.topics:
                raise BadRequest(f"This server does not support this topic: {name}")
        if not names:
            return {}
        tx = self._verified(envelope)
        return {name: self._apply(name, tx) for name in names}

    def _verified(self, envelope: bytes) -> Tx:
        """The subject of the envelope, once every transaction in it is known to hold; they are remembered."""
        try:
            beef = parse_beef(envelope)
            named = {txid for txid, entry in beef.txs.items() if entry.tx is None and txid in self.state.parts}
            beef = beef.fill({txid: parse_tx(self.state.parts[txid][0]) for txid in named})
            tx = beef.tx
        except RemoteProtocolError as error:
            raise BadRequest(error.message) from error
        try:
            # What was believed before and is on the network still needs no second look; a proof is looked up every time.
            seen = {txid for txid, entry in beef.txs.items() if entry.bump is None and self._believed(txid)}
            verify_beef(beef, self.chain.root_ok, known=(named | seen).__contains__)
        except RemoteProtocolError as error:
            raise BadRequest(f"Unable to verify SPV information. {error.message}") from error
        for txid in beef.txs:
            raw, proof = beef.part(txid) or (b"", b"")
            if raw and (proof or txid not in self.state.parts):
                self.state.parts[txid] = (raw, proof)
        return tx

    def _believed(self, txid: str) -> bool:
        return txid in self.state.parts and self.chain.live(txid) is not None

    def _apply(self, name: str, tx: Tx) -> Admittance:
        if (tx.txid, name) in self.state.applied:
            return Admittance()
        topic, held = self.topics[name], self.state.held.get(name, {})
        coins = {i: held.get(one.outpoint) for i, one in enumerate(tx.inputs)}
        spent = {i: coin.fact for i, coin in coins.items() if coin is not None and not coin.spent}
        admitted: dict[int, Fact] = {}
        for vout, output in enumerate(tx.outputs):
            try:
                admitted[vout] = topic.read(output.script)
            except RemoteProtocolError:
                continue
        kept = list(topic.keep(spent, list(admitted.values())))
        self.state.applied[tx.txid, name] = None
        self.state.waiting.append(
            Admission(
                due=self.chain.clock.now() + timedelta(seconds=self.index_lag),
                topic=name,
                spent=tuple(tx.inputs[i].outpoint for i in spent),
                kept=frozenset(tx.inputs[i].outpoint for i in kept),
                admitted={Outpoint(tx.txid, vout): fact for vout, fact in admitted.items()},
            )
        )
        self._settle()
        return Admittance(tuple(admitted), tuple(kept))

    def _settle(self) -> None:
        """Let what is due take effect: spends first, then admissions."""
        now = self.chain.clock.now()
        due = [change for change in self.state.waiting if change.due <= now]
        self.state.waiting = [change for change in self.state.waiting if change.due > now]
        for change in due:
            held = self.state.held.setdefault(change.topic, {})
            rows = [(s, self.state.index.setdefault(s.name, {})) for s in self.services.values() if s.topic == change.topic]
            for outpoint in change.spent:
                old = held.pop(outpoint, None)
                if old is not None and outpoint in change.kept:
                    held[outpoint] = Held(old.fact, spent=True)
                for _, index in rows:
                    index.pop(outpoint, None)
            for outpoint, fact in change.admitted.items():
                held[outpoint] = Held(fact)
                for service, index in rows:
                    taken = service.unique is not None and service.unique(fact) in map(service.unique, index.values())
                    if not taken:
                        index[outpoint] = fact

    # --- lookup ------------------------------------------------------------------------------------------------

    def lookup(self, service: str, query: Json) -> list[Outpoint]:
        """The outpoints that answer a query; BadRequest for an unknown service or a query it refuses."""
        self._settle()
        if service not in self.services:
            raise BadRequest(f"Lookup service not found for provider: {service} ")
        try:
            return list(self.services[service].answer(self.state.index.get(service, {}), query))
        except BadQuery as refusal:
            raise BadRequest(str(refusal)) from refusal

    def beef(self, txid: str) -> bytes:
        """The transaction with the proofs of today; with those of its admission when the chain has lost its ancestors."""
        try:
            return write_beef(txid, self._part)
        except LocalProtocolError:
            return write_beef(txid, self.state.parts.get)

    def _part(self, txid: str) -> tuple[bytes, bytes] | None:
        return self.chain.source(txid) or self.state.parts.get(txid)

    # --- damage ------------------------------------------------------------------------------------------------

    def wipe(self) -> None:
        """Forget everything, as a node restored from nothing does."""
        self.state = NodeState()

    def evict(self, outpoint: Outpoint, *, remember: bool = False) -> bool:
        """Lose one output; whether it was there.

        With `remember` the node still knows the transaction as applied, as after an administrator's eviction: then
        sending it again answers empty lists and does not bring the output back.
        """
        self._settle()
        found = False
        for rows in (*self.state.index.values(), *self.state.held.values()):
            found = rows.pop(outpoint, None) is not None or found
        if not remember:
            self.state.applied = {key: None for key in self.state.applied if key[0] != outpoint.txid}
        return found
