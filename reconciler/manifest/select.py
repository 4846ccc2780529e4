"""Resources that are chosen by a selector: each gets the reference that its author could have written.

A kind whose controller has `selects` is such a chooser. What it chooses is decided last, when the content files are known, and
from then on a chosen resource is like one that names its chooser: it depends on it and builds on what it exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

from reconciler.controller import Controller
from reconciler.manifest.fault import Fault
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Resource


@runtime_checkable
class Chooser(Protocol):
    """A controller whose resources choose others of kind `selected`, in whose spec `names_it` is the reference to it."""

    selected: str
    names_it: str

    def selects(self, rule: Resource, other: Resource) -> bool:
        """Whether `rule` chooses `other`. Pure."""
        ...


# (resource as written, chooser's name) -> as chosen; the same objects as long as they say the same.
Chosen = dict[ResourceRef, tuple[Resource, str, Resource]]


def choose(
    resources: Mapping[ResourceRef, Resource], kinds: Mapping[str, Controller], known: Chosen
) -> tuple[dict[ResourceRef, Resource], list[tuple[ResourceRef, Fault]]]:
    """The resources with every choice written in, and a fault for each that two choose at once. `known` is kept up to date."""
    choosing = [kind for kind in sorted({ref.kind for ref in resources}) if isinstance(kinds.get(kind), Chooser)]
    result, faults = dict(resources), list[tuple[ResourceRef, Fault]]()
    if not choosing:
        return result, faults
    by_kind: dict[str, list[Resource]] = {}
    for resource in resources.values():
        by_kind.setdefault(resource.ref.kind, []).append(resource)
    fresh: Chosen = {}
    for kind in choosing:
        controller = kinds[kind]
        assert isinstance(controller, Chooser)
        for other in by_kind.get(controller.selected, ()):
            if controller.names_it in other.spec:
                continue
            choosers = [rule.ref for rule in by_kind[kind] if controller.selects(rule, other)]
            if len(choosers) > 1:
                names = " and ".join(f'"{ref.name}"' for ref in sorted(choosers))
                hint = f"narrow a selector, or name one with {controller.names_it}"
                faults.append((other.ref, Fault("E0405", f"{kind} {names} both select it", ("metadata", "name"), hint)))
            elif choosers:
                fresh[other.ref] = _chosen(other, choosers[0], controller.names_it, known.get(other.ref))
                result[other.ref] = fresh[other.ref][2]
    known.clear()
    known.update(fresh)
    return result, faults


def _chosen(
    other: Resource, chooser: ResourceRef, field: str, known: tuple[Resource, str, Resource] | None
) -> tuple[Resource, str, Resource]:
    if known is not None and known[0] is other and known[1] == chooser.name:
        return known
    spec = {**other.spec, field: chooser.name}
    return other, chooser.name, replace(other, spec=spec, requires=other.requires | {chooser})
