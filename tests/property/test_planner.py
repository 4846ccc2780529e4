"""The laws of the planner: total, order-independent, silent after apply, harmless on doubt, and always payable."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconciler.model.canonical import digest
from reconciler.model.change import Cause, Change, Cost, FeeRate, FieldDelta, Verb
from reconciler.model.observation import Absent, Observation, Present, Unknown
from reconciler.model.plan import Plan
from reconciler.model.record import Purse, Record, RecordedState
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.resource import DeletionPolicy, DesiredState, Lifecycle, Prune, Resource, Suspension
from reconciler.model.status import Status
from reconciler.planner.diff import compare, same
from reconciler.planner.fund import fund, split, uncovered
from reconciler.planner.guard import FUNDS, Limits
from reconciler.planner.markdown import as_markdown
from reconciler.planner.order import LEAVING
from reconciler.planner.plan import plan
from reconciler.planner.planfile import read_plan, write_plan
from reconciler.planner.render import as_json, as_lines, as_text
from reconciler.planner.resolve import settle

LAWS = settings(max_examples=100, deadline=None)


def split_fee(inputs: int, outputs: int, rate: FeeRate) -> int:
    return rate.fee(10 + 148 * inputs + 34 * (outputs + 1))


class Kind:
    """A kind with one mutable and one immutable field, on a network of two hosts."""

    immutable = ("spec.fixed",)

    def __init__(self, kind: str, stage: int, *, early: bool, lasting: tuple[str, ...] = (), free: bool = False) -> None:
        self.kind, self.stage, self.early, self.lasting, self.free = kind, stage, early, lasting, free

    def references(self, spec: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        return []

    def exports(self, body: Mapping[str, Any], outputs: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if self.early:
            return body["spec"]
        return None if outputs is None else {"key": outputs["key"]}

    def diff(self, body: Mapping[str, Any], was: Record, seen: Present) -> list[FieldDelta]:
        lost = sorted({"one", "two"} - set(seen.attributes["hosts"]))
        return [FieldDelta(f"hosts.{host}", "there", None, Cause.DRIFT, seen.attributes.get("burnt", False)) for host in lost]

    def estimate(self, change: Change) -> tuple[Cost, tuple[int, ...]]:
        if change.verb is Verb.REPAIR or self.free:
            return Cost(), ()
        if change.rate is None:
            raise ValueError("no rate")
        fee = change.rate.fee(100 + 50 * self.stage)
        locked = {Verb.CREATE: 1, Verb.DELETE: -1}.get(change.verb, 0)
        return Cost(1, fee, locked=locked), (fee + locked + 1,)


KINDS = {
    kind.kind: kind
    for kind in (
        Kind("Network", 0, early=True, free=True),
        Kind("Identity", 1, early=False, lasting=("key",)),
        Kind("Dataset", 5, early=False),
        Kind("Advertisement", 9, early=False),
    )
}
NET = ResourceRef("Network", "n")
REFS = [NET, *(ResourceRef(kind, name) for kind in ("Identity", "Dataset", "Advertisement", "Oracle") for name in ("a", "b"))]


@dataclass
class Scene:
    """One world to plan in."""

    desired: dict[ResourceRef, Resource]
    records: dict[ResourceRef, Record]
    observed: dict[ResourceRef, Observation]
    coins: tuple[int, ...] = (10**9,) * 20
    rates: Mapping[str, FeeRate] = field(default_factory=dict)
    frozen: frozenset[ResourceRef] = frozenset()
    limits: Limits = field(default_factory=Limits)

    def plan(self, **limits: Any) -> Plan:
        return plan(
            DesiredState("rev", "prod", self.desired),
            RecordedState("lin", 3, self.records, {}, self.frozen, {"devnet": Purse(self.coins)}, 5),
            self.observed,
            kinds=KINDS,
            rates=self.rates,
            limits=replace(self.limits, **limits),
            split_fee=split_fee,
        )


def spec_of(title: int, fixed: int) -> dict[str, Any]:
    return {"networkRef": "n", "chain": "devnet", "title": title, "fixed": fixed}


SPECS = st.builds(spec_of, st.integers(0, 2), st.integers(0, 1))
LIFECYCLES = st.builds(
    Lifecycle,
    deletion_policy=st.sampled_from(DeletionPolicy),
    prune=st.sampled_from(Prune),
    correct_drift=st.booleans(),
    ignore=st.sampled_from([(), ("/hosts/one",)]),
    suspend=st.sampled_from([None, None, None, Suspension("later")]),
    max_spend=st.sampled_from([None, None, 10]),
    adopt=st.booleans(),
)
HOSTS = st.sampled_from([["one", "two"], ["one"], []])
OBSERVATIONS = st.one_of(
    st.builds(lambda hosts, burnt: Present({"hosts": hosts, "burnt": burnt}), HOSTS, st.booleans()),
    st.just(Absent("spent")),
    st.just(Unknown("silence")),
)


def resource(ref: ResourceRef, spec: Mapping[str, Any], requires: frozenset[ResourceRef], lifecycle: Lifecycle) -> Resource:
    return Resource(ref, spec, Position("a.yaml", 1, 1), requires, lifecycle)


@st.composite
def any_scene(draw: st.DrawFn) -> Scene:
    """A world without sense: dangling and circular requirements, torn records, strange observations."""
    some = st.frozensets(st.sampled_from(REFS), max_size=3)
    desired = {
        ref: resource(ref, draw(SPECS), draw(some), draw(LIFECYCLES))
        for ref in sorted(draw(st.frozensets(st.sampled_from(REFS))))
    }
    records = {}
    for ref in sorted(draw(st.frozensets(st.sampled_from(REFS)))):
        using = {str(other): draw(st.sampled_from([{"key": 1}, spec_of(0, 0)])) for other in sorted(draw(some))}
        body = draw(st.sampled_from([{"spec": draw(SPECS), "files": [], "using": using}, {}]))
        outputs = draw(st.sampled_from([{"key": 1}, {}]))
        status = Status(facts=draw(st.sampled_from([{}, {"deletionPolicy": "Orphan"}])))
        marks = {"protected": draw(st.booleans()), "retiring": draw(st.booleans())}
        records[ref] = Record(ref, "uid", draw(st.integers(1, 3)), body, outputs, tuple(sorted(draw(some))), status, **marks)
    observed = draw(st.dictionaries(st.sampled_from(REFS), OBSERVATIONS))
    limits = Limits(
        delete_count=draw(st.sampled_from([None, 0])),
        change_percent=draw(st.sampled_from([None, 10])),
        spend_run=draw(st.sampled_from([None, 5])),
        spend_day=draw(st.sampled_from([None, 5])),
        approved=draw(st.frozensets(st.sampled_from(["empty-source", "protected", "max-spend", "funds", "deletes"]))),
        prune=draw(st.booleans()),
        only=draw(st.none() | some),
        exclude=draw(some),
        destroy=draw(st.booleans()),
    )
    coins = tuple(sorted(draw(st.lists(st.integers(1, 500), max_size=6)), reverse=True))
    rates = draw(st.sampled_from([{"n": FeeRate(100)}, {}]))
    return Scene(desired, records, observed, coins, rates, draw(some), limits)


@st.composite
def linked(draw: st.DrawFn) -> dict[ResourceRef, Resource]:
    """Manifests as the loader lets them through: every requirement is declared, and none leads back."""
    known = [ref for ref in REFS if ref.kind in KINDS]
    chosen = [NET, *(ref for ref in known[1:] if draw(st.booleans()))]
    desired = {}
    for index, ref in enumerate(chosen):
        earlier = draw(st.frozensets(st.sampled_from(chosen[:index]), max_size=3)) if index else frozenset()
        needs = earlier | {NET} if index else earlier
        desired[ref] = resource(ref, draw(SPECS), needs, Lifecycle())
    return desired


def applied(scene: Scene, made: Plan) -> Scene:
    """The world after every acting change has succeeded, each settled against what stood before it."""
    records = dict(scene.records)
    for change in made.acting:
        for earlier in made.after.get(change.ref, ()):
            assert earlier not in {later.ref for later in made.acting[made.acting.index(change) :]}
        if change.verb in LEAVING:
            del records[change.ref]
            continue
        exports = {str(ref): KINDS[ref.kind].exports(record.body, record.outputs) for ref, record in records.items()}
        assert change.after is not None
        renewed = change.verb is Verb.CREATE or change.verb is Verb.REPLACE
        kept = change.ref.kind == "Identity" and not renewed and change.before is not None
        key = change.before.outputs["key"] if kept and change.before else digest([str(change.ref), change.generation])
        outputs = {"key": key}
        body = settle(change.body, exports)
        records[change.ref] = Record(change.ref, "uid", change.generation, body, outputs, tuple(sorted(change.after.requires)))
    return replace(scene, records=records, observed=healthy(scene.desired, records))


def healthy(desired: Mapping[ResourceRef, Resource], records: Mapping[ResourceRef, Record]) -> dict[ResourceRef, Observation]:
    there: dict[ResourceRef, Observation] = {ref: Present({"hosts": ["one", "two"]}) for ref in records}
    return {**{ref: Absent("never was") for ref in desired}, **there}


def settled(desired: dict[ResourceRef, Resource]) -> Scene:
    """A world in which `desired` has been applied from nothing."""
    bare = Scene(desired, {}, healthy(desired, {}), rates={"n": FeeRate(100)})
    return applied(bare, bare.plan())


# --- total, well formed, harmless ----------------------------------------------------------------


@LAWS
@given(any_scene())
def test_any_world_has_a_plan_that_can_be_carried_out(scene: Scene) -> None:
    made = scene.plan()
    refs = [change.ref for change in made.changes]
    assert len(refs) == len(set(refs))
    place = {change.ref: index for index, change in enumerate(made.acting)}
    for ref, others in made.after.items():
        assert others and all(place[other] < place[ref] for other in others)
    for change in made.acting:
        seen = scene.observed.get(change.ref, Unknown("not observed"))
        assert not isinstance(seen, Unknown), "an act on doubt"
        assert change.ref not in scene.frozen, "an act beside an open run"
        assert not (change.verb in LEAVING and scene.records[change.ref].protected), "a protected resource removed"
        assert change.generation >= (scene.records[change.ref].generation if change.ref in scene.records else 1)


@LAWS
@given(any_scene())
def test_any_plan_can_be_told_written_and_read_back(scene: Scene) -> None:
    made = scene.plan()
    assert read_plan(write_plan(made)) == made
    assert made.id in as_text(made) and made.id in as_markdown(made)
    assert as_json(made)["id"] == made.id
    assert len(list(as_lines(made))) == len(made.changes) + 1


@LAWS
@given(any_scene())
def test_total_doubt_changes_nothing(scene: Scene) -> None:
    assert replace(scene, observed={}).plan().acting == ()


@LAWS
@given(any_scene(), st.randoms(use_true_random=False))
def test_the_order_in_which_states_were_read_does_not_matter(scene: Scene, random: Any) -> None:
    def shuffled(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    other = replace(
        scene,
        desired=shuffled({ref: replace(want, spec=shuffled(want.spec)) for ref, want in scene.desired.items()}),
        records=shuffled(scene.records),
        observed=shuffled(scene.observed),
    )
    assert other.plan().id == scene.plan().id


# --- convergence ---------------------------------------------------------------------------------


@LAWS
@given(linked(), linked())
def test_an_applied_plan_leaves_nothing_to_do(first: dict[ResourceRef, Resource], second: dict[ResourceRef, Resource]) -> None:
    scene = settled(first)
    assert scene.plan().empty
    moved = replace(scene, desired=second, observed=healthy(second, scene.records))
    done = applied(moved, moved.plan(delete_percent=None))
    assert done.plan().empty
    gone = applied(done, done.plan(destroy=True))
    assert gone.records == {}


@LAWS
@given(linked(), st.data())
def test_drift_and_loss_heal_without_a_new_generation(desired: dict[ResourceRef, Resource], data: st.DataObject) -> None:
    scene = settled(desired)
    world = st.one_of(st.builds(lambda hosts: Present({"hosts": hosts}), HOSTS), st.just(Absent("spent")))
    scene = replace(scene, observed={ref: data.draw(world) for ref in scene.records})
    made = scene.plan()
    for change in made.acting:
        if change.verb is Verb.REPAIR:
            assert change.cost == Cost() and change.generation == scene.records[change.ref].generation
    assert applied(scene, made).plan().empty


@LAWS
@given(linked(), linked())
def test_nothing_is_taken_away_from_under_something(
    first: dict[ResourceRef, Resource], second: dict[ResourceRef, Resource]
) -> None:
    scene = settled(first)
    moved = replace(scene, desired=second, observed=healthy(second, scene.records))
    made = moved.plan()
    place = {change.ref: index for index, change in enumerate(made.acting)}
    for change in made.acting:
        if change.verb is Verb.DELETE:
            users = {ref for ref, record in scene.records.items() if change.ref in record.requires}
            assert all(place[user] < place[change.ref] for user in users if user in place)
            assert {user for user in users if user in place} <= made.after.get(change.ref, frozenset())
        else:
            needs = {ref for ref in second[change.ref].requires if ref in place}
            assert needs <= made.after.get(change.ref, frozenset())


# --- money ---------------------------------------------------------------------------------------

AMOUNTS = st.lists(st.integers(1, 400), max_size=8).map(lambda found: tuple(sorted(found, reverse=True)))
RATES = st.builds(FeeRate, st.integers(0, 300))


def run_dry(needs: list[int], coins: list[int]) -> bool:
    """Serve needs in the given order, each with its smallest sufficient coin; whether one finds none."""
    for need in needs:
        enough = [coin for coin in coins if coin >= need]
        if not enough:
            return True
        coins.remove(min(enough))
    return False


@LAWS
@given(AMOUNTS, AMOUNTS, RATES, st.sampled_from([2, 3, 100]), st.randoms(use_true_random=False))
def test_a_funded_plan_never_runs_dry_in_any_order(
    needs: tuple[int, ...], coins: tuple[int, ...], rate: FeeRate, widest: int, random: Any
) -> None:
    made, short = fund({"devnet": needs}, {"devnet": Purse(coins)}, {"devnet": rate}, split_fee, widest)
    order = list(needs)
    random.shuffle(order)
    if short:
        assert made == () and uncovered(needs, coins)
        return
    purse = list(coins)
    for number, funding in enumerate(made):
        # The change of the splits is left out: the plan must do without it.
        least = sum(funding.outputs) + funding.cost.fees + 1
        merged = coins[: funding.inputs] if not number else (min(coin for coin in purse if coin >= least),)
        for coin in merged:
            purse.remove(coin)
        purse += funding.outputs
        assert len(funding.outputs) <= widest
        assert funding.cost == Cost(1, split_fee(funding.inputs, len(funding.outputs), rate))
        assert sum(merged) >= least
    assert not run_dry(order, purse)


@LAWS
@given(AMOUNTS, AMOUNTS, RATES)
def test_a_split_merges_as_few_coins_as_will_do(needs: tuple[int, ...], coins: tuple[int, ...], rate: FeeRate) -> None:
    """Against every number of inputs, tried one by one."""

    def works(inputs: int) -> bool:
        outputs = uncovered(needs, coins[inputs:])
        return sum(coins[:inputs]) >= sum(outputs) + split_fee(inputs, len(outputs), rate) + 1

    fewest = next((inputs for inputs in range(1, len(coins) + 1) if works(inputs)), None)
    found = split(needs, coins, rate, split_fee)
    assert (found[0] if found else None) == fewest


@LAWS
@given(AMOUNTS, AMOUNTS, RATES)
def test_the_missing_satoshis_are_what_is_missing(needs: tuple[int, ...], coins: tuple[int, ...], rate: FeeRate) -> None:
    _, short = fund({"devnet": needs}, {"devnet": Purse(coins)}, {"devnet": rate}, split_fee)
    assume(short)
    assert short[0].available == sum(coins)
    richer = tuple(sorted((*coins, short[0].missing), reverse=True))
    assert fund({"devnet": needs}, {"devnet": Purse(richer)}, {"devnet": rate}, split_fee)[1] == ()


@LAWS
@given(linked(), AMOUNTS, st.randoms(use_true_random=False))
def test_a_plan_without_refusal_can_be_paid_in_any_order(
    desired: dict[ResourceRef, Resource], coins: tuple[int, ...], random: Any
) -> None:
    scene = Scene(desired, {}, healthy(desired, {}), coins, {"n": FeeRate(300)})
    made = scene.plan()
    purse = list(coins)
    for funding in made.funding:
        purse = [*coins[funding.inputs :], *funding.outputs]
    needs = [need for change in made.acting for need in change.needs]
    random.shuffle(needs)
    assert run_dry(needs, purse) is any(guard.name == FUNDS for guard in made.refusals)


# --- differences ---------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "name", "path", "secret", "passphrase"])
LEAVES = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x", "hush"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
BODIES = st.dictionaries(KEYS, VALUES, max_size=4)


@LAWS
@given(BODIES, BODIES)
def test_bodies_differ_exactly_where_a_difference_is_told(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert same(left, right) is (compare(left, right) == ())
    assert same(left, right) is same(right, left)
    assert compare(left, left) == ()
    if digest(left) == digest(right):
        assert same(left, right)
    told = compare(left, right)
    assert len({delta.path for delta in told}) == len(told)
