"""A planner that remembers plans as one that does not, whatever moves between two plans."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.change import Reason
from reconciler.model.plan import Plan
from reconciler.model.record import Purse, RecordedState
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import DesiredState, Resource
from reconciler.planner.plan import plan
from reconciler.planner.walk import Memory
from tests.property.test_planner import HOSTS, KINDS, LAWS, OBSERVATIONS, SPECS, Scene, linked, settled, split_fee


def planned(scene: Scene, memory: Memory | None) -> Plan:
    recorded = RecordedState("lin", 3, scene.records, {}, scene.frozen, {"devnet": Purse(scene.coins)}, 5)
    desired = DesiredState("rev", "prod", scene.desired)
    how: dict[str, Any] = {"kinds": KINDS, "rates": scene.rates, "limits": scene.limits, "split_fee": split_fee}
    return plan(desired, recorded, scene.observed, memory=memory, **how)


@st.composite
def moved(draw: st.DrawFn, scene: Scene) -> Scene:
    """The scene a moment later: some things are other objects that say the same, some say something else."""
    some = st.frozensets(st.sampled_from(sorted(scene.desired)), max_size=2)
    desired: dict[ResourceRef, Resource] = dict(scene.desired)
    for ref in draw(some):
        desired[ref] = replace(desired[ref], spec=draw(SPECS))
    records = dict(scene.records)
    for ref in draw(some) & records.keys():
        found = records[ref]
        records[ref] = replace(found, body={**found.body, "spec": draw(SPECS)}, retiring=draw(st.booleans()))
    for ref in draw(some):
        records.pop(ref, None)
    observed = {**scene.observed, **{ref: draw(OBSERVATIONS) for ref in draw(some)}}
    return replace(scene, desired=desired, records=records, observed=observed, frozen=draw(some))


@LAWS
@given(linked(), st.data())
def test_memory_changes_nothing_but_time(desired: dict[ResourceRef, Resource], data: st.DataObject) -> None:
    scene, memory = settled(desired), Memory()
    for _ in range(3):
        assert planned(scene, memory) == planned(scene, None)
        scene = data.draw(moved(scene))


@LAWS
@given(linked(), HOSTS)
def test_what_stayed_in_sync_is_not_decided_again(desired: dict[ResourceRef, Resource], hosts: list[str]) -> None:
    scene, memory = settled(desired), Memory()
    first, second = (planned(scene, memory) for _ in range(2))
    assert {change.reason for change in first.changes} == {Reason.IN_SYNC}
    assert all(one is other for one, other in zip(first.changes, second.changes, strict=True))
    assert not set(memory.agreed) - set(scene.records)
