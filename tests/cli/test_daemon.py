"""`run` as operators start it: a process that keeps the network as declared, and goes quietly when told to."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.devnet import control
from reconciler.model.ref import Outpoint
from tests.cli.producer import PRICE, Producer, end, free_port, fresh, leases

PATIENCE = 60.0


@pytest.fixture
def shop(tmp_path: Path, devnet: Path) -> Producer:
    """A fresh, funded repository with keys of its own."""
    return fresh(tmp_path / "repo", devnet)


class Daemon:
    """A running `run`, watched from outside."""

    def __init__(self, shop: Producer, *words: str, **env: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = shop.root.parent / f"daemon-{port}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                **self._command(shop, ["run", *words], {"RECONCILER_LISTEN": self.url.removeprefix("http://"), **env}), stderr=log
            )

    @staticmethod
    def _command(shop: Producer, words: list[str], env: dict[str, str]) -> dict[str, Any]:
        from tests.cli.conftest import COMMAND, ROOT

        clean = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
        whole = {**clean, "PYTHONPATH": str(ROOT), **shop.env, **env}
        return {"args": [*COMMAND, *words], "cwd": shop.root, "env": whole, "stdin": subprocess.DEVNULL, "process_group": 0}

    def get(self, path: str) -> httpx.Response | None:
        """What its listener says, None while nobody listens."""
        try:
            return httpx.get(self.url + path, trust_env=False, timeout=10)
        except httpx.TransportError:
            return None

    def until(self, true: Callable[[], object], what: str) -> None:
        """Look again and again until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"in vain: {what}\n{self.log.read_text()}"
            select.select([], [], [], 0.1)

    def ready(self) -> bool:
        """Whether /readyz says so."""
        answer = self.get("/readyz")
        return answer is not None and answer.status_code == 200

    def metric(self, name: str) -> float | None:
        """One sample of /metrics."""
        answer = self.get("/metrics")
        lines = answer.text.splitlines() if answer is not None else []
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), None)

    def events(self) -> list[dict[str, Any]]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=40)


@pytest.fixture
def daemon(shop: Producer) -> Iterator[Daemon]:
    """A daemon in auto mode that has converged once."""
    made = Daemon(shop)
    try:
        made.until(made.ready, "ready")
        made.until(lambda: len(shop.status()["resources"]) == 4, "the first convergence")
        yield made
    finally:
        end(made.process)


def generation(shop: Producer, ref: str) -> int:
    return int(next(one["generation"] for one in shop.status()["resources"] if one["ref"] == ref))


def test_it_converges_keeps_the_last_good_revision_and_drains(shop: Producer, daemon: Daemon) -> None:
    assert shop.status()["daemon"]["running"] is True
    assert "DAEMON running (lease" in shop("status").out
    # An edit is carried out without being asked for.
    shop.write("price.yaml", PRICE.replace("25sat", "30sat"))
    daemon.until(lambda: generation(shop, "Dataset/rates") == 2, "the edit to arrive")
    assert daemon.metric("reconciler_source_ready") == 1.0
    # A broken revision is told with its place, and changes nothing.
    shop.write("price.yaml", PRICE.replace("rate:", "rat:"))
    daemon.until(lambda: daemon.metric("reconciler_source_ready") == 0.0, "the fault to be seen")
    answer = daemon.get("/readyz")
    assert answer is not None and answer.status_code == 503 and answer.json()["source"].startswith("price.yaml:4:")
    told = shop.status()
    assert told["source"]["ready"] is False and told["source"]["message"].startswith("price.yaml:4:")
    assert "SOURCE not ready: price.yaml:4:" in shop("status").out
    assert [one["generation"] for one in told["resources"]] == [2, 1, 1, 2]
    # Fixed, it goes on.
    shop.write("price.yaml", PRICE.replace("25sat", "31sat"))
    daemon.until(lambda: generation(shop, "PricePlan/standard") == 3, "the fix to arrive")
    assert shop.status()["source"]["ready"] is True
    spent = daemon.metric('reconciler_spend_satoshis_total{env="",kind="Dataset"}')
    assert spent is not None and spent > 0
    assert daemon.metric("reconciler_budget_left_satoshis") == 100_000 - told["budget"]["spentToday"] - _later(shop, told)
    assert daemon.metric('reconciler_plan_actions{verb="none"}') is not None
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 20
    assert asyncio.run(leases(shop)) == []
    assert shop.status()["daemon"]["running"] is False
    events = daemon.events()
    assert [events[0]["event"], events[-1]["event"]] == ["daemon.started", "daemon.stopped"]
    rejected = next(one for one in events if one["event"] == "source.rejected")
    assert rejected["at"].startswith("price.yaml:4:") and rejected["level"] == "error"
    text = daemon.log.read_text()
    assert not any(secret in text for secret in shop.env.values())


def _later(shop: Producer, told: dict[str, Any]) -> int:
    return int(shop.status()["budget"]["spentToday"] - told["budget"]["spentToday"])


def test_asking_puts_the_key_and_the_daemon_repairs(shop: Producer, daemon: Daemon) -> None:
    token = shop("get", "Dataset", "rates", "-o", "json").json["status"]["identity"]["outpoint"]
    purse = shop.purse()
    control.evict(shop.devnet, "overlay-1", Outpoint.parse(token))
    ran = shop("reconcile", "Dataset/rates", "--wait")
    assert "1 queued; the daemon" in ran.err and "Dataset/rates: as declared" in ran.err and ran.out == ""
    assert any(one["event"] == "plan.applied" and one["satoshis"] == 0 for one in daemon.events())
    assert "0 drifted" in shop("drift", "--detailed-exitcode").out
    assert shop.purse() == purse
    assert daemon.stop(signal.SIGINT) == 0


def test_a_killed_daemon_is_not_mistaken_for_a_living_one(shop: Producer, daemon: Daemon) -> None:
    daemon.process.kill()
    daemon.process.wait()
    assert shop.status()["daemon"]["running"] is False
    assert "Nothing to do" in shop("apply", "--yes").out
    second = Daemon(shop)
    try:
        second.until(second.ready, "ready again")
        assert second.stop() == 0
    finally:
        end(second.process)


def test_it_tells_systemd_and_refuses_a_taken_address(shop: Producer, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(path))
        door.settimeout(PATIENCE)
        made = Daemon(shop, "--mode", "observe", NOTIFY_SOCKET=str(path))
        try:
            assert door.recv(100) == b"READY=1"
            assert made.get("/health") is not None
            taken = shop("run", env={"RECONCILER_LISTEN": made.url.removeprefix("http://")}, expect=1)
            assert "cannot listen on 127.0.0.1" in taken.err and "RECONCILER_LISTEN" in taken.err
            made.process.send_signal(signal.SIGTERM)
            assert door.recv(100) == b"STOPPING=1"
            assert made.process.wait(timeout=40) == 0
        finally:
            end(made.process)
    # In observe mode it has looked, said so, and touched nothing.
    held = next(one for one in made.events() if one["event"] == "plan.held")
    assert held["error"] == "mode is observe" and held["satoshis"] > 0
    assert shop.status()["resources"] == []


def test_once_has_the_exit_codes_of_apply(shop: Producer) -> None:
    shop("run", "--once", "--dry-run")
    assert shop.status()["resources"] == []
    shop("run", "--once")
    assert len(shop.status()["resources"]) == 4
    shop("run", "--once", "--no-such-flag", expect=64)
    shop.write("price.yaml", PRICE.replace("rate:", "rat:"))
    ran = shop("--log-format", "json", "run", "--once", expect=1)
    assert json.loads(ran.err.splitlines()[0])["event"] == "source.rejected"
    shop.write("price.yaml", PRICE.replace("25sat", "30sat"))
    control.drop(shop.devnet, "overlay-1")
    try:
        shop("run", "--once", expect=3)
    finally:
        control.restore(shop.devnet, "overlay-1")
    shop.write("reconciler.yaml", (shop.root / "reconciler.yaml").read_text().replace("100000sat", "1sat"))
    shop.write("dataset.yaml", (shop.root / "dataset.yaml").read_text().replace("title: Rates", "title: Other"))
    shop("run", "--once", expect=4)
