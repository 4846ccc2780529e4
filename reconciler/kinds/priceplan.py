"""PricePlan: what it costs. Documents of datasets and advertisements embed it."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.kinds.local import LocalController
from reconciler.model.resource import Resource


class PricePlanController(LocalController):
    """A price, by the unit that is metered."""

    kind = "PricePlan"
    stage = 2

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """A subscription has a period, tiers rise, and the rate lies inside its own band."""
        spec, faults = want.spec, []
        if spec["model"] == "subscription" and not spec.get("period"):
            faults.append(("/model", "a subscription needs a period"))
        starts = [tier["from"] for tier in spec.get("tiers") or ()]
        if starts != sorted(set(starts)):
            faults.append(("/tiers", "tiers must begin at strictly rising amounts"))
        band = spec.get("adjust") or {}
        if not band.get("min", spec["rate"]) <= spec["rate"] <= band.get("max", spec["rate"]):
            faults.append(("/rate", "the rate lies outside adjust.min..adjust.max"))
        return faults


CONTROLLER = PricePlanController()
