"""One suite over every kind: whatever `controllers()` finds is held to the contract of controller.py, by its own examples.

A new kind needs no edit here. Each example of its schema is given what it names, taken from the examples of the other kinds, and
lives a whole life in a devnet: created, looked at, replayed, retired.
"""

import copy
import fnmatch
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from reconciler.compose import Workspace
from reconciler.controller import Controller
from reconciler.engine.execute import Fate
from reconciler.engine.observe import networks, snapshot
from reconciler.kinds import controllers
from reconciler.manifest.fault import Path as Place
from reconciler.manifest.load import Loader
from reconciler.manifest.normalise import Out
from reconciler.manifest.scaffold import to_yaml
from reconciler.manifest.schema import packaged, packaged_schema
from reconciler.manifest.shape import walk
from reconciler.model.canonical import Json, canonical
from reconciler.model.change import Change, Cost, Verb
from reconciler.model.codec import decode
from reconciler.model.effect import fingerprint
from reconciler.model.intent import Intent, IntentState
from reconciler.model.observation import Absent, Observation, Present
from reconciler.model.plan import Plan
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.model.resource import FileFact, Resource
from reconciler.planner.guard import Limits
from reconciler.wire.tx import parse_tx
from tests.e2e.scene import NETWORK, Scene, play

ROOT = Path(__file__).parents[2]
DESTROY = Limits(destroy=True, delete_percent=None)
PROCESS = "wallet: {key: {env: PURSE_OF_THE_SUITE}}\n"
# Where a Network of an example must point to be reachable here.
WORLD = {
    key: yaml.safe_load(NETWORK)["spec"][key] for key in ("chain", "overlays", "storage", "broadcasters", "headers", "gateway")
}

CASES = [
    pytest.param(ResourceRef(kind, example["metadata"]["name"]), id=f"{kind}-{example['metadata']['name']}")
    for kind in controllers()
    for example in packaged()[kind]["examples"]
]


# --- what a schema says about references ----------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A reference as the schema marks it, at its place in a spec."""

    place: Place
    ref: ResourceRef
    weak: bool


@cache
def examples() -> Mapping[ResourceRef, Mapping[str, Any]]:
    """Every example of every kind."""
    found = [example for kind in controllers() for example in packaged()[kind]["examples"]]
    return {ResourceRef(example["kind"], example["metadata"]["name"]): example for example in found}


@cache
def marks(kind: str) -> tuple[tuple[Place, str, bool], ...]:
    """(path, kind or *, weak) of every field below spec marked as a reference; [] stands for any item, * for any key."""
    fields = walk(packaged()[kind])
    return tuple(
        (path, node["x-ref"], bool(node.get("x-weak"))) for path, node in fields if path[:1] == ("spec",) and "x-ref" in node
    )


def named(document: Mapping[str, Any]) -> Iterator[Named]:
    """Every reference that a document makes."""
    for path, kind, weak in marks(document["kind"]):
        for place, value in _at(document, path, ()):
            ref = ResourceRef(value["kind"], value["name"]) if kind == "*" else ResourceRef(kind, value)
            yield Named(place, ref, weak)


def _at(value: Any, path: Place, place: Place) -> Iterator[tuple[Place, Any]]:
    """The values at a path of a schema, each with its own place."""
    if not path:
        yield place, value
    elif path[0] == "[]":
        for index, inner in enumerate(value if isinstance(value, list) else ()):
            yield from _at(inner, path[1:], (*place, index))
    elif path[0] == "*":
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield from _at(inner, path[1:], (*place, key))
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:], (*place, path[0]))


def _with(value: Any, path: Place, new: Any) -> Any:
    """The value with `new` standing at a path of a schema, whatever stood in the way."""
    if not path:
        return new
    if path[0] == "[]":
        return [_with(None, path[1:], new)]
    key = "some" if path[0] == "*" else path[0]
    inside = value if isinstance(value, dict) else {}
    return {**inside, key: _with(inside.get(key), path[1:], new)}


def pointer(place: Place) -> str:
    """The place below spec, as controllers write it."""
    return "".join(f"/{part}" for part in place[1:])


def closure(ref: ResourceRef) -> dict[ResourceRef, dict[str, Any]]:
    """An example and everything that must exist beside it."""
    found: dict[ResourceRef, dict[str, Any]] = {}
    waiting = [ref]
    while waiting:
        here = waiting.pop()
        if here not in found:
            assert here in examples(), f"no example is called {here}, which another example names"
            found[here] = copy.deepcopy(dict(examples()[here]))
            # Whose consent a change needs is no matter of its kind, and nobody is here to give it.
            found[here]["spec"].pop("approvals", None)
            waiting += [one.ref for one in named(found[here])]
    return found


# --- a whole life ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Act:
    """One change that was carried out: as planned, as journaled, and as the chain saw it."""

    change: Change
    begun: Change
    intents: tuple[Intent, ...]
    paid: int
    needs: tuple[int, ...]


@dataclass(frozen=True)
class Life:
    """Everything that happened to one example, and what was seen of it in between."""

    controller: Controller
    want: Resource
    created: Act
    record: Record
    seen: Observation
    again: Plan
    priced_again: Cost
    retired: Act
    after: Observation
    remains: Observation


def secrets_in(value: Any) -> Iterator[tuple[str, str]]:
    """("env" or "credential", name) of every place where a document expects a secret."""
    if isinstance(value, dict):
        yield from ((key, value[key]) for key in ("env", "credential") if isinstance(value.get(key), str))
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from secrets_in(inner)


def settle(ref: ResourceRef, scene: Scene, patch: pytest.MonkeyPatch) -> None:
    """Write the repository: the example, what it needs, its files; and put secrets where it expects them."""
    patch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
    patch.setenv("PURSE_OF_THE_SUITE", hashlib.sha256(b"purse").hexdigest())
    patch.setenv("CREDENTIALS_DIRECTORY", str(scene.root.parent))
    texts: dict[str, str | bytes] = {"reconciler.yaml": PROCESS}
    for here, document in closure(ref).items():
        document.pop("lifecycle", None)  # the engine's business, and some examples forbid what is tested here
        if here.kind == "Network" and here != ref:
            document["spec"] |= WORLD
        texts[f"{here.kind.lower()}-{here.name}.yaml"] = to_yaml(document)
        for pattern in controllers()[here.kind].content(document["spec"]):
            texts[pattern.replace("*", "one")] = f"date,value\n2024-01-01,{len(texts)}\n"
        for sort, name in secrets_in(document):
            secret = hashlib.sha256(name.encode()).hexdigest()
            if sort == "env":
                patch.setenv(name, secret)
            else:
                (scene.root.parent / name).write_text(secret)
    scene.write(texts)


async def act(scene: Scene, space: Workspace, ref: ResourceRef, limits: Limits | None = None) -> Act:
    """Carry out what is due, and follow one resource through it."""
    plan, report = await scene.apply(space, limits)
    assert report.complete, report
    assert report.results[ref].fate is Fate.DONE
    (change,) = [one for one in plan.changes if one.ref == ref]
    script, chain = space.ports.wallet.funding_script(), scene.world.chain
    paid, needs = 0, []
    with space.ports.ledger.begin() as tx:
        run = tx.run(change.run_id(plan.lineage))
        assert run is not None
        intents = tuple(tx.intents(run.id))
        for intent in intents:
            if intent.effect == "Sign":
                sent = parse_tx(chain.live(intent.result["txid"]).raw)  # type: ignore[union-attr]
                spent = [chain.output(Outpoint(one.txid, one.vout)) for one in sent.inputs]
                moved = sum(out.satoshis for out in spent if out and out.script == script)
                moved -= sum(out.satoshis for out in sent.outputs if out.script == script)
                paid, needs = paid + moved, [*needs, moved + 1]
            elif intent.effect == "Store":
                paid += sum(stored["paid"] for stored in intent.result.values())
    return Act(change, decode(Change, run.subject["change"]), intents, paid, tuple(needs))


async def live(scene: Scene, ref: ResourceRef) -> Life:
    """The whole life of an example."""
    controller = controllers()[ref.kind]
    await scene.fund()
    async with scene.open() as space:
        ports = space.ports
        created = await act(scene, space, ref)
        survey = await space.surveyor.survey()
        assert survey.desired is not None
        want, records = survey.desired.resources[ref], survey.recorded.records
        reads = snapshot(ports, networks(survey.desired.resources, records))
        seen = await controller.observe(want, records[ref], reads)
        again = space.surveyor.plan(survey, space.settings.limits)
        cost, _ = controller.estimate(created.begun)
        retired = await act(scene, space, ref, DESTROY)
        reads = snapshot(ports, reads.networks)
        after = await controller.observe(want, None, reads)
        remains = await controller.observe(want, records[ref], reads)
        assert ports.ledger.read(ports.clock.now()).records == {}
        return Life(controller, want, created, records[ref], seen, again, cost, retired, after, remains)


@pytest.fixture(scope="module", params=CASES)
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """One example, from its manifest to its end."""
    scene = Scene(tmp_path_factory.mktemp("kind") / "repo")
    with pytest.MonkeyPatch.context() as patch:
        settle(request.param, scene, patch)
        yield play(lambda: live(scene, request.param), scene.world.clock)


# --- the contract ---------------------------------------------------------------------------------


def test_every_kind_has_a_controller_a_schema_examples_and_a_page() -> None:
    assert set(controllers()) == set(packaged())
    for kind, controller in controllers().items():
        assert (controller.kind, kind.isidentifier()) == (kind, True)
        assert len(packaged()[kind]["examples"]) >= 2
        page = ROOT / "docs" / "reference" / "kinds" / f"{kind.lower()}.md"
        assert f"# {kind}" in page.read_text("utf-8")
    stages = [controller.stage for controller in controllers().values()]
    assert stages == sorted(stages)


def test_what_is_created_is_seen_and_does_not_differ(life: Life) -> None:
    assert (life.created.change.verb, life.created.change.blocked) == (Verb.CREATE, None)
    assert life.record.body == life.created.begun.body
    assert isinstance(life.seen, Present), life.seen
    assert list(life.controller.diff(life.record.body, life.record, life.seen)) == []
    assert life.again.empty, [(str(c.ref), c.verb, c.deltas) for c in life.again.changes]
    canonical(life.record.outputs)


def test_the_price_is_what_left_the_purse(life: Life) -> None:
    for done in (life.created, life.retired):
        assert done.paid == done.change.cost.satoshis
        assert done.needs == done.change.needs
        assert len(done.needs) == done.change.cost.transactions
    assert life.priced_again == life.created.change.cost, "knowing what was only known after apply does not move the price"


def replay(steps: Any, intents: Sequence[Intent]) -> tuple[list[str], Any]:
    """Answer a generator from a journal: the fingerprints of what it asked for, and what it returned."""
    asked, answers = [], iter(intents)
    try:
        effect = next(steps)
        while True:
            asked.append(fingerprint(effect))
            effect = steps.send(next(answers).result)
    except StopIteration as stop:
        return asked, stop.value


def test_a_run_replayed_from_its_journal_asks_for_the_same_effects(life: Life) -> None:
    for done in (life.created, life.retired):
        assert {intent.state for intent in done.intents} <= {IntentState.DONE}
        steps = life.controller.delete if done.change.verb is Verb.DELETE else life.controller.apply
        first, second = (replay(steps(done.begun), done.intents) for _ in range(2))
        assert first == second
        assert first[0] == [intent.fingerprint for intent in done.intents]
    _, outputs = replay(life.controller.apply(life.created.begun), life.created.intents)
    assert canonical(outputs) == canonical(life.record.outputs)


def test_what_is_deleted_is_absent(life: Life) -> None:
    assert life.retired.change.verb is Verb.DELETE
    assert isinstance(life.after, Absent), life.after
    if life.record.outputs.get("tokens"):
        assert isinstance(life.remains, Absent), "its tokens are spent, and that is no drift"


def test_files_are_the_ones_its_patterns_name(life: Life) -> None:
    patterns = life.controller.content(life.want.spec)
    assert not any(PurePosixPath(p).is_absolute() or ".." in PurePosixPath(p).parts for p in patterns)
    files = [file["path"] for file in life.record.body["files"]]
    assert all(any(fnmatch.fnmatch(path, pattern) for pattern in patterns) for path in files)
    assert bool(files) == bool(patterns)


# --- references -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded() -> Mapping[ResourceRef, Resource]:
    """All examples as they are written, in one repository."""
    texts = {f"{ref.kind}-{ref.name}.yaml": to_yaml(document).encode() for ref, document in examples().items()}
    found = Loader(controllers()).load(texts, lambda pattern: [FileFact(pattern, 1, "0" * 64, "text/csv")], "examples")
    assert found.desired is not None, found.diagnostics
    return found.desired.resources


@pytest.mark.parametrize("ref", CASES)
def test_every_reference_of_an_example_is_an_edge(ref: ResourceRef, loaded: Mapping[ResourceRef, Resource]) -> None:
    resource, marked = loaded[ref], list(named(examples()[ref]))
    assert {one.ref for one in marked if not one.weak} <= resource.requires
    everywhere = named({**examples()[ref], "spec": resource.spec})
    declared = {(pointer(one.place), one.ref) for one in everywhere}
    for at, kind, name in controllers()[ref.kind].references(resource.spec):
        assert ResourceRef(kind, name) in resource.requires
        # A reference of any kind is an object, of which controllers point at the name.
        assert {(at, ResourceRef(kind, name)), (at.removesuffix("/name"), ResourceRef(kind, name))} & declared


@pytest.mark.parametrize(("kind", "path", "target", "weak"), [(k, *mark) for k in controllers() for mark in marks(k)])
def test_every_field_that_the_schema_calls_a_reference_is_found(kind: str, path: Place, target: str, weak: bool) -> None:
    value: Json = {"kind": "Dataset", "name": "other"} if target == "*" else "other"
    document = _with(packaged()[kind]["examples"][0], path, value)
    out = Out()
    spec = packaged_schema(kind).spec(document["spec"], ("spec",), out)
    wanted = ("Dataset" if target == "*" else target, "other", weak)
    assert wanted in {(link.kind, link.name, link.weak) for link in out.links}
    if not weak and target in controllers() and len(path) == 2:
        assert (f"/{path[1]}", target, "other") in controllers()[kind].references(spec)
