"""Run Steps to an Outcome, replaying what the journal already knows.

Theory of operation. The generator is deterministic, so running it again from the start meets the same
effects in the same order; each one the journal has settled is answered from there without touching the
world, and the first one it has not is performed. Transient failures are not journaled (the run waits and is
replayed); refusals are, so a replay takes the same path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from reconciler.controller import Steps
from reconciler.engine.backoff import retry_at
from reconciler.engine.faults import guarded
from reconciler.engine.journal import Budget, Journal, parents_of
from reconciler.engine.perform import perform
from reconciler.engine.progress import Progress, Watcher, unwatched
from reconciler.engine.rejection import outlived
from reconciler.engine.route import Route, straight
from reconciler.model.canonical import Json
from reconciler.model.codec import encode
from reconciler.model.effect import Attest, Broadcast, Effect, Generate, Renew, Sign, Store, TokenOutput
from reconciler.model.errors import GuardRefused, LocalProtocolError, Refused, Unavailable, Uncertain
from reconciler.model.intent import Done, Intent, IntentState, Outcome, Retry, Stalled
from reconciler.ports import Coin, Ports

Result = Mapping[str, Json]
# Effects that touch only our own keys.
LOCAL = (Generate, Attest, Sign)
# Looks at coins right before a transaction spends them; raises when they must not be.
Vet = Callable[[Sequence[Coin]], Awaitable[None]]


async def unvetted(coins: Sequence[Coin]) -> None:
    """Nobody can tell; the coins are believed."""


async def drive(
    journal: Journal,
    steps: Steps[Mapping[str, Json] | None],
    ports: Ports,
    budget: Budget,
    watch: Watcher = unwatched,
    attempt: int = 0,
    route: Route = straight,
    vet: Vet = unvetted,
) -> Outcome:
    """Advance a run as far as the world allows. Invariant and Conflict pass through: they stop this run, and no other."""
    seq = 0
    try:
        effect = guarded(lambda: next(steps))
        while True:
            result = await _step(journal, seq, effect, ports, budget, watch, route, vet)
            seq += 1
            effect = guarded(partial(steps.send, result))
    except StopIteration as stop:
        return Done(stop.value or {})
    except Refused as error:
        return Stalled(error)
    except (Unavailable, Uncertain) as error:
        not_before = error.retry_at if isinstance(error, Unavailable) else None
        return Retry(retry_at(ports.clock.now(), attempt, ports.entropy, not_before), error)
    finally:
        steps.close()


async def _step(
    journal: Journal, seq: int, effect: Effect, ports: Ports, budget: Budget, watch: Watcher, route: Route, vet: Vet
) -> Result:
    name, key = type(effect).__name__, journal.run.key
    known = journal.recall(seq, effect)
    if known is not None and known.state is not IntentState.OPEN:
        watch(Progress("effect.replayed", key, effect=name, detail=known.result))
        return _recalled(known, budget)
    watch(Progress("effect.started", key, effect=name, detail=about(effect)))
    coins = journal.open(seq, effect)
    try:
        if isinstance(effect, Sign):
            await vet(coins)
            result = _sign(journal, seq, effect, ports, budget, coins)
        else:
            result = await _performed(route(effect), ports, begun=known is not None)
            budget.charge(moved(result))
            journal.settle(seq, effect, result)
    except Refused as error:
        if isinstance(effect, LOCAL) and not isinstance(error, (LocalProtocolError, GuardRefused)):
            # A key that cannot be read now is no answer of the world's: mend it, and the run goes on.
            raise Unavailable(error.code, error.message, hint=error.hint) from error
        journal.refuse(seq, effect, error)
        raise
    watch(Progress("effect.done", key, effect=name, detail=result))
    return result


async def _performed(effect: Effect, ports: Ports, *, begun: bool) -> Result:
    """What came of it. `begun`: an earlier attempt may have reached the world."""
    try:
        return await perform(effect, ports, begun=begun)
    except Refused as error:
        if not isinstance(effect, Broadcast):
            raise
        if error.code != "tx-rejected":
            # They refuse us, not the bytes; and the bytes may have left before. Mend it, and the run goes on.
            raise Unavailable(error.code, error.message, hint=error.hint) from error
        alive = await outlived(effect, ports, error, begun=begun)
        if alive is None:
            raise
        return alive


def _recalled(known: Intent, budget: Budget) -> Result:
    if known.state is IntentState.REFUSED:
        raise Refused(known.result["code"], known.result["message"], hint=known.result.get("hint"))
    budget.charge(moved(known.result))
    return known.result


def _sign(journal: Journal, seq: int, effect: Sign, ports: Ports, budget: Budget, coins: Sequence[Coin]) -> Result:
    draft = effect.draft
    signed = ports.wallet.sign(draft, coins, parents_of(ports.ledger, draft.inputs))
    locked = sum(o.satoshis for o in draft.outputs if isinstance(o, TokenOutput)) - len(draft.inputs)
    budget.charge(signed.fee + locked)
    result = {"txid": signed.txid, "fee": signed.fee, "locked": locked}
    journal.settle_signed(seq, signed, coins, draft.chain, result)
    return result


def moved(result: Result) -> int:
    """Satoshis that an effect's result says have left the purse."""
    paid: int = sum(item["paid"] for item in result.values() if isinstance(item, Mapping) and "paid" in item)
    return int(result.get("fee", 0)) + int(result.get("locked", 0)) + paid


def about(effect: Effect) -> Result:
    """The few facts of an effect that a watcher wants: never its contents."""
    if isinstance(effect, Store):
        return {"host": effect.host.name, "blobs": len(effect.blobs), "bytes": sum(blob.size for blob in effect.blobs)}
    if isinstance(effect, Renew):
        return {"host": effect.host.name, "copies": len(effect.copies)}
    shown = encode(effect)
    return {name: shown[name] for name in ("key", "txid", "topics", "digest", "depth") if name in shown}
