from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.manifest.load import Loaded, Loader
from reconciler.model.errors import Refused
from reconciler.model.resource import FileFact, Resource

HEAD = "apiVersion: overlay.bsv/v1alpha1\n"
BASE = f"""\
{HEAD}kind: Network
metadata: {{name: local}}
spec: {{chain: devnet, topics: {{market.data: tm_market_data}}}}
---
{HEAD}kind: Identity
metadata: {{name: main}}
spec:
  key: {{env: KEY}}
  defaults: {{license: commercial, tags: [crypto], pricePlanRef: standard}}
---
{HEAD}kind: PricePlan
metadata: {{name: standard}}
spec: {{model: per-item, rate: 5sat}}
"""


def dataset(name: str, spec: str = "", rest: str = "") -> str:
    return f"{HEAD}kind: Dataset\nmetadata: {{name: {name}}}\nspec:\n  content: {{file: data/a.csv}}\n  title: T\n{spec}{rest}"


@dataclass
class FakeKind:
    """Enough of a controller to load with: no references of its own unless told, the content file, a settable check."""

    kind: str
    stage: int = 0
    immutable: tuple[str, ...] = ()
    named: Sequence[tuple[str, str, str]] = ()
    faults: Sequence[tuple[str, str]] = ()
    checked: list[Resource] = field(default_factory=list)

    def references(self, spec: Mapping[str, Any]) -> Sequence[tuple[str, str, str]]:
        return self.named

    def content(self, spec: Mapping[str, Any]) -> Sequence[str]:
        content = spec.get("content", {})
        if "fileSet" in content:
            return [f"{content['fileSet']['directory']}/{content['fileSet']['pattern']}"]
        return [content["file"]] if "file" in content else []

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        self.checked.append(want)
        return self.faults


class World:
    """A loader over fake kinds, with a settable set of content files."""

    def __init__(self) -> None:
        self.kinds = {kind: FakeKind(kind) for kind in ("Identity", "Network", "PricePlan", "Advertisement", "Dataset")}
        self.loader = Loader(self.kinds)  # type: ignore[arg-type]
        self.files = {"data/a.csv": "aa"}

    def facts(self, pattern: str) -> Sequence[FileFact]:
        if pattern.startswith("secret"):
            raise Refused("outside", f"cannot read {pattern}: it leaves the repository")
        prefix = pattern.removesuffix("*")
        return [FileFact(path, 1, sha, "text/csv") for path, sha in sorted(self.files.items()) if path.startswith(prefix)]

    def load(self, *documents: str, env: str = "", **texts: str) -> Loaded:
        """Documents become a.yaml; keyword texts are files, `__` standing for a slash."""
        files = {"a.yaml": "---\n".join(documents)} if documents else {}
        files |= {f"{name.replace('__', '/')}.yaml": text for name, text in texts.items()}
        return self.loader.load({path: text.encode() for path, text in files.items()}, self.facts, "r1", env)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def base() -> str:
    return BASE


@pytest.fixture
def a_dataset() -> Callable[..., str]:
    return dataset
