"""What `identity verify` looks at beyond the key, and how it says so."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.engine.audit import Finding
    from reconciler.planner.reputation import Evidence, Reputation


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked at besides key, records and hosts; `least` are the points expected, if any."""

    advertisements: bool
    payment: bool
    reputation: bool
    least: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """The findings, and the reputation with its facts where it was asked for."""

    findings: list[Finding]
    reputation: Reputation | None = None
    evidence: tuple[Evidence, ...] = ()


async def looked(space: Workspace, name: str, public: str | None, wanted: Wanted) -> Seen:
    """Everything that was asked for; nothing is changed and nothing is paid."""
    from reconciler.engine.audit import Finding, audit
    from reconciler.engine.offering import as_declared, can_be_paid
    from reconciler.engine.reputation import gather
    from reconciler.planner.reputation import reputation

    findings = await audit(space.ports, space.surveyor, name, public)
    if wanted.advertisements:
        findings += await as_declared(space.ports, space.surveyor, name)
    if wanted.payment:
        assert space.paydoor is not None, "a command has the real doors"
        prices = await can_be_paid(space.ports, name, space.paydoor.asks)
        findings += prices or [Finding("prices", True, "nothing with a price is published")]
    if not wanted.reputation:
        return Seen(findings)
    evidence = await gather(space.ports, name)
    found = reputation(evidence, int(space.ports.clock.now().timestamp()))
    enough = wanted.least is None or found.points >= wanted.least
    told = f"{found.points} of 100: age {found.age}, sales {found.sales}, uptime {found.uptime}, revoked -{found.revoked}"
    told += "" if enough else f"; expected are {wanted.least}"
    return Seen([*findings, Finding("reputation", enough, told)], found, tuple(evidence))


def tell(name: str, public: str | None, seen: Seen, form: str) -> int:
    """The findings, for people or for programs; the exit code they come to."""
    broken = [one for one in seen.findings if one.ok is False]
    silent = [one for one in seen.findings if one.ok is None]
    if form == "json":
        output.document({"name": name, "publicKey": public, "holds": not broken, "findings": _facts(seen), **_reputation(seen)})
    else:
        paint = output.style_for(sys.stdout, GLOBALS.colour)
        words = {True: paint("good", "ok    "), False: paint("bad", "wrong "), None: paint("dim", "silent")}
        width = max(len(one.what) for one in seen.findings)
        for one in seen.findings:
            output.data(f"{words[one.ok]}  {one.what:<{width}}  {one.detail}")
        if broken:
            output.say("next: reconciler plan shows what it takes to repair it")
    return exits.ERROR if broken else exits.PARTIAL if silent else exits.OK


def _facts(seen: Seen) -> list[dict[str, Any]]:
    return [{"what": one.what, "ok": one.ok, "detail": one.detail} for one in seen.findings]


def _reputation(seen: Seen) -> dict[str, Any]:
    from reconciler.planner.reputation import FORMULA

    if seen.reputation is None:
        return {}
    parts = {"formula": FORMULA, "points": seen.reputation.points, **asdict(seen.reputation)}
    return {"reputation": {**parts, "evidence": [dict(row) for row in seen.evidence]}}
