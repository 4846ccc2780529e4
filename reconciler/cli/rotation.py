"""`identity rotate` writes into a manifest that another key follows; `identity keys` shows, offline, which keys there were."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.wire.bundle import Check
    from reconciler.wire.succession import Period

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Name of the Identity; the only one if omitted.", show_default=False)
]
_NUMBERED = re.compile(r"(.*?)(?:-(\d+))?(\.[^./]*)?")


def bind(family: typer.Typer) -> None:
    """Add the verbs to `identity`."""
    for verb in (rotate, keys):
        family.command()(verb)


def rotate(
    name: Name = None,
    window: Annotated[str | None, typer.Option("--window", help="How long both keys are honoured.", show_default="7d")] = None,
    following: Annotated[
        str | None,
        typer.Option("--next", metavar="PLACE", help="Where the next key lives: a file, env:VAR or credential:NAME."),
    ] = None,
    revoke_now: Annotated[bool, typer.Option("--revoke-now", help="Trust the old key no longer, from this moment on.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why it is revoked, for everybody to read.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Since when it may have been in other hands, in UTC.")] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option("--notify", metavar="CHANNEL", help="webhook, to tell subscribers, or catalog, to publish the statement."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and write nothing.")] = False,
) -> int:
    """Write into the manifest that another key follows this one. Nothing is signed before it is applied.

    Said again after the window, the next key takes the place of the key and another one is to follow. With --revoke-now while a
    window is open, the window closes.
    """
    from reconciler.cli.author import set_

    if revoke_now != (reason is not None) or (since and not revoke_now):
        raise typer.BadParameter("--revoke-now, --reason and perhaps --since go together")
    name, spec, outputs = with_workspace(lambda space: _declared(space, name))
    edits = _edits(name, spec, outputs, window, following, closing=revoke_now or bool(notify))
    if revoke_now:
        edits.append(("rotation.revoke", {"reason": reason, **({"since": since} if since else {})}))
    if notify:
        edits.append(("rotation.notify", list(dict.fromkeys(notify))))
    texts = [f"spec.{path}={json.dumps(value)}" for path, value in edits]
    code = set_(f"Identity/{name}", texts, GLOBALS.environment, dry_run)
    output.say("next: reconciler plan shows what is made anew, and its price")
    return code


def _edits(
    name: str, spec: Mapping[str, Any], outputs: Mapping[str, Any], window: str | None, following: str | None, *, closing: bool
) -> list[tuple[str, Any]]:
    """What the manifest has to say, field by field."""
    from reconciler.kinds import identity_keys
    from reconciler.model.errors import Refused

    heir = identity_keys.following(spec)
    kept = outputs.get("keys") or []
    done = heir is not None and bool(kept) and identity_keys.place(heir) == identity_keys.place(kept[-1]["source"])
    over = done and bool(kept[-2].get("retired"))
    if heir is not None and not over and (following is None or not done):
        # Not applied yet, or its window is open: only the terms may change.
        if window is None and following is None and not closing:
            hint = "apply it, change its --window, or --revoke-now"
            raise Refused("rotating", f"cannot rotate Identity/{name}: a rotation stands in its manifest already", hint=hint)
        edits = [("rotation.next", _place(following, heir))] if following else []
        return edits + ([("rotation.transitionPeriod", window)] if window else [])
    source = heir if heir is not None else spec["key"]
    new = _place(following, source) if following else _numbered(name, source)
    edits = [("key", dict(source))] if heir is not None else []
    told = (spec.get("rotation") or {}).get("notify")
    return [*edits, ("rotation", {"next": new, "transitionPeriod": window or "7d", **({"notify": told} if told else {})})]


def _numbered(name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """The place beside this one: desk.json, desk-2.json, desk-3.json."""
    from reconciler.model.errors import Refused

    if not source.get("file"):
        hint = "say where the next one is: --next PLACE"
        raise Refused("no-place", f"cannot make another key for Identity/{name}: this one is filled in by others", hint=hint)
    found = _NUMBERED.fullmatch(str(source["file"]))
    assert found is not None
    stem, number, ending = found.groups()
    return _place(f"{stem}-{int(number or 1) + 1}{ending or ''}", source)


def _place(text: str | None, like: Mapping[str, Any]) -> dict[str, Any]:
    """A key block as typed; a file is protected like the one it follows, and made when it is missing."""
    way, _, rest = (text or "").partition(":")
    if way in ("env", "credential") and rest:
        return {way: rest}
    kept = {"encryption": like["encryption"]} if like.get("encryption") else {}
    return {"file": text, "generate": "ifMissing", **kept}


async def _declared(space: Workspace, name: str | None) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Name, spec and recorded outputs of an Identity; Refused when there is none such."""
    from reconciler.engine.survey import midnight
    from reconciler.model.errors import Refused
    from reconciler.model.ref import ResourceRef

    desired = space.surveyor.load().desired
    found = {ref.name: want.spec for ref, want in (desired.resources if desired else {}).items() if ref.kind == "Identity"}
    names = ", ".join(sorted(found)) or "none"
    if name is None and len(found) != 1:
        raise Refused("which-identity", f"cannot tell which Identity is meant: there are {names}", hint="name one")
    name = name or next(iter(found))
    if name not in found:
        raise Refused("no-identity", f"cannot find Identity/{name}: there are {names}", hint="reconciler new identity NAME")
    record = space.ports.ledger.read(midnight(space.ports.clock.now())).records.get(ResourceRef("Identity", name))
    return name, found[name], record.outputs if record else {}


# --- what there was --------------------------------------------------------------------------------


def keys(
    name: Name = None,
    document: Annotated[
        Path | None,
        typer.Option("--document", help="A proof of an identity, or its document, instead of what is recorded.", dir_okay=False),
    ] = None,
    form: Form = "text",
) -> int:
    """Show which keys an identity had, and until when each is honoured. Offline: all signatures of the statements are checked."""
    chain = periods_of(document.read_bytes()) if document is not None else with_workspace(lambda space: _recorded(space, name))
    rows = [
        {
            "publicKey": period.key,
            "from": _moment(period.begins),
            "until": _moment(period.ends),
            "compromised": period.compromised or None,
        }
        for period in chain
    ]
    if form == "json":
        output.document({"keys": rows})
        return exits.OK
    for row in rows:
        said = f"from {row['from'] or 'the beginning'}" + (f" until {row['until']}" if row["until"] else ", current")
        output.data(f"{row['publicKey']}  {said}" + (f", compromised: {row['compromised']}" if row["compromised"] else ""))
    return exits.OK


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The message as it arrived, or the statement.", dir_okay=False)],
    key: Annotated[
        str | None, typer.Option("--key", metavar="HEX", help="The key you have trusted so far: the statement must be about it.")
    ] = None,
    form: Form = "text",
) -> int:
    """Check, offline and with nothing but the message, that both keys signed that one follows the other."""
    from reconciler.model.errors import Refused, RemoteProtocolError
    from reconciler.wire import succession

    try:
        said = succession.read(file.read_bytes())
        if key is not None and key.lower() != said.old:
            raise RemoteProtocolError(f"cannot accept a key succession: it is about {said.old}", hint=f"you trust {key}")
    except OSError as error:
        raise Refused("no-message", f"cannot read {file}: {error.strerror}", hint="name the file of the message") from error
    except RemoteProtocolError as error:
        output.fail(error.message, error.hint)
        return exits.ERROR
    facts = {
        "name": said.name,
        "from": said.old,
        "to": said.new,
        "at": _moment(said.at),
        "until": _moment(said.until),
        "compromised": {"since": _moment(said.since), "reason": said.reason} if said.since is not None else None,
    }
    if form == "json":
        output.document(facts)
        return exits.OK
    output.data(f"{said.old}  until {facts['until']}, signed")
    output.data(f"{said.new}  from {facts['at']}, signed")
    if said.since is not None:
        output.data(f"the first is not to be trusted since {_moment(said.since)}: {said.reason}")
    output.say(f"Identity {said.name}: both keys signed that the second follows the first")
    return exits.OK


def _moment(moment: datetime | None) -> str | None:
    from reconciler.model.codec import timestamp

    return timestamp(moment) if moment is not None else None


async def _recorded(space: Workspace, name: str | None) -> tuple[Period, ...]:
    from reconciler.model.errors import Refused
    from reconciler.wire.document import open_envelope
    from reconciler.wire.succession import periods

    name, _, outputs = await _declared(space, name)
    if not outputs.get("document"):
        raise Refused(
            "not-published", f"cannot show the keys of Identity/{name}: it has published no document", hint="reconciler apply"
        )
    return periods(*open_envelope(space.ports.blobs.get(outputs["document"]["digest"])))


def periods_of(data: bytes) -> tuple[Period, ...]:
    """The keys that an identity document names, given bare or inside its proof."""
    from reconciler.model.errors import RemoteProtocolError
    from reconciler.wire.bundle import holds, parse_bundle, verify_bundle
    from reconciler.wire.document import open_envelope
    from reconciler.wire.succession import periods

    if b'"format":' in data:
        if not holds(verify_bundle(data)):
            raise RemoteProtocolError("cannot follow the keys of an identity whose proof does not hold")
        data = parse_bundle(data).envelope
    return periods(*open_envelope(data))


def key_check(data: bytes, identity: bytes) -> Check:
    """Whether the key that signed a bundle's document was honoured when the bundle's transaction was mined."""
    from datetime import UTC

    from reconciler.model.errors import RemoteProtocolError
    from reconciler.wire.beef import parse_beef
    from reconciler.wire.bundle import Check, parse_bundle
    from reconciler.wire.document import open_envelope
    from reconciler.wire.proof import parse_header
    from reconciler.wire.succession import refusal

    try:
        bundle = parse_bundle(data)
        signer = open_envelope(bundle.envelope)[1]
        bump = parse_beef(bundle.beef).txs[bundle.outpoint.txid].bump
        times = {height: parse_header(raw, height).time for height, raw in bundle.headers}
        made = datetime.fromtimestamp(times[bump.height], UTC) if bump is not None and bump.height in times else None
        why = refusal(periods_of(identity), signer, made)
    except (RemoteProtocolError, KeyError) as fault:
        return Check("key", False, str(fault))
    return Check("key", why is None, why or f"{signer} spoke for the identity when it was mined")
