"""`MAX_REVENUE_SPLITS`: how many parties may share a payment, as the process is told."""

from pathlib import Path

import pytest

from reconciler.cli import main
from reconciler.cli.checking import repository
from reconciler.model.errors import Refused
from reconciler.settings import load

KEY = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"
POLICY = f"""\
apiVersion: overlay.bsv/v1alpha1
kind: PaymentPolicy
metadata: {{name: p}}
spec:
  splits: {{producer: "0.8", one: "0.1", two: "0.1"}}
  parties: {{one: {{identityKey: {KEY}}}, two: {{script: "51"}}}}
"""


@pytest.mark.row("P-PAY-27", "P-CFG-05")
def test_the_environment_says_how_many_may_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)

    def told() -> list[str]:
        main.flags(directory=tmp_path)
        try:
            return [one.message for one in repository().load("").diagnostics]
        finally:
            main.flags()

    assert told() == []
    monkeypatch.setenv("MAX_REVENUE_SPLITS", "2")
    assert told() == ["3 parties share, more than 2"] and load(tmp_path).revenue_splits == 2
    for wrong in ("0", "many", "101", "-1"):
        monkeypatch.setenv("MAX_REVENUE_SPLITS", wrong)
        with pytest.raises(Refused, match=f"cannot read MAX_REVENUE_SPLITS: '{wrong}' is no number from 1 to 100"):
            load(tmp_path)
