"""Long uploads are told of in the log: now and then, by the clock, and with no more than host and bytes."""

import json
import logging
from pathlib import Path

import pytest

from reconciler.adapters.storage import StorageHosts
from reconciler.devnet.clock import VirtualClock
from reconciler.engine.narrate import Uploads
from reconciler.model.endpoint import Endpoint
from reconciler.telemetry import JsonLines
from tests.e2e.scene import FULL, Scene, play

GIGABYTE = 1 << 30


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, int]]:
    found = [json.loads(JsonLines().format(one)) for one in caplog.records if one.getMessage() == "upload.progressed"]
    return [(one["host"], one["sent"], one["size"]) for one in found]


def test_one_line_for_each_upload_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reconciler.run")
    clock = VirtualClock()
    uploads = Uploads(clock)
    for second in range(1, 36):
        clock.advance(1)
        uploads("eu1", second * 1000, GIGABYTE)
        if second > 20:
            uploads("us1", second * 10, GIGABYTE)
    eu1 = [("eu1", sent, GIGABYTE) for sent in (11_000, 21_000, 31_000)]
    assert lines(caplog) == [*eu1, ("us1", 310, GIGABYTE)]
    caplog.clear()
    # What is over within ten seconds is not worth a line, and the next one of that size begins anew.
    uploads("eu1", GIGABYTE, GIGABYTE)
    clock.advance(60)
    uploads("eu1", 1000, GIGABYTE)
    clock.advance(9)
    uploads("eu1", 2000, GIGABYTE)
    uploads("eu1", GIGABYTE, GIGABYTE)
    assert lines(caplog) == []


def test_a_slow_host_is_told_of_while_a_process_uploads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "reconciler.run")
    scene, told = Scene(tmp_path), StorageHosts._told
    scene.write({**FULL, "data/rates.csv": "x" * 9000})

    def slow(self: StorageHosts, host: Endpoint, sent: int, total: int) -> None:
        """Four seconds for every kilobyte."""
        scene.world.clock.advance(4)
        told(self, host, sent, total)

    monkeypatch.setattr("reconciler.adapters.uhrp.CHUNK", 1000)
    monkeypatch.setattr(StorageHosts, "_told", slow)
    monkeypatch.setenv("RECONCILER_PASSPHRASE", "correct horse")

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete, report

    play(main, scene.world.clock)
    large = [(host, sent) for host, sent, size in lines(caplog) if size == 9000]
    assert [sent for _, sent in large] == [4000, 7000] * 2 and len({host for host, _ in large}) == 2
