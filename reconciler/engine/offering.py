"""What an identity says of itself against what is true: manifests against the chain, prices against the door. Reads only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from reconciler.engine.audit import Finding, owner_of
from reconciler.engine.survey import Surveyor, midnight
from reconciler.kinds.network import Net, read_net
from reconciler.model.change import Cause, Verb
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.planner.guard import Limits
from reconciler.planner.phrases import sats
from reconciler.ports import Ports

# (URL) -> satoshis asked for, and the key that would be paid.
Asks = Callable[[str], Awaitable[tuple[int, str]]]


async def as_declared(ports: Ports, surveyor: Surveyor, name: str) -> list[Finding]:
    """Everything Identity/`name` declares, against its record and the chain."""
    survey = await surveyor.survey()
    if survey.loaded.desired is None:
        first = survey.loaded.errors[0]
        return [Finding("manifests", False, f"{first.at}: {first.message}")]
    plan = surveyor.plan(survey, Limits())
    found = []
    for change in plan.changes:
        record, want = survey.recorded.records.get(change.ref), survey.loaded.desired.resources.get(change.ref)
        said = want.spec.get("identityRef") if want is not None else owner_of(record) if record is not None else None
        if name not in (said, change.ref.name if change.ref.kind == "Identity" else None):
            continue
        what = f"{change.ref} as declared"
        edited = sorted({delta.path for delta in change.deltas if delta.cause is Cause.SPEC})
        if want is None:
            found.append(Finding(what, False, "advertised, and no longer declared"))
        elif record is None:
            found.append(Finding(what, False, "declared, and not advertised yet"))
        elif change.verb is not Verb.NONE and edited:
            found.append(Finding(what, False, f"the manifest says otherwise: {', '.join(edited)}"))
        else:
            found.append(Finding(what, True, "what is advertised is what the manifest says"))
        if record is not None:
            found += await _unspent(ports, record)
    return found


async def _unspent(ports: Ports, record: Record) -> list[Finding]:
    """Whether the chain still holds each of its tokens, as far as the header source can tell."""
    net, found = _net(record), []
    if net is None:
        return []
    for token in record.outputs.get("tokens") or ():
        what = f"{record.ref} on chain"
        try:
            spender = await ports.chain.spender(Outpoint.parse(token["outpoint"]), net.headers)
        except (Unavailable, RemoteProtocolError, Refused) as error:
            if error.code == "no-spend-index":
                return []
            found.append(Finding(what, None, error.message))
            continue
        said = f"spent by {spender}" if spender else "unspent"
        found.append(Finding(what, spender is None, f"{token['topic']} {said} ({token['outpoint']})"))
    return found


async def can_be_paid(ports: Ports, name: str, asks: Asks) -> list[Finding]:
    """Each dataset of Identity/`name` with a price, asked for at the gateway that its Network declares: it must want that money,
    and for a key of ours.
    """
    records = ports.ledger.read(midnight(ports.clock.now())).records
    mine = records.get(ResourceRef("Identity", name))
    keys = {ports.wallet.public_key("wallet")} if ports.wallet.exists("wallet") else set()
    keys |= {mine.outputs["publicKey"]} if mine is not None and mine.outputs.get("publicKey") else set()
    found = []
    for ref, record in sorted(records.items()):
        spec = record.body.get("spec") or {}
        if ref.kind != "Dataset" or owner_of(record) != name or not spec.get("pricePlanRef"):
            continue
        net = _net(record)
        what = f"price of {ref}"
        if net is None or not net.public_url:
            found.append(Finding(what, False, "its Network declares no gateway.publicUrl, so nobody can pay"))
            continue
        try:
            satoshis, payee = await asks(f"{net.public_url}/content/{ref.name}")
        except ReconcilerError as error:
            found.append(Finding(what, None if isinstance(error, Unavailable) else False, error.message))
            continue
        ours = payee in keys
        told = f"{sats(satoshis)} at {net.public_url}" + ("" if ours else f", but for the key {payee}, which is not ours")
        found.append(Finding(what, ours, told))
    return found


def _net(record: Record) -> Net | None:
    name = record.body["spec"].get("networkRef")
    spec = (record.body.get("using") or {}).get(f"Network/{name}")
    return read_net(name, spec) if spec is not None else None
