"""`approve` signs a saved plan, `verify` says who approved what and whether it is enough. Neither needs ledger or network."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import consent, exits, output, saved_plan
from reconciler.cli.context import GLOBALS, settings, with_workspace

if TYPE_CHECKING:
    from reconciler.engine.approve import Consent
    from reconciler.model.approval import Approval
    from reconciler.model.plan import Plan
    from reconciler.settings import Settings

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
PlanFile = Annotated[Path, typer.Argument(metavar="PLANFILE", help="What plan --out wrote.", dir_okay=False)]
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def bind(app: typer.Typer) -> None:
    """Add the verb; `verify plan` is bound among its siblings."""
    app.command()(approve)


def approve(
    file: PlanFile,
    key: Annotated[str | None, typer.Option("--key", metavar="IDENTITY", help="Sign with the key of this Identity.")] = None,
    wif: Annotated[
        Path | None, typer.Option("--wif-file", metavar="FILE", help="Sign with the key in this file (mode 0600): WIF, or hex.")
    ] = None,
    guard: Annotated[
        list[str] | None, typer.Option("--guard", metavar="NAME", help="Let this refusal pass, for this plan only.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays with the signature.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Where it goes instead of beside the plan.", show_default=False)
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Hand it to this repository's daemon, too.")] = False,
    form: Form = "text",
) -> int:
    """Sign a saved plan: this very plan, and the refusals that are named. The signature is a file beside it."""
    if key is not None and wif is not None:
        raise typer.BadParameter("give --key or --wif-file, not both")
    plan, chosen = saved_plan.read(file), settings()
    guards = _guards(plan, guard or ())
    made, data = _signed(plan, chosen, key, wif, guards, reason)
    into = out or file.with_name(f"{file.name}.{_UNSAFE.sub('-', made.approver)}.sig")
    into.write_bytes(data)
    if submit:
        _submit(chosen, into.name, data)
    if form == "json":
        output.document({"file": str(into), **_shown(made)})
        return exits.OK
    from reconciler.planner import phrases
    from reconciler.planner.seat import seated

    output.data(str(into))
    what = f"{phrases.count(len(plan.acting), 'change')} for {phrases.sats(plan.cost.satoshis)}"
    lets = f", lets pass {', '.join(guards)}" if guards else ""
    output.say(f"{made.approver} approves {plan.id} ({what}){lets}; check it with: reconciler verify {file}")
    panel = seated(chosen.limits.panel, plan)
    if panel is not None and panel.name(made.key) is None:
        output.say(f"note: {made.key} is not among approvals.keys of this repository, where it counts for nothing")
    return exits.OK


def _guards(plan: Plan, named: Sequence[str]) -> tuple[str, ...]:
    """The guards that may be named: refusals of this plan, and budgets, which may refuse it by the time it is applied."""
    from reconciler.model.errors import GuardRefused
    from reconciler.planner.guard import APPROVALS, lifted

    refusals = {guard.name: guard for guard in plan.refusals if guard.name != APPROVALS}
    for name in named:
        if name not in refusals and not name.startswith("spend-"):
            known = f"it is refused by {', '.join(refusals)}" if refusals else "nothing refuses it"
            raise typer.BadParameter(f"--guard {name}: that does not refuse {plan.id}; {known}")
        if name in refusals and not lifted(refusals[name]):
            message = f"cannot approve {name}: {refusals[name].message}"
            raise GuardRefused(name, message, hint="nobody can let it pass: change what is declared, then plan again")
    return tuple(dict.fromkeys(named))


def _signed(
    plan: Plan, chosen: Settings, key: str | None, wif: Path | None, guards: tuple[str, ...], reason: str
) -> tuple[Approval, bytes]:
    """The approval and its file, under the key that was chosen."""
    from reconciler.cli import keys
    from reconciler.compose import now
    from reconciler.model.approval import Approval
    from reconciler.model.codec import timestamp
    from reconciler.planner.approval import Panel
    from reconciler.planner.seat import seated
    from reconciler.wire import approval
    from reconciler.wire.keys import public_key
    from reconciler.wire.message import key_id_for, sign_message

    panel = seated(chosen.limits.panel, plan) or Panel()
    at, sha256 = timestamp(now().replace(microsecond=0)), plan.digest
    if wif is not None:
        secret = _secret(wif)
        public = public_key(secret).hex()
        made = Approval(plan.id, sha256, public, guards, panel.name(public) or wif.stem, at, reason)
        words = approval.message(made)
        return made, approval.write_approval(made, sign_message(secret, words, key_id_for(bytes.fromhex(public), words)))
    own = keys._key(key)
    public = own.wallet.public_key(own.name)
    made = Approval(plan.id, sha256, public, guards, panel.name(public) or own.name, at, reason)
    return made, approval.write_approval(made, own.wallet.attest(own.name, approval.message(made)))


def _secret(file: Path) -> bytes:
    from reconciler.adapters.secret import private_bytes
    from reconciler.model.errors import Refused, RemoteProtocolError
    from reconciler.wire.keys import wif_decode

    text = private_bytes(file).decode("ascii", "replace").strip()
    try:
        secret = bytes.fromhex(text) if len(text) == 64 else wif_decode(text)
    except (ValueError, RemoteProtocolError) as error:
        raise Refused("bad-key", f"cannot sign with {file}: it holds no private key", hint="one line of WIF or hex") from error
    return secret


def _submit(chosen: Settings, name: str, data: bytes) -> None:
    """Where the daemon takes approvals from: the inbox when the settings name one, else the ledger."""
    if chosen.inbox is not None:
        chosen.inbox.mkdir(parents=True, exist_ok=True)
        part = chosen.inbox / f"{name}.part"
        part.write_bytes(data)
        part.replace(chosen.inbox / name)
        output.say(f"handed in: {chosen.inbox / name}")
        return

    async def enter(space: Any) -> None:
        space.approvals.enter([(name, data)])
        space.ports.queue.put("plan", space.ports.clock.now(), 10)

    with_workspace(enter)
    output.say("handed in: the ledger")


def verify_plan(
    file: PlanFile,
    approvals: Annotated[
        list[Path] | None, typer.Option("--approvals", metavar="FILE", help="Also these, beside those next to the plan.")
    ] = None,
    form: Form = "text",
) -> int:
    """Check who approved a saved plan and whether it is enough, offline. Exit code 4 when it is not, or the plan was altered."""
    from reconciler.adapters import inbox
    from reconciler.engine.approve import count
    from reconciler.planner.approval import Panel

    plan, chosen = saved_plan.read(file), settings()
    panel = chosen.limits.panel or Panel()
    letters = [*consent.letters(tuple(approvals or ()), file), *inbox.letters(chosen.inbox)]
    guards = saved_plan.judged(plan, chosen.limits)
    found = count(panel, plan, letters, guards=guards)
    if form == "json":
        output.document(_document(plan, found))
    else:
        _tell(plan, found)
    for guard in found.refused:
        from reconciler.compose import now

        way = consent.way(guard, chosen.limits, file, now())
        output.fail(f"cannot apply {plan.id}: guard {guard.name} refuses it ({guard.message})", way)
    return exits.OK if not found.refused else exits.GUARD


def _tell(plan: Plan, found: Consent) -> None:
    from reconciler.planner import phrases

    paint = output.style_for(sys.stdout, GLOBALS.colour)
    what = f"{phrases.count(len(plan.acting), 'change')} for {phrases.sats(plan.cost.satoshis)}"
    output.data(f"{paint('bold', plan.id)}  {phrases.harmless(plan.revision)}  {what}  sha256 {plan.digest[:12]}…")
    for one in found.tally.counted:
        lets = f"  lets pass {', '.join(one.guards)}" if one.guards else ""
        why = f'  "{one.reason}"' if one.reason else ""
        output.data(phrases.harmless(f"{paint('good', 'counts')}   {found.tally.names[one.key]}  {one.at}{lets}{why}"))
    for one, fault in found.tally.ignored:
        output.data(phrases.harmless(f"{paint('dim', 'ignored')}  {one.approver}  {fault}"))
    for place, fault in found.unreadable:
        output.data(phrases.harmless(f"{paint('dim', 'ignored')}  {place}  {fault}"))
    signed, tally = len(found.tally.counted), found.tally
    output.data(f"{signed} of {phrases.count(tally.needed, 'signature')}: {'enough' if tally.enough else 'not enough'}")
    for short in tally.lacking:
        output.data(phrases.harmless(short))


def _document(plan: Plan, found: Consent) -> dict[str, Any]:

    return {
        "plan": plan.id,
        "sha256": plan.digest,
        "needed": found.tally.needed,
        "counted": [{"name": found.tally.names[one.key], **_shown(one)} for one in found.tally.counted],
        "ignored": [{**_shown(one), "why": why} for one, why in found.tally.ignored]
        + [{"file": place, "why": why} for place, why in found.unreadable],
        "passes": sorted(found.tally.passes),
        "lacking": list(found.tally.lacking),
        "refused": [{"guard": guard.name, "message": guard.message} for guard in found.refused],
        "suffices": not found.refused,
    }


def _shown(one: Approval) -> dict[str, Any]:
    return {
        "plan": one.plan,
        "approver": one.approver,
        "key": one.key,
        "guards": list(one.guards),
        "at": one.at,
        "reason": one.reason,
    }
