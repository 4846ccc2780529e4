"""Rent: storage hosts keep copies for a paid while, and this is how that while is prolonged before it ends.

The observation carries the end of every copy, and of those that are due the price the host asks; so whether, what and for how
much is decided from values alone. A host that declines is remembered under `refusing` in the outputs: copies go elsewhere while
there is an elsewhere, and what stays is stored anew once its time is up. The next edit of the manifest forgives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from reconciler.controller import Steps, ask
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.change import Cause, Change, FieldDelta, Verb
from reconciler.model.codec import timestamp
from reconciler.model.effect import Renew, Rented
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import Present

if TYPE_CHECKING:
    from reconciler.ports import Reads

_MS_PER_MINUTE = 60_000
_MS_PER_SECOND = 1_000
# Without a word from the manifest, a copy is due for renewal when this share of its retention is left.
MARGIN = 5


@dataclass(frozen=True, slots=True)
class Rent:
    """For how many minutes a copy is kept at a time, and how many seconds before the end it is prolonged."""

    minutes: int
    before: int

    def __post_init__(self) -> None:
        assert self.before < self.minutes * 60, "a renewal would be due as soon as it is made"


# 180 days, for documents that stand alone.
DOCUMENT_RENT = Rent(180 * 24 * 60, 180 * 24 * 3600 // MARGIN)


def rent_of(spec: Mapping[str, Json], rule: Mapping[str, Json] | None = None) -> Rent:
    """The rent that a normalised Dataset spec asks for (durations in milliseconds); a rule's word on renewal comes second."""
    minutes = max(1, int(spec["retention"]) // _MS_PER_MINUTE)
    asked = spec.get("renewBefore")
    if asked is None and rule is not None:
        asked = (rule.get("retention") or {}).get("renewBefore")
    before = minutes * 60 // MARGIN if asked is None else int(asked) // _MS_PER_SECOND
    # A rule serves datasets of any retention; one that is shorter than its margin is renewed when half of it is left.
    return Rent(minutes, before if before < minutes * 60 else minutes * 30)


async def priced(view: Mapping[str, Json], sizes: Mapping[str, int], rent: Rent, net: Net, reads: Reads) -> dict[str, Json]:
    """An observation of copies in which each that is due says so: {"renew": {"price", "until"}}, or {"refused": why}."""
    hosts = {host.name: host for host in net.storage}
    edge = reads.clock.now() + timedelta(seconds=rent.before)
    due = [
        (name, sha256)
        for name, copies in view.items()
        for sha256, copy in copies.items()
        if name in hosts and sha256 in sizes and copy["state"] == "ok" and 0 < copy["expires"] <= edge.timestamp()
    ]
    if not due:
        return dict(view)
    said = await reads.together([_offer(reads, hosts[name], sizes[sha256], rent) for name, sha256 in due])
    shown = {name: dict(copies) for name, copies in view.items()}
    for (name, sha256), word in zip(due, said, strict=True):
        copy = shown[name][sha256]
        if isinstance(word, int):
            copy = {**copy, "renew": {"price": word, "until": copy["expires"] + rent.minutes * 60}}
        elif word:
            copy = {**copy, "refused": word}
        shown[name][sha256] = copy
    return shown


async def _offer(reads: Reads, host: Endpoint, size: int, rent: Rent) -> int | str:
    """Satoshis, or why it will not; empty when the host did not say, so that a later look asks again."""
    try:
        return await reads.storage.quote(host, size, rent.minutes)
    except (RemoteProtocolError, Unavailable):
        return ""
    except Refused as error:
        return error.message


def refusing(before: Mapping[str, Json], seen: Mapping[str, Json]) -> dict[str, str]:
    """The hosts that would not keep copies longer, and why: as recorded, and as just seen."""
    told = {
        host: next(copy["refused"] for copy in copies.values() if copy.get("refused"))
        for host, copies in (seen.get("replicas") or {}).items()
        if any(copy.get("refused") for copy in copies.values())
    }
    return {**(before.get("refusing") or {}), **told}


def forgiving(change: Change) -> dict[str, str]:
    """As `refusing`, for what a change is about to do: an edit gives every host another chance."""
    before = change.before.outputs if change.before is not None and change.verb is Verb.REPAIR else {}
    return refusing(before, change.seen)


def due(seen: Mapping[str, Json], host: str, only: Collection[str] | None = None) -> tuple[Rented, ...]:
    """The copies on a host that are to be prolonged now; `only` these digests, if any are named."""
    copies = (seen.get("replicas") or {}).get(host) or {}
    return tuple(
        Rented(sha256, copy["expires"], copy["renew"]["price"])
        for sha256, copy in sorted(copies.items())
        if copy.get("renew") and (only is None or sha256 in only)
    )


def owed(seen: Mapping[str, Json], hosts: Iterable[str], avoided: Collection[str], only: Collection[str] | None = None) -> int:
    """Satoshis for everything that is due on these hosts."""
    return sum(copy.price for host in hosts if host not in avoided for copy in due(seen, host, only))


def drift(seen: Present, hosts: Collection[str], avoided: Collection[str], names: Mapping[str, str]) -> list[FieldDelta]:
    """A delta for every copy that is due on these hosts: until when it is paid for, and until when it will be."""
    found = [
        FieldDelta(
            f"replicas.{host}.{names.get(sha256, sha256[:12])}.expires",
            ends(copy["expires"]),
            ends(copy["renew"]["until"]),
            Cause.TIME,
        )
        for host, copies in (seen.attributes.get("replicas") or {}).items()
        if host in hosts and host not in avoided
        for sha256, copy in copies.items()
        if copy.get("renew")
    ]
    return sorted(found, key=lambda delta: delta.path)


def ends(seconds: int) -> str:
    """Unix seconds as a moment that people can read."""
    return timestamp(datetime.fromtimestamp(seconds, UTC))


def renew(
    change: Change, hosts: Sequence[Endpoint], rent: Rent, only: Collection[str] | None = None
) -> Steps[tuple[dict[str, dict[str, int]], dict[str, str]]]:
    """Prolong what is due on these hosts: ({host: {sha256: new end}}, {host: why it would not})."""
    avoided = forgiving(change)
    longer: dict[str, dict[str, int]] = {}
    declined: dict[str, str] = {}
    for host in hosts:
        copies = due(change.seen, host.name, only)
        if not copies or host.name in avoided:
            continue
        said = yield from ask(Renew(copies, host, rent.minutes))
        longer[host.name] = {sha256: word["expires"] for sha256, word in said.items()}
        why = next((word["refused"] for _, word in sorted(said.items()) if word.get("refused")), None)
        if why is not None:
            declined[host.name] = why
    return longer, {**avoided, **declined}


def remembered(outputs: Mapping[str, Json], declined: Mapping[str, str]) -> dict[str, Json]:
    """Outputs that name the hosts which declined, and none that are forgiven."""
    rest = {name: value for name, value in outputs.items() if name != "refusing"}
    return {**rest, "refusing": dict(declined)} if declined else rest


def prolonged(replicas: Mapping[str, Json], longer: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Json]]:
    """What hosts keep, with the ends that were moved."""
    return {
        host: {
            sha256: {**facts, "expires": longer.get(host, {}).get(sha256, facts.get("expires"))}
            for sha256, facts in copies.items()
        }
        for host, copies in replicas.items()
    }
