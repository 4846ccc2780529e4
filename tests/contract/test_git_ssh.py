"""A remote over SSH, for real: OpenSSH's client against a server on loopback that knows one deploy key and serves git."""

import asyncio
import contextlib
import shlex
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from reconciler.adapters.git import remote
from reconciler.adapters.git_mirror import Mirror, Target
from reconciler.model.errors import Unavailable
from tests.e2e.remote import Remote, SshKey, quiet, ssh_key

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh (openssh-client)")
MAIN = Target("branch", "main")
PATIENCE = 60


async def pump(source: Any, target: Any) -> None:
    """Hand on bytes until there are no more, or nobody takes them."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        target.write_eof()


class Sshd:
    """The account `git` of a host: whoever shows the deploy key may read one repository. It notes who came and what they ran."""

    def __init__(self, origin: Remote, deploy: SshKey) -> None:
        self.origin, self.deploy = origin, deploy
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.asked: list[str] = []
        self.ran: list[str] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.listener = asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(PATIENCE)

    async def _listen(self) -> asyncssh.SSHAcceptor:
        served = self

        class Door(asyncssh.SSHServer):
            """Notes who asks to be let in."""

            def begin_auth(self, username: str) -> bool:
                served.asked.append(username)
                return True

        keys = asyncssh.import_authorized_keys(self.deploy.public)
        return await asyncssh.listen(
            "127.0.0.1", 0, server_factory=Door, server_host_keys=[self.host_key], authorized_client_keys=keys,
            process_factory=self._process, encoding=None, allow_pty=False,
        )  # fmt: skip

    async def _process(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self.ran.append(process.command or "a shell")
        words = shlex.split(process.command or "")
        if words != ["git-upload-pack", str(self.origin.bare)]:
            process.exit(128)
            return
        protocol = {"GIT_PROTOCOL": process.env["GIT_PROTOCOL"]} if "GIT_PROTOCOL" in process.env else {}
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            "git", "upload-pack", words[1], stdin=pipe, stdout=pipe, env={**quiet(self.origin.root), **protocol}
        )
        assert child.stdin is not None and child.stdout is not None
        asking = asyncio.ensure_future(pump(process.stdin, child.stdin))
        await pump(child.stdout, process.stdout)
        await asking
        process.exit(await child.wait())

    @property
    def place(self) -> str:
        """Its name in a known_hosts file: the port is part of it, for it is not 22."""
        return f"[127.0.0.1]:{self.listener.get_port()}"

    @property
    def url(self) -> str:
        return f"ssh://git@127.0.0.1:{self.listener.get_port()}{self.origin.bare}"

    def known(self, key: asyncssh.SSHKey | None = None) -> str:
        """A line of known_hosts: under its own key, or under another."""
        public = (key or self.host_key).export_public_key().decode().split()
        return f"{self.place} {public[0]} {public[1]}"

    def stop_listening(self) -> None:
        """Let nobody in any more."""

        async def end() -> None:
            self.listener.close()
            await self.listener.wait_closed()

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(PATIENCE)

    def close(self) -> None:
        """Leave nothing running."""
        self.stop_listening()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    origin = Remote(tmp_path / "origin")
    origin.push({"a.yaml": "a: 1\n"})
    made = Sshd(origin, ssh_key(tmp_path / "keys", "deploy"))
    yield made
    made.close()


def mirror(tmp_path: Path, sshd: Sshd, key: dict[str, str], known: str) -> Mirror:
    credentials: dict[str, Any] = {"ssh": {"key": key, "knownHosts": [known]}}
    return Mirror(tmp_path / "state", remote(sshd.url), credentials, tmp_path, 1 << 30)


@pytest.mark.row("P-CFG-16", "P-SEC-01")
@pytest.mark.parametrize("place", ["file", "env", "credential"])
def test_a_deploy_key_opens_the_host_whose_key_is_pinned(
    tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("DEPLOY_KEY", sshd.deploy.path.read_text())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(sshd.deploy.path.parent))
    key = {"file": {"file": "keys/deploy"}, "env": {"env": "DEPLOY_KEY"}, "credential": {"credential": "deploy"}}[place]
    reached = mirror(tmp_path, sshd, key, sshd.known())
    assert reached.ask(MAIN) == reached.fetch(MAIN) == sshd.origin.call("rev-parse", "HEAD")
    later = sshd.origin.push({"a.yaml": "a: 2\n"})
    assert reached.fetch(MAIN) == later
    assert reached.git.run("show", f"{later}:a.yaml").out == b"a: 2\n"
    assert set(sshd.asked) == {"git"} and set(sshd.ran) == {f"git-upload-pack '{sshd.origin.bare}'"}
    assert not list((tmp_path / "state").rglob(".access-*")), "a key or a list of hosts was left behind"


def test_a_host_with_another_key_is_told_nothing(tmp_path: Path, sshd: Sshd) -> None:
    stranger = mirror(tmp_path, sshd, {"file": "keys/deploy"}, sshd.known(asyncssh.generate_private_key("ssh-ed25519")))
    with pytest.raises(Unavailable) as error:
        stranger.fetch(MAIN)
    assert error.value.code == "git-host-key" and "do not go on" in (error.value.hint or "")
    assert sshd.asked == [] and sshd.ran == [], "it went on to show who it is"


def test_a_host_that_is_not_in_the_settings_is_not_believed_at_first_sight(
    tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever runs it has met the host before; that is no setting.
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(sshd.known() + "\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere = sshd.known().replace(sshd.place, "git.example.org")
    with pytest.raises(Unavailable) as error:
        mirror(tmp_path, sshd, {"file": "keys/deploy"}, elsewhere).ask(MAIN)
    assert error.value.code == "git-host-key" and sshd.asked == []


def test_a_key_that_the_host_does_not_know_is_named_as_the_reason(
    tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh_key(tmp_path / "keys", "other")
    # The right key lies where ssh would look by itself; nobody named it.
    (tmp_path / ".ssh").mkdir()
    shutil.copy(sshd.deploy.path, tmp_path / ".ssh" / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Unavailable) as error:
        mirror(tmp_path, sshd, {"file": "keys/other"}, sshd.known()).ask(MAIN)
    assert error.value.code == "git-denied" and sshd.asked == ["git"] and sshd.ran == []


def test_a_host_that_is_gone_is_tried_again_later(tmp_path: Path, sshd: Sshd) -> None:
    reached = mirror(tmp_path, sshd, {"file": "keys/deploy"}, sshd.known())
    sshd.stop_listening()
    with pytest.raises(Unavailable) as error:
        reached.ask(MAIN)
    assert error.value.code == "git-remote" and "again" in (error.value.hint or "")
