"""The program's entry: `reconciler` and `python -m reconciler`."""

from __future__ import annotations

import gc
import sys

# Objects made before garbage is looked for. Almost nothing here is garbage: with Python's own 700, a load of ten thousand
# manifests spends as long walking what it has read as reading it.
QUIET = (100_000, 50, 100)


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(*QUIET)
    if sys.argv[1:] in (["--help"], ["-h"]):
        sys.stdout.write(overview())
        return
    if sys.argv[1:2] == ["validate"]:
        from reconciler.cli.quick import validate

        if (code := validate(sys.argv[2:])) is not None:
            sys.exit(code)
    from reconciler.cli.main import run

    sys.exit(run(sys.argv[1:]))


def overview() -> str:
    """What `--help` prints, from a file: importing what could compose it takes ten times as long as Python takes to start."""
    with open(__file__.rpartition("__main__")[0] + "cli/help.txt", encoding="utf-8") as text:  # noqa: PTH123 - no pathlib either
        return text.read()


if __name__ == "__main__":
    main()
