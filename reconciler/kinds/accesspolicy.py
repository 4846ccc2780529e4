"""AccessPolicy: who may use what, and how much of it. Local: datasets that name it are served by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.kinds.local import LocalController
from reconciler.model.resource import Resource


class AccessPolicyController(LocalController):
    """Tiers with their members and quotas, and whom nothing is served."""

    kind = "AccessPolicy"
    stage = 2

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """Every name is one tier, and no key stands in two places, except that a member may be suspended."""
        spec = want.spec
        names = [tier["name"] for tier in spec.get("tiers") or ()]
        faults = [(f"/tiers/{n}/name", f'two tiers are called "{one}"') for n, one in enumerate(names) if one in names[:n]]
        usual = spec.get("defaultTier")
        if usual is not None and usual not in names:
            faults.append(("/defaultTier", f'there is no tier "{usual}"'))
        first: dict[str, str] = {}
        for key, at, words in _standings(spec):
            if key in first and not (words == "suspended" and first[key] not in ("suspended", "blocked")):
                faults.append((at, f"this key is {first[key]} already"))
            first.setdefault(key, words)
        return faults


def _standings(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every key that the policy says something of, where, and what."""
    for index, tier in enumerate(spec.get("tiers") or ()):
        for number, key in enumerate(tier.get("members") or ()):
            yield key, f"/tiers/{index}/members/{number}", f'a member of "{tier["name"]}"'
    for field in ("blocked", "suspended"):
        for index, one in enumerate(spec.get(field) or ()):
            yield one["identityKey"], f"/{field}/{index}/identityKey", field


CONTROLLER = AccessPolicyController()
