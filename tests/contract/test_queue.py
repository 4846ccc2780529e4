"""What every Queue must keep: client-go's work queue with leases. Another adapter joins by adding a line to QUEUES."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters.sql.ledger import open_ledger
from reconciler.model.errors import Conflict
from reconciler.ports import Lease, Ledger, Queue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE = timedelta(seconds=30)
QUEUES = {"sqlite": lambda path: open_ledger(path / "ledger.db", lease=LEASE)}


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture(params=QUEUES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Queue]]:
    opened: list[Ledger] = []

    def again() -> Queue:
        ledger, queue = QUEUES[request.param](tmp_path)
        opened.append(ledger)
        return queue

    yield again
    for ledger in opened:
        ledger.close()


@pytest.fixture
def queue(reopen: Callable[[], Queue]) -> Queue:
    return reopen()


def claim(queue: Queue, now: datetime = NOW, owner: str = "w", prefixes: tuple[str, ...] = ()) -> Lease:
    lease = queue.claim(owner, now, prefixes)
    assert lease is not None
    return lease


def drain(queue: Queue, now: datetime = NOW) -> list[str]:
    keys = []
    while (lease := queue.claim("w", now)) is not None:
        keys.append(lease.key)
        queue.done(lease)
    return keys


def test_a_thousand_puts_are_one_pass(queue: Queue) -> None:
    for _ in range(100):
        queue.put("k", NOW)
    assert drain(queue) == ["k"]


def test_a_change_during_work_is_exactly_one_more_pass(queue: Queue) -> None:
    queue.put("k", NOW)
    lease = claim(queue)
    queue.put("k", NOW)
    queue.put("k", NOW)
    assert queue.claim("other", NOW) is None
    queue.done(lease)
    assert drain(queue) == ["k"]


def test_puts_keep_the_earliest_moment_and_the_highest_priority(queue: Queue) -> None:
    queue.put("k", at(50), priority=1)
    queue.put("k", at(10), priority=0)
    queue.put("k", at(90), priority=5)
    queue.put("rival", at(0), priority=4)
    assert queue.next_due() == at(0)
    assert queue.claim("w", at(0), ("k",)) is None
    assert drain(queue, at(10)) == ["k", "rival"]


def test_priority_goes_before_age_and_age_before_name(queue: Queue) -> None:
    for key, due, priority in (("c", -3, 0), ("b", -5, 0), ("a", -3, 0), ("late", -1, 9), ("future", 5, 99)):
        queue.put(key, at(due), priority)
    assert drain(queue) == ["late", "b", "a", "c"]


def test_a_key_that_was_put_again_during_work_has_the_priority_of_that_put(queue: Queue) -> None:
    queue.put("k", NOW, priority=9)
    lease = claim(queue)
    queue.put("k", NOW, priority=0)
    queue.put("rival", NOW, priority=1)
    queue.done(lease)
    assert drain(queue) == ["rival", "k"]


def test_only_the_wanted_prefixes_are_claimed(queue: Queue) -> None:
    for key in ("plan", "REF/a", "ref/a", "ref_b", "run/x"):
        queue.put(key, NOW)
    assert claim(queue, prefixes=("ref/",)).key == "ref/a"
    assert queue.claim("w", NOW, ("ref/", "%")) is None
    assert claim(queue, prefixes=("none", "run/")).key == "run/x"


def test_every_claim_of_any_key_has_a_higher_fence_even_after_a_restart(reopen: Callable[[], Queue]) -> None:
    fences = []
    for key in ("a", "b", "a"):
        queue = reopen()
        queue.put(key, NOW)
        lease = claim(queue)
        fences.append(lease.fence)
        queue.done(lease)
    lease = queue.take("c", "w", NOW)
    assert lease is not None
    fences.append(lease.fence)
    assert fences == sorted(set(fences))
    assert min(fences) > 0


def test_the_key_of_a_dead_worker_moves_on_when_its_lease_ends(queue: Queue) -> None:
    queue.put("k", NOW)
    dead = claim(queue, owner="dead")
    assert dead.until == NOW + LEASE
    assert queue.next_due() == dead.until
    assert queue.claim("heir", dead.until - timedelta(microseconds=1)) is None
    heir = claim(queue, dead.until, "heir")
    assert (heir.key, heir.owner, heir.fence > dead.fence) == ("k", "heir", True)
    for verb in (lambda: queue.renew(dead, NOW), lambda: queue.done(dead)):
        with pytest.raises(Conflict, match="no longer ours"):
            verb()
    assert queue.holders(dead.until) == [heir]
    queue.done(heir)
    assert drain(queue, at(1000)) == []


def test_an_heir_inherits_the_urgency_of_what_was_put_meanwhile(queue: Queue) -> None:
    queue.put("k", NOW, priority=0)
    dead = claim(queue, owner="dead")
    queue.put("k", NOW, priority=9)
    queue.later(claim(queue, dead.until, "heir"), dead.until, failed=True)
    queue.put("rival", NOW, priority=5)
    assert drain(queue, dead.until) == ["k", "rival"]


def test_a_wake_up_asked_for_under_a_lost_lease_is_kept(queue: Queue) -> None:
    queue.put("k", NOW)
    dead = claim(queue, owner="dead")
    heir = claim(queue, dead.until, "heir")
    with pytest.raises(Conflict):
        queue.later(dead, at(500), failed=True)
    queue.done(heir)
    again = claim(queue, at(500))
    assert (again.key, again.attempts) == ("k", 0)


def test_a_renewed_lease_lasts_longer(queue: Queue) -> None:
    queue.put("k", NOW)
    lease = claim(queue)
    renewed = queue.renew(lease, at(20))
    assert (renewed.until, renewed.fence) == (at(20) + LEASE, lease.fence)
    assert queue.claim("other", lease.until) is None
    assert claim(queue, renewed.until, "other").key == "k"


def test_failures_are_counted_waiting_is_not_and_success_forgets(queue: Queue) -> None:
    queue.put("k", NOW)
    seen = []
    for failed in (True, True, False, True):
        lease = claim(queue)
        seen.append(lease.attempts)
        queue.later(lease, NOW, failed)
    lease = claim(queue)
    seen.append(lease.attempts)
    queue.put("k", NOW)
    queue.done(lease)
    seen.append(claim(queue).attempts)
    assert seen == [0, 1, 2, 2, 3, 0]


def test_later_comes_back_then_or_at_an_earlier_put(queue: Queue) -> None:
    queue.put("k", NOW, priority=3)
    queue.later(claim(queue), at(60), failed=True)
    assert (queue.claim("w", at(59)), queue.next_due()) == (None, at(60))
    lease = claim(queue, at(60))
    queue.put("k", at(70))
    queue.later(lease, at(99), failed=False)
    assert queue.next_due() == at(70)


def test_a_key_can_be_taken_whether_queued_or_not_unless_another_holds_it(queue: Queue) -> None:
    first = queue.take("k", "a", NOW)
    assert first is not None
    assert queue.take("k", "b", NOW) is None
    second = queue.take("k", "a", NOW)
    assert second is not None and second.fence > first.fence
    with pytest.raises(Conflict):
        queue.done(first)
    queue.done(second)
    assert drain(queue, at(1000)) == []
    queue.put("k", NOW)
    third = queue.take("k", "b", NOW)
    assert third is not None
    queue.done(third)
    assert drain(queue, at(1000)) == []


def test_taking_a_key_out_of_turn_does_not_lose_its_later_wake_up(queue: Queue) -> None:
    queue.put("k", at(60))
    lease = queue.take("k", "a", NOW)
    assert lease is not None
    queue.done(lease)
    assert (drain(queue, at(59)), drain(queue, at(60))) == ([], ["k"])


def test_depth_counts_what_could_be_claimed_now(queue: Queue) -> None:
    assert (queue.depth(NOW), queue.next_due(), list(queue.holders(NOW))) == ((0, 0.0), None, [])
    for key, due in (("a", -20), ("b", -5), ("c", 5)):
        queue.put(key, at(due))
    assert queue.depth(NOW) == (2, 20.0)
    lease = claim(queue)
    assert queue.depth(NOW) == (1, 5.0)
    assert [held.key for held in queue.holders(NOW)] == ["a"]
    assert queue.depth(lease.until) == (3, 35.0)


def test_a_queue_survives_its_process(reopen: Callable[[], Queue]) -> None:
    first = reopen()
    first.put("k", NOW, priority=2)
    first.later(claim(first), NOW, failed=True)
    lease = claim(reopen())
    assert (lease.key, lease.attempts) == ("k", 1)


def test_workers_of_two_processes_share_the_keys_and_never_one_key(reopen: Callable[[], Queue]) -> None:
    queues = [reopen(), reopen()]
    keys = {f"k{number:02}" for number in range(30)}
    for key in keys:
        queues[0].put(key, NOW)
    start, got = threading.Barrier(2), {0: [], 1: []}

    def worker(which: int) -> None:
        start.wait()
        while (lease := queues[which].claim(f"w{which}", NOW)) is not None:
            got[which].append(lease.key)

    threads = [threading.Thread(target=worker, args=(which,)) for which in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got[0]) + len(got[1]) == len(keys)
    assert {*got[0], *got[1]} == keys


# --- the model: client-go's two sets, a lease for each key in work, and a clock ------------------


@dataclass
class Held:
    owner: str
    fence: int
    until: int
    rank: int


@dataclass
class Model:
    """`dirty` is the dirty set with its delays, `processing` the processing set; what client-go keeps in a FIFO is sorted."""

    dirty: dict[str, tuple[int, int]] = field(default_factory=dict)
    processing: dict[str, Held] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    fences: int = 0

    def put(self, key: str, due: int, priority: int) -> None:
        was_due, was_priority = self.dirty.get(key, (due, priority))
        self.dirty[key] = (min(due, was_due), max(priority, was_priority))

    def claim(self, owner: str, now: int) -> tuple[str, int] | None:
        waiting = [(-p, due, key) for key, (due, p) in self.dirty.items() if key not in self.processing and due <= now]
        orphans = [(-held.rank, held.until, key) for key, held in self.processing.items() if held.until <= now]
        offers = sorted(waiting + orphans)
        return None if not offers else self.hold(offers[0][2], owner, now, -offers[0][0])

    def hold(self, key: str, owner: str, now: int, rank: int) -> tuple[str, int]:
        due, priority = self.dirty.get(key, (None, 0))
        if due is not None and due <= now:
            del self.dirty[key]
            rank = max(rank, priority)
        self.fences += 1
        self.processing[key] = Held(owner, self.fences, now + 30, rank)
        return key, self.fences

    def take(self, key: str, owner: str, now: int) -> tuple[str, int] | None:
        held = self.processing.get(key)
        if held is not None and held.owner != owner and held.until > now:
            return None
        return self.hold(key, owner, now, held.rank if held else self.dirty.get(key, (0, 0))[1])

    def done(self, key: str) -> None:
        del self.processing[key]
        self.failures.pop(key, None)

    def later(self, key: str, due: int, failed: bool) -> None:
        self.put(key, due, self.processing.pop(key).rank)
        self.failures[key] = self.failures.get(key, 0) + failed


KEYS, OWNERS = st.sampled_from("abc"), st.sampled_from(("w1", "w2"))
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.integers(-20, 40), st.integers(0, 2)),
    st.tuples(st.just("claim"), OWNERS),
    st.tuples(st.just("take"), KEYS, OWNERS),
    st.tuples(st.just("done"), st.integers(0, 9)),
    st.tuples(st.just("later"), st.integers(0, 9), st.integers(-5, 40), st.booleans()),
    st.tuples(st.just("renew"), st.integers(0, 9)),
    st.tuples(st.just("pass"), st.integers(1, 25)),
)


@given(steps=st.lists(STEPS, max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_verbs_does_what_the_model_does(steps: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ledger, queue = open_ledger(Path(directory) / "ledger.db", lease=LEASE)
        walk(queue, steps)
        ledger.close()


def walk(queue: Queue, steps: list[tuple]) -> None:
    model, now, leases = Model(), 0, []
    for verb, *args in steps:
        if verb == "put":
            queue.put(args[0], at(now + args[1]), args[2])
            model.put(args[0], now + args[1], args[2])
        elif verb in ("claim", "take"):
            lease = getattr(queue, verb)(*args, at(now))
            assert (None if lease is None else (lease.key, lease.fence)) == getattr(model, verb)(*args, now)
            if lease is not None:
                assert lease.attempts == model.failures.get(lease.key, 0)
                leases.append(lease)
        elif verb == "pass":
            now += args[0]
        elif leases:
            settle(queue, model, verb, leases[args[0] % len(leases)], args, now)
        ready = [due for key, (due, _) in model.dirty.items() if key not in model.processing]
        ready += [held.until for held in model.processing.values()]
        due = [moment for moment in ready if moment <= now]
        assert queue.next_due() == (at(min(ready)) if ready else None)
        assert queue.depth(at(now)) == (len(due), float(now - min(due)) if due else 0.0)
        assert [lease.key for lease in queue.holders(at(now))] == sorted(
            k for k, held in model.processing.items() if held.until > now
        )


def settle(queue: Queue, model: Model, verb: str, lease: Lease, args: list, now: int) -> None:
    """done, later or renew on any lease ever given: the model knows whether it is still the one."""
    held = model.processing.get(lease.key)
    lost = held is None or held.fence != lease.fence
    calls = {
        "done": lambda: queue.done(lease),
        "later": lambda: queue.later(lease, at(now + args[1]), args[2]),
        "renew": lambda: queue.renew(lease, at(now)),
    }
    if lost:
        with pytest.raises(Conflict):
            calls[verb]()
        if verb == "later":
            model.put(lease.key, now + args[1], 0)
        return
    calls[verb]()
    if verb == "done":
        model.done(lease.key)
    elif verb == "later":
        model.later(lease.key, now + args[1], args[2])
    elif held is not None:
        held.until = now + 30


def test_what_a_dead_owner_held_is_free_at_once_and_its_work_is_queued_again(queue: Queue) -> None:
    queue.put("plan", NOW)
    assert queue.claim("dead", NOW) is not None
    assert queue.take("ref/Dataset/x", "dead", NOW) is not None
    other = queue.take("ref/Dataset/y", "alive", NOW)
    assert other is not None
    assert queue.claim("alive", NOW) is None
    assert queue.forsake("dead", NOW, ("plan",)) == 2
    again = queue.claim("alive", NOW)
    assert again is not None
    assert again.key == "plan"
    assert queue.take("ref/Dataset/x", "alive", NOW) is not None
    assert {lease.key for lease in queue.holders(NOW)} == {"plan", "ref/Dataset/x", "ref/Dataset/y"}
