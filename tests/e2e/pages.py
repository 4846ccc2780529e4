"""Sessions that stand in the documentation: read from its pages, typed into a shell, and compared with what was printed.

A fenced block `console run FOLDER` is typed in a copy of FOLDER; `console run` goes on in the copy that the page used last,
and so does a `python run` block, a whole program whose output may follow in a block `text output`. In what a page shows, `…`
stands for anything in a line, and a line that is only `…` for any number of lines. Ids, hashes, ports, times and durations
are compared by their shape.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from reconciler.devnet import control

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANYTHING = "…"
# A page takes a few seconds; on a machine that does ten other things, ten times that.
PATIENCE = 240
# Hosts of the examples by the last two digits of their port, and the daemon's listener.
PORTS = {"overlay-1": 1, "overlay-2": 2, "arc": 10, "headers": 11, "eu1": 21, "us1": 22, "ap1": 23, "control": 0}
LISTEN = 90


@dataclass(frozen=True)
class Step:
    """One command, the lines that the page shows below it, and where it stands; `shown` is None where a page shows nothing."""

    command: str
    shown: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Session:
    """Everything that a page types in one folder, relative to the repository."""

    folder: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Printed:
    """What a command printed, on both streams, and its exit code."""

    lines: tuple[str, ...]
    code: int


# --- reading a page ------------------------------------------------------------------------------


def sessions(text: str) -> list[Session]:
    """The sessions of a page, in order; a folder that is named again begins anew."""
    found: list[tuple[str, list[Step]]] = []
    pending: tuple[str, int] | None = None
    for match in FENCE.finditer(text):
        words = match[1].split()
        line = text.count("\n", 0, match.start()) + 2
        if pending is not None:
            shown = tuple(match[2].splitlines()) if words == ["text", "output"] else (ANYTHING,)
            found[-1][1].append(Step(pending[0], shown, pending[1]))
            pending = None
        if words[1:2] != ["run"]:
            continue
        if len(words) > 2:
            found.append((words[2], []))
        if words[0] == "python":
            pending = (f"python - <<'PROGRAM'\n{match[2]}PROGRAM", line)
        else:
            found[-1][1].extend(typed(match[2], line))
    if pending is not None:
        found[-1][1].append(Step(pending[0], (ANYTHING,), pending[1]))
    return [Session(folder, tuple(steps)) for folder, steps in found]


def typed(block: str, first: int) -> Iterator[Step]:
    """The commands of one block: a line `$ ...`, lines `> ...` that continue it, and what is shown."""
    command, shown, at = "", list[str](), first
    for number, line in enumerate(block.splitlines()):
        if line.startswith("$ "):
            if command:
                yield Step(command, trimmed(shown), at)
            command, shown, at = line[2:], [], first + number
        elif line.startswith("> ") and not shown:
            command += "\n" + line[2:]
        else:
            shown.append(line)
    if command:
        yield Step(command, trimmed(shown), at)


def trimmed(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines without blank ones at the end."""
    return tuple("\n".join(lines).rstrip().splitlines())


# --- typing it -----------------------------------------------------------------------------------


@contextmanager
def copied(folder: str, into: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A copy of a folder whose hosts have ports that are free here, and the environment to type in; its devnet ends with it."""
    copy = into / Path(folder).name
    shutil.copytree(ROOT / folder, copy, ignore=shutil.ignore_patterns(".state", ".keys", ".devnet"))
    base = free_base()
    for path in copy.rglob("*.yaml"):
        path.write_text(moved(path.read_text("utf-8"), base), "utf-8")
    ports = " ".join(f"--port {name}={base + offset}" for name, offset in PORTS.items())
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RECONCILER_", "PYTEST_"))}
    shown = {"TERM": "dumb", "COLUMNS": "100", "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    try:
        yield copy, {**clean, **shown, "PYTHONPATH": str(ROOT), "PAGE_BASE": str(base), "PAGE_PORTS": ports, "HOME": str(into)}
    finally:
        for devnet in into.rglob(".devnet"):
            control.down(devnet)


def moved(text: str, base: int) -> str:
    """Text whose addresses on this machine are those that are free here."""
    return text.replace("127.0.0.1:90", f"127.0.0.1:{base // 100}").replace("127.0.0.1:8401", f"127.0.0.1:{base + LISTEN}")


def free_base() -> int:
    """A round port of four digits, as the examples have, with room for the network above it."""
    start = os.getpid() % 60
    for turn in range(60):
        base = 2000 + (start + turn) % 60 * 100
        try:
            for offset in (*PORTS.values(), LISTEN):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports on loopback")


def type_in(steps: Sequence[Step], at: Path, env: dict[str, str], tools: Path) -> list[Printed]:
    """Type commands into one shell, in order; what each printed."""
    # Where systemd is not installed, nobody can say more of a unit than tests/unit/test_units.py does.
    lines = ["S=0", "type -P systemd-analyze > /dev/null || systemd-analyze() { :; }"]
    for step in steps:
        lines += ["(exit $S)", moved(step.command, int(env["PAGE_BASE"])), r"S=$?; printf '\037%d\036' $S"]
    script = at.parent / "session.sh"
    script.write_text("\n".join(lines) + "\n", "utf-8")
    path = f"{tools}:{Path(sys.executable).parent}:{env['PATH']}"
    with (at.parent / "session.txt").open("w+b") as printed:
        shell = subprocess.Popen(
            ["bash", "--norc", str(script)], cwd=at, env={**env, "PATH": path},
            stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            shell.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        printed.seek(0)
        text = printed.read().decode("utf-8", "replace").replace(str(at), f"~/{at.name}")
    found = []
    for part in text.split("\036")[:-1]:
        said, _, code = part.rpartition("\037")
        found.append(Printed(trimmed(said.splitlines()), int(code)))
    return found


# --- comparing -----------------------------------------------------------------------------------

_SHAPES = (
    (re.compile(r"\b(pl|run)_[0-9a-f]{10,}\b"), r"\1_ID"),
    (re.compile(r"\bdir@[0-9a-f]{12}\b"), "dir@REVISION"),
    (re.compile(r"\bXU[1-9A-HJ-NP-Za-km-z]{40,}"), "UHRP"),
    (re.compile(r"\b76a914[0-9a-f]{40}88ac\b"), "SCRIPT"),
    (re.compile(r"\b(?:[0-9a-f]{64,66}|[0-9a-f]{16})\b"), "HEX"),
    (re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{8})?…"), "HEX"),
    (re.compile(r"\b[1mn][1-9A-HJ-NP-Za-km-z]{25,34}\b"), "ADDRESS"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"/cdn/\w+-\d+"), "/cdn/ID"),
    (re.compile(r"\b(process|pid) \d+"), r"\1 N"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?)?"), "DATE"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:ms|s|m|h)\b"), "SPAN"),
    (re.compile(r"\[\d+/(\d+)\]"), r"[N/\1]"),
    (re.compile(r"(?<=\S)  +"), "  "),
)  # fmt: skip


def shape(lines: Sequence[str]) -> list[str]:
    """Lines without what differs from run to run; changes that are carried out side by side may end in any order."""
    plain = []
    for line in lines:
        masked = line
        for pattern, name in _SHAPES:
            masked = pattern.sub(name, masked)
        plain.append(masked.rstrip())
    return [line for key, group in groupby(plain, _carried_out) for line in (sorted(group) if key else list(group))]


def _carried_out(line: str) -> bool:
    return line.startswith("[N/")


def same(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether what stands in a page is what was printed."""
    pattern = ""
    for line in shape(shown):
        inner = ".*?".join(re.escape(part) for part in line.split(ANYTHING))
        pattern += r"(?:.*\n)*?" if line.strip() == ANYTHING else inner + "\n"
    return re.fullmatch(pattern, "".join(line + "\n" for line in shape(printed))) is not None


def faults(steps: Sequence[Step], printed: Sequence[Printed]) -> list[str]:
    """Where a page is wrong: a command that failed though no `echo $?` asks for its code, or other output than shown."""
    found = []
    for number, (step, got) in enumerate(zip(steps, printed, strict=False)):
        asked = number + 1 < len(steps) and steps[number + 1].command == "echo $?"
        said = "\n".join(got.lines)
        if got.code != 0 and not asked:
            found.append(f"line {step.line}: `{step.command}` ended with {got.code}:\n{said}")
        elif not same(step.shown, got.lines):
            shown = "\n".join(step.shown)
            found.append(f"line {step.line}: `{step.command}` printed\n{said}\nbut the page shows\n{shown}")
    if len(printed) < len(steps):
        found.append(f"line {steps[len(printed)].line}: `{steps[len(printed)].command}` did not end")
    return found
