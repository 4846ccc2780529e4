"""However many processes begin runs at once, and wherever they die: a budget is never promised twice, and never lost."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters.sql.ledger import open_ledger
from reconciler.devnet.clock import VirtualClock
from reconciler.engine.budget import Override, put_override, require
from reconciler.engine.survey import midnight
from reconciler.model.errors import GuardRefused
from reconciler.model.intent import Run, RunState
from reconciler.model.ref import ResourceRef
from reconciler.planner.guard import Limits
from reconciler.ports import Ledger

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KINDS = ("Dataset", "Identity")


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def ledgers(count: int) -> Iterator[list[Ledger]]:
    """One store, opened by so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        opened = [open_ledger(Path(folder) / "ledger.db", VirtualClock(NOON))[0] for _ in range(count)]
        try:
            yield list(opened)
        finally:
            for one in opened:
                one.close()


def begin(
    ledger: Ledger, name: str, kind: str, satoshis: int, limits: Limits, now: datetime = NOON, *, dies: bool = False
) -> bool:
    """Open a run as the engine does; whether the budgets had room."""
    try:
        with ledger.begin() as tx:
            require(tx, limits, kind, satoshis, now, frozenset())
            tx.open_run(Run(f"run_{name}", f"ref/{kind}/{name}", {}, "0", began=now, reserved=satoshis))
            if dies:
                raise Killed
    except GuardRefused:
        return False
    except Killed:
        return False
    return True


def end(ledger: Ledger, name: str, kind: str, spent: int, now: datetime = NOON) -> None:
    """Book what a run really moved, and close it."""
    with ledger.begin() as tx:
        tx.book(f"run_{name}", ResourceRef(kind, name), now, spent, 0, 0)
        tx.close_run(f"run_{name}", RunState.DONE)


def claimed(ledger: Ledger, now: datetime = NOON, kind: str = "") -> int:
    with ledger.begin() as tx:
        return tx.spent_since(midnight(now), kind) + tx.reserved(kind)


STEP = st.tuples(
    st.integers(0, 1), st.sampled_from(KINDS), st.integers(0, 400), st.sampled_from(("begin", "begin", "die", "end", "fail"))
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=25), st.integers(0, 1000), st.integers(0, 600), st.integers(0, 100))
def test_no_history_of_begins_ends_and_deaths_exceeds_a_budget(
    steps: list[tuple[int, str, int, str]], day: int, kind_day: int, share: int
) -> None:
    limits = Limits(spend_day=day, spend_kinds={"Dataset": kind_day})
    open_runs: dict[str, tuple[str, int]] = {}
    expected = dict.fromkeys(KINDS, 0)
    with ledgers(2) as both:
        for number, (process, kind, satoshis, what) in enumerate(steps):
            name = f"r{number}"
            if what in ("begin", "die"):
                room = sum(expected.values()) + satoshis <= day and (kind != "Dataset" or expected[kind] + satoshis <= kind_day)
                began = begin(both[process], name, kind, satoshis, limits, dies=what == "die")
                assert began == ((room or not satoshis) and what == "begin")
                if began:
                    open_runs[name] = (kind, satoshis)
                    expected[kind] += satoshis
            elif open_runs:
                last, (of, most) = open_runs.popitem()
                spent = most * share // 100 if what == "end" else 0
                end(both[process], last, of, spent)
                expected[of] += spent - most
            assert claimed(both[0]) == claimed(both[1]) == sum(expected.values()) <= day
            assert claimed(both[1], kind="Dataset") == expected["Dataset"] <= max(0, kind_day)


@pytest.mark.row("P-RISK-02")
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=12), st.integers(30, 150))
def test_processes_that_begin_at_the_same_moment_share_one_budget(costs: list[int], day: int) -> None:
    limits = Limits(spend_day=day)
    with ledgers(3) as several:
        gate, began = threading.Barrier(3), dict[str, int]()

        def process(number: int) -> None:
            gate.wait()
            for index, cost in enumerate(costs):
                if begin(several[number], f"p{number}-{index}", "Dataset", cost, limits):
                    began[f"p{number}-{index}"] = cost

        threads = [threading.Thread(target=process, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total = sum(began.values())
        assert claimed(several[0]) == total <= day
        # Nobody was turned away while there was room: what was left at the end is less than anything refused.
        refused = [cost for number in range(3) for index, cost in enumerate(costs) if f"p{number}-{index}" not in began]
        assert all(total + cost > day for cost in refused)


def test_money_that_may_still_move_counts_on_the_day_it_may_move() -> None:
    limits, tomorrow = Limits(spend_day=100), NOON + timedelta(days=1)
    with ledgers(1) as (ledger,):
        assert begin(ledger, "slow", "Dataset", 80, limits)
        with ledger.begin() as tx:
            tx.book("run_slow", ResourceRef("Dataset", "slow"), NOON, 30, 0, 0)
        assert claimed(ledger) == 80
        # Of the run that is still open, 50 may be moved tomorrow; what went today is today's.
        assert claimed(ledger, tomorrow) == 50
        assert not begin(ledger, "more", "Dataset", 51, limits, tomorrow)
        assert begin(ledger, "less", "Dataset", 50, limits, tomorrow)


def test_an_override_holds_until_it_runs_out_and_is_told_in_the_history() -> None:
    limits, later = Limits(spend_day=100), NOON + timedelta(hours=1)
    with ledgers(1) as (ledger,):
        with ledger.begin() as tx:
            put_override(tx, "day", Override(500, "ann", "launch", NOON, later), NOON, "ann")
            put_override(tx, "Dataset", Override(10, "bob", "", NOON), NOON, "bob")
        assert begin(ledger, "one", "Identity", 300, limits)
        assert not begin(ledger, "two", "Dataset", 11, limits)
        assert not begin(ledger, "three", "Identity", 1, limits, later)
        with ledger.begin() as tx:
            put_override(tx, "Dataset", None, NOON, "cyd")
            told = [(one["event"], one["detail"]["budget"], one["detail"]["by"]) for one in reversed(tx.history())]
        assert told == [("budget.set", "day", "ann"), ("budget.set", "Dataset", "bob"), ("budget.unset", "Dataset", "cyd")]
        assert begin(ledger, "two", "Dataset", 11, limits)


def test_the_refusal_names_the_guard_the_figures_and_the_moment_the_budget_renews() -> None:
    with ledgers(1) as (ledger,), ledger.begin() as tx, pytest.raises(GuardRefused) as refused:
        require(tx, Limits(spend_day=5), "Dataset", 6, NOON, frozenset())
    assert refused.value.code == "spend-day"
    assert "0 sat spent or set aside today, 6 sat to go, 5 sat per day" in refused.value.message
    assert "renews at 2026-03-02 00:00 UTC" in (refused.value.hint or "") and "--approve spend-day" in (refused.value.hint or "")
