"""DistributionRule: where copies of datasets live. Local: the datasets that it selects carry it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from reconciler.controller import Outputs
from reconciler.kinds.local import LocalController
from reconciler.kinds.placement import KIND, read_rule
from reconciler.model.canonical import Json
from reconciler.model.resource import Resource
from reconciler.wire.uhrp import parse_uhrp

SELECTED = "Dataset"


class DistributionRuleController(LocalController):
    """How many copies, in which regions, on which hosts, and how that is kept true."""

    kind = KIND
    stage = 3
    selected = SELECTED
    names_it = "distributionRuleRef"

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """The numbers can be met at once."""
        rule, size = read_rule(want.ref.name, want.spec), (want.spec.get("selector") or {}).get("size") or {}
        faults = []
        if rule.most is not None and rule.most < rule.least:
            faults.append(("/replicas/max", f"max is less than min, {rule.least}"))
        if rule.nodes and len(rule.nodes) < rule.least:
            faults.append(("/nodes", f"{len(rule.nodes)} hosts cannot keep {rule.least} copies"))
        if rule.most is not None and rule.spread != ("*",) and len(rule.spread) * rule.each > rule.most:
            faults.append(("/regions", f"needs {len(rule.spread) * rule.each} copies, more than replicas.max"))
        if size.get("min", 0) > size.get("max", size.get("min", 0)):
            faults.append(("/selector/size", "min is more than max"))
        if rule.served is not None and (rule.most or rule.least) == rule.least:
            faults.append(("/autoScale", "replicas.max leaves no room to scale"))
        return faults

    def exports(self, body: Mapping[str, Json], outputs: Outputs | None) -> Mapping[str, Json] | None:
        """All but the selector: whom else it selects is nothing that a dataset builds on."""
        return {name: value for name, value in body["spec"].items() if name != "selector"}

    def selects(self, rule: Resource, other: Resource) -> bool:
        """Whether a resource meets every condition of the rule's selector; without a selector none does."""
        selector = rule.spec.get("selector")
        if not selector or other.ref.kind != SELECTED:
            return False
        names, size = selector.get("names"), selector.get("size") or {}
        held = sum(file.size for file in other.files)
        return (
            (not names or any(fnmatchcase(other.ref.name, name) for name in names))
            and set(selector.get("tags") or ()) <= set(other.spec.get("tags") or ())
            and (selector.get("labels") or {}).items() <= other.labels.items()
            and ("contentHash" not in selector or digest_of(selector["contentHash"]) in {file.sha256 for file in other.files})
            and size.get("min", 0) <= held <= size.get("max", held)
        )


def digest_of(text: str) -> str:
    """SHA-256 in hex of a hash or a UHRP URL."""
    return text if len(text) == 64 else parse_uhrp(text)


CONTROLLER = DistributionRuleController()
