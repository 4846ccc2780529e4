"""How a remote is reached: which addresses, which transports, and where a secret is never seen."""

import base64
import logging
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.git import Git, remote
from reconciler.adapters.git_mirror import Mirror, Target
from reconciler.model.errors import Refused, Unavailable
from tests.e2e.remote import Remote, quiet, ssh_key

MAIN = Target("branch", "main")
TOKEN = "tok-5d1c0ffee-very-secret"


def command_lines() -> list[str]:
    """The argument lists of everything that runs on this machine now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return found


class Served:
    """git's own HTTP backend on loopback, which wants a token if it is told to."""

    def __init__(self, origin: Remote, token: str | None = None) -> None:
        self.origin, self.token = origin, token
        self.seen: list[str] = []
        self.lines: list[str] = []
        self.elsewhere: str | None = None
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.answer(self)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/remote.git"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        given = request.headers.get("authorization", "")
        self.seen.append(given)
        self.lines += command_lines()
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if self.elsewhere is not None:
            request.send_response(302)
            request.send_header("location", self.elsewhere + request.path.removeprefix("/remote.git"))
            request.end_headers()
            return
        if self.token is not None and given != "Basic " + base64.b64encode(f"desk:{self.token}".encode()).decode():
            request.send_response(401)
            request.send_header("www-authenticate", 'Basic realm="git"')
            request.end_headers()
            return
        path, _, query = request.path.partition("?")
        environment = {
            **quiet(self.origin.root), "GIT_PROJECT_ROOT": str(self.origin.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": request.command, "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        request.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


@pytest.fixture
def origin(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "origin")
    made.push({"a.yaml": "a: 1\n"})
    return made


@pytest.fixture
def served(origin: Remote) -> Iterator[Served]:
    made = Served(origin)
    yield made
    made.close()


def mirror(tmp_path: Path, url: str, credentials: dict[str, Any] | None = None) -> Mirror:
    return Mirror(tmp_path / "state", remote(url), credentials or {}, tmp_path, 1 << 30)


@pytest.mark.row("P-CFG-16")
def test_a_token_opens_a_remote_and_shows_nowhere(
    tmp_path: Path, origin: Remote, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    served.token = TOKEN
    monkeypatch.setenv("DESK_TOKEN", TOKEN)
    let_in = mirror(tmp_path, served.url, {"token": {"env": "DESK_TOKEN"}, "username": "desk"})
    head = let_in.fetch(MAIN)
    assert head == let_in.ask(MAIN) == origin.call("rev-parse", "HEAD")
    basic = base64.b64encode(f"desk:{TOKEN}".encode()).decode()
    assert f"Basic {basic}" in served.seen
    assert any("git-remote-http" in line or "remote-http" in line for line in served.lines), "nobody was looked at"
    assert not any(TOKEN in line or basic in line for line in served.lines)
    written = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert written and not any(TOKEN.encode() in path.read_bytes() or basic.encode() in path.read_bytes() for path in written)
    # Turned away, it says so without saying what it showed.
    served.token = "another"
    with pytest.raises(Unavailable) as error:
        let_in.ask(MAIN)
    assert error.value.code == "git-denied"
    assert TOKEN not in error.value.message and basic not in error.value.message and TOKEN not in caplog.text


def test_what_git_says_is_told_without_our_secrets(tmp_path: Path) -> None:
    git = Git(tmp_path, tmp_path, secrets=(TOKEN,))
    assert git.harmless(f"fatal: no {TOKEN}\x1b[31m here\nhint: try\nmore\n".encode()) == "fatal: no *** [31m here; more"


def test_no_token_follows_a_redirect(tmp_path: Path, origin: Remote, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_TOKEN", TOKEN)
    thief = Served(origin)
    try:
        served.elsewhere = thief.url
        with pytest.raises(Unavailable):
            mirror(tmp_path, served.url, {"token": {"env": "DESK_TOKEN"}}).fetch(MAIN)
        assert served.seen and thief.seen == []
    finally:
        thief.close()


def test_without_a_token_nobody_is_asked_for_one(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.token = TOKEN
    # Helpers and prompts of whoever runs it would answer.
    (tmp_path / ".gitconfig").write_text(f"[credential]\n helper = !printf 'username=desk\\npassword={TOKEN}\\n'\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_ASKPASS", "/bin/echo")
    with pytest.raises(Unavailable) as error:
        mirror(tmp_path, served.url).ask(MAIN)
    assert error.value.code == "git-denied"


def test_configuration_of_this_machine_has_no_say(tmp_path: Path, origin: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "sprung"
    other = Remote(tmp_path / "other")
    other.push({"evil.yaml": "x: 1\n"})
    config = f'[url "{other.url}"]\n insteadOf = {origin.url}\n[core]\n fsmonitor = touch {trap}\n'
    config += f"[uploadpack]\n packObjectsHook = touch {trap};\n"
    (tmp_path / ".gitconfig").write_text(config)
    for name, value in (
        ("HOME", str(tmp_path)),
        ("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig")),
        ("GIT_DIR", str(other.bare)),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{other.url}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", origin.url)
    assert mirror(tmp_path, origin.url).fetch(MAIN) == origin.call("rev-parse", "HEAD")
    assert not trap.exists()


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x", "ext::https://host/x", "--upload-pack=touch", "-x", "fd::7", "git://host/x", "ftp://host/x", "file2://x",
        "https://", "https://user:secret@host/x", "https://secret@host/x", "ssh://u:secret@host/x", "/plain/path", "host path:x",
        "ssh://-oProxyCommand=x/y", "https://host/a\nb", "user@-oProxyCommand=x:y",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_repeating_a_secret(url: str) -> None:
    with pytest.raises(Refused) as error:
        remote(url)
    assert "secret" not in error.value.message.replace("a secret that stands", "")


@pytest.mark.parametrize(
    ("url", "scheme", "host"),
    [
        ("https://git.example.org/desk/shop.git", "https", "git.example.org"),
        ("ssh://git@git.example.org:2222/desk/shop.git", "ssh", "git.example.org"),
        ("git@git.example.org:desk/shop.git", "ssh", "git.example.org"),
        ("file:///srv/shop.git", "file", ""),
        ("http://[::1]:8080/shop.git", "http", "::1"),
    ],
)
def test_addresses_as_people_write_them(url: str, scheme: str, host: str) -> None:
    found = remote(url)
    assert (found.scheme, found.host, found.url) == (scheme, host, url)


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("http://git.example.org/x", {"token": {"env": "DESK_TOKEN"}}),
        ("file:///srv/x", {"token": {"env": "DESK_TOKEN"}}),
        ("git@git.example.org:x", {"token": {"env": "DESK_TOKEN"}}),
        ("https://git.example.org/x", {"ssh": {"key": {"file": "k"}, "knownHosts": ["x"]}}),
        ("git@git.example.org:x", {}),
        ("https://git.example.org/x", {"token": {"env": "NOT_SET_ANYWHERE"}}),
    ],
)
def test_credentials_that_do_not_fit_the_address_are_refused_before_anything_is_sent(
    tmp_path: Path, url: str, credentials: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_TOKEN", TOKEN)
    with pytest.raises(Refused):
        mirror(tmp_path, url, credentials).ask(MAIN)


# A server that is real is in test_git_ssh.py. This stands where ssh stands: it notes how it was called and what it was given,
# and runs the command on this machine, as sshd would for whoever it lets in.
STANDIN = """\
#!/bin/sh
printf '%s\\n' "$@" >> "$0.words"
for word in "$@"; do
  case "$last" in -i) cat "$word" > "$0.key"; stat -c %a "$word" > "$0.mode" ;; esac
  case "$word" in UserKnownHostsFile=*) cat "${word#*=}" > "$0.known" ;; esac
  last="$word"
done
exec sh -c "$last"
"""


@pytest.mark.parametrize("where", ["file", "env"])
def test_a_deploy_key_is_used_alone_and_only_for_hosts_of_the_settings(
    tmp_path: Path, origin: Remote, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    programs = tmp_path / "programs with spaces"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(STANDIN)
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
    key = ssh_key(tmp_path / "keys", "deploy")
    monkeypatch.setenv("DEPLOY_KEY", key.path.read_text())
    source = {"file": "keys/deploy"} if where == "file" else {"env": "DEPLOY_KEY"}
    credentials = {"ssh": {"key": source, "knownHosts": ["git.example.org ssh-ed25519 AAAA"]}}
    reached = mirror(tmp_path, f"ssh://git@git.example.org{origin.bare}", credentials)
    assert reached.fetch(MAIN) == origin.call("rev-parse", "HEAD")
    words = (programs / "ssh.words").read_text().splitlines()
    for option in (
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "GlobalKnownHostsFile=/dev/null",
    ):
        assert option in words
    assert words[words.index("-F") + 1] == "/dev/null"
    assert (programs / "ssh.known").read_text() == "git.example.org ssh-ed25519 AAAA\n"
    assert (programs / "ssh.key").read_text() == key.path.read_text()
    assert (programs / "ssh.mode").read_text().strip() == "600"
    assert not any("PRIVATE KEY" in word for word in words)
    left = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert left == [], "the key was left behind"
    if where == "file":
        key.path.chmod(0o644)
        with pytest.raises(Refused) as error:
            reached.ask(MAIN)
        assert error.value.code == "secret-mode"


def test_a_call_that_hangs_is_given_up_with_everything_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\nwait\n")
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(Unavailable) as error:
        Git(tmp_path, tmp_path).run("ls-remote", seconds=1)
    assert error.value.code == "git-slow"
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_without_git_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as error:
        Git(tmp_path, tmp_path).run("version")
    assert error.value.code == "no-git" and "2.34" in (error.value.hint or "")


def test_the_state_of_a_mirror_is_closed_to_others(tmp_path: Path, origin: Remote) -> None:
    made = mirror(tmp_path, origin.url)
    made.fetch(MAIN)
    assert stat.S_IMODE(made.home.stat().st_mode) == 0o700
    shutil.rmtree(made.git.directory)
    assert made.fetch(MAIN)
