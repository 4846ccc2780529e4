"""What must hold whatever happens, judged from the world's own truth: the chain, the nodes, the hosts, the files on disk.

The product is asked for two things only: which run made a transaction, and what it believes in the end; both are then held
against the chain. Bytes that hash to an id which the chain knows are that transaction, whoever kept them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from reconciler.devnet.chain import MINED
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import keys
from reconciler.wire.bump import parse_bump
from reconciler.wire.script import decode_pushdrop
from reconciler.wire.tx import Tx, parse_tx
from tests.simulator.actions import Story
from tests.simulator.ground import SECRETS

# When what a story finds was sent.
YESTERDAY = -1.0
# What a token says before its signature: tag and, by tag, what it is about.
_ABOUT = {b"DESCRIPTOR": 2, b"SHIP": 3, b"SLAP": 3}


@dataclass(frozen=True, slots=True)
class Token:
    """A token of ours as its script says: `about` is "Dataset/one" or "SHIP tm_x"; `digest` and `version` of descriptors."""

    at: Outpoint
    about: str
    digest: str = ""
    version: int = 0


@dataclass(slots=True)
class Witness:
    """Watches one story; `faults` are the invariants it saw broken."""

    story: Story
    faults: list[str] = field(default_factory=list)
    _generations: dict[str, tuple[int, int]] = field(default_factory=dict)
    _txs: dict[str, Tx] = field(default_factory=dict)
    _spends: dict[Outpoint, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    _when: dict[str, float] = field(default_factory=dict)
    _seen: int = 0

    def __post_init__(self) -> None:
        for txid, raw in self.story.ground.sent:
            self._know(txid, raw)
            self._when[txid] = YESTERDAY

    def fault(self, text: str) -> None:
        """Note a broken invariant, once."""
        if text not in self.faults:
            self.faults.append(text)

    # --- while it goes on ------------------------------------------------------------------------------------

    def look(self) -> None:
        """What must hold at every moment."""
        self._hear()
        self._generations_never_fall()
        if not self.story.dropped:
            self._one_of_each()

    def _hear(self) -> None:
        """Every transaction that ever left a daemon."""
        for txid, raw in self.story.sky.sent[self._seen :]:
            self._when.setdefault(txid, self.story.ground.world.clock.elapsed)  # type: ignore[attr-defined]
            self._know(txid, raw)
        self._seen = len(self.story.sky.sent)

    def _know(self, txid: str, raw: bytes) -> None:
        if txid not in self._txs:
            tx = self._txs[txid] = parse_tx(raw)
            for entry in tx.inputs:
                self._spends[entry.outpoint][txid] = None

    def _generations_never_fall(self) -> None:
        for ref, uid, generation, observed, conditions in self._records():
            before = self._generations.get(uid, (0, 0))
            if generation < before[0] or observed < before[1]:
                self.fault(f"the generation of {ref} fell from {before} to {(generation, observed)}")
            if observed > generation or any(c > generation + 1 for c in conditions):
                self.fault(f"{ref} has observed generation {observed}, {conditions} of {generation}")
            self._generations[uid] = (generation, observed)

    def _records(self) -> Iterator[tuple[str, str, int, int, list[int]]]:
        for (text,) in self._rows("select document from records"):
            record = json.loads(text)
            status = record["status"]
            conditions = [c["observed_generation"] for c in status["conditions"]]
            yield record["ref"], record["uid"], record["generation"], status["observed_generation"], conditions

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.story.disk.database}?mode=ro", uri=True)) as reader:
            return reader.execute(query).fetchall()

    def effects(self) -> int:
        """How many steps the journal holds."""
        ((count,),) = self._rows("select count(*) from intents")
        return int(count)

    def _one_of_each(self) -> None:
        """Never two tokens that say the same thing about the same subject."""
        found: dict[str, list[str]] = {}
        for token in self.tokens():
            found.setdefault(token.about, []).append(str(token.at)[:12])
        for about, places in found.items():
            if len(places) > 1:
                self.fault(f"there are {len(places)} unspent tokens of {about}: {places}")

    # --- what the chain shows --------------------------------------------------------------------------------

    def live(self) -> list[Tx]:
        """Our transactions that the network lives with."""
        chain = self.story.ground.world.chain
        return [tx for txid, tx in self._txs.items() if chain.live(txid) is not None]

    def tokens(self, spent: bool = False) -> list[Token]:
        """Our unspent tokens; with `spent`, every one that was ever made and is not forgotten."""
        chain, found = self.story.ground.world.chain, []
        for tx in self.live():
            for token in tokens_of(tx):
                if spent or chain.spender(token.at) is None:
                    found.append(token)
        return found

    # --- in the end ------------------------------------------------------------------------------------------

    def _rested(self) -> None:
        for ref, _, generation, observed, _ in self._records():
            if observed != generation:
                self.fault(f"{ref} rests at observed generation {observed} of {generation}")

    def judge(self, records: Mapping[str, Any], transactions: Mapping[str, tuple[str, str]], books: Mapping[str, int]) -> None:
        """After the last pass. `records`: outputs by ref; `transactions`: txid -> (run, state); `books`: run -> satoshis."""
        self._hear()
        self._one_of_each()
        self._rested()
        self._inventory(records)
        self._money(transactions, books)
        self._reasons()
        self._hosts(records)
        self._proofs()
        self._coins()
        self._secrets()
        if len(self.story.fleet.replicas) == 1:
            # Two daemons that want one content on one host in the same instant may both send it; that is known.
            for waste in self.story.sky.waste:
                self.fault(waste)

    def _inventory(self, records: Mapping[str, Any]) -> None:
        owned = {str(token.at): token.about for token in self.tokens()}
        listed = {token["outpoint"]: ref for ref, outputs in records.items() for token in outputs.get("tokens") or ()}
        for outpoint in sorted(set(owned) - set(listed)):
            self.fault(f"{owned[outpoint]} is unspent and in no record: {outpoint[:12]}")
        for outpoint in sorted(set(listed) - set(owned)):
            self.fault(f"{listed[outpoint]} records {outpoint[:12]}, which is not there")
        wanted = self.story.repository.tokens
        described = {about for about in owned.values() if "/" in about}
        if wanted != described:
            self.fault(f"declared {sorted(wanted)}, described {sorted(described)}")
        topics = {
            f"{kind.upper()} {name}"
            for (k, _), spec in self.story.repository.specs.items()
            if k == "Advertisement"
            for kind in ("ship", "slap")
            for name in spec[kind]
        }
        announced = {about for about in owned.values() if "/" not in about}
        if topics != announced:
            self.fault(f"declared {sorted(topics)}, announced {sorted(announced)}")

    def _money(self, transactions: Mapping[str, tuple[str, str]], books: Mapping[str, int]) -> None:
        """Spent is what is in the books, run by run; at most one transaction of a run is alive; no day is over its budget."""
        by_run: dict[str, list[str]] = {}
        moved: dict[str, int] = {}
        today = 0
        for tx in self.live():
            run, _ = transactions.get(tx.txid, ("", ""))
            if not run:
                self.fault(f"the ledger does not know {tx.txid[:8]}, which spends the purse")
                continue
            by_run.setdefault(run, []).append(tx.txid)
            moved[run] = moved.get(run, 0) + self._left(tx)
            if self.story.calmed is not None and YESTERDAY < self._when[tx.txid] < self.story.calmed:
                today += self._left(tx)
        for run, txids in by_run.items():
            if len(txids) > 1:
                self.fault(f"{run} has {len(txids)} live transactions: {[txid[:8] for txid in txids]}")
            if books.get(run, 0) != moved[run]:
                self.fault(f"{run} moved {moved[run]} satoshis on the chain and {books.get(run, 0)} in the books")
        approved = dict(self._approved())
        for run, satoshis in moved.items():
            if satoshis > approved.get(run, 0):
                self.fault(f"{run} moved {satoshis} satoshis, {approved.get(run, 0)} were approved")
        ghosts = {run for run, satoshis in books.items() if satoshis and run not in moved}
        if ghosts:
            self.fault(f"the books know of money that the chain does not: {sorted(ghosts)}")
        if self.story.budget is not None and today > self.story.budget:
            self.fault(f"{today} satoshis left on a day of at most {self.story.budget}")

    def _approved(self) -> Iterator[tuple[str, int]]:
        for run, text in self._rows("select id, subject from runs"):
            subject = json.loads(text)
            cost = (subject.get("change") or subject.get("funding"))["cost"]
            yield run, cost["fees"] + cost["payments"] + cost["locked"]

    def _left(self, tx: Tx) -> int:
        """What a transaction took out of the purse, tokens' satoshis not counted as money of ours."""
        chain, script = self.story.ground.world.chain, self.story.ground.script
        sources = [chain.output(entry.outpoint) for entry in tx.inputs]
        taken = sum(out.satoshis for out in sources if out is not None and out.script == script)
        return taken - sum(out.satoshis for out in tx.outputs if out.script == script)

    def _reasons(self) -> None:
        """A new version says something new, and only what was ever taken out of the manifests is ever retired."""
        made = {token.at: token for token in self.tokens(spent=True)}
        for tx in self.live():
            after = {token.about: token for token in tokens_of(tx)}
            for entry in tx.inputs:
                before = made.get(entry.outpoint)
                if before is None or "/" not in before.about:
                    continue
                if before.about not in after:
                    if before.about not in self.story.repository.absent:
                        self.fault(f"{before.about} was retired by {tx.txid[:8]}, and was always declared")
                    continue
                now = after[before.about]
                if self._core(before.digest) == self._core(now.digest):
                    self.fault(f"version {now.version} of {now.about} says what version {before.version} said: paid for nothing")

    def _core(self, digest: str) -> object:
        blob = self.story.root / ".state" / "blobs" / digest[:2] / digest
        if not blob.exists():
            return digest
        said = json.loads(blob.read_bytes())["document"]
        return {name: value for name, value in said.items() if name not in ("sequence", "previous")}

    def _hosts(self, records: Mapping[str, Any]) -> None:
        """Every node of the Network lists exactly our unspent tokens; every recorded copy is there and sound."""
        world = self.story.ground.world
        ours = {token.at for token in self.tokens()}
        ever = {token.at for token in self.tokens(spent=True)}
        for host in self.story.repository.specs["Network", "local"]["overlays"]:
            listed = {at for name, rows in world.nodes[host["name"]].state.index.items() if name != "ls_uhrp" for at in rows}
            if (listed & ever) != ours:
                self.fault(f"{host['name']} lists {len(listed & ever)} of our {len(ours)} tokens")
        for ref, outputs in records.items():
            for name, copies in (outputs.get("replicas") or {}).items():
                for sha in copies:
                    host = world.storage[name]
                    item = host.find(sha, "devnet")
                    content = host.vault.slice(item.id, 0, item.size) if item is not None else b""
                    if hashlib.sha256(content).hexdigest() != sha:
                        self.fault(f"{name} does not hold {sha[:8]} of {ref}")

    def _proofs(self) -> None:
        """What the ledger calls mined is in that block of the longest chain, and everything mined is called so."""
        chain = self.story.ground.world.chain
        for txid, state, height, block, proof in self._rows("select txid, state, height, block, proof from transactions"):
            standing = chain.standing(txid)
            mined = standing is not None and standing.status == MINED
            if state == "mined":
                if not mined or standing is None or (standing.height, standing.block) != (height, block):
                    self.fault(f"the ledger has {txid[:8]} mined at {height}, the chain does not")
                elif parse_bump(bytes(proof)).root(txid) != chain.state.blocks[height].merkle_root:
                    self.fault(f"the proof of {txid[:8]} does not lead to its block")
            elif mined:
                self.fault(f"{txid[:8]} is mined and the ledger has it {state}")

    def _coins(self) -> None:
        """The purse in the ledger is the purse on the chain."""
        chain, script = self.story.ground.world.chain, self.story.ground.script
        outputs = {Outpoint(tx.txid, vout): out for tx in self.live() for vout, out in enumerate(tx.outputs)}
        real = {at for at, out in outputs.items() if out.script == script} | self.story.funded
        unspent = {str(at) for at in real if chain.spender(at) is None}
        held: dict[str, str] = dict(self._rows("select outpoint, state from coins"))
        free = {outpoint for outpoint, state in held.items() if state == "free"}
        for outpoint in sorted(free - unspent):
            self.fault(f"coin {outpoint[:12]} is free in the ledger and not on the chain")
        for outpoint in sorted(unspent - free):
            self.fault(f"coin {outpoint[:12]} is unspent on the chain and {held.get(outpoint, 'unknown')} in the ledger")

    def _secrets(self) -> None:
        """No key in any form in any file or line."""
        funding = keys.invoice("reconciler funding", "1")
        secrets = [*SECRETS.values(), keys.child_secret(SECRETS["wallet"], keys.public_key(SECRETS["wallet"]), funding)]
        needles = [form for secret in secrets for form in (secret, secret.hex().encode(), base64.b64encode(secret))]
        needles += [keys.wif_encode(secret, chain).encode() for secret in secrets for chain in ("main", "devnet")]
        for path in self.story.root.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                if any(needle in content for needle in needles):
                    self.fault(f"a key stands in {path.relative_to(self.story.root)}")
        text = "\n".join(self.story.lines).encode()
        if any(needle in text for needle in needles):
            self.fault("a key stands in what was logged")

    def attempts(self, keys_of: Mapping[str, str]) -> None:
        """Two resources never try to spend one coin, unless the first was refused. `keys_of`: txid -> resource."""
        chain = self.story.ground.world.chain
        for coin, txids in self._spends.items():
            owners = {keys_of.get(txid, txid) for txid in txids}
            refused = self.story.provoked or any(chain.standing(txid) is None for txid in txids)
            if len(owners) > 1 and not refused:
                self.fault(f"coin {str(coin)[:12]} was spent for {sorted(owners)}")


def tokens_of(tx: Tx) -> list[Token]:
    """The tokens a transaction makes."""
    found = []
    for vout, output in enumerate(tx.outputs):
        if output.satoshis != 1:
            continue
        try:
            said = decode_pushdrop(output.script).fields
        except RemoteProtocolError:
            continue
        at, tag = Outpoint(tx.txid, vout), bytes(said[0])
        if tag == b"DESCRIPTOR":
            found.append(Token(at, said[2].decode(), said[3].hex(), int(said[5])))
        elif tag in _ABOUT:
            found.append(Token(at, f"{tag.decode()} {said[3].decode()}"))
    return found
