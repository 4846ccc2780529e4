"""The repository that the daemons follow: revisions one after another, and checkouts that may lag behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.simulator.ground import network

Spec = dict[str, Any]
Tree = Mapping[str, bytes]

PRUNED = {"prune": "auto"}
IDENTITY: Spec = {"roles": ["producer"], "displayName": "The Desk", "key": {"env": "SIMULATOR_DESK"}, "register": True}
PRICE: Spec = {"model": "per-item", "rate": 25}


@dataclass(slots=True)
class Repository:
    """What is declared now: specs by (kind, name), content by path. `revisions` are the trees so far.

    `absent` are the resources that some revision had no more, `fresh` those that the newest whole one is the first to have again.
    """

    specs: dict[tuple[str, str], Spec] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    revisions: list[Tree] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)
    broken: bool = False
    _known: set[str] = field(default_factory=set)
    _last: set[str] = field(default_factory=set)
    _states: list[tuple[dict[tuple[str, str], Spec], dict[str, bytes]]] = field(default_factory=list)

    def declare(self, kind: str, name: str, spec: Spec) -> None:
        """Add or replace a resource."""
        self.specs[kind, name] = spec

    def drop(self, kind: str, name: str) -> None:
        """Take a resource out."""
        self.specs.pop((kind, name), None)

    def commit(self) -> Tree:
        """The tree as it stands becomes the newest revision."""
        tree = {f"{kind.lower()}-{name}.yaml": _document(kind, name, spec) for (kind, name), spec in self.specs.items()}
        tree |= self.content
        if self.broken:
            tree["broken.yaml"] = b"apiVersion: overlay.bsv/v1alpha1\nkind: Datase\nmetadata: {name: x}\nspec: {\n"
        else:
            self.fresh = self.tokens - self._last
            self._known |= self.tokens
            self.absent |= self._known - self.tokens
            self._last = self.tokens
            self._states.append((json.loads(json.dumps([[*k, v] for k, v in self.specs.items()])), dict(self.content)))
        self.revisions.append(tree)
        return tree

    def revert(self, back: int) -> None:
        """Declare again what an earlier whole revision declared."""
        listed, content = self._states[max(0, len(self._states) - 1 - back)]
        self.specs = {(kind, name): spec for kind, name, spec in json.loads(json.dumps(listed))}
        self.content = dict(content)

    def checkout(self, place: Path) -> None:
        """Write the newest revision into a directory, and take away what it does not have."""
        tree = self.revisions[-1]
        for path in place.rglob("*"):
            if path.is_file() and path.relative_to(place).as_posix() not in tree:
                path.unlink()
        for name, content in tree.items():
            path = place / name
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    @property
    def tokens(self) -> set[str]:
        """The resources that are to have a descriptor."""
        kinds = {"Dataset", "Advertisement"}
        return {
            f"{kind}/{name}"
            for (kind, name), spec in self.specs.items()
            if kind in kinds or (kind == "Identity" and spec.get("register"))
        }


def _document(kind: str, name: str, spec: Spec) -> bytes:
    lifecycle = {"lifecycle": PRUNED} if kind in ("Dataset", "Advertisement") else {}
    document = {"apiVersion": "overlay.bsv/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec, **lifecycle}
    return json.dumps(document).encode()


def dataset(name: str, *, title: str = "Rates", priced: bool = True) -> Spec:
    """A dataset of one file."""
    spec: Spec = {"identityRef": "desk", "networkRef": "local", "content": {"file": f"data/{name}.csv"}, "title": title}
    spec |= {"license": "CC0-1.0", "replicas": 1}
    return spec | ({"pricePlanRef": "standard"} if priced else {})


def advertisement(name: str, *, capability: str = "rates", tokens: int = 1) -> Spec:
    """A service with so many SHIP topics."""
    topics = [f"tm_{name}_{word}" for word in ("one", "two")][:tokens]
    return {
        "identityRef": "desk",
        "networkRef": "local",
        "serviceType": "data-feed",
        "capability": capability,
        "ship": topics,
        "slap": [f"ls_{name}"] if tokens > 1 else [],
        "pricePlanRef": "standard",
    }


def identity(*, display: str = "The Desk", register: bool = True) -> Spec:
    """The one that signs."""
    return {**IDENTITY, "displayName": display, "register": register, "networkRef": "local"}


def first(kinds: int) -> Repository:
    """The first revision; `kinds` chooses one of three small repositories."""
    made = Repository()
    made.declare("Network", "local", network())
    made.declare("PricePlan", "standard", dict(PRICE))
    made.declare("Identity", "desk", identity(register=kinds != 1))
    if kinds != 0:
        made.declare("Dataset", "one", dataset("one"))
        made.content["data/one.csv"] = b"date,rate\n2024-01-01,1.10\n"
    if kinds != 1:
        made.declare("Advertisement", "feed", advertisement("feed"))
    made.commit()
    return made
