"""Subscribers of an identity: told of every succession, once per id, in messages that are proof enough by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.cli import exits
from reconciler.cli.rotation import verify
from reconciler.compose import Workspace, workspace
from reconciler.engine.rebuild import adopt
from reconciler.model.errors import RemoteProtocolError
from reconciler.settings import load
from reconciler.wire import succession
from reconciler.wire.beef import parse_beef
from reconciler.wire.descriptor import parse_descriptor
from reconciler.wire.document import open_envelope
from tests.e2e.crash import PROCESS
from tests.e2e.scene import ANYTHING_GOES, NETWORK, Scene, play
from tests.e2e.test_rotation import DAY, OPEN, keys, records

__all__ = ["keys"]

TELL = ", notify: [webhook, catalog]}"
ROTATED = OPEN + "  rotation: {next: {env: HEIR_KEY}, transitionPeriod: 7d" + TELL + "\n"
LONGER = ROTATED.replace("7d", "9d")
REVOKED = ROTATED.replace(TELL, ", revoke: {reason: laptop stolen}" + TELL)
AGAIN = ROTATED.replace("HEIR_KEY", "THIRD_KEY").replace("DESK_KEY", "HEIR_KEY")
URL = "http://subscriber.example/keys"
SINK = f"notify:\n  - {{name: buyer, webhook: {{url: '{URL}'}}, when: {{conditions: [KeySuccession]}}}}\n"


@dataclass
class Door(httpx.AsyncBaseTransport):
    """The devnet, and one address that leads to a real socket."""

    inner: httpx.AsyncBaseTransport
    port: int
    outside: httpx.AsyncHTTPTransport = field(default_factory=httpx.AsyncHTTPTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != "subscriber.example":
            return await self.inner.handle_async_request(request)
        url = request.url.copy_with(host="127.0.0.1", port=self.port)
        return await self.outside.handle_async_request(
            httpx.Request("POST", url, headers=request.headers, content=await request.aread())
        )

    async def aclose(self) -> None:
        await self.outside.aclose()


@dataclass
class Subscriber:
    """The other side: its process, and what it accepted."""

    port: int
    folder: Path

    def kept(self) -> list[dict[str, Any]]:
        """The messages, by reason and number of their arrival."""
        return [json.loads(path.read_bytes()) for path in sorted(self.folder.glob("*.json"))]

    def reasons(self) -> list[str]:
        return sorted(message["data"]["reason"] for message in self.kept())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path / "shop")
    made.write({"network.yaml": NETWORK, "identity.yaml": OPEN, "reconciler.yaml": PROCESS + SINK})
    return made


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    folder = tmp_path_factory.mktemp("subscriber")
    words = [sys.executable, "-m", "tests.e2e.receiver", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline()), folder
        child.kill()


@pytest.fixture
def buyer(process: tuple[int, Path]) -> Subscriber:
    port, folder = process
    for old in folder.iterdir():
        old.unlink()
    return Subscriber(port, folder)


def applied(scene: Scene, identity: str, wait: float = 0) -> None:
    """One process that applies and tells nobody: it only writes down who is to be told."""

    async def main() -> None:
        scene.write({"identity.yaml": identity})
        scene.world.clock.advance(wait)
        async with scene.open() as space:
            _, report = await scene.apply(space)
            assert report.complete, report

    play(main, scene.world.clock)


def begun(scene: Scene) -> None:
    play(scene.fund, scene.world.clock)
    applied(scene, OPEN)


def delivered(scene: Scene, buyer: Subscriber) -> int:
    """Another process, in real time, that delivers what is due; how many got through."""

    async def main() -> int:
        settings = replace(load(scene.root), limits=ANYTHING_GOES)
        async with contextlib.AsyncExitStack() as stack:
            door = Door(scene.world.transport(), buyer.port)
            stack.push_async_callback(door.aclose)
            space = await stack.enter_async_context(
                workspace(settings, transport=door, clock=scene.world.clock, entropy=scene.entropy, owner="other")
            )
            return await outbox_of(space).flush()

    return asyncio.run(main())


def outbox_of(space: Workspace) -> Any:
    assert space.outlets is not None
    return space.outlets.dispatcher


@pytest.mark.row("P-ID-13")
def test_a_subscriber_in_another_process_verifies_both_signatures_with_the_message_alone(scene: Scene, buyer: Subscriber) -> None:
    begun(scene)
    assert delivered(scene, buyer) == 0
    applied(scene, ROTATED)
    assert delivered(scene, buyer) == 1 and delivered(scene, buyer) == 0
    (message,) = buyer.kept()
    assert (message["type"], message["subject"]) == ("bsv.overlay.reconciler.key.succession", "Identity/desk")
    said = succession.read(json.dumps(message).encode())
    assert (said.name, said.since) == ("desk", None) and (said.until - said.at).days == 7
    assert (scene.world.clock.now() - said.at).total_seconds() < 600
    # The window is made longer, and ends: both are told, each once, and nothing else is.
    applied(scene, LONGER, DAY)
    assert delivered(scene, buyer) == 1
    applied(scene, LONGER, 9 * DAY)
    assert delivered(scene, buyer) == 1
    applied(scene, LONGER, DAY)
    assert delivered(scene, buyer) == 0
    assert buyer.reasons() == ["Announced", "Changed", "Ended"]
    assert len({one["id"] for one in buyer.kept()}) == 3, "every id came once"


@pytest.mark.row("P-ID-13", "P-RISK-04")
def test_a_second_rotation_within_the_window_and_a_revocation_are_told(scene: Scene, buyer: Subscriber) -> None:
    begun(scene)
    applied(scene, ROTATED)
    applied(scene, AGAIN, DAY)
    assert delivered(scene, buyer) == 2 and buyer.reasons() == ["Announced", "Announced"]
    chain = sorted((said.at, said.old, said.new) for said in (succession.read(json.dumps(m).encode()) for m in buyer.kept()))
    assert chain[0][2] == chain[1][1], "the second begins with the key that the first ends with"
    applied(scene, AGAIN.replace(TELL, ", revoke: {reason: laptop stolen}" + TELL), DAY)
    assert delivered(scene, buyer) == 1
    (revoked,) = [one for one in buyer.kept() if one["data"]["reason"] == "Revoked"]
    said = succession.read(json.dumps(revoked).encode())
    assert said.reason == "laptop stolen" and said.since is not None and revoked["data"]["severity"] == "error"


@pytest.mark.row("P-ID-13", "P-RISK-04")
def test_a_key_revoked_at_once_is_told_without_a_window(scene: Scene, buyer: Subscriber) -> None:
    begun(scene)
    applied(scene, REVOKED)
    assert delivered(scene, buyer) == 1 and buyer.reasons() == ["Revoked"]


@pytest.mark.row("P-ID-13")
def test_a_crash_between_commit_and_delivery_loses_nothing_and_repeats_nothing(
    scene: Scene, buyer: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(scene)
    applied(scene, ROTATED)
    # Killed once it was accepted and before it was struck off: it comes again, under its id and with the same bytes.
    with monkeypatch.context() as patch:

        def killed(self: object, notice: object) -> None:
            raise asyncio.CancelledError

        patch.setattr("reconciler.adapters.sql.outbox.SqlOutbox.delivered", killed)
        with pytest.raises(asyncio.CancelledError):
            delivered(scene, buyer)
    assert delivered(scene, buyer) == 1 and delivered(scene, buyer) == 0
    first, again = buyer.kept()
    assert first == again


@pytest.mark.row("P-ID-13")
def test_a_tampered_statement_is_refused_wherever_it_is_tampered_with(
    scene: Scene, buyer: Subscriber, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(scene)
    applied(scene, ROTATED)
    delivered(scene, buyer)
    (message,) = buyer.kept()
    file, link = tmp_path / "message.json", message["data"]["succession"]
    old, new = (mark["signer"] for mark in link["signatures"])

    def forms(said: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**message, "data": {**message["data"], "succession": said}}, {"succession": said}, said]

    for form in forms(link):
        assert succession.read(json.dumps(form).encode()).new == new
    file.write_text(json.dumps(message))
    assert verify(file, old, "json") == exits.OK and json.loads(capsys.readouterr().out)["to"] == new
    assert verify(file) == exits.OK and f"{new}  from" in capsys.readouterr().out
    assert verify(file, new) == exits.ERROR and "it is about" in capsys.readouterr().err
    other = {**link["statement"], "to": old}
    for broken in (
        {**link, "statement": {**link["statement"], "until": "2999-01-01T00:00:00Z"}},
        {**link, "statement": {**link["statement"], "compromised": {"since": "2020-01-01T00:00:00Z", "reason": "x"}}},
        {**link, "statement": other},
        {**link, "signatures": link["signatures"][:1]},
        {**link, "signatures": link["signatures"][::-1]},
        {**link, "signatures": [link["signatures"][0]] * 2},
    ):
        for form in forms(broken):
            data = json.dumps(form).encode()
            with pytest.raises(RemoteProtocolError):
                succession.read(data)
        assert httpx.post(f"http://127.0.0.1:{buyer.port}/", content=data, headers={"webhook-id": "x"}).status_code == 422
        file.write_bytes(data)
        assert verify(file) == exits.ERROR and "cannot" in capsys.readouterr().err


@pytest.mark.row("P-ID-13")
def test_a_second_party_finds_the_statement_by_looking_up_either_key(scene: Scene, tmp_path: Path) -> None:
    begun(scene)
    applied(scene, ROTATED)
    stranger = Scene(tmp_path / "buyer", scene.world)
    stranger.write({"network.yaml": NETWORK, "reconciler.yaml": PROCESS})

    async def main() -> None:
        async with scene.open() as space:
            kept = records(space)["Identity/desk"].outputs["keys"]
        net = stranger.net()
        async with stranger.open() as space:  # a ledger and a store of its own, with nothing in them
            assert not records(space)
            for key in kept:
                query = {"identityKey": key["publicKey"], "subject": "Identity/desk"}
                (found,) = await space.ports.overlay.lookup(net.overlays[0], "ls_producer", query)
                digest = digest_of(found)
                (paper,) = {data for host in net.storage if (data := await space.ports.storage.read(host, digest)) is not None}
                document, signer = open_envelope(paper)
                assert [period.key for period in succession.periods(document, signer)] == [one["publicKey"] for one in kept]
                assert document["successions"] == [kept[0]["succession"]]

    play(main, scene.world.clock)


def digest_of(found: Any) -> str:
    """The digest in a descriptor that a host showed."""
    tx = parse_beef(found.beef).txs[found.outpoint.txid].tx
    assert tx is not None
    return parse_descriptor(tx.outputs[found.outpoint.vout].script).digest


def test_nobody_is_told_unless_the_manifest_says_so_and_catalog_needs_a_publication(scene: Scene, buyer: Subscriber) -> None:
    begun(scene)
    applied(scene, ROTATED.replace("webhook, ", ""))
    assert delivered(scene, buyer) == 0
    scene.write({"identity.yaml": ROTATED.replace("register: true", "register: false")})

    async def main() -> None:
        async with scene.open() as space:
            (fault,) = space.surveyor.load().errors
            assert "not registered" in fault.message

    play(main, scene.world.clock)


def test_a_ledger_made_again_tells_of_the_open_window_under_the_same_id(scene: Scene, buyer: Subscriber) -> None:
    begun(scene)
    applied(scene, ROTATED)
    assert delivered(scene, buyer) == 1

    async def main() -> None:
        (scene.root / ".state").rename(scene.root / ".lost")
        async with scene.open() as space:
            assert await adopt(space.runner, await space.surveyor.survey(), "test")

    play(main, scene.world.clock)
    assert delivered(scene, buyer) == 1
    first, again = buyer.kept()
    assert first["id"] == again["id"] and first["data"]["succession"] == again["data"]["succession"]
