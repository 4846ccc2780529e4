"""`explain --price`: what a number of units costs by the manifests as they are written, step by step."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.model.resource import Resource
    from reconciler.sales.price import Priced


@dataclass(frozen=True, slots=True)
class Purchase:
    """What is asked: so many units of something, by a buyer of a tier who has used some before."""

    what: str
    units: int
    used: int
    tier: str | None


def explain_price(asked: Purchase, form: str) -> int:
    """Tell the price of a purchase; the arithmetic is the one of quotes and bills."""
    from reconciler.cli.checking import repository, show
    from reconciler.manifest.describe import kind_named
    from reconciler.model.errors import Refused
    from reconciler.model.ref import ResourceRef
    from reconciler.sales.price import price

    repo = repository()
    loaded = repo.load(repo.environment)
    if loaded.desired is None or repo.faults:
        show((*repo.faults, *loaded.diagnostics), repo.texts)
        return exits.ERROR
    named = ResourceRef.parse(asked.what)
    ref = ResourceRef(kind_named(named.kind), named.name)
    resource = loaded.desired.resources.get(ref)
    if resource is None:
        raise Refused(
            "unknown-resource", f"cannot price {ref}: no manifest declares it", hint="reconciler validate lists what does"
        )
    plan, tiers = _terms(resource, loaded.desired.resources)
    if plan is None:
        raise Refused("no-price", f"cannot price {ref}: it has no price", hint="name a PricePlan, or a Dataset that has one")
    discount = next((one.get("discount") for one in tiers if one["name"] == asked.tier), None)
    found = price(plan, asked.units, tier=asked.tier, discount=discount, used=asked.used)
    if form == "json":
        output.document({"satoshis": found.satoshis, "price": [line.json() for line in found.lines]})
    else:
        output.data(_told(found))
    return exits.OK


def _terms(resource: Resource, every: Mapping[Any, Resource]) -> tuple[Mapping[str, Any] | None, list[Mapping[str, Any]]]:
    """The plan a resource is sold by, and the tiers of those who may buy it."""
    spec = resource.spec

    def named(field: str, kind: str) -> Mapping[str, Any] | None:
        return next((one.spec for ref, one in every.items() if (ref.kind, ref.name) == (kind, spec.get(field))), None)

    if resource.ref.kind == "PricePlan":
        return spec, []
    own = {"model": "per-item", "rate": spec["price"]} if spec.get("price") is not None else None
    return own or named("pricePlanRef", "PricePlan"), list((named("accessPolicyRef", "AccessPolicy") or {}).get("tiers") or ())


def _told(found: Priced) -> str:
    """The lines with what each adds, and the sum."""
    rows = [(line.text, f"{line.satoshis:,} sat") for line in found.lines] + [("to pay", f"{found.satoshis:,} sat")]
    wide, long = (max(len(row[column]) for row in rows) for column in (0, 1))
    paint = output.style_for(sys.stdout, GLOBALS.colour)
    lines = [f"{text.ljust(wide)}  {amount.rjust(long)}" for text, amount in rows]
    return "\n".join([*lines[:-1], paint("bold", lines[-1])])
