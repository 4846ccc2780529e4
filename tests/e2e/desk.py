"""A small producer's repository that keeps being edited: the market-data example with two years of it, and passing extras.

It knows what every edit ought to lead to, without asking the program: which resources get a new version, and which go.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

PASSPHRASE = "correct horse battery staple"
EXAMPLE = Path(__file__).parents[2] / "examples" / "market-data"
YEARS = (2023, 2024)
# Guards count a share of deletions from ten records on; the desk stays below.
MOST_EXTRAS = 3
STANDING = ("Identity/fx-desk", "Dataset/fx-2024", "Dataset/fx-history", "Advertisement/fx-feed")
EXTRA = """\
apiVersion: overlay.bsv/v1alpha1
kind: Dataset
metadata: {{name: {name}}}
# A daemon, too, may retire it.
lifecycle: {{prune: auto}}
spec:
  identityRef: fx-desk
  networkRef: devnet
  content: {{file: data/{name}.csv}}
  title: Passing {name}
  license: CC0-1.0
  pricePlanRef: per-file
  replicas: 2
"""


class Desk:
    """The repository and its owner. After `edit`: `command` makes it so, `touched` get a version, `retired` lose theirs."""

    def __init__(self, root: Path, rng: random.Random, network: str) -> None:
        self.root, self.rng = root, rng
        self.subjects: set[str] = set()
        self.touched: set[str] = set()
        self.retired: set[str] = set()
        # How often each content was corrupted on a host, which is how many more objects of it there are.
        self.spoilt: Counter[tuple[str, str]] = Counter()
        self.command = "apply"
        self.extras: list[str] = []
        self._count = 0
        (root / "data").mkdir(parents=True)
        for path in sorted(EXAMPLE.glob("*.yaml")):
            (root / path.name).write_text(path.read_text().replace("networkRef: local", "networkRef: devnet"))
        for year in YEARS:
            shutil.copy(EXAMPLE / "data" / f"fx-{year}.csv", root / "data")
        (root / "network.yaml").write_text(network + '  ack: all\n  gateway: {publicUrl: "https://fx.example.com"}\n')

    @property
    def contents(self) -> set[str]:
        """SHA-256 of every content file that is declared now; nothing while nothing is."""
        return (
            {hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.root / "data").iterdir()} if self.subjects else set()
        )

    def edit(self, damage: Callable[[], str]) -> list[str]:
        """Change one or two things, and now and then let the network lose something; what was done, in words."""
        self.touched, self.retired, self._count = set(), set(), self._count + 1
        if not self.subjects:
            self.command = "apply"
            self.subjects = {*STANDING, *(f"Dataset/{name}" for name in self.extras)}
            self.touched = set(self.subjects)
            return ["everything anew"]
        if self._count > 3 and self.rng.random() < 0.06:
            self.command, self.retired, self.subjects = "destroy", self.subjects, set()
            return ["everything retired"]
        edits = [self._price, self._rows, self._rows, self._title, self._profile, self._feed, self._add, self._remove]
        done = [edit() for edit in self.rng.sample(edits, self.rng.choice((1, 1, 2)))]
        self.touched &= self.subjects
        return [*done, damage()] if self.rng.random() < 0.4 else done

    def forget(self, host: str) -> None:
        """A storage host lost everything, spoilt copies as well."""
        for key in [key for key in self.spoilt if key[0] == host]:
            del self.spoilt[key]

    # --- edits: each says what it did ----------------------------------------------------------------------------

    def _change(self, file: str, pattern: str, text: str) -> None:
        path = self.root / file
        changed, hits = re.subn(pattern, text, path.read_text(), count=1, flags=re.MULTILINE)
        assert hits == 1, f"{pattern} is not in {file}"
        path.write_text(changed)

    def _price(self) -> str:
        self._change("prices.yaml", r"rate: \d+sat", f"rate: {2500 + self._count}sat")
        self.touched |= {subject for subject in self.subjects if not subject.startswith("Identity/")}
        return "new price"

    def _rows(self) -> str:
        year = self.rng.choice(YEARS)
        with (self.root / "data" / f"fx-{year}.csv").open("a") as file:
            file.write(f"{year + 1}-01-01,{','.join(str(self.rng.random())[:7] for _ in range(12))}\n")
        self.touched |= {"Dataset/fx-history"} | ({"Dataset/fx-2024"} if year == 2024 else set())
        return f"rows in {year}"

    def _title(self) -> str:
        self._change(
            "datasets.yaml", r"title: Euro reference rates 2024.*$", f"title: Euro reference rates 2024, edition {self._count}"
        )
        self.touched.add("Dataset/fx-2024")
        return "new title"

    def _profile(self) -> str:
        self._change("identity.yaml", r"description: .*$", f"description: Daily rates, notice {self._count}")
        self.touched.add("Identity/fx-desk")
        return "new profile"

    def _feed(self) -> str:
        self._change("feed.yaml", r'target: "[^"]*"', f'target: "99.{self._count}%"')
        self.touched.add("Advertisement/fx-feed")
        return "new terms"

    def _add(self) -> str:
        if len(self.extras) >= MOST_EXTRAS:
            return self._remove()
        name = f"extra-{self._count}"
        (self.root / "data" / f"{name}.csv").write_text(f"name,value\n{name},{self.rng.random()}\n")
        (self.root / f"{name}.yaml").write_text(EXTRA.format(name=name))
        self.extras.append(name)
        self.subjects.add(f"Dataset/{name}")
        self.touched.add(f"Dataset/{name}")
        return f"{name} added"

    def _remove(self) -> str:
        # What was declared in this very edit was never published, so it cannot be retired.
        names = [name for name in self.extras if name != f"extra-{self._count}"]
        if not names:
            return self._feed()
        name = names[0]
        self.extras.remove(name)
        for path in (self.root / f"{name}.yaml", self.root / "data" / f"{name}.csv"):
            path.unlink()
        self.subjects.remove(f"Dataset/{name}")
        self.retired.add(f"Dataset/{name}")
        return f"{name} removed"
