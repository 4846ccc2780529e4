"""What each resource means: one file per kind, siblings of the same shape.

A module in this package that has a `CONTROLLER` is a kind; third parties add theirs through the
entry-point group `reconciler.kinds`. Two kinds of one name are refused.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from reconciler.controller import Controller
from reconciler.model.errors import Invariant


@cache
def controllers() -> Mapping[str, Controller]:
    """Every kind by name, ours first, in stage order."""
    found: dict[str, Controller] = {}
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    own = [module.CONTROLLER for module in modules if hasattr(module, "CONTROLLER")]
    for controller in own + [point.load() for point in entry_points(group="reconciler.kinds")]:
        if controller.kind in found:
            raise Invariant("duplicate-kind", f"cannot register {controller.kind} twice")
        found[controller.kind] = controller
    return dict(sorted(found.items(), key=lambda item: (item[1].stage, item[0])))
