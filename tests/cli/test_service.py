"""`run` under a service manager, played here: readiness, watchdog, reload, state on request, sockets, logs, metrics."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.compose import workspace
from reconciler.settings import load
from tests.cli import test_daemon
from tests.cli.conftest import ROOT
from tests.cli.producer import PRICE, Producer, end, fresh

PATIENCE = test_daemon.PATIENCE
SYSTEMD = ROOT / "systemd"


@pytest.fixture
def shop(tmp_path: Path, devnet: Path) -> Producer:
    """A fresh, funded repository with keys of its own."""
    return fresh(tmp_path / "repo", devnet)


class Manager:
    """What systemd is to a daemon: a socket that hears how it is."""

    def __init__(self, path: Path) -> None:
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.door.bind(str(path))
        self.door.settimeout(PATIENCE)
        self.path = str(path)

    def hear(self, *but: str) -> list[str]:
        """The next message that is none of `but`, as its lines."""
        while True:
            said = self.door.recv(4096).decode()
            if said not in but:
                return said.split("\n")

    def waiting(self) -> list[str]:
        """Everything that has come and was not heard yet."""
        found = []
        self.door.setblocking(False)
        try:
            while True:
                found.append(self.door.recv(4096).decode())
        except BlockingIOError:
            return found
        finally:
            self.door.settimeout(PATIENCE)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.door.close()


def settings_of(shop: Producer, **more: Any) -> None:
    """Change reconciler.yaml."""
    path = shop.root / "reconciler.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **more}))


def events(made: test_daemon.Daemon, name: str) -> list[dict[str, Any]]:
    return [one for one in made.events() if one["event"] == name]


@pytest.mark.row("P-CFG-16")
@pytest.mark.slow
def test_a_service_manager_hears_all_it_has_to(shop: Producer, manager: Manager) -> None:
    made = test_daemon.Daemon(shop, NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="4000000")
    try:
        assert manager.hear() == ["READY=1"]
        assert manager.hear() == manager.hear() == ["WATCHDOG=1"]
        made.until(lambda: len(shop.status()["resources"]) == 4, "the first convergence")
        # Settings are read again: what holds at once is taken over, the rest is named.
        settings_of(shop, mode="observe", resync="7m", keys="elsewhere", notify=[{"name": "log", "log": {}}])
        made.process.send_signal(signal.SIGHUP)
        said = manager.hear("WATCHDOG=1")
        assert said[0] == "RELOADING=1" and re.fullmatch(r"MONOTONIC_USEC=\d+", said[1])
        assert manager.hear("WATCHDOG=1") == ["READY=1"]
        made.until(lambda: events(made, "settings.need_restart"), "what waits for a restart")
        assert events(made, "settings.adopted")[0]["settings"] == ["mode", "notify", "resync"]
        assert events(made, "settings.need_restart")[0]["settings"] == ["keys"]
        shop.write("price.yaml", PRICE.replace("25sat", "30sat"))
        made.until(lambda: events(made, "plan.held"), "a plan that is only reported")
        # Wrong ones are refused with their place, and the daemon goes on with the old ones.
        (shop.root / "reconciler.yaml").write_text("mode: sometimes\n")
        made.process.send_signal(signal.SIGHUP)
        assert manager.hear("WATCHDOG=1")[0] == "RELOADING=1" and manager.hear("WATCHDOG=1") == ["READY=1"]
        made.until(lambda: events(made, "settings.rejected"), "the refusal")
        assert events(made, "settings.rejected")[0]["at"].startswith("reconciler.yaml:1:")
        # Its state, on request, in one line.
        made.process.send_signal(signal.SIGUSR1)
        made.until(lambda: events(made, "daemon.state"), "the state")
        state = events(made, "daemon.state")[0]["state"]
        assert state["mode"] == "observe" and state["source"] == "ok" and state["plan"]["acting"]
        assert len(state["workers"]) == 2 and any(one["key"].startswith("daemon/") for one in state["leases"])
        assert state["history"]["entries"] > 0 and state["runs"] == []
        made.process.send_signal(signal.SIGTERM)
        assert manager.hear("WATCHDOG=1") == ["STOPPING=1"]
        assert made.process.wait(timeout=40) == 0
    finally:
        end(made.process)
    text = made.log.read_text()
    assert not any(secret in text for secret in shop.env.values())


HANGS = """
    import asyncio
    from reconciler.engine.handlers import Handlers

    plain = Handlers.table

    async def hang(lease):
        await asyncio.Event().wait()

    Handlers.table = lambda self: {"hang": hang, **plain(self)}
    from reconciler.__main__ import main

    raise SystemExit(main())
"""


@pytest.mark.slow
def test_one_worker_that_hangs_stops_the_signs_of_life_though_the_other_works(
    shop: Producer, manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "hangs.py"
    script.write_text(textwrap.dedent(HANGS))
    monkeypatch.setattr("tests.cli.conftest.COMMAND", [sys.executable, str(script)])
    made = test_daemon.Daemon(shop, "--mode", "observe", NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="4000000")
    monkeypatch.undo()

    def beats() -> list[int]:
        answer = made.get("/control/state")
        return [one["beats"] for one in answer.json()["workers"]] if answer is not None else []

    try:
        assert manager.hear() == ["READY=1"]
        assert manager.hear() == manager.hear() == ["WATCHDOG=1"]
        asyncio.run(put(shop, "hang"))
        made.until(lambda: "hang" in held(made), "the hanging pass")
        # One sign may still be owed to beats from before; after it there is none, however much the other worker does.
        begun = beats()
        made.until(lambda: max(b - a for a, b in zip(begun, beats(), strict=True)) >= 4, "the other worker to turn")
        manager.waiting()
        begun = beats()
        made.until(lambda: max(b - a for a, b in zip(begun, beats(), strict=True)) >= 6, "the other worker to turn on")
        assert manager.waiting() == []
    finally:
        made.process.kill()
        end(made.process)


async def put(shop: Producer, key: str) -> None:
    """Queue a key, as another process does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shop.env.items():
            patch.setenv(name, value)
        async with workspace(load(shop.root)) as space:
            space.ports.queue.put(key, space.ports.clock.now())


def held(made: test_daemon.Daemon) -> set[str]:
    answer = made.get("/control/state")
    return {one["key"] for one in answer.json()["leases"]} if answer is not None else set()


def test_a_watchdog_meant_for_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.adapters.notify import watchdog_period

    for said, period in (("", None), ("0", None), ("x", None), ("3000000", 3.0)):
        monkeypatch.setenv("WATCHDOG_USEC", said)
        assert watchdog_period() == period
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_period() is None
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_period() == 3.0


# Plays systemd's part of socket activation: the socket as descriptor 3, the variables with the pid of the program itself.
ACTIVATES = """
    import os, sys

    os.dup2(int(sys.argv[1]), 3)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="admin")
    os.execv(sys.executable, [sys.executable, "-m", "reconciler", *sys.argv[2:]])
"""


@pytest.mark.slow
def test_it_listens_on_a_socket_that_was_opened_for_it(shop: Producer, manager: Manager, tmp_path: Path) -> None:
    script = tmp_path / "activates.py"
    script.write_text(textwrap.dedent(ACTIVATES))
    with socket.create_server(("127.0.0.1", 0)) as door:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")}
        taken = socket.create_server(("127.0.0.1", 0))
        env = {
            **clean, **shop.env, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": manager.path,
            # Its own address is taken, so that it can only be reached by the socket it was given.
            "RECONCILER_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}",
        }  # fmt: skip
        words = [sys.executable, str(script), str(door.fileno()), "--log-format", "json", "run", "--mode", "observe"]
        with (tmp_path / "log").open("w") as log:
            child = subprocess.Popen(words, cwd=shop.root, env=env, pass_fds=[door.fileno()], stderr=log, process_group=0)
        try:
            assert manager.hear() == ["READY=1"], (tmp_path / "log").read_text()
            with socket.create_connection(door.getsockname(), timeout=PATIENCE) as asking:
                asking.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert b'"live":true' in asking.makefile("rb").read()
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=40) == 0
        finally:
            taken.close()
            end(child)


# --- what operators see ---------------------------------------------------------------------------------

_NAME = re.compile(r"\breconciler_[a-z_]+")


def named_in(text: str) -> set[str]:
    return set(_NAME.findall(text))


def expressions() -> list[str]:
    """Every query of the alert file and of the dashboard."""
    rules = yaml.safe_load((SYSTEMD / "alerts.yaml").read_text())
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    dashboard = json.loads((SYSTEMD / "dashboard.json").read_text())
    return found + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.slow
def test_every_series_that_alerts_and_dashboard_name_is_exported_and_every_line_is_json(shop: Producer) -> None:
    settings_of(
        shop,
        audit={"identity": "desk"},
        notify=[{"name": "log", "log": {}, "when": {"severity": "info"}}, {"name": "none", "command": {"run": ["./no"]}}],
    )
    made = test_daemon.Daemon(shop)
    try:
        made.until(made.ready, "ready")
        made.until(lambda: len(shop.status()["resources"]) == 4, "the first convergence")
        made.until(lambda: events(made, "condition.changed"), "a notice")
        shop.write("price.yaml", PRICE.replace("rate:", "rat:"))
        made.until(lambda: events(made, "notice.postponed"), "a notice that waits")
        answer = made.get("/metrics")
        assert answer is not None
        exported = {line.partition("{")[0].partition(" ")[0] for line in answer.text.splitlines() if not line.startswith("#")}
        assert {name for one in expressions() for name in named_in(one)} <= exported
        labels = dict(re.findall(r"^(reconciler_[a-z_]+)\{([^}]*)\}", answer.text, re.MULTILINE))
        assert 'state="' in labels["reconciler_intents_open"] and 'env=""' in labels["reconciler_spend_satoshis_total"]
        assert 'class="' in labels["reconciler_drift"]
        values = {name: made.metric(name) for name in sorted(exported)}
        head = json.loads(shop("audit", "head", "-o", "json").out)
        assert values["reconciler_audit_entries"] == head["entries"] > 4
        assert made.metric('reconciler_notices_pending{sink="none"}') == 1.0
        assert (made.metric('reconciler_notices_total{result="delivered",sink="log"}') or 0) >= 4
        assert made.metric('reconciler_conditions{status="True",type="Ready"}') == 4.0
        assert any(name.startswith("reconciler_host_up") for name in exported)
        ups = [line for line in answer.text.splitlines() if line.startswith("reconciler_host_up{")]
        assert len(ups) >= 5 and all(line.endswith(" 1.0") for line in ups)
        assert made.stop() == 0
    finally:
        end(made.process)
    lines = made.events()
    for line in lines:
        assert {"time", "level", "event"} <= set(line), line
    # Whatever is about a unit of work says which: its key, and then the plan, its revision and the run, once there is one.
    (applied,) = events(made, "plan.applied")
    assert {"key", "plan", "revision", "fence"} <= set(applied)
    done = events(made, "run.done")
    refs = {line["ref"] for line in done if not line["ref"].startswith("funding/")}
    assert refs == {one["ref"] for one in shop.status()["resources"]}
    for line in done:
        assert line["run"].startswith("run_") and line["key"] == applied["key"]
        assert (line["plan"], line["revision"]) == (applied["plan"], applied["revision"])
    for name in ("source.rejected", "notice.postponed"):
        assert all("key" in line for line in events(made, name))
    assert not any(secret in made.log.read_text() for secret in shop.env.values())


def test_alerts_and_dashboard_are_well_formed() -> None:
    rules = [rule for group in yaml.safe_load((SYSTEMD / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket") and {"summary", "look"} == set(rule["annotations"])
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
    dashboard = json.loads((SYSTEMD / "dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one in expressions():
        assert one.count("(") == one.count(")") and one.count("{") == one.count("}"), one
