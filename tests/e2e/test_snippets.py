"""Every session in the documentation is typed into a shell, and what it prints is what the page shows."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import warm
from tests.e2e.pages import PAGES, ROOT, Printed, Session, Step, copied, faults, same, sessions, shape, type_in

LIVE = {page.relative_to(ROOT).as_posix(): found for page in PAGES if (found := sessions(page.read_text("utf-8")))}


@pytest.fixture(scope="module")
def tools() -> Iterator[Path]:
    """A directory for $PATH where `reconciler` is the real program, loaded once."""
    with tempfile.TemporaryDirectory(prefix="pages-") as folder:
        door = Path(folder) / "door"
        server = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.e2e.warm", str(door)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            warm.client(Path(folder) / "reconciler", door)
            yield Path(folder)
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # and whatever a page left running
            server.communicate()


@pytest.mark.row("P-DOD-18")
@pytest.mark.parametrize("page", LIVE)
def test_a_page_shows_what_the_program_prints(page: str, tools: Path, tmp_path: Path) -> None:
    wrong = []
    for number, session in enumerate(LIVE[page]):
        into = tmp_path / str(number)
        into.mkdir()
        with copied(session.folder, into) as (at, env):
            wrong += faults(session.steps, type_in(session.steps, at, env, tools))
    assert wrong == [], "\n\n".join(wrong)


def test_what_a_newcomer_reads_first_is_executed() -> None:
    examples = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*/README.md")}
    assert {"README.md", "docs/tutorial/market-data.md", "docs/tutorial/operator.md", *examples} <= LIVE.keys()


# --- the reader and the judge --------------------------------------------------------------------

PAGE = """\
# A page

```console run examples/01-identity
$ reconciler version
reconciler …

$ cat <<END
> two
> END
two
```

Words.

```python run
print("three")
```

```text output
three
```

```console
$ not this
```
"""


def test_a_page_is_read_as_it_is_typed() -> None:
    first, second = ("reconciler version", ("reconciler …",), 4), ("cat <<END\ntwo\nEND", ("two",), 7)
    third = ("python - <<'PROGRAM'\nprint(\"three\")\nPROGRAM", ("three",), 16)
    assert sessions(PAGE) == [Session("examples/01-identity", (Step(*first), Step(*second), Step(*third)))]


def test_a_session_runs_in_a_copy_with_one_shell(tools: Path, tmp_path: Path) -> None:
    (session,) = sessions(PAGE)
    steps = [*session.steps, Step("WORD=kept", (), 0), Step("echo $WORD; pwd; false", (), 0), Step("echo $?", (), 0)]
    with copied(session.folder, tmp_path) as (at, env):
        printed = type_in(steps, at, env, tools)
        assert "127.0.0.1:90" not in (at / "network.yaml").read_text()
    assert printed[0].lines[0].startswith("reconciler ")
    assert printed[1:3] == [Printed(("two",), 0), Printed(("three",), 0)]
    assert printed[4:] == [Printed(("kept", "~/01-identity"), 1), Printed(("1",), 0)]


def test_what_differs_by_nature_is_no_difference() -> None:
    shown = ["[1/2] PricePlan/a   recorded  0.0s", "[2/2] Dataset/b  sent eea3b827…  1.1s", "…", "height 9, process 12"]
    printed = ["[1/2] Dataset/b  sent 00a3b827…  12.3s", "[2/2] PricePlan/a  recorded  0.1s", "x", "y", "height 9, process 7"]
    assert same(shown, printed)
    assert shape(["  cost  fee 48 sat"]) == ["  cost  fee 48 sat"]


@pytest.mark.parametrize(
    "printed",
    [["cost 59 sat"], ["cost 58 sat", "more"], [], ["Cost 58 sat"], ["  cost 58 sat"]],
)
def test_what_differs_in_fact_is_noticed(printed: list[str]) -> None:
    assert same(["cost 58 sat"], ["cost 58 sat"])
    assert not same(["cost 58 sat"], printed)


def test_a_code_that_nobody_asked_for_and_a_missing_end_are_faults() -> None:
    steps = [Step("a", (), 1), Step("b", (), 2), Step("echo $?", ("4",), 3), Step("c", (), 4)]
    assert faults(steps, [Printed((), 1), Printed((), 4), Printed(("4",), 0)]) == [
        "line 1: `a` ended with 1:\n",
        "line 4: `c` did not end",
    ]
