"""What becomes of a run once its outcome is known: one commit that writes the record, the books and the history."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import datetime

from reconciler.engine import departed, farewell, hiding, probes, rotation
from reconciler.engine.demands import answered, demand
from reconciler.engine.policy import keeps, kept, policy_of
from reconciler.engine.standing import state
from reconciler.model.canonical import Json, digest
from reconciler.model.change import Change, Verb
from reconciler.model.errors import ReconcilerError
from reconciler.model.intent import Done, IntentState, Outcome, Retry, Run, RunState, Stalled, Waiting
from reconciler.model.plan import Plan
from reconciler.model.record import Record, RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState
from reconciler.model.status import Condition, Status, Truth, summarise
from reconciler.ports import Lease, LedgerTransaction, Ports
from reconciler.wire.acknowledgement import NO_HOSTS

_READY_REASON = {"Identity": "Registered", "Dataset": "Published", "Advertisement": "Advertised"}


def finish(ports: Ports, run: Run, change: Change, outcome: Outcome, lease: Lease, revision: str) -> None:
    """Enter an outcome: DONE writes or drops the record and closes the run; STALLED closes it; the rest leave it open."""
    now = ports.clock.now()
    with ports.ledger.begin() as tx:
        tx.check_fence(lease.key, lease.fence)
        if isinstance(outcome, Done | Stalled):
            answered(tx, run.id)
        match outcome:
            case Done(outputs):
                _done(tx, run, change, outputs, revision, now)
            case Stalled(error):
                tx.book(run.id, change.ref, now, *spent(tx, run.id))
                release(tx, run.id)
                tx.close_run(run.id, RunState.STALLED, error.message)
                _state(tx, change, [("Stalled", Truth.TRUE, error.code, error.message)], now)
                tx.note(change.ref, now, "run.stalled", {"run": run.id, "verb": change.verb.value, "error": error.message})
            case Retry(_, error):
                # Money in flight counts against the budget of the day it left.
                tx.book(run.id, change.ref, now, *spent(tx, run.id))
                _state(tx, change, [("Reconciling", Truth.TRUE, error.code, error.message)], now)
            case Waiting(_, why):
                _state(tx, change, [("Reconciling", Truth.TRUE, "Waiting", why)], now)


def halt(ports: Ports, run: Run, error: ReconcilerError) -> None:
    """A run that stays open and cannot go on: said on its resource, and on the list of what waits for a person."""
    now = ports.clock.now()
    with ports.ledger.begin() as tx:
        demand(tx, run.id, error.code, error.message, now)
        if not run.key.startswith("ref/"):
            return
        ref = ResourceRef.parse(run.key.removeprefix("ref/"))
        record = tx.record(ref)
        generation = record.generation if record else 0
        state(tx, ref, [Condition("Stalled", Truth.TRUE, error.code, error.message, generation, now)])


def _done(tx: LedgerTransaction, run: Run, change: Change, outputs: Mapping[str, Json], revision: str, now: datetime) -> None:
    fees, paid, locked = spent(tx, run.id)
    txids = [intent.result["txid"] for intent in tx.intents(run.id) if intent.effect == "Sign"]
    tx.book(run.id, change.ref, now, fees, paid, locked)
    if change.verb in (Verb.DELETE, Verb.FORGET):
        tx.drop_record(change.ref)
    else:
        # The status may have learned of depths, probes and protection since the plan was made.
        change = replace(change, before=tx.record(change.ref) or change.before)
        submits = [i.result for i in tx.intents(run.id) if i.effect == "Submit" and i.state is IntentState.DONE]
        facts = {"hiding": hiding.counted(change, outputs, submits, now)} if submits else {}
        tx.put_record(record_of(change, outputs, revision, now, (fees, paid), refusals(tx, run.id), facts))
    farewell.remember(tx, [intent.result for intent in tx.intents(run.id) if intent.effect in ("Retract", "Submit")], now)
    farewell.owe(tx, departed.noted(tx, run, change, outputs), now)
    tx.advance()
    tx.close_run(run.id, RunState.DONE)
    detail = {"run": run.id, "verb": change.verb.value, "reason": change.reason.value, "generation": change.generation}
    if refused := refusals(tx, run.id):
        detail["refused"] = refused
    if plan := run.subject.get("plan"):
        detail["plan"] = plan
    tx.note(change.ref, now, "change.applied", {**detail, "revision": revision, "txids": txids, "satoshis": fees + paid + locked})


def spent(tx: LedgerTransaction, run_id: str) -> tuple[int, int, int]:
    """(fees, payments, locked) that a run really moved: transactions that were refused for good moved nothing."""
    fees = paid = locked = 0
    for intent in tx.intents(run_id):
        if intent.effect == "Sign" and intent.state is IntentState.DONE:
            stored = tx.transaction(intent.result["txid"])
            if stored is not None and stored.state not in ("signed", "rejected"):
                fees, locked = fees + intent.result["fee"], locked + intent.result["locked"]
        elif intent.effect in ("Store", "Renew") and intent.state is IntentState.DONE:
            paid += sum(item["paid"] for item in intent.result.values())
    return fees, paid, locked


def release(tx: LedgerTransaction, run_id: str) -> None:
    """Give back the coins of a run that ended before its transaction was ever sent.

    Once a broadcast was begun they stay with the key, so that a replacement spends the same inputs.
    """
    if any(intent.effect == "Broadcast" for intent in tx.intents(run_id)):
        return
    for stored in tx.transactions(state="signed"):
        if stored.run == run_id:
            tx.put_transaction(replace(stored, state="rejected"))
    tx.unspend(run_id)
    tx.free(run_id)


def refusals(tx: LedgerTransaction, run_id: str) -> str:
    """What hosts said when too few of them admitted the run's tokens; empty when enough did."""
    said = []
    for intent in tx.intents(run_id):
        quorum = intent.result.get("quorum") if intent.effect == "Submit" and intent.state is IntentState.DONE else None
        if quorum and quorum["got"] < quorum["needed"]:
            answers = intent.result.items()
            said += [f"{host}: {answer['error']}" for host, answer in answers if answer and answer.get("error")]
            said += [f"no host keeps {quorum['topic']}"] if quorum.get("code") == NO_HOSTS else []
    return "; ".join(said)


def record_of(
    change: Change,
    outputs: Mapping[str, Json],
    revision: str,
    now: datetime,
    moved: tuple[int, int],
    refused: str,
    learned: Mapping[str, Json],
) -> Record:
    """The record of a resource once a change of it is done; `moved` are the (fees, payments) it took."""
    before, after = change.before, change.after
    fees, paid = moved
    old = before.status if before else Status()
    reason = _READY_REASON.get(change.ref.kind, "Recorded")
    truth = (Truth.FALSE, "NotAdmitted", refused) if refused else (Truth.TRUE, reason, _ready_message(outputs))
    if refused and (hosts := hiding.hidden(learned)):
        truth = (Truth.FALSE, "Hidden", hiding.told(hosts, change.ref))
    facts = [
        Condition("Ready", *truth, change.generation, now),
        Condition("Drifted", Truth.FALSE, "InSync", "", change.generation, now),
        Condition("Stalled", Truth.FALSE, "", "", change.generation, now),
        Condition("Reconciling", Truth.FALSE, "", "", change.generation, now),
    ]
    facts += rotation.conditions(outputs, change.generation, now)
    if change.cost.transactions:
        facts.append(
            Condition("Confirmed", Truth.FALSE, "Seen", "seen by a broadcaster, not in a block yet", change.generation, now)
        )
    policy = policy_of(after.lifecycle) if after else {}
    known = {**kept(old.facts, policy), **learned, **probes.verified(old.facts, outputs.get("replicas") or {}, now)}
    # Of transactions that died under the record; what it rests on now was made since.
    known.pop("dead", None)
    worn = replace(old, fees=old.fees + fees, payments=old.payments + paid, facts=known)
    status = summarise(worn, facts, change.generation)
    return Record(
        ref=change.ref,
        uid=before.uid if before else digest([str(change.ref), change.generation, now.isoformat()])[:16],
        generation=change.generation,
        body=change.body,
        outputs=outputs,
        requires=tuple(sorted(after.requires)) if after else (before.requires if before else ()),
        status=status,
        # Protection is remembered: deleting the block from the manifest does not unprotect.
        protected=bool(before and before.protected) or (after is not None and keeps(after.lifecycle)),
        revision=revision,
        at=after.at if after else (before.at if before else None),
    )


def _ready_message(outputs: Mapping[str, Json]) -> str:
    held = outputs.get("replicas") or {}
    if "files" in outputs:
        return f"{_count(len(outputs['files']), 'file')} on {_count(len(held), 'host')}"
    return _count(len(outputs.get("tokens") or ()), "token")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _state(tx: LedgerTransaction, change: Change, said: list[tuple[str, Truth, str, str]], now: datetime) -> None:
    record = tx.record(change.ref)
    if record is None:
        tx.put(f"condition/{change.ref}", [[t, truth.value, reason, message] for t, truth, reason, message in said])
        return
    facts = [Condition(t, truth, reason, message, change.generation, now) for t, truth, reason, message in said]
    ready = record.status.condition("Ready")
    if ready is not None and any(t == "Stalled" for t, *_ in said):
        facts.append(replace(ready, status=Truth.FALSE, reason=said[0][2], message=said[0][3], since=now))
    tx.put_record(replace(record, status=summarise(record.status, facts, record.generation)))


def remember(ports: Ports, desired: DesiredState, recorded: RecordedState, plan: Plan) -> None:
    """Keep what manifests say about deletion, pauses and limits, so that it holds without them. An edit never unprotects.

    What the plan finds as declared needs nothing that was set aside for it.
    """
    stale = []
    for ref, want in desired.resources.items():
        record = recorded.records.get(ref)
        if record is None:
            continue
        policy = policy_of(want.lifecycle)
        known = {name: record.status.facts.get(name) for name in policy}
        if (keeps(want.lifecycle) and not record.protected) or known != policy:
            stale.append((ref, policy, keeps(want.lifecycle)))
    with ports.ledger.begin() as tx:
        for ref, policy, held in stale:
            # Its status may have learned something since the snapshot.
            if (now := tx.record(ref)) is not None:
                status = replace(now.status, facts=kept(now.status.facts, policy))
                tx.put_record(replace(now, status=status, protected=now.protected or held))
        at_rest = {change.ref for change in plan.changes if change.verb is Verb.NONE and change.blocked is None}
        _disown(tx, {*desired.resources, *recorded.records} - at_rest)


def _disown(tx: LedgerTransaction, wanted: Set[ResourceRef]) -> None:
    """Free what refused runs still hold for resources of which nothing is wanted any more: no replacement will come."""
    for run_id in sorted({coin.run for coin in tx.coins(state="reserved")}):
        run = tx.run(run_id)
        if run is None or run.state is not RunState.STALLED or not run.key.startswith("ref/"):
            continue
        if ResourceRef.parse(run.key.removeprefix("ref/")) not in wanted:
            tx.free(run_id)
