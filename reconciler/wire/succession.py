"""One key after another: statements that both keys signed, and whose word counts from when until when.

    {"statement": {"type": "KeySuccession", "apiVersion", "name", "from": hex33, "to": hex33, "at", "until",
                   "compromised": {"since", "reason"} where the old key was revoked},
     "signatures": [{"signer": hex33, "value": base64}, {"signer": hex33, "value": base64}]}

Both signatures are BRC-77, for anyone to verify, over the canonical JSON of the statement: the old key says who follows it, the
new one that it accepts. An identity's document lists these under `successions`, oldest first; the last key is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.model.canonical import Json, canonical
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire.jsontext import Fields
from reconciler.wire.message import verify_message

TYPE = "KeySuccession"
MEMBER = "successions"
_WHAT = "a key succession"
# One statement and two signatures are below a kilobyte, and a message about them not much more.
MAX_MESSAGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Period:
    """From when until when a key speaks for its identity; None is open. `compromised` is why it was revoked, if it was."""

    key: str
    begins: datetime | None
    ends: datetime | None
    compromised: str = ""


def statement(name: str, old: str, new: str, at: str, until: str, compromised: Mapping[str, Json] | None) -> dict[str, Json]:
    """What both keys sign; times are RFC 3339 in UTC."""
    said = {"type": TYPE, "apiVersion": "overlay.bsv/v1alpha1", "name": name, "from": old, "to": new, "at": at, "until": until}
    return {**said, "compromised": dict(compromised)} if compromised else said


@dataclass(frozen=True, slots=True)
class Succession:
    """One statement that both of its keys signed; of a key that was revoked, since when and why."""

    name: str
    old: str
    new: str
    at: datetime
    until: datetime
    since: datetime | None = None
    reason: str = ""


def read(data: bytes) -> Succession:
    """The statement in a message to subscribers (a CloudEvent, its `data`, or the statement alone), and nothing else of it.

    RemoteProtocolError unless both keys signed it; who trusted the old key need know no more than that.
    """
    if len(data) > MAX_MESSAGE:
        raise RemoteProtocolError(f"cannot read {_WHAT} of {len(data)} bytes", hint=f"at most {MAX_MESSAGE}")
    outer = Fields.parse(data, _WHAT)
    if "specversion" in outer.values:
        outer = outer.object("data")
    if "succession" in outer.values:
        outer = outer.object("succession")
    said = _link(outer)
    old, new, ends = said.hex("from", 33), said.hex("to", 33), _moment(said, "until")
    since, reason = _revoked(said)
    return Succession(said.text("name"), old, new, _moment(said, "at"), ends, since, reason)


def periods(document: Mapping[str, Json], signer: str) -> tuple[Period, ...]:
    """The keys of an identity document (opened, so that `signer` signed it), oldest first; the last one is `signer`.

    RemoteProtocolError unless every statement is signed by both of its keys and each key follows the one before.
    """
    links = [_link(item) for item in Fields.of(document, "an identity document").objects(MEMBER)] if document.get(MEMBER) else []
    found: list[Period] = []
    begins: datetime | None = None
    for number, said in enumerate(links):
        old, at = said.hex("from", 33), _moment(said, "at")
        if number and old != links[number - 1].hex("to", 33):
            said.fail("from", "is not the key that the statement before names")
        if said.text("name") != document.get("name"):
            said.fail("name", "is that of another identity")
        ends = _moment(said, "until")
        since, why = _revoked(said)
        found.append(Period(old, begins, ends if since is None else min(ends, since), why))
        begins = at
    if document.get("publicKey") != signer or (links and links[-1].hex("to", 33) != signer):
        raise RemoteProtocolError("cannot follow the keys of a document: it was not signed by the last of them")
    if len({*(period.key for period in found), signer}) != len(found) + 1:
        raise RemoteProtocolError("cannot follow the keys of a document: a key that was replaced comes back")
    return (*found, Period(signer, begins, None))


def refusal(known: Sequence[Period], signer: str, made: datetime | None) -> str | None:
    """Why something `signer` signed at `made` (None: nobody can tell when) does not count; None when it does.

    The time of a block serves as `made`. A new key may sign before it is announced; an old one may not after its end.
    """
    period = next((period for period in known if period.key == signer), None)
    if period is None:
        return f"{signer} is no key of this identity"
    if period.ends is None:
        return None
    why = f"was revoked ({period.compromised})" if period.compromised else "ended"
    if made is None:
        return f"the word of {signer} {why} {period.ends:%Y-%m-%dT%H:%M:%SZ}, and nothing shows that this is older"
    if made >= period.ends:
        return f"the word of {signer} {why} {period.ends:%Y-%m-%dT%H:%M:%SZ}, and this was made {made:%Y-%m-%dT%H:%M:%SZ}"
    return None


def _link(item: Fields) -> Fields:
    """The statement, once both signatures over it were found to be right."""
    item.exactly("statement", "signatures")
    said = item.object("statement")
    if said.text("type") != TYPE:
        said.fail("type", f"must be {TYPE}")
    try:
        message = canonical(said.values)
    except (TypeError, ValueError, RecursionError) as fault:
        raise RemoteProtocolError(f"cannot read {_WHAT}: it has no canonical form") from fault
    signers = []
    for mark in item.objects("signatures"):
        signer = mark.exactly("signer", "value").hex("signer", 33)
        if verify_message(mark.base64("value"), message).hex() != signer:
            raise RemoteProtocolError(f"cannot accept {_WHAT}: another key signed it", code="bad-signature")
        signers.append(signer)
    if signers != [said.hex("from", 33), said.hex("to", 33)] or len(set(signers)) != 2:
        raise RemoteProtocolError(
            f"cannot accept {_WHAT}: it needs the signatures of the old key and of the new", code="bad-signature"
        )
    return said


def _revoked(said: Fields) -> tuple[datetime | None, str]:
    """Since when, and why, the old key is not to be trusted; (None, "") when nothing is said against it."""
    if said.values.get("compromised") is None:
        return None, ""
    mark = said.object("compromised").exactly("since", "reason")
    return _moment(mark, "since"), mark.text("reason")


def _moment(fields: Fields, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(fields.text(name))
    except ValueError:
        fields.fail(name, "must be a time")
    if moment.utcoffset() is None:
        fields.fail(name, "must be a time in UTC")
    return moment.astimezone(UTC)
