"""The keys of an Identity over time: which one signs, how one follows another, and until when the old ones are honoured.

Outputs of an identity whose key was ever replaced hold `keys`, oldest first: {"name" (of the key, for locks), "publicKey",
"source", and for all but the last "until", "retired", "revoked", "succession" (wire/succession.py)}. The first key has the name
of the Identity, later ones a number after a plus sign, so that a token is always spent with the key that made it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from reconciler.controller import Steps, ask
from reconciler.kinds.later import later
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef

if TYPE_CHECKING:
    from reconciler.kinds import lookups
    from reconciler.model import codec
    from reconciler.model import effect as effects
    from reconciler.model.change import Change
    from reconciler.ports import Reads
    from reconciler.wire import succession
else:
    lookups = later("reconciler.kinds.lookups")
    codec = later("reconciler.model.codec")
    effects = later("reconciler.model.effect")
    succession = later("reconciler.wire.succession")

Key = Mapping[str, Any]
Source = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Ring:
    """The key that signs once the manifest is applied, by name, and the place of every key. `replaced` is the one it follows."""

    current: str
    sources: Mapping[str, Source]
    replaced: str | None = None

    @property
    def source(self) -> Source:
        """Where the current key lives."""
        return self.sources[self.current]


def place(source: Source) -> tuple[str, str]:
    """What tells one key from another before either is read: its file, variable or credential."""
    return next(((way, str(source[way])) for way in ("file", "env", "credential", "signer") if source.get(way)), ("", ""))


def following(spec: Mapping[str, Json]) -> Source | None:
    """The place of the key that is to follow, if the manifest names one."""
    named: Source | None = (spec.get("rotation") or {}).get("next")
    return named


def ring(name: str, spec: Mapping[str, Json], outputs: Mapping[str, Any]) -> Ring:
    """The keys of an identity as declared on top of what is recorded."""
    kept, heir = outputs.get("keys") or [], following(spec)
    # A retired key owns nothing any more, and may be taken away.
    sources: dict[str, Source] = {key["name"]: key["source"] for key in kept if not key.get("retired")}
    last = kept[-1]["name"] if kept else name
    if heir is None:
        # A place that an earlier key left is no place of the last one: that would be a rotation back.
        if not any(place(key["source"]) == place(spec["key"]) for key in kept[:-1]):
            sources[last] = spec["key"]
        return Ring(last, sources)
    if kept and place(heir) == place(kept[-1]["source"]):
        return Ring(last, {**sources, kept[-2]["name"]: spec["key"], last: heir})
    new = f"{name}+{max(len(kept), 1)}"
    return Ring(new, {**sources, last: spec["key"], new: heir}, last)


def begins(spec: Mapping[str, Json], outputs: Mapping[str, Any]) -> bool:
    """Whether applying this spec replaces the key."""
    return ring("", spec, outputs).replaced is not None


def current(name: str, outputs: Mapping[str, Any]) -> str:
    """The name of the key that signs now."""
    kept = outputs.get("keys")
    return str(kept[-1]["name"]) if kept else name


def foreseen(name: str, spec: Mapping[str, Json], outputs: Mapping[str, Any]) -> list[Key]:
    """The keys after this spec is applied, as far as that can be said before: a statement that is still to be signed is left out,
    so that no document that needs it passes for the one on record.
    """
    kept: list[Key] = list(outputs.get("keys") or ())
    known, rotation = ring(name, spec, outputs), spec.get("rotation") or {}
    if known.replaced is not None:
        first = {"name": known.replaced, "publicKey": outputs.get("publicKey")}
        kept = [*(kept or [first]), {"name": known.current, "publicKey": None}]
        kept[-2] = {**kept[-2], "revoked": bool(rotation.get("revoke")), "succession": None}
    elif kept and rotation and unsaid(kept[-2], rotation):
        kept[-2] = {**kept[-2], "revoked": bool(kept[-2].get("revoked") or rotation.get("revoke")), "succession": None}
    return kept


def unsaid(old: Key, rotation: Mapping[str, Json]) -> bool:
    """Whether the manifest wants something else said about a replaced key than was signed."""
    if _settled(old, rotation):
        return False
    said, revoke = old["succession"]["statement"], rotation.get("revoke")
    if said["until"] != _until(said["at"], rotation):
        return True
    was = said.get("compromised") or {}
    return revoke is not None and (revoke["reason"] != was.get("reason") or revoke.get("since") not in (None, was.get("since")))


def _settled(old: Key, rotation: Mapping[str, Json]) -> bool:
    """Whether all has been said about a key: it is retired, and not now found to be compromised."""
    return bool(old.get("retired") and (old.get("revoked") or not rotation.get("revoke")))


def _until(at: str, rotation: Mapping[str, Json]) -> str:
    return codec.timestamp(datetime.fromisoformat(at) + timedelta(milliseconds=int(rotation["transitionPeriod"])))


# What the present pass has read of the ledger: ten thousand datasets may ask for the same Identity.
_ASKED: list[tuple[Reads, dict[str, Sequence[Key]]]] = []


def recorded(name: str, reads: Reads) -> Sequence[Key]:
    """The recorded keys of an Identity; none unless one was ever replaced."""
    with reads.ledger.begin() as tx:
        record = tx.record(ResourceRef("Identity", name))
    return (record.outputs.get("keys") if record is not None else None) or ()


def declared(name: str) -> tuple[str, ...]:
    """The names in the wallet of the keys that a manifest can name: the one to follow, and the one it follows."""
    return f"{name}+1", name


def signers(name: str, reads: Reads, kept: Sequence[Key] | None = None) -> dict[str, str]:
    """Public key -> its name in the wallet, of every key that can have signed for an Identity, the likeliest first.

    `kept` are its recorded keys if it has any; without a word, those that were recorded when this pass first asked. A retired
    one signs for nothing any more.
    """
    if kept is None:
        if not _ASKED or _ASKED[0][0] is not reads:
            _ASKED[:] = [(reads, {})]
        asked = _ASKED[0][1]
        if name not in asked:
            asked[name] = recorded(name, reads)
        kept = asked[name]
    names = [key["name"] for key in reversed(kept) if not key.get("retired")] if kept else declared(name)
    return {reads.wallet.public_key(one): one for one in names if reads.wallet.exists(one)}


def questions(keys: Iterable[str], subject: str) -> list[lookups.Question]:
    """What else a lost ledger has to ask: whether one of these keys has described the subject already."""
    return [lookups.of_subject(key, subject) for key in keys]


def refuse_return(name: str, spec: Mapping[str, Json], outputs: Mapping[str, Any]) -> None:
    """Refused when the manifest goes back to a place whose key has been replaced."""
    old = {place(key["source"]) for key in (outputs.get("keys") or [])[:-1]}
    heir = following(spec)
    if (place(heir) if heir is not None else place(spec["key"])) in old:
        raise _returned(name, "its manifest names the place of a key that was replaced")


def _returned(name: str, why: str) -> Refused:
    hint = "a key that was replaced does not come back: name the place of a new one"
    return Refused("rotated-back", f"cannot rotate Identity/{name}: {why}", hint=hint)


def honoured(kept: list[Key], ended: Collection[str]) -> list[Key]:
    """The replaced keys whose word still counts, less those whose time was seen to be over."""
    return [key for key in kept[:-1] if not key.get("retired") and not key.get("revoked") and key["name"] not in ended]


def over(outputs: Mapping[str, Any], now: datetime) -> list[str]:
    """The replaced keys whose window has ended and that are not retired yet."""
    old = (outputs.get("keys") or [])[:-1]
    return [key["name"] for key in old if not key.get("retired") and datetime.fromisoformat(key["until"]) <= now]


def retired(kept: list[Key], ended: Collection[str]) -> list[Key]:
    """The keys once those whose time is over, and those revoked, are marked: kept where they are, no longer honoured."""
    done = {key["name"] for key in kept[:-1]} - {key["name"] for key in honoured(kept, ended)}
    return [{**key, "retired": True} if key["name"] in done else key for key in kept]


def successions(kept: list[Key]) -> list[Json]:
    """What the identity's document says of its keys."""
    return [key["succession"] for key in kept[:-1]]


def succeed(change: Change, known: Ring, made: Mapping[str, Any]) -> Steps[list[Key]]:
    """The keys after this change: a new one is announced by both, a change of the window or a revocation said again by both.

    `made` is what came of making the current key, {"publicKey", "at"}. No key is listed while none was ever replaced.
    """
    outputs: Mapping[str, Any] = change.before.outputs if change.before else {}
    kept: list[Key] = [{**key, "source": known.sources.get(key["name"], key["source"])} for key in outputs.get("keys") or ()]
    if known.replaced is not None:
        refuse_return(change.ref.name, change.body["spec"], outputs)
        if not kept:
            old = outputs.get("publicKey")
            if not old:
                first = yield from ask(effects.Generate(known.replaced, known.sources[known.replaced]))
                old = first["publicKey"]
            kept = [{"name": known.replaced, "publicKey": old, "source": known.sources[known.replaced]}]
        if made["publicKey"] in [key["publicKey"] for key in kept]:
            raise _returned(change.ref.name, f"{made['publicKey']} is a key it has had")
        kept = [*kept, {"name": known.current, "publicKey": made["publicKey"], "source": known.source}]
    if not kept:
        return kept
    old_key, new_key = kept[-2:]
    if made["publicKey"] != new_key["publicKey"]:
        hint = "put the key on record back in its place"
        raise Refused("key-changed", f"cannot sign for {change.ref}: {made['publicKey']} is not the key on record", hint=hint)
    rotation = change.body["spec"].get("rotation")
    if not rotation or _settled(old_key, rotation):
        return kept
    said = _statement(change, old_key, new_key, made)
    signed = old_key.get("succession")
    if signed is None or signed["statement"] != said:
        marks = []
        for key in (old_key, new_key):
            mark = yield from ask(effects.Attest(key["name"], said))
            marks.append({"signer": key["publicKey"], "value": mark["signature"]})
        signed = {"statement": said, "signatures": marks}
    said_until = {**old_key, "succession": signed, "until": said["until"], "revoked": "compromised" in said}
    return [*kept[:-2], said_until, new_key]


def _statement(change: Change, old: Key, new: Key, made: Mapping[str, Any]) -> dict[str, Json]:
    """What both keys have to say of each other, as the manifest has it now. The beginning is said once."""
    rotation = change.body["spec"]["rotation"]
    before = (old.get("succession") or {}).get("statement") or {}
    at = before.get("at") or made["at"]
    until = _until(at, rotation)
    revoke, compromised = rotation.get("revoke"), before.get("compromised")
    if revoke is not None:
        since = revoke.get("since") or (compromised or {}).get("since") or made["at"]
        compromised = {"since": since, "reason": revoke["reason"]}
    return succession.statement(change.ref.name, old["publicKey"], new["publicKey"], at, until, compromised)
