"""What a person sees while changes are carried out: a line per step that matters, and a bar while content leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from reconciler.cli import output
from reconciler.cli.context import GLOBALS

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from reconciler.engine.progress import Progress
    from reconciler.model.plan import Plan

# Uploads below this are over before a line could be read.
WORTH_A_LINE = 64 * 1024
WORTH_A_BAR = 1024 * 1024
# Where there is no terminal for a bar, each tenth of an upload of this size is told.
WORTH_TENTHS = 256 * 1024 * 1024
# What a finished change of this verb was, where its steps do not say it.
_WORDS = {"delete": "retired", "forget": "forgotten", "repair": "repaired", "replace": "replaced", "split": "split"}
_NAME_WIDTH = 26


@dataclass(slots=True)
class _Run:
    """One change while it is carried out."""

    verb: str
    began: float
    parts: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    uploading: int = 0
    replayed: bool = False


@dataclass(slots=True)
class _Upload:
    """A large upload under way: where it stood when it was first heard of, and when, and the last tenth that was told."""

    first: int
    began: float
    tenth: int


@dataclass(slots=True)
class Display:
    """Turns progress into lines. `watch` and `upload` are the hooks that the workspace calls; `mirror` gets every event."""

    stream: TextIO
    lines: bool = True
    mirror: Callable[[Mapping[str, Any]], None] | None = None
    total: int = 0
    # Transactions signed and not yet seen, which is what an interruption has to speak about.
    flying: dict[str, str] = field(default_factory=dict)
    _runs: dict[str, _Run] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _bars: Bars | None = None
    _tasks: dict[tuple[str, int], TaskID] = field(default_factory=dict)
    _large: dict[tuple[str, int], _Upload] = field(default_factory=dict)

    @property
    def paint(self) -> output.Style:
        """Colours for this stream."""
        return output.style_for(self.stream, GLOBALS.colour)

    def expect(self, plan: Plan, done: int = 0) -> None:
        """From here on lines are numbered out of the plan's changes, of which `done` were done before."""
        self.total = len(plan.acting)
        self._numbers = {f"#{index}": index + 1 for index in range(done)}

    def say(self, text: str) -> None:
        """A line above whatever bar there is."""
        if not self.lines:
            return
        if self._bars is not None:
            from rich.text import Text

            self._bars.console.print(Text.from_ansi(text), soft_wrap=True)
        else:
            self.stream.write(text + "\n")
            self.stream.flush()

    # --- steps ----------------------------------------------------------------------------------

    def watch(self, step: Progress) -> None:
        """One step of the engine."""
        if self.mirror is not None:
            detail = {"verb": step.verb, "effect": step.effect, "detail": step.detail}
            self.mirror({"type": step.what, "ref": _name(step.key), **{k: v for k, v in detail.items() if v}})
        if step.what == "run.started":
            self._runs[step.key] = _Run(step.verb, time.monotonic())
            return
        run = self._runs.get(step.key)
        if run is not None and step.what.startswith("effect."):
            self._effect(run, step)
        elif run is not None and step.what.startswith("run."):
            self._ended(run, step)

    def _effect(self, run: _Run, step: Progress) -> None:
        if step.what == "effect.started":
            if step.effect == "Store":
                run.hosts.append(str(step.detail["host"]))
                run.uploading = max(run.uploading, int(step.detail["bytes"]))
            elif run.hosts:
                self._uploaded(run, step.key)
            return
        told = _TOLD.get(step.effect)
        replayed = step.what == "effect.replayed"
        run.replayed = run.replayed or replayed
        if step.effect == "Sign":
            self.flying[step.key] = str(step.detail["txid"])
        elif step.effect == "Broadcast":
            self.flying.pop(step.key, None)
        if told is not None and (part := told(run, step.detail, replayed)):
            run.parts.append(part)

    def _uploaded(self, run: _Run, key: str) -> None:
        from reconciler.planner import phrases

        hosts, size = run.hosts, run.uploading
        run.hosts, run.uploading = [], 0
        if size < WORTH_A_LINE:
            return
        times = f" ×{len(hosts)}" if len(hosts) > 1 else ""
        self._line(key, f"upload {phrases.size(size)}{times} … done", run.began)

    def _ended(self, run: _Run, step: Progress) -> None:
        if run.hosts:
            self._uploaded(run, step.key)
        self._runs.pop(step.key, None)
        self.flying.pop(step.key, None)
        if step.what == "run.done":
            word = _WORDS.get(step.verb)
            parts = ([word] if word else []) + run.parts or ["recorded"]
            self._line(step.key, ", ".join(parts), run.began)
            return
        error = str(step.detail.get("error") or "the world is not ready")
        if step.what == "run.retry":
            self._line(step.key, self.paint("change", f"waits: {error}"), run.began)
        else:
            self._line(step.key, self.paint("bad", f"failed: {error}"), run.began)
        if (hint := step.detail.get("hint")) and step.what != "run.retry":
            self.say(f"{'':<{_NAME_WIDTH + 8}}{self.paint('hint', 'hint')}: {hint}")

    def _line(self, key: str, told: str, began: float) -> None:
        took = self.paint("dim", f"  {time.monotonic() - began:.1f}s")
        self.say(f"{self._number(key)} {_name(key):<{_NAME_WIDTH}} {told}{took}")

    def _number(self, key: str) -> str:
        if not key.startswith("ref/") or not self.total:
            return " " * 5
        number = self._numbers.setdefault(key, len(self._numbers) + 1)
        return f"[{number}/{self.total}]"

    # --- uploads --------------------------------------------------------------------------------

    def upload(self, host: str, sent: int, whole: int) -> None:
        """Bytes left for a host: a bar with bytes and rate on a terminal, elsewhere a line for each tenth of a large upload."""
        if whole >= WORTH_TENTHS:
            self._tenths(host, sent, whole)
        if not self.lines or whole < WORTH_A_BAR or self.paint is output.plain:
            return
        bars = self._bars = self._bars or self._started()
        key = (host, whole)
        if key not in self._tasks:
            self._tasks[key] = bars.add_task(host, total=whole)
        bars.update(self._tasks[key], completed=sent)
        if sent >= whole:
            bars.remove_task(self._tasks.pop(key))
        if not self._tasks:
            self.rest()

    def _tenths(self, host: str, sent: int, whole: int) -> None:
        from reconciler.planner import phrases

        now, tenth = time.monotonic(), sent * 10 // whole
        seen = self._large.setdefault((host, whole), _Upload(sent, now, tenth))
        if tenth == seen.tenth:
            return
        seen.tenth = tenth
        rate = int((sent - seen.first) / max(now - seen.began, 0.001))
        if self.mirror is not None:
            self.mirror({"type": "upload.progress", "host": host, "sent": sent, "bytes": whole, "rate": rate})
        if self.paint is output.plain:
            self.say(f"      upload to {host}: {phrases.size(sent)} of {phrases.size(whole)}, {phrases.size(rate)}/s")
        if sent >= whole:
            del self._large[host, whole]

    def _started(self) -> Bars:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        columns = (TextColumn("      upload to {task.description:<12}"), BarColumn(), DownloadColumn(binary_units=True))
        console = Console(file=self.stream, highlight=False)
        bars = Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, transient=True)
        bars.start()
        return bars

    def rest(self) -> None:
        """No bar any more."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()


def _name(key: str) -> str:
    chain = key.removeprefix("funding/")
    return f"purse on {chain}" if chain != key else key.removeprefix("ref/")


def short(txid: str) -> str:
    """Enough of a transaction id to recognise it."""
    return f"{txid[:8]}…"


def _sent(run: _Run, detail: Mapping[str, Any], replayed: bool) -> str:
    if run.verb == "repair":
        return ""
    return f"{short(detail['txid'])} was sent before" if replayed else f"sent {short(detail['txid'])}"


def _seen(run: _Run, detail: Mapping[str, Any], replayed: bool) -> str:
    confirmed = sorted(name for name, said in detail.items() if said and said.get("confirmed"))
    hosts = ", ".join(confirmed) if len(confirmed) <= 2 else f"{len(confirmed)} hosts"
    if run.verb == "delete":
        return f"gone from {hosts}"
    return f"re-submitted to {hosts} (free)" if run.verb == "repair" else f"seen by {hosts}"


def _made(run: _Run, detail: Mapping[str, Any], replayed: bool) -> str:
    return f"key {detail['publicKey'][:8]}…" if run.verb == "create" else ""


# effect -> what its result says in a few words, if anything.
_TOLD: Mapping[str, Callable[[_Run, Mapping[str, Any], bool], str]] = {
    "Generate": _made,
    "Broadcast": _sent,
    "Submit": _seen,
}


def events_to(sinks: Sequence[TextIO]) -> Callable[[Mapping[str, Any]], None]:
    """A mirror that writes every event as one JSON line, with its time, to every sink."""
    from reconciler.compose import now
    from reconciler.model.codec import encode, timestamp

    def write(event: Mapping[str, Any]) -> None:
        line = json.dumps({"time": timestamp(now()), **encode(dict(event))}, ensure_ascii=False) + "\n"
        for sink in sinks:
            sink.write(line)
            sink.flush()

    return write
