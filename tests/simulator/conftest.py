"""What the seeds of a whole test run met, printed at its end: worker processes hand their sums to whoever prints."""

import pytest

from tests.simulator.tally import Tally


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One table over all chunks."""
    whole = Tally()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "tally" and report.when == "call":
                    whole.merge(Tally.parse(value))
    if whole.seeds:
        terminalreporter.section("simulator")
        for name, told in whole.rows():
            terminalreporter.write_line(f"{name:.<40} {told}")
