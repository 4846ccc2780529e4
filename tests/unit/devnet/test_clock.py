"""Virtual time: deterministic, instant, and unforgiving about tasks left behind."""

import asyncio
from datetime import timedelta

import pytest

from reconciler.devnet.clock import EPOCH, Deadlock, LeakedTasks, SeededEntropy, VirtualClock, run


def test_sleeping_a_year_takes_no_time_and_is_exact() -> None:
    clock = VirtualClock()

    async def main() -> None:
        for _ in range(365):
            await clock.sleep(86_400)

    run(main(), clock=clock)
    assert clock.now() == EPOCH + timedelta(days=365)


def test_timers_fire_in_the_order_of_their_times() -> None:
    clock = VirtualClock()
    seen: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append((name, clock.elapsed))

    async def main() -> None:
        await asyncio.gather(wait("c", 3), wait("a", 1), wait("b", 2.5))

    run(main(), clock=clock)
    assert seen == [("a", 1.0), ("b", 2.5), ("c", 3.0)]


def schedule(seed: int) -> list[int]:
    seen: list[int] = []

    async def wait(number: int) -> None:
        await asyncio.sleep(1)
        seen.append(number)

    async def main() -> None:
        await asyncio.gather(*(wait(number) for number in range(6)))

    run(main(), seed=seed)
    return seen


def test_the_seed_orders_what_happens_at_one_instant() -> None:
    assert schedule(7) == schedule(7)
    assert len({tuple(schedule(seed)) for seed in range(10)}) > 5


def test_a_run_that_can_never_go_on_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="every task waits"):
        run(main())


def test_a_task_left_running_fails_the_run_by_name() -> None:
    kept = []

    async def main() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))
        await asyncio.sleep(0)

    with pytest.raises(LeakedTasks, match="forgotten"):
        run(main())
    assert kept[0].cancelled()


def test_an_error_of_the_coroutine_wins_over_a_leak() -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        raise ZeroDivisionError(task.get_name())

    with pytest.raises(ZeroDivisionError):
        run(main())


def test_a_clock_goes_on_in_the_next_run() -> None:
    clock = VirtualClock()
    run(clock.sleep(10), clock=clock)
    clock.advance(5)
    run(clock.sleep(1), clock=clock)
    assert clock.now() == EPOCH + timedelta(seconds=16)


def test_executor_work_runs_inline() -> None:
    async def main() -> tuple[int, str]:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 41 + 1), (await asyncio.to_thread(__import__, "threading")).current_thread().name

    assert run(main()) == (42, "MainThread")


def test_entropy_is_the_seed_and_nothing_else() -> None:
    one, same, other = SeededEntropy(1), SeededEntropy(1), SeededEntropy(2)
    assert one.bytes(32) == same.bytes(32) != other.bytes(32)
    assert one.bytes(4) == same.bytes(4)
