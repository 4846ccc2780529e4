"""What is told of a large upload where there is no terminal: every tenth once, with bytes and rate, and as events."""

import io
from typing import Any

import pytest

from reconciler.cli import watching
from reconciler.cli.watching import WORTH_TENTHS, Display


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    return now


def test_tenths_of_a_large_upload_are_told_once_each_with_their_rate(clock: list[float]) -> None:
    out, events = io.StringIO(), list[dict[str, Any]]()
    display = Display(out, mirror=lambda event: events.append(dict(event)))
    whole = 10 * WORTH_TENTHS
    for step in range(41):
        clock[0] = 100.0 + step
        display.upload("disk", whole * step // 40, whole)
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "      upload to disk: 256.0 MiB of 2.5 GiB, 64.0 MiB/s"
    assert lines[-1] == "      upload to disk: 2.5 GiB of 2.5 GiB, 64.0 MiB/s"
    assert [event["sent"] for event in events] == [WORTH_TENTHS * tenth for tenth in range(1, 11)]
    assert {(event["type"], event["host"], event["bytes"]) for event in events} == {("upload.progress", "disk", whole)}


def test_an_upload_that_goes_on_is_not_said_to_be_quicker_than_it_is(clock: list[float]) -> None:
    out = io.StringIO()
    display = Display(out)
    display.upload("disk", 9 * WORTH_TENTHS, 10 * WORTH_TENTHS)
    clock[0] += 2.0
    display.upload("disk", 10 * WORTH_TENTHS, 10 * WORTH_TENTHS)
    assert out.getvalue() == "      upload to disk: 2.5 GiB of 2.5 GiB, 128.0 MiB/s\n"


def test_small_uploads_are_not_worth_the_lines() -> None:
    out = io.StringIO()
    display = Display(out)
    for sent in range(0, WORTH_TENTHS, WORTH_TENTHS // 20):
        display.upload("disk", sent, WORTH_TENTHS - 1)
    assert out.getvalue() == ""
