"""How long an observation is waited for: a minute, and longer only while the bytes of large copies keep coming."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.devnet.clock import VirtualClock, run
from reconciler.engine import heart
from reconciler.engine.observe import PATIENCE, SLOWEST, observe
from reconciler.model.observation import Observation, Present, Unknown
from reconciler.model.ref import ResourceRef

REF = ResourceRef("Dataset", "archive")
LARGE = SLOWEST * 600  # bytes that are worth ten minutes more


def look(size: int, beats: int, pause: float) -> tuple[Observation, float, int]:
    """What comes of an observation that shows so many signs of life, so far apart; the seconds, and what the worker felt."""

    async def slow(want: Any, was: Any, reads: Any) -> Observation:
        for _ in range(beats):
            await asyncio.sleep(pause)
            heart.beat()
        return Present({})

    outputs = {"files": [{"size": size // 2}], "replicas": {"a": {}, "b": {}}} if size else {}
    record: Any = SimpleNamespace(outputs=outputs, body={"spec": {}})
    ports: Any = SimpleNamespace(**dict.fromkeys(("clock", "chain", "overlay", "storage", "wallet", "ledger")))
    kinds: Any = {"Dataset": SimpleNamespace(observe=slow)}
    clock, worker = VirtualClock(), heart.Pulse()

    async def main() -> Observation:
        with heart.carrying(worker):
            return (await observe({}, {REF: record}, kinds, ports))[REF]

    return run(main(), clock=clock), clock.elapsed, worker.beats


def test_a_quick_answer_is_an_answer() -> None:
    assert look(0, 5, 10) == (Present({}), 50, 5)


def test_nothing_large_is_waited_for_longer_than_a_minute() -> None:
    seen, took, _ = look(0, 100, 10)
    assert (seen, took) == (Unknown("no answer within 60 s"), PATIENCE)


def test_large_copies_are_waited_for_while_they_keep_coming() -> None:
    """The worker's own pulse is beaten all the while, so that no watchdog takes it for dead."""
    assert look(LARGE, 30, 20) == (Present({}), 600, 30)


@pytest.mark.parametrize(("beats", "pause"), [(1, 1000), (1000, 20)])
def test_a_host_that_is_silent_or_too_slow_has_not_answered(beats: int, pause: float) -> None:
    seen, took, _ = look(LARGE, beats, pause)
    assert isinstance(seen, Unknown)
    assert took == (PATIENCE if beats == 1 else pytest.approx(PATIENCE + 600, abs=PATIENCE))
