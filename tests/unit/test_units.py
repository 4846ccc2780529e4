"""The systemd units: systemd itself reads them without a complaint and finds them closed, and they agree with the program."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.adapters.sql.queue import LEASE
from reconciler.engine.daemon import DRAIN

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").glob("reconciler*"))
SERVICES = [path for path in UNITS if path.suffix == ".service"]
ANALYZE = shutil.which("systemd-analyze")
# Of 100; systemd calls up to 40 good. What is left is what a network client cannot do without.
EXPOSED = 20
# Directives in which two services may differ; in all others they are closed alike.
OWN = {
    "type", "notifyaccess", "watchdogsec", "execstart", "execreload", "loadcredential", "statedirectory", "environmentfile",
    "restart", "restartsec", "restartpreventexitstatus", "timeoutstartsec",
}  # fmt: skip


class Unit(configparser.RawConfigParser):
    """A unit file: keys may repeat, the last one counts, except that filters add up."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, comment_prefixes=("#",), delimiters=("=",), interpolation=None)
        self.read(path)


def service(path: Path) -> dict[str, str]:
    return dict(Unit(path)["Service"])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units, with a program that exists here in place of ours."""
    there = tmp_path_factory.mktemp("units")
    for path in UNITS:
        text = path.read_text().replace("/opt/reconciler/bin/reconciler", shutil.which("true") or "/bin/true")
        (there / path.name.replace("@.", "@prod.")).write_text(text)
    return there


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *words], capture_output=True, text=True, timeout=120, check=False)


LOUD = "systemd-analyze is not installed: NOBODY BUT OUR OWN PARSER READ THE UNITS"
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason=LOUD)


@needs_systemd
@pytest.mark.row("P-CFG-16")
def test_systemd_reads_the_units_without_a_complaint(installed: Path) -> None:
    ran = analyze("verify", "--man=no", "--recursive-errors=no", *map(str, sorted(installed.iterdir())))
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    # It does complain when there is something to complain about.
    broken = installed / "reconciler-broken.service"
    broken.write_text((installed / "reconciler.service").read_text().replace("ProtectSystem=strict", "ProtectSistem=strict"))
    assert "ProtectSistem" in analyze("verify", "--man=no", "--recursive-errors=no", str(broken)).stderr
    broken.unlink()


@needs_systemd
@pytest.mark.parametrize("name", [path.name.replace("@.", "@prod.") for path in SERVICES])
def test_systemd_finds_the_services_closed(name: str, installed: Path) -> None:
    ran = analyze("security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager", str(installed / name))
    assert ran.returncode == 0, ran.stdout[-600:]
    opened = (installed / name).read_text().replace("CapabilityBoundingSet=", "").replace("ProtectSystem=strict", "")
    there = installed / f"open-{name}"
    there.write_text(opened)
    assert analyze("security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager", str(there)).returncode != 0
    there.unlink()


def test_every_service_is_closed_alike() -> None:
    first, *others = [{key: value for key, value in service(path).items() if key not in OWN} for path in SERVICES]
    assert others and all(other == first for other in others)
    for path in SERVICES:
        said = service(path)
        assert said["nonewprivileges"] == said["protecthome"] == said["privateusers"] == "yes"
        assert said["limitcore"] == "0" and said["umask"] == "0077" and "passphrase:/etc/" in said["loadcredential"]


def test_what_they_start_is_what_the_program_understands() -> None:
    for path in SERVICES:
        words = service(path)["execstart"].replace("%i", "prod").split()[1:]
        flags, verb = words[: words.index("run")], words[words.index("run") + 1 :]
        assert set(flags[::2]) <= {"--state", "--env", "--log-format"} and verb in ([], ["--once"])
        state = flags[flags.index("--state") + 1]
        assert state == "/var/lib/" + service(path)["statedirectory"].replace("%i", "prod")


def test_their_times_leave_the_program_its_own() -> None:
    for path in SERVICES:
        said = service(path)
        assert _seconds(said["timeoutstopsec"]) > DRAIN
        if said["type"] == "notify":
            # A watchdog that ends it leaves its leases to run out, or to be taken back by the next start; both come sooner.
            assert _seconds(said["watchdogsec"]) > 2 * LEASE.total_seconds()


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(s|min|h)", text)
    assert found is not None
    return int(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]]


@pytest.mark.parametrize("name", ["push", "gateway"])
def test_sockets_go_to_the_daemon_by_name(name: str) -> None:
    socket = Unit(ROOT / "systemd" / f"reconciler-{name}.socket")["Socket"]
    assert (socket["filedescriptorname"], socket["service"]) == (name, "reconciler.service")
