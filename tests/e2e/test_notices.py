"""Changes of conditions reach whoever wants to know: committed with what they tell, delivered later, at least once."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from reconciler.compose import Workspace
from reconciler.engine.dispatch import KEY, PATIENCE
from reconciler.engine.handlers import Handlers
from reconciler.engine.notices import Severity, sinks_of
from reconciler.gateway.measure import refresher
from reconciler.telemetry import Metrics
from tests.e2e.scene import ANYTHING_GOES, DATASET, PRICE, Scene, play

WALLET = "wallet: {key: {file: .keys/wallet.json}}\n"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Hook(httpx.AsyncBaseTransport):
    """A receiver beside the network: what it was sent, and how it answers."""

    inner: httpx.AsyncBaseTransport
    answer: Callable[[], httpx.Response] = lambda: httpx.Response(204)
    got: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != "hooks.example":
            return await self.inner.handle_async_request(request)
        await request.aread()
        answer = self.answer()
        if answer.status_code < 300:
            self.got.append(request)
        answer.stream = httpx.ByteStream(b"")
        return answer

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(request.content)["data"] for request in self.got]


@pytest.fixture
def told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Hook:
    """The scene's world with a receiver in it, and settings that know it."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    hook = Hook(scene.world.transport())
    monkeypatch.setattr(type(scene.world), "transport", lambda self: hook)
    return hook


def settings(scene: Scene, *items: str) -> None:
    scene.write({"reconciler.yaml": WALLET + "notify:\n" + "".join(f"  - {item}\n" for item in items)})


POST = "{name: pager, webhook: {url: 'https://hooks.example/in', secret: {env: HOOK_SECRET}}, when: {severity: info}}"


def handlers(space: Workspace) -> Handlers:
    made = Handlers(space.runner, space.surveyor, ANYTHING_GOES, "auto")
    assert space.outlets is not None
    made.beside = {KEY: space.outlets.dispatcher.handle}
    return made


async def work(space: Workspace, key: str = "plan") -> Handlers:
    """One pass of the daemon's own handlers over a key."""
    made = handlers(space)
    async with space.runner.lease(key) as lease:
        await made.table()[key](lease)
    return made


async def deliver(space: Workspace) -> int:
    assert space.outlets is not None
    return await space.outlets.dispatcher.flush()


def pending(space: Workspace) -> dict[str, int]:
    assert space.outlets is not None
    return dict(space.outlets.dispatcher.outbox.pending())


def test_a_transition_is_posted_once_as_a_signed_cloud_event(scene: Scene, told: Hook) -> None:
    settings(scene, POST)

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await work(space)
            assert sorted(one["resource"] for one in told.said()) == []
            # The key that delivers was queued by the commit itself.
            assert space.ports.queue.claim("other", space.ports.clock.now(), (KEY,)) is not None
            waiting = sum(pending(space).values())
            assert await deliver(space) == waiting > 0
            assert pending(space) == {} and await deliver(space) == 0
            await work(space)
            assert await deliver(space) == 0

    play(main, scene.world.clock)
    (ready,) = [one for one in told.said() if (one["resource"], one["condition"]) == ("Dataset/rates", "Ready")]
    assert (ready["before"], ready["status"], ready["reason"], ready["severity"]) == ("Unknown", "True", "Published", "info")
    assert len({request.headers["webhook-id"] for request in told.got}) == len(told.got)
    for request in told.got:
        event = json.loads(request.content)
        assert request.headers["content-type"].startswith("application/cloudevents+json")
        assert {name: event[name] for name in ("specversion", "type", "source", "datacontenttype")} == {
            "specversion": "1.0",
            "type": "bsv.overlay.reconciler.condition.changed",
            "source": "urn:reconciler:default",
            "datacontenttype": "application/json",
        }
        assert event["id"] == request.headers["webhook-id"] and event["subject"] == event["data"]["resource"]
        signed = f"{event['id']}.{request.headers['webhook-timestamp']}.".encode() + request.content
        mac = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, hashlib.sha256).digest()
        assert request.headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
        assert SECRET.encode() not in request.content


def test_a_sink_that_is_down_is_asked_less_and_less_and_across_restarts(scene: Scene, told: Hook) -> None:
    settings(scene, POST)
    tries: list[float] = []

    def down() -> httpx.Response:
        tries.append((scene.world.clock.now() - began).total_seconds())
        return httpx.Response(503)

    began = scene.world.clock.now()
    told.answer = down

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await work(space)
            waiting = pending(space)
            assert await deliver(space) == 0 and len(tries) == 1, "one refusal is enough for all that wait for the same sink"
            outbox = space.outlets.dispatcher.outbox  # type: ignore[union-attr]
            for _ in range(12):
                due = outbox.next_due()
                assert due is not None
                scene.world.clock.advance(max(0.0, (due - scene.world.clock.now()).total_seconds()) + 40)
                await deliver(space)
            assert pending(space) == waiting, "nothing is lost meanwhile"
        pauses = [later - sooner for sooner, later in itertools.pairwise(tries)]
        assert max(pauses) < 2 * 3600 and pauses[-1] > 2 * pauses[0]
        told.answer = lambda: httpx.Response(200)
        scene.world.clock.advance(2 * 3600)
        async with scene.open() as space:  # another process
            assert await deliver(space) == sum(waiting.values()) == len(told.got)
            assert pending(space) == {}

    play(main, scene.world.clock)


def test_a_crash_between_delivery_and_its_mark_repeats_the_id(scene: Scene, told: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    settings(scene, POST)

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await work(space)
            outbox = space.outlets.dispatcher.outbox  # type: ignore[union-attr]
            monkeypatch.setattr(outbox, "delivered", lambda notice: (_ for _ in ()).throw(asyncio.CancelledError))
            with pytest.raises(asyncio.CancelledError):
                await deliver(space)
        async with scene.open() as space:
            await deliver(space)

    play(main, scene.world.clock)
    ids = [request.headers["webhook-id"] for request in told.got]
    assert ids.count(ids[0]) == 2 and len(set(ids)) == len(ids) - 1


def test_what_nobody_took_for_days_is_dropped_and_told(scene: Scene, told: Hook, caplog: pytest.LogCaptureFixture) -> None:
    settings(scene, POST)
    told.answer = lambda: httpx.Response(404)

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await work(space)
            await deliver(space)
            assert pending(space)
            scene.world.clock.advance(PATIENCE.total_seconds() + 1)
            await deliver(space)
            assert pending(space) == {}

    with caplog.at_level(logging.WARNING, "reconciler.notices"):
        play(main, scene.world.clock)
    assert "notice.dropped" in caplog.text and "notice.postponed" in caplog.text


def test_filters_choose_by_condition_kind_name_label_and_severity(scene: Scene, told: Hook) -> None:
    scene.write({"dataset.yaml": DATASET.replace("{name: rates}", "{name: rates, labels: {team: fx}}")})
    hook = "webhook: {url: 'https://hooks.example/%s'}"
    settings(
        scene,
        "{name: kinds, " + hook % "kinds" + ", when: {kinds: [Identity], severity: info}}",
        "{name: names, " + hook % "names" + ", when: {names: ['Advert*/f*'], severity: info}}",
        "{name: labels, " + hook % "labels" + ", when: {labels: {team: fx}, severity: info}}",
        "{name: source, " + hook % "source" + ", when: {conditions: [SourceReady]}}",
        "{name: bad, " + hook % "bad" + ", when: {severity: error}}",
    )

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await work(space)
            await deliver(space)
            heard = {name: {one["resource"] for one in said(name)} for name in ("kinds", "names", "labels", "source", "bad")}
            assert heard == {
                "kinds": {"Identity/desk"},
                "names": {"Advertisement/feed"},
                "labels": {"Dataset/rates"},
                "source": set(),
                "bad": set(),
            }
            scene.write({"price.yaml": PRICE.replace("rate:", "rat:")})
            await work(space)
            await deliver(space)
            (fault,) = said("source")
            assert (fault["before"], fault["status"], fault["severity"]) == ("True", "False", "error")
            assert fault["message"].startswith("price.yaml:4:") and said("bad") == [fault]

    def said(name: str) -> list[dict[str, Any]]:
        return [json.loads(r.content)["data"] for r in told.got if r.url.path == f"/{name}"]

    play(main, scene.world.clock)


def test_what_stalls_before_it_was_ever_recorded_is_told_too(scene: Scene, told: Hook) -> None:
    settings(scene, POST)

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            with space.ports.ledger.begin() as tx:
                tx.put("condition/Dataset/rates", [["Stalled", "True", "host-refused", "no"]])
            await deliver(space)
            with pytest.raises(RuntimeError), space.ports.ledger.begin() as tx:
                tx.put("condition/Dataset/other", [["Stalled", "True", "host-refused", "no"]])
                raise RuntimeError
            assert await deliver(space) == 0, "what was not committed is not told"

    play(main, scene.world.clock)
    (one,) = told.said()
    assert (one["resource"], one["condition"], one["status"], one["severity"]) == ("Dataset/rates", "Stalled", "True", "error")


def test_a_command_gets_json_no_shell_and_no_secrets(scene: Scene, told: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    script = scene.root / "tell.py"
    script.write_text(
        "import json, os, sys\n"
        "said = json.load(sys.stdin)\n"
        "with open('told.jsonl', 'a') as out:\n"
        "    print(json.dumps({'said': said, 'env': sorted(os.environ), 'words': sys.argv[1:]}), file=out)\n"
    )
    settings(
        scene,
        f"{{name: script, command: {{run: ['{sys.executable}', tell.py, '$(touch pwned)']}}, "
        "when: {kinds: [Dataset], severity: info}}",
        f"{{name: slow, command: {{run: ['{sys.executable}', '-c', 'import time; time.sleep(600)'], timeout: 200ms}}, "
        "when: {kinds: [Dataset], conditions: [Ready], severity: info}}",
        "{name: none, command: {run: [./not-there]}, when: {kinds: [Dataset], conditions: [Ready], severity: info}}",
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")

    async def prepare() -> None:
        await scene.fund()
        async with scene.open() as space:
            await work(space)

    async def run() -> dict[str, int]:
        # Real programs need real time.
        real = replace(scene)
        async with real.open() as space:
            await deliver(space)
            return pending(space)

    play(prepare, scene.world.clock)
    assert asyncio.run(run()) == {"slow": 1, "none": 1}
    (line,) = [json.loads(text) for text in (scene.root / "told.jsonl").read_text().splitlines()]
    assert line["said"]["resource"] == "Dataset/rates" and len(line["said"]["id"]) == 32
    assert line["words"] == ["$(touch pwned)"] and not (scene.root / "pwned").exists()
    assert not {"AWS_SECRET_ACCESS_KEY", "RECONCILER_PASSPHRASE", "HOOK_SECRET"} & set(line["env"])


def test_the_log_is_a_sink(scene: Scene, told: Hook, caplog: pytest.LogCaptureFixture) -> None:
    settings(scene, "{name: log, log: {}, when: {conditions: [Ready], kinds: [Dataset], severity: info}}")

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await work(space)
            await deliver(space)

    with caplog.at_level(logging.INFO, "reconciler.notices"):
        play(main, scene.world.clock)
    (record,) = [one for one in caplog.records if one.getMessage() == "condition.changed"]
    assert (record.ref, record.outcome) == ("Dataset/rates", "Ready Unknown -> True (Published)")  # type: ignore[attr-defined]


def test_without_sinks_nothing_is_written_and_a_sink_that_is_gone_is_emptied(scene: Scene, told: Hook) -> None:
    scene.write({"reconciler.yaml": WALLET})

    async def main() -> None:
        await scene.fund()
        async with scene.open() as space:
            await work(space)
            assert pending(space) == {} and space.ports.ledger.read(space.ports.clock.now()).records
        settings(scene, POST)
        scene.write({"price.yaml": PRICE.replace("rate:", "rat:")})
        async with scene.open() as space:
            await work(space)
            assert pending(space) == {"pager": 1}
        scene.write({"reconciler.yaml": WALLET})
        async with scene.open() as space:
            assert await deliver(space) == 0 and pending(space) == {}
        assert told.got == []

    play(main, scene.world.clock)


def test_the_settings_say_what_is_wrong_with_a_sink() -> None:
    from reconciler.model.errors import Refused

    good = {"name": "a", "log": {}, "when": {"severity": "error", "names": ["x*"]}}
    (sink,) = sinks_of([good])
    assert sink.when.severity is Severity.ERROR
    with pytest.raises(Refused, match='two are called "a"'):
        sinks_of([good, good])
    with pytest.raises(Refused, match="has 2 ways to go"):
        sinks_of([{**good, "command": {"run": ["x"]}}])


def test_a_purse_that_runs_low_is_told_once_and_so_is_that_it_was_filled(scene: Scene, told: Hook) -> None:
    settings(scene, POST)
    declared = scene.root.joinpath("network.yaml").read_text()
    for path in scene.root.glob("*.yaml"):
        if path.name not in ("reconciler.yaml", "network.yaml"):
            path.unlink()

    def least(bound: str) -> None:
        scene.write({"network.yaml": declared + bound})

    async def passes(space: Workspace) -> list[tuple[str, str, str, str]]:
        told.got.clear()
        await work(space)
        for _ in range(2):
            await work(space, "confirm")
        await deliver(space)
        said = [one for one in told.said() if one["condition"] == "Funded"]
        return [(one["resource"], one["before"], one["reason"], one["severity"]) for one in said]

    async def main() -> None:
        await scene.fund(4_000)
        least("  wallet: {minBalance: 5000sat}\n")
        async with scene.open() as space:
            assert await passes(space) == [("Network/local", "Unknown", "LowBalance", "warning")]
            metrics = Metrics()
            refresher(metrics, handlers(space), space.outlets.dispatcher.outbox, dict)()  # type: ignore[union-attr]
            assert b'reconciler_wallet_satoshis{chain="devnet",state="free"} 4000.0' in metrics.exposition()
        await scene.fund(1_000)
        async with scene.open() as space:
            assert await passes(space) == [("Network/local", "False", "Sufficient", "info")]
        least("  wallet: {minBalance: 5001sat}\n")
        async with scene.open() as space:
            assert await passes(space) == [("Network/local", "True", "LowBalance", "warning")]
        least("")
        async with scene.open() as space:
            assert await passes(space) == [("Network/local", "False", "NoMinimum", "info")]

    play(main, scene.world.clock)
