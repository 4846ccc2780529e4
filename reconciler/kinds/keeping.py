"""Keeping: where the copies of a dataset live, and what is looked at to know whether they still do.

Without a rule a dataset has its own number of replicas on hosts chosen by rendezvous hashing, where they stay, and every look
reads every copy.
A DistributionRule says more: regions, hosts, how often and how closely copies are looked at, how long a silence is borne, and
how many copies downloads are worth. `homes` decides where, from the body, the record and the observation and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reconciler.kinds import document as documents
from reconciler.kinds import placement, rent
from reconciler.kinds.network import Net, net_of
from reconciler.model.canonical import Json
from reconciler.model.change import Cause, Change, FieldDelta, Verb
from reconciler.model.codec import timestamp
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import Absent, Observation, Present
from reconciler.model.record import Record

if TYPE_CHECKING:
    from reconciler.ports import Reads

# Downloads are counted over at least so long: a rate over less is noise.
WINDOW = timedelta(minutes=10)
_GONE = ("unreachable", "unlisted")


# --- where copies live -----------------------------------------------------------------------------


def homes(subject: str, body: Mapping[str, Json], outputs: Mapping[str, Json], seen: Mapping[str, Json]) -> tuple[Endpoint, ...]:
    """The hosts that are to keep the copies of a dataset, given what is recorded of it and what was seen."""
    hosts, avoided, ruled = net_of(body).storage, rent.refusing(outputs, seen), placement.rule_in(body)
    if ruled is None:
        return documents.placement(subject, hosts, body["spec"].get("replicas", 1), avoided, outputs.get("replicas") or {})
    rule, _ = ruled
    away = {*avoided, *(seen.get("away") or ())}
    sight = placement.Sight(frozenset(outputs.get("replicas") or {}), frozenset(away), seen.get("pace") or {})
    return placement.place(rule, subject, hosts, sight, copies(rule, outputs, seen))


def homes_of(change: Change) -> tuple[Endpoint, ...]:
    """As `homes`, for what a change is about to do: an edit forgives hosts that would not renew."""
    before: Mapping[str, Json] = change.before.outputs if change.before is not None else {}
    if change.verb is not Verb.REPAIR:
        before = {name: value for name, value in before.items() if name != "refusing"}
    return homes(str(change.ref), change.body, before, change.seen)


def copies(rule: placement.Rule, outputs: Mapping[str, Json], seen: Mapping[str, Json]) -> int:
    """How many copies a ruled dataset is to have: as many as decided before, until downloads ask for another number."""
    demand = seen.get("demand") or {}
    before = placement.bounded(rule, outputs.get("copies") or rule.least)
    wanted = placement.demanded(rule, before, demand.get("perHour"), demand.get("settled", True))
    return placement.bounded(rule, wanted)


def scaled(change: Change) -> dict[str, Json]:
    """What the record keeps of the number of copies: how many, and when demand last moved it; nothing without a rule."""
    ruled = placement.rule_in(change.body)
    if ruled is None:
        return {}
    before: Mapping[str, Json] = change.before.outputs if change.before is not None else {}
    now, was = copies(ruled[0], before, change.seen), before.get("copies")
    demand = change.seen.get("demand") or {}
    moved = demand.get("at") if was is not None and was != now else before.get("scaledAt")
    return {"copies": now, **({"scaledAt": moved} if moved else {})}


def drift(was: Record, seen: Present, names: Mapping[str, str]) -> list[FieldDelta]:
    """How the copies left the record: damaged or gone, in places where they should not be, not where they should, ending soon."""
    outputs, attributes = was.outputs, seen.attributes
    hosts = [host.name for host in homes(str(was.ref), was.body, outputs, attributes)]
    found = documents.replica_drift(seen, names)
    ending = rent.drift(seen, hosts, rent.refusing(outputs, attributes), names)
    lacking = documents.unplaced(outputs["replicas"], hosts)
    ruled = placement.rule_in(was.body)
    if ruled is None:
        return [*found, *ending, *lacking]
    spare = [FieldDelta(f"replicas.{host}", "not kept", "kept", Cause.DRIFT) for host in outputs["replicas"] if host not in hosts]
    wanted, have = copies(ruled[0], outputs, attributes), outputs.get("copies")
    number = [FieldDelta("copies", wanted, have, Cause.DRIFT)] if have is not None and wanted != have else []
    return [*number, *found, *ending, *lacking, *spare]


# --- what is looked at -----------------------------------------------------------------------------


async def observe(want: Mapping[str, Json], was: Record, sizes: Mapping[str, int], net: Net, reads: Reads) -> dict[str, Json]:
    """The attributes of an observation that speak of copies; `want` is the spec as declared now, else as recorded."""
    ruled = placement.rule_in(was.body)
    spec = ruled[1] if ruled else None
    span = rent.rent_of(want, spec)
    if spec is None:
        view = await documents.observe_replicas(was.outputs["replicas"], net, reads)
        return {"replicas": await rent.priced(view, sizes, span, net, reads), **(await _paces(want, net, reads))}
    view = await _looks(was, sizes, spec, net, reads)
    view, away = _patient(was, view, int(spec["repair"]["after"]), reads.clock.now())
    demand = await _demand(was, spec, net, reads)
    found = {"replicas": await rent.priced(view, sizes, span, net, reads), "away": away, **(await _paces(want, net, reads))}
    return found | ({"demand": demand} if demand else {})


async def unmade(want: Mapping[str, Json], seen: Observation, net: Net | None, reads: Reads) -> Observation:
    """What was seen of a dataset that is yet to be made, with the pace of the hosts that it may go to."""
    if net is None or not isinstance(seen, Absent) or not want.get("distributionRuleRef"):
        return seen
    return Absent(seen.why, {**seen.attributes, **(await _paces(want, net, reads))})


async def _paces(want: Mapping[str, Json], net: Net, reads: Reads) -> dict[str, Json]:
    if not want.get("distributionRuleRef"):
        return {}
    took = await reads.together([reads.probes.pace(host) for host in net.storage])
    return {"pace": {host.name: placement.step(ms) for host, ms in zip(net.storage, took, strict=True) if ms is not None}}


async def _looks(was: Record, sizes: Mapping[str, int], spec: Mapping[str, Json], net: Net, reads: Reads) -> dict[str, Json]:
    """Every copy by host; those of a host that was found sound within `probe.every` are believed, and say so: "unread"."""
    probe, facts, by_name = spec["probe"], was.status.facts, {host.name: host for host in net.storage}
    edge = reads.clock.now() - timedelta(milliseconds=int(probe["every"]))
    view: dict[str, Json] = {}
    asked: list[tuple[str, str, int | None]] = []
    for name, held in sorted(was.outputs["replicas"].items()):
        last = (facts.get("replicas") or {}).get(name) or {}
        if last.get("state") == "ok" and datetime.fromisoformat(last["checkedAt"]) > edge and name in by_name:
            view[name] = {
                sha256: {"state": "ok", "ms": last["ms"], "expires": copy["expires"], "unread": True}
                for sha256, copy in held.items()
            }
            continue
        _, total = (facts.get("probes") or {}).get(name) or (0, 0)
        sample = None if total % int(probe["whole"]) == 0 else probe.get("sample")
        asked += [(name, sha256, sample) for sha256 in sorted(held)]
    seen = await reads.together([_look(reads, by_name.get(n), sha256, sizes.get(sha256, 0), s) for n, sha256, s in asked])
    for (name, sha256, _), copy in zip(asked, seen, strict=True):
        view.setdefault(name, {})[sha256] = {**copy, "scheduled": True}
    return view


async def _look(reads: Reads, host: Endpoint | None, sha256: str, size: int, sample: int | None) -> Mapping[str, Json]:
    if host is None:
        return {"state": "unlisted"}
    try:
        return await reads.probes.look(host, sha256, size, sample)
    except (Unavailable, RemoteProtocolError, Refused) as error:
        return {"state": "unreachable", "why": error.message}


def _patient(was: Record, view: Mapping[str, Json], after: int, now: datetime) -> tuple[dict[str, Json], list[str]]:
    """The view with what is borne for a while marked as such ("waits"), and the hosts that are given up as out of reach."""
    looks, shown, away = was.status.facts.get("replicas") or {}, dict(view), []
    for name, held in view.items():
        states = {copy["state"] for copy in held.values()}
        if states <= {"ok"}:
            continue
        last = looks.get(name) or {}
        sound = last.get("soundAt") or (last.get("checkedAt") if last.get("state") == "ok" else None)
        if sound is not None and now - datetime.fromisoformat(sound) < timedelta(milliseconds=after):
            shown[name] = {sha256: {**copy, "waits": True} if copy["state"] != "ok" else copy for sha256, copy in held.items()}
        elif states & set(_GONE):
            away.append(name)
    return shown, away


async def _demand(was: Record, spec: Mapping[str, Json], net: Net, reads: Reads) -> dict[str, Json] | None:
    """Downloads an hour, in all and by host, measured anew once a window has passed; None where nothing scales by them.

    {"at": when it was measured, "counts": {host: all there ever were}, "perHour", "hosts": {host: an hour}, "settled"}.
    """
    scale, last = spec.get("autoScale"), was.status.facts.get("demand")
    if not scale:
        return None
    now, moved = reads.clock.now(), was.outputs.get("scaledAt")
    settled = moved is None or now - datetime.fromisoformat(moved) >= timedelta(milliseconds=int(scale["cooldown"]))
    if last is not None and now - datetime.fromisoformat(last["at"]) < WINDOW:
        return {**last, "settled": settled}
    files = [file["sha256"] for file in was.outputs["files"]]
    hosts = [host for host in net.storage if host.name in was.outputs["replicas"]]
    counted = await reads.together([_downloads(reads, host, files) for host in hosts])
    counts = {host.name: count for host, count in zip(hosts, counted, strict=True) if count is not None}
    measured = {"at": timestamp(now), "counts": counts, "perHour": None, "hosts": {}, "settled": settled}
    if last is None or not counts:
        return measured
    seconds = int((now - datetime.fromisoformat(last["at"])).total_seconds())
    # A host that counts less than before has begun anew; one that was not asked before has no rate yet.
    news = {name: count - last["counts"][name] for name, count in counts.items() if name in last["counts"]}
    rates = {name: (counts[name] if more < 0 else more) * 3600 // seconds for name, more in news.items()}
    return {**measured, "perHour": sum(rates.values()), "hosts": rates}


async def _downloads(reads: Reads, host: Endpoint, files: Sequence[str]) -> int | None:
    """How often others have read these files from a host; None when it did not say."""
    try:
        counts = [await reads.storage.downloads(host, sha256) for sha256 in files]
    except (Unavailable, RemoteProtocolError, Refused):
        return None
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
