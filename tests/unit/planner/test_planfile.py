"""A plan file holds one plan, exactly, or is refused."""

import json
from typing import Any

import pytest

from reconciler.model.canonical import canonical, digest
from reconciler.model.errors import Conflict, GuardRefused, ReconcilerError, Refused
from reconciler.model.observation import Absent, Present
from reconciler.planner.planfile import read_plan, write_plan


@pytest.fixture
def busy(market: Any) -> Any:
    """A plan with a bit of everything in it."""
    market.declare("Dataset/new", {"networkRef": "net", "tags": ["a"]}, "Network/net")
    market.change("Identity/main", spec={"networkRef": "net", "title": "Ada", "key": "other"})
    market.undeclare("Dataset/eth")
    market.see("Dataset/btc", Present({"hosts": ["one"]}))
    market.see("Advertisement/btc", Absent("spent"))
    market.coins = (900_000,)
    return market.plan(notes=("Observed 5/5",), spend_day=10)


def test_a_plan_reads_back_as_it_was_written(busy: Any) -> None:
    assert busy.funding and busy.refusals and busy.after
    data = write_plan(busy)
    again = read_plan(data)
    assert again == busy and again.id == busy.id
    assert write_plan(again) == data
    head = json.loads(data)
    assert (head["formatVersion"], head["id"]) == (1, busy.id)
    assert head["sha256"] == digest(head["plan"])


def test_a_touched_plan_is_refused(busy: Any) -> None:
    data = write_plan(busy)
    with pytest.raises(GuardRefused, match="altered after it was written"):
        read_plan(data.replace(b'"locked":1', b'"locked":2', 1))
    content = json.loads(data)
    content["plan"]["changes"][0]["verb"] = "explode"
    content["sha256"] = digest(content["plan"])
    with pytest.raises(GuardRefused, match="cannot be read back"):
        read_plan(canonical(content))


def test_a_plan_under_another_name_is_refused(busy: Any) -> None:
    content = json.loads(write_plan(busy))
    content["plan"]["serial"] += 1
    content["sha256"] = digest(content["plan"])
    with pytest.raises(GuardRefused, match=f"does not hold plan {busy.id}"):
        read_plan(canonical(content))
    content = json.loads(write_plan(busy))
    content["plan"]["extra"] = 1
    content["sha256"] = digest(content["plan"])
    with pytest.raises(GuardRefused, match="does not hold"):
        read_plan(canonical(content))


def test_another_format_asks_for_a_new_plan(busy: Any) -> None:
    content = json.loads(write_plan(busy))
    with pytest.raises(Conflict, match="its format is 2") as caught:
        read_plan(canonical({**content, "formatVersion": 2}))
    assert caught.value.hint is not None and "reconciler plan" in caught.value.hint


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"formatVersion":1,"id":1,"sha256":2}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_plan_file_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(Refused, match="cannot read the plan file"):
        read_plan(data)


@pytest.mark.parametrize("plan", [None, [], 3, {"lineage": 1.5}, {"changes": 3}, {"changes": [{"ref": "nonsense"}]}])
def test_a_well_sealed_nonsense_is_refused_too(plan: Any) -> None:
    sealed = "" if isinstance(plan, dict) and "lineage" in plan else digest(plan)
    data = json.dumps({"formatVersion": 1, "id": "pl_0", "sha256": sealed, "plan": plan}).encode()
    with pytest.raises(ReconcilerError, match="cannot use the plan file") as caught:
        read_plan(data)
    assert isinstance(caught.value, GuardRefused)
