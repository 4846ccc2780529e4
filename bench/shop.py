"""A repository of many datasets, and a ledger that agrees with it.

A dataset names its file, its seller and its price, as examples/03-dataset does; a hundred stand in one manifest. The
ledger is written through its adapter: bodies are those the planner asks for, outputs those a Dataset leaves behind. So the
next plan finds nothing to do, and nothing was sent to any network to get there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.compose import Workspace
from reconciler.kinds.dataset import entries, merkle_root
from reconciler.kinds.document import placement
from reconciler.kinds.network import net_of
from reconciler.model.change import Change
from reconciler.model.record import Record
from reconciler.model.status import Condition, Status, Truth
from reconciler.planner.diff import is_marker
from tests.e2e.scene import IDENTITY, NETWORK, Scene

PER_FILE = 100
NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = "02" + "ab" * 32
DATASET = """\
apiVersion: overlay.bsv/v1alpha1
kind: Dataset
metadata: {{name: set-{number:05}}}
spec:
  identityRef: desk
  networkRef: local
  content: {{file: data/{folder:03}/{number:05}.csv}}
  title: Made-up table {number}
  tags: [tides, demo]
  license: CC0-1.0
  price: {price}sat
  replicas: 2
  retention: 30d
"""


def declare(root: Path, count: int, moved: int = 0) -> None:
    """Write the manifests of `count` datasets; each `moved`-th one has another price, none with 0."""
    for first in range(0, count, PER_FILE):
        numbers = range(first, min(first + PER_FILE, count))
        texts = (dataset(number, 700 if moved and number % moved == 0 else 500) for number in numbers)
        (root / f"sets-{first // PER_FILE:03}.yaml").write_text("---\n".join(texts))


def dataset(number: int, price: int = 500) -> str:
    """One manifest."""
    return DATASET.format(number=number, folder=number // PER_FILE, price=price)


def content(root: Path, count: int) -> None:
    """Write the files of `count` datasets, each of its own bytes."""
    for number in range(count):
        path = root / f"data/{number // PER_FILE:03}/{number:05}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"time,height\n2026-01-01T00:00:00Z,{number}\n")


def repository(root: Path, count: int) -> Scene:
    """A repository of `count` datasets with an empty ledger, in a world where nothing is published."""
    scene = Scene(root)
    scene.write({"network.yaml": NETWORK, "identity.yaml": IDENTITY})
    declare(root, count)
    content(root, count)
    return scene


async def record(scene: Scene) -> None:
    """Enter every declared resource as done, those first on which others stand; a coin in the purse pays for what follows."""
    await scene.fund(100_000_000)
    async with scene.open() as space:
        while changes := [change for change in await _asked(space) if not _waiting(change)]:
            with space.ports.ledger.begin() as tx:
                for change in changes:
                    tx.put_record(done(change))


async def _asked(space: Workspace) -> tuple[Change, ...]:
    survey = await space.surveyor.survey(refresh=False)
    assert survey.loaded.desired is not None, survey.loaded.errors[:3]
    unmanaged = {ref: seen for ref, seen in survey.observed.items() if ref in survey.recorded.records}
    believed = {ref: unmanaged.get(ref, _absent()) for ref in survey.observed}
    return space.surveyor.plan(replace(survey, observed=believed), space.settings.limits).acting


def _absent() -> Any:
    from reconciler.model.observation import Absent

    return Absent("never published")


def _waiting(change: Change) -> bool:
    return any(is_marker(exports) for exports in change.body["using"].values())


def done(change: Change) -> Record:
    """The record that carrying out a change leaves."""
    made = _OUTPUTS.get(change.ref.kind, lambda change: {})(change)
    ready = Condition("Ready", Truth.TRUE, "Published", "done", change.generation, NOW)
    requires = tuple(sorted(change.after.requires)) if change.after else ()
    facts = {"deletionPolicy": "Retire"}
    status = Status(change.generation, (ready,), facts=facts)
    return Record(change.ref, f"uid-{change.ref}", change.generation, change.body, made, requires, status)


def _identity(change: Change) -> Mapping[str, Any]:
    return {"publicKey": KEY, "document": None, "tokens": [], "replicas": {}, "subkeys": {}}


def _dataset(change: Change) -> Mapping[str, Any]:
    files = entries(change.body)
    digest = hashlib.sha256(str(change.ref).encode()).hexdigest()
    held = {
        file["sha256"]: {"url": file["uhrp"], "location": f"http://eu1.devnet/cdn/{file['sha256']}", "expires": 1_800_000_000}
        for file in files
    }
    token = {
        "outpoint": f"{digest}.0", "type": "DESCRIPTOR", "name": str(change.ref), "topic": "tm_producer",
        "service": "ls_producer", "protocol": "producer descriptor", "keyId": str(change.ref), "owner": "desk",
        "identity": KEY, "satoshis": 1,
    }  # fmt: skip
    return {
        "publicKey": KEY,
        "document": {"digest": digest, "size": 700, "url": files[0]["uhrp"], "sequence": 1, "content": digest},
        "files": files,
        "merkleRoot": merkle_root(files),
        "previous": [],
        "replicas": {host.name: held for host in placement(str(change.ref), net_of(change.body).storage, 2)},
        "tokens": [token],
    }


_OUTPUTS = {"Identity": _identity, "Dataset": _dataset}


def build(root: Path, count: int) -> Scene:
    """A repository of `count` datasets whose ledger says that all of it is done."""
    scene = repository(root, count)
    asyncio.run(record(scene))
    return scene
