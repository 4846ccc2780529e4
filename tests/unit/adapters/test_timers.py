"""Timers put keys, on the loop's own thread, within their jitter."""

import asyncio
import threading
from datetime import timedelta

import pytest

from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.timers import Timers
from reconciler.model.errors import LocalProtocolError


def test_a_timer_puts_its_key_again_and_again_on_the_loops_thread() -> None:
    async def beat() -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        enough = asyncio.Event()

        def put(key: str) -> None:
            seen.append((key, threading.get_ident()))
            if len(seen) == 3:
                enough.set()

        timers = Timers(put)
        timers.every("ref/Dataset/x", 0.02)
        timers.start()
        await asyncio.wait_for(enough.wait(), timeout=10)
        timers.stop()
        return seen

    seen = asyncio.run(beat())
    assert seen[:3] == [("ref/Dataset/x", threading.get_ident())] * 3


def test_beats_lie_within_the_jitter_and_are_not_all_the_same() -> None:
    async def plan() -> set[float]:
        timers = Timers(lambda key: None)
        timers.start()
        gaps = set()
        for number in range(30):
            now = SystemClock().now()
            timers.every(f"k{number}", 3600, jitter=600)
            due = timers.next(f"k{number}")
            assert due is not None
            assert abs(due - now - timedelta(hours=1)) <= timedelta(seconds=601)
            gaps.add(round((due - now).total_seconds()))
        timers.stop()
        return gaps

    assert len(asyncio.run(plan())) > 5


def test_a_timer_can_be_replaced_and_cancelled() -> None:
    async def play() -> None:
        timers = Timers(lambda key: None)
        timers.every("k", 10)
        timers.start()
        timers.every("k", 10_000)
        due = timers.next("k")
        assert due is not None
        assert due - SystemClock().now() > timedelta(seconds=9_000)
        timers.cancel("k")
        timers.cancel("k")
        assert timers.next("k") is None
        timers.stop()
        timers.stop()

    asyncio.run(play())


@pytest.mark.parametrize(("seconds", "jitter"), [(0, 0), (-1, 0), (10, 10), (10, -1)])
def test_a_beat_that_could_fall_before_the_last_is_refused(seconds: float, jitter: float) -> None:
    with pytest.raises(LocalProtocolError, match="cannot beat"):
        Timers(lambda key: None).every("k", seconds, jitter)


def test_the_system_clock_is_aware_and_entropy_is_not_repeated() -> None:
    clock = SystemClock()
    before = clock.now()
    assert before.utcoffset() == timedelta(0)
    asyncio.run(clock.sleep(-1))
    assert clock.now() >= before
    assert len(SystemEntropy().bytes(32)) == 32
    assert SystemEntropy().bytes(32) != SystemEntropy().bytes(32)
