"""Telling overlay hosts of a transaction: the operator's own and, where the Network wants it, those that discovery finds.

An empty answer is ambiguous (seen before, a pure spend, or not admitted), so a lookup decides. A host is told only of the topics
it keeps, and judged by those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.engine.ancestry import beef_of
from reconciler.model.canonical import Json
from reconciler.model.codec import encode
from reconciler.model.effect import Retract, Submit
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.ports import Ports
from reconciler.wire import acknowledgement
from reconciler.wire.acknowledgement import Heard, Verdict

# Seconds between looks for an admitted output: hosts index after they answer, in hundreds of milliseconds.
CONFIRM_AFTER = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)
# Lookup that finds an output of a topic; our own and the three every reference node runs.
SERVICE_OF = {"tm_ship": "ls_ship", "tm_slap": "ls_slap", "tm_uhrp": "ls_uhrp", "tm_producer": "ls_producer"}
# Seconds that a host nobody declared may keep us, looks included: a slow one must not hold up those that count.
STRANGERS_PATIENCE = 15.0

Answer = dict[str, Any]


async def submit(effect: Submit, ports: Ports) -> Mapping[str, Json]:
    """Tell every host at once; Unavailable while too few have confirmed and some may still do."""
    beef = beef_of(ports.ledger, effect.txid)
    answers, (found, note) = await asyncio.gather(_told(effect, beef, ports), _strangers(effect, beef, ports))
    results: dict[str, Json] = {host.name: answer for host, answer in zip(effect.hosts, answers, strict=True)}
    declared = [_heard(answer, effect.topics) for answer in answers]
    others = [_heard(answer, topics) for _, topics, answer in found]
    for host, _, answer in found:
        results[host.url if host.name in results else host.name] = {**answer, "found": True}
    verdict = acknowledgement.judge(effect.topics, effect.quorum, declared, others)
    pool = answers if effect.quorum == 0 and answers else [*answers, *(answer for _, _, answer in found)]
    # What was broadcast is paid for, so a host's final no is a fact to record and repair later, not the end of the run.
    settled = not any(answer.get("retry") for answer in pool) and bool(pool or effect.directory is None)
    if not verdict.code or settled:
        short = {"code": verdict.code, "topic": verdict.topic} if verdict.code else {}
        # What only retires has no record that could be repaired: whoever has not heard of it is told later.
        farewell = {"late": _late(effect, answers)} if effect.gone and not effect.want else {}
        return {**results, "quorum": {"needed": verdict.needed, "got": verdict.got, **short}, **farewell}
    said = [f"{name}: {answer['error']}" for name, answer in results.items() if answer.get("error")]
    raise _short(effect.txid, verdict, "; ".join([*said, *([note] if note else [])]))


def _short(txid: str, verdict: Verdict, why: str) -> Unavailable:
    """The named failure, after the codes of the reference broadcaster."""
    topic, needed = verdict.topic, verdict.needed
    if verdict.code == acknowledgement.NO_HOSTS:
        hint = "declare an overlay host that keeps the topic, or trackers that know one"
        return Unavailable(
            "no-hosts-interested", f"cannot submit {txid}: no host keeps {topic}: {why or 'none is known'}", hint=hint
        )
    if verdict.code == acknowledgement.ALL_REJECTED:
        return Unavailable("all-hosts-rejected", f"cannot submit {txid}: every host that keeps {topic} refuses it: {why}")
    if verdict.code == acknowledgement.FROM_ALL:
        return Unavailable("ack-from-all", f"cannot confirm {txid} on all {needed} hosts that keep {topic}: {why}")
    if verdict.code == acknowledgement.FROM_ANY:
        return Unavailable("ack-from-any", f"cannot confirm {txid} on any host that keeps {topic}: {why}")
    return Unavailable(
        "ack-from-quorum", f"cannot confirm {txid} on {needed} hosts that keep {topic}, but on {verdict.got}: {why}"
    )


def _heard(answer: Mapping[str, Any], topics: Sequence[str]) -> Heard:
    kept = frozenset(topics) - frozenset(answer.get("unserved") or ())
    confirmed = bool(answer.get("confirmed"))
    return Heard(kept, confirmed, final=not confirmed and not answer.get("retry"))


async def retract(effect: Retract, ports: Ports) -> Mapping[str, Json]:
    """Tell each host, and say which of them are still to be told."""
    told = Submit(effect.txid, effect.topics, effect.hosts, {}, effect.gone, effect.owner)
    try:
        beef = beef_of(ports.ledger, effect.txid)
    except Unavailable as error:
        answers = [{"error": error.message, "retry": True} for _ in effect.hosts]
    else:
        answers = await _told(told, beef, ports)
    return {**dict(zip((host.name for host in effect.hosts), answers, strict=True)), "late": _late(effect, answers)}


def _late(effect: Submit | Retract, answers: Sequence[Mapping[str, Any]]) -> Json:
    """The Retract still to be made, or null. A host that said no is told again: a reorg may have made our proofs stale."""
    left = tuple(host for host, answer in zip(effect.hosts, answers, strict=True) if not answer.get("confirmed"))
    return encode(Retract(effect.txid, effect.topics, left, effect.gone, effect.owner)) if left else None


async def _told(effect: Submit, beef: bytes, ports: Ports) -> list[Answer]:
    """What each declared host said, in order."""
    return await asyncio.gather(*(_submit_to(host, effect, beef, ports) for host in effect.hosts))


async def _strangers(effect: Submit, beef: bytes, ports: Ports) -> tuple[list[tuple[Endpoint, tuple[str, ...], Answer]], str]:
    """Every host that discovery finds, with the topics it advertises and what it said; and why there are none."""
    if effect.directory is None:
        return [], ""
    try:
        known = await ports.discovery.interested(effect.directory, effect.topics)
    except (Unavailable, Refused, RemoteProtocolError) as error:
        return [], error.message

    async def one(host: Endpoint, topics: tuple[str, ...]) -> Answer:
        want = {topic: vouts for topic, vouts in effect.want.items() if topic in topics}
        try:
            async with asyncio.timeout(STRANGERS_PATIENCE):
                return await _submit_to(host, replace(effect, topics=topics, want=want), beef, ports)
        except TimeoutError:
            return {"error": f"it took longer than {STRANGERS_PATIENCE:g} s", "retry": True}

    answers = await asyncio.gather(*(one(host, topics) for host, topics in known))
    return [(host, topics, answer) for (host, topics), answer in zip(known, answers, strict=True)], ""


async def _submit_to(host: Endpoint, effect: Submit, beef: bytes, ports: Ports) -> Answer:
    """{"admitted", "confirmed": true, "unserved": topics it does not keep} or {"error", "retry": whether to try again}."""
    try:
        admitted = await ports.overlay.submit(host, beef, effect.topics)
    except Unavailable as error:
        return {"error": error.message, "retry": True}
    except (Refused, RemoteProtocolError) as error:
        return {"error": error.message}
    unserved = sorted(set(effect.topics) - set(admitted))
    kept = replace(effect, topics=tuple(t for t in effect.topics if t in admitted))
    done: Answer = {"admitted": {t: list(v) for t, v in admitted.items()}, "confirmed": True}
    done |= {"unserved": unserved} if unserved else {}
    # An empty STEAK is ambiguous (duplicate, revocation, or not admitted): the lookup decides.
    want = {topic: vouts for topic, vouts in effect.want.items() if topic in admitted}
    if all(set(vouts) <= set(admitted[topic]) for topic, vouts in want.items()) and not effect.gone:
        return done
    for pause in CONFIRM_AFTER:
        await ports.clock.sleep(pause)
        try:
            missing = await _unsettled(host, kept, ports)
        except (Unavailable, RemoteProtocolError, Refused) as error:
            return {"error": error.message, "retry": True}
        if not missing:
            return done
    # A token the host took and does not list is drift to be named; a spent one it still lists is not done yet.
    return {"error": f"its lookup still disagrees on {missing[0]}", "retry": bool(effect.gone)}


async def _unsettled(host: Endpoint, effect: Submit, ports: Ports) -> list[str]:
    """The outpoints that their own topic should list and does not, or that any topic should not and does."""
    wrong: list[str] = []
    for topic in sorted(set(effect.topics) & set(SERVICE_OF)):
        service = SERVICE_OF[topic]
        wanted = {Outpoint(effect.txid, vout) for vout in effect.want.get(topic, ())}
        found: set[Outpoint] = set()
        for query in _queries(service, effect.owner, sorted(wanted | set(effect.gone))):
            found |= {answer.outpoint for answer in await ports.overlay.lookup(host, service, query)}
        wrong += [str(o) for o in sorted(wanted - found)] + [str(o) for o in sorted(found & set(effect.gone))]
    return wrong


def _queries(service: str, owner: str, outpoints: Sequence[Outpoint]) -> list[Json]:
    # SHIP and SLAP services cannot be asked for an outpoint; one owner has few of those.
    if service in ("ls_ship", "ls_slap"):
        return [{"identityKey": owner}]
    return [{"outpoint": str(outpoint)} for outpoint in outpoints]
