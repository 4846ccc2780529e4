"""What each resource means: one file per kind, siblings of the same shape.

A module in this package that has a `CONTROLLER` is a kind and stands in `KINDS`; third parties add theirs through the
entry-point group `reconciler.kinds`. Two kinds of one name are refused.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from reconciler.controller import Controller
from reconciler.model.errors import Invariant

GROUP = "reconciler.kinds"
# One module each; the others of this package are what kinds have in common, and load when a kind uses them.
KINDS = (
    "accesspolicy", "advertisement", "dataset", "distributionrule", "identity", "network", "paymentpolicy", "priceplan",
)  # fmt: skip


@cache
def controllers() -> Mapping[str, Controller]:
    """Every kind by name, ours first, in stage order."""
    found: dict[str, Controller] = {}
    own = [importlib.import_module(f"{__name__}.{name}").CONTROLLER for name in KINDS]
    for controller in own + list(_foreign()):
        if controller.kind in found:
            raise Invariant("duplicate-kind", f"cannot register {controller.kind} twice")
        found[controller.kind] = controller
    return dict(sorted(found.items(), key=lambda item: (item[1].stage, item[0])))


def bounded(splits: int | None) -> Mapping[str, Controller]:
    """Every kind, with so many parties at most that may share a payment; the usual number for None."""
    if splits is None:
        return controllers()
    policies = importlib.import_module(f"{__name__}.paymentpolicy")
    return {**controllers(), policies.KIND: policies.PaymentPolicyController(splits)}


def _foreign() -> Iterator[Controller]:
    """The kinds that other installed distributions bring.

    importlib.metadata takes a tenth of the whole start-up to import and to read what is installed, and nearly always finds
    nothing. It is asked when some distribution's entry points name the group at all.
    """
    places = (Path(entry) for entry in sys.path)
    if any(f"[{GROUP}]".encode() in file.read_bytes() for place in places for file in place.glob("*-info/entry_points.txt")):
        from importlib.metadata import entry_points

        yield from (point.load() for point in entry_points(group=GROUP))
