"""A person's word on what the program will not decide by itself: the ways there are, each with its price, and doing one.

No way breaks the rule that one change pays once. The same bytes may always be sent again; coins come back only when nothing
left, or when a rival deep in the chain proves that what left is dead; and done is only what a broadcaster holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.controller import Steps
from reconciler.engine.ancestry import beef_of
from reconciler.engine.death import DEAD_DEPTH, Rival, acquit, bury, rival_of
from reconciler.engine.demands import answered, demands
from reconciler.engine.drive import drive
from reconciler.engine.finish import finish, release, spent
from reconciler.engine.handlers import chain_nets
from reconciler.engine.journal import Budget, Journal
from reconciler.engine.route import pays
from reconciler.engine.run import Runner
from reconciler.engine.standing import state
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.change import Change, Verb
from reconciler.model.codec import decode
from reconciler.model.effect import Broadcast, Effect, Sign
from reconciler.model.errors import Attention, Conflict, ReconcilerError, Refused
from reconciler.model.intent import Done, Intent, IntentState, Run, RunState
from reconciler.model.plan import Funding
from reconciler.model.ref import ResourceRef
from reconciler.model.status import Condition, Truth
from reconciler.ports import Coin, Lease, LedgerTransaction, Signed, StoredTx
from reconciler.wire import arc

RETRY, GIVE_UP, ACCEPT = "retry", "give-up", "accept"


@dataclass(frozen=True, slots=True)
class Way:
    """One alternative: what it does, what it costs or loses in satoshis, and why it is not open now, if so."""

    name: str
    satoshis: int
    says: str
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class Matter:
    """A run, why a person is asked about it, its live transactions, and the ways there are."""

    run: Run
    why: str
    transactions: tuple[StoredTx, ...]
    rivals: Mapping[str, Rival]
    ways: tuple[Way, ...]

    def way(self, name: str) -> Way:
        """The alternative of that name; Attention when it is not open."""
        found = next(way for way in self.ways if way.name == name)
        if found.blocked:
            raise Attention(
                "undecided", f"cannot {name} {self.run.id}: {found.blocked}", hint="reconciler journal resolve shows what is open"
            )
        return found


@dataclass(frozen=True, slots=True)
class Word:
    """Who says so, and why: it goes into the history."""

    by: str
    why: str


async def consider(runner: Runner, run_id: str) -> Matter:
    """What is known of a run and the ways out of it; Refused when there is no such run. Reads only."""
    with runner.ports.ledger.begin() as tx:
        run = tx.run(run_id)
        if run is None:
            raise Refused("no-run", f"cannot find run {run_id}", hint="reconciler journal list --all")
        asked = demands(tx).get(run_id)
        intents = list(tx.intents(run_id))
        live = tuple(one for one in tx.transactions() if one.run == run_id and one.state != "rejected")
        fees, paid, locked = spent(tx, run_id)
    if run.state is not RunState.OPEN and asked is None:
        raise Refused("settled", f"cannot resolve run {run_id}: it is {run.state.value}, and nothing is in doubt")
    rivals: dict[str, Rival] = {}
    for one in live:
        try:
            rival = await rival_of(runner.ports, net_of_run(runner, run), one)
        except ReconcilerError:
            continue
        if rival is not None:
            rivals[one.txid] = rival
    sent = any(intent.effect == Broadcast.__name__ for intent in intents) or run.state is not RunState.OPEN
    moving = sum(i.result["fee"] + i.result["locked"] for i in intents if i.effect == "Sign" and i.state is IntentState.DONE)
    ways = (_retry(live), _give_up(live, rivals, paid, sent=sent), _accept(live, max(moving, fees + locked) + paid))
    why = asked.message if asked else f"{run.key.removeprefix('ref/')} is being worked on; nothing is known to be wrong with it"
    return Matter(run, why, live, rivals, ways)


def _retry(live: Sequence[StoredTx]) -> Way:
    if not live:
        return Way(RETRY, 0, "go on from where it stopped; nothing was signed")
    names = ", ".join(one.txid for one in live)
    return Way(RETRY, 0, f"send the same bytes again ({names}); free, for they can be mined once at most")


def _give_up(live: Sequence[StoredTx], rivals: Mapping[str, Rival], paid: int, *, sent: bool) -> Way:
    lost = f"; {paid} sat paid to storage hosts stay paid" if paid else ""
    if not sent or not live:
        return Way(GIVE_UP, paid, f"nothing was sent: its coins are free again{lost}")
    unproven = [one.txid for one in live if one.txid not in rivals or not rivals[one.txid].proves]
    if unproven:
        known = rivals.get(unproven[0])
        have = f"its rival {known.txid} is {known.depth} deep" if known else "no rival of it is known"
        need = f"{unproven[0]} may still be mined; its death is proven by a rival {DEAD_DEPTH} blocks deep, and {have}"
        return Way(GIVE_UP, paid, "enter its death and make it anew with the next plan", need)
    killers = ", ".join(sorted({rivals[one.txid].txid for one in live}))
    return Way(GIVE_UP, paid, f"dead, by {killers}: coins that were not taken are free again{lost}")


def _accept(live: Sequence[StoredTx], satoshis: int) -> Way:
    says = "take it for done by a transaction that the network holds, and record what that made"
    return Way(ACCEPT, satoshis, says, "" if live else "it has signed no transaction")


def net_of_run(runner: Runner, run: Run) -> Net:
    """The network a run pays on."""
    if "change" in run.subject:
        return pays(decode(Change, run.subject["change"]))
    chain = decode(Funding, run.subject["funding"]).chain
    nets = chain_nets(runner.ports.ledger.read(runner.ports.clock.now()))
    if chain not in nets:
        raise Refused(
            "no-network", f"cannot resolve {run.id}: no recorded Network is on chain {chain}", hint="apply a Network first"
        )
    return nets[chain]


async def resolve(runner: Runner, matter: Matter, choice: str, word: Word, txid: str = "") -> str:
    """Do one of the ways, and only that; what came of it, in a sentence. Attention when it leaves the matter undecided."""
    matter.way(choice)
    async with runner.lease(matter.run.key) as lease:
        with runner.ports.ledger.begin() as tx:
            now = tx.run(matter.run.id)
        if now is None or now.state is not matter.run.state:
            raise Conflict("run-moved", f"cannot resolve {matter.run.id}: it has been worked on meanwhile", hint="look again")
        if choice == RETRY:
            told = await _do_retry(runner, matter)
        elif choice == GIVE_UP:
            told = _do_give_up(runner, matter, lease, word)
        else:
            told = await _do_accept(runner, matter, lease, txid)
        _note(runner, matter, choice, word, txid)
    if choice == RETRY and matter.run.state is RunState.OPEN:
        told = f"{told}; {await _go_on(runner, matter)}" if told else await _go_on(runner, matter)
    return told


async def _do_retry(runner: Runner, matter: Matter) -> str:
    ports, net = runner.ports, net_of_run(runner, matter.run)
    said = []
    for one in matter.transactions:
        try:
            status = await ports.chain.broadcast(beef_of(ports.ledger, one.txid), one.txid, net.broadcasters)
        except ReconcilerError as error:
            raise Attention("undecided", f"cannot settle {one.txid}: {error.message}", hint=error.hint) from error
        said.append(f"{one.txid} was sent again: {status.status}")
        with ports.ledger.begin() as tx:
            _taken(tx, one)
            acquit(tx, one, ports.clock.now())
    return "; ".join(said)


async def _go_on(runner: Runner, matter: Matter) -> str:
    try:
        outcome = await runner.resume(matter.run)
    except ReconcilerError as error:
        raise Attention(
            "undecided", f"cannot go on with {matter.run.id}: {error.message}", hint="accept it, or give it up"
        ) from error
    if isinstance(outcome, Done):
        return "it went on to its end"
    error_ = getattr(outcome, "error", None)
    raise Attention(
        "undecided", f"cannot finish {matter.run.id}: {error_.message if error_ else 'it waits'}", hint="try again later"
    )


def _do_give_up(runner: Runner, matter: Matter, lease: Lease, word: Word) -> str:
    ports, run = runner.ports, matter.run
    now, ref = ports.clock.now(), _ref(run)
    with ports.ledger.begin() as tx:
        tx.check_fence(lease.key, lease.fence)
        for one in matter.transactions:
            if one.txid in matter.rivals:
                bury(tx, one, matter.rivals[one.txid], now)
        if run.state is RunState.OPEN:
            tx.book(run.id, ref, now, *spent(tx, run.id))
            release(tx, run.id)
            tx.close_run(run.id, RunState.STALLED, f"given up by {word.by}: {word.why}")
            tx.advance()
        answered(tx, run.id)
        if ref is not None and (record := tx.record(ref)) is not None and run.state is RunState.OPEN:
            state(tx, ref, [Condition("Stalled", Truth.FALSE, "", "", record.generation, now)])
    return "given up; the next plan makes it anew"


async def _do_accept(runner: Runner, matter: Matter, lease: Lease, txid: str) -> str:
    ports, run, net = runner.ports, matter.run, net_of_run(runner, matter.run)
    if txid not in {one.txid for one in matter.transactions}:
        known = ", ".join(one.txid for one in matter.transactions)
        raise Attention(
            "not-its-own", f"cannot accept {run.id} by {txid or 'nothing'}: it signed {known}", hint=f"--accept {known}"
        )
    for one in matter.transactions:
        status = await ports.chain.status(one.txid, net.broadcasters)
        if status is None or arc.verdict(status.status, status.detail) not in (arc.Verdict.ACCEPTED, arc.Verdict.MINED):
            said = status.status if status else "no broadcaster knows it"
            raise Attention(
                "not-held", f"cannot accept {run.id}: {one.txid} is not on the network ({said})", hint="--retry sends it again"
            )
    with ports.ledger.begin() as tx:
        tx.check_fence(lease.key, lease.fence)
        for one in matter.transactions:
            _taken(tx, one)
            acquit(tx, one, ports.clock.now())
        if run.state is not RunState.OPEN:
            answered(tx, run.id)
            return "taken for done: the network holds it"
    if "funding" in run.subject:
        _close_split(runner, run)
        return "taken for done: the purse is split"
    await _record(runner, run, lease)
    return "taken for done, and recorded"


def _taken(tx: LedgerTransaction, one: StoredTx) -> None:
    """A broadcaster holds it: its change may be spent."""
    stored = tx.transaction(one.txid)
    if stored is not None and stored.state in ("signed", "sent"):
        tx.put_transaction(replace(stored, state="seen"))
    for coin in tx.coins(state="pending", run=one.run):
        if coin.outpoint.txid == one.txid:
            tx.put_coin(replace(coin, state="free", run=""))


def _close_split(runner: Runner, run: Run) -> None:
    fees = decode(Funding, run.subject["funding"]).cost.fees
    with runner.ports.ledger.begin() as tx:
        _settle_open(tx, run)
        tx.book(run.id, None, runner.ports.clock.now(), fees, 0, 0)
        tx.close_run(run.id, RunState.DONE)
        answered(tx, run.id)


async def _record(runner: Runner, run: Run, lease: Lease) -> None:
    """Let the kind tell what it made, answered from what the journal knows, and enter that as done."""
    ports = runner.ports
    change: Change = decode(Change, run.subject["change"])
    controller = runner.kinds[change.ref.kind]
    steps: Steps[Mapping[str, Json] | None]
    steps = controller.delete(change) if change.verb is Verb.DELETE else controller.apply(change)
    journal = _Believed(ports.ledger, run, lease)
    outcome = await drive(journal, steps, ports, Budget(max(0, change.cost.satoshis)))
    if not isinstance(outcome, Done):
        why = outcome.error.message if not hasattr(outcome, "why") else outcome.why
        raise Attention("undecided", f"cannot record {run.id} as done: {why}", hint="try again later")
    with ports.ledger.begin() as tx:
        _settle_open(tx, run)
    finish(ports, run, change, outcome, lease, run.subject["revision"])


def _settle_open(tx: LedgerTransaction, run: Run) -> None:
    for intent in tx.intents(run.id):
        if intent.state is IntentState.OPEN:
            tx.settle(run.id, intent.seq, IntentState.DONE, {})


class _Believed(Journal):
    """A journal read by kind and order of effect instead of by content, for a run whose program has changed under it.

    What it settled stands, in particular what was attested and signed. What it has not is done now, if that may be repeated;
    signing may not.
    """

    def __init__(self, *args: Json) -> None:
        super().__init__(*args)
        self._met: Counter[str] = Counter()

    def recall(self, seq: int, effect: Effect) -> Intent | None:
        """The next settled intent of this kind of effect; Attention instead of a second transaction."""
        name = type(effect).__name__
        settled = [one for _, one in sorted(self.known.items()) if one.effect == name and one.state is IntentState.DONE]
        place, self._met[name] = self._met[name], self._met[name] + 1
        if place < len(settled):
            return settled[place]
        if isinstance(effect, Sign):
            raise Attention(
                "would-sign", f"cannot record {self.run.id}: it would sign another transaction", hint="give it up, or retry"
            )
        if isinstance(effect, Broadcast):
            return Intent(self.run.id, seq, name, "", IntentState.DONE, {"txid": effect.txid, "status": "ACCEPTED"})
        return None

    def open(self, seq: int, effect: Effect) -> tuple[Coin, ...]:
        """Nothing is written: what is done here may be repeated."""
        return ()

    def settle(self, seq: int, effect: Effect, result: Mapping[str, Json]) -> None:
        """Nothing is written."""

    def refuse(self, seq: int, effect: Effect, error: Refused) -> None:
        """Nothing is written."""

    def settle_signed(self, seq: int, signed: Signed, used: Sequence[Coin], chain: str, result: Mapping[str, Json]) -> None:
        """Never reached: `recall` lets nothing be signed."""
        raise Attention("would-sign", f"cannot record {self.run.id}: it would sign another transaction")


def _ref(run: Run) -> ResourceRef | None:
    return ResourceRef.parse(run.key.removeprefix("ref/")) if run.key.startswith("ref/") else None


def _note(runner: Runner, matter: Matter, choice: str, word: Word, txid: str) -> None:
    way = next(way for way in matter.ways if way.name == choice)
    detail: dict[str, Json] = {"run": matter.run.id, "choice": choice, "by": word.by, "why": word.why, "satoshis": way.satoshis}
    with runner.ports.ledger.begin() as tx:
        tx.note(_ref(matter.run), runner.ports.clock.now(), "run.resolved", {**detail, **({"txid": txid} if txid else {})})
