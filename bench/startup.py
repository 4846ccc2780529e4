"""What it costs to start: processor time of a whole process against that of a Python that does nothing."""

from __future__ import annotations

from bench.measure import ROOT, Verdict, Weight, alternately, python, title, weigh

ROUNDS = 9


def main() -> list[Verdict]:
    """Median of nine turns each."""
    title("Start-up: whole processes, median of 9")
    bare, overview, valid = alternately(
        ROUNDS,
        lambda: weigh(python("-c", "pass")),
        lambda: weigh(python("-m", "reconciler", "--help")),
        lambda: weigh(python("-m", "reconciler", "validate", ROOT / "examples/01-identity")),
    )
    for name, weight in (("python -c pass", bare), ("reconciler --help", overview), ("reconciler validate", valid)):
        print(f"  {name:<24}{weight}")
    return [
        _verdict("start: reconciler --help", overview, bare, 6),
        _verdict("start: validate examples/01-identity", valid, bare, 15),
    ]


def _verdict(what: str, ours: Weight, bare: Weight, goal: float) -> Verdict:
    return Verdict(
        what, f"{ours.cpu * 1e3:.0f} ms cpu", f"python -c pass {bare.cpu * 1e3:.0f} ms", ours.cpu / bare.cpu, goal, True
    )
