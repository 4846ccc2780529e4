"""octoDNS as a peer: as many records in one zone, planned by its own Manager against a provider in memory.

One zone, because the zone is what octoDNS plans as a whole and compares within. The source is its YamlProvider. The target
stands where a DNS host would: its records were fetched beforehand into one JSON file, and every plan turns them into records
with `Record.new`, as each provider of octoDNS does with the answers of its API. No network is measured on either side.

    python bench/octo.py CONFIG ROUNDS        seconds of one sync after another in one process, as JSON lines
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from octodns.provider.base import BaseProvider
from octodns.record import Record

ZONE = "example.com."


class Host(BaseProvider):  # type: ignore[misc]
    """A DNS host whose records are at hand."""

    SUPPORTS_GEO = False
    SUPPORTS_DYNAMIC = False
    SUPPORTS = frozenset(("A", "CNAME", "MX", "TXT"))

    def __init__(self, name: str, path: str) -> None:
        self.log = logging.getLogger(name)
        super().__init__(name)
        self._path, self._held = Path(path), dict[str, Any]()

    def populate(self, zone: Any, target: bool = False, lenient: bool = False) -> bool:
        if not self._held:
            self._held = json.loads(self._path.read_text())
        for name, data in self._held.items():
            zone.add_record(Record.new(zone, name, data, source=self, lenient=lenient), lenient=lenient)
        return True


def record(number: int, moved: bool) -> dict[str, Any]:
    """One of the records people have most; `moved` gives it another time to live."""
    ttl = 600 if moved else 300
    kinds: tuple[dict[str, Any], ...] = (
        {
            "type": "A",
            "ttl": ttl,
            "values": [f"10.{number >> 8 & 255}.{number & 255}.1", f"10.{number >> 8 & 255}.{number & 255}.2"],
        },
        {"type": "CNAME", "ttl": ttl, "value": f"target-{number}.example.net."},
        {"type": "TXT", "ttl": ttl, "values": [f"set {number} of the made-up records", "license=CC0-1.0"]},
        {"type": "MX", "ttl": ttl, "values": [{"exchange": f"mx{n}.example.net.", "preference": n * 10} for n in (1, 2)]},
    )
    return kinds[number % len(kinds)]


def records(count: int, moved: int = 0) -> dict[str, dict[str, Any]]:
    """`count` records by name; each `moved`-th one differs, none with 0."""
    return {f"r{number:05}": record(number, bool(moved) and number % moved == 0) for number in range(count)}


def write(root: Path, count: int) -> Path:
    """A configuration of `count` records that agree with the host; returns its path."""
    (root / "zones").mkdir(parents=True)
    declare(root, count)
    (root / "host.json").write_text(json.dumps(records(count)))
    config = {
        "manager": {"max_workers": 1},
        "providers": {
            "config": {"class": "octodns.provider.yaml.YamlProvider", "directory": str(root / "zones"), "enforce_order": False},
            "host": {"class": "bench.octo.Host", "path": str(root / "host.json")},
        },
        "zones": {ZONE: {"sources": ["config"], "targets": ["host"]}},
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def declare(root: Path, count: int, moved: int = 0) -> None:
    """Write the zone file."""
    (root / "zones" / f"{ZONE}yaml").write_text(yaml.safe_dump(records(count, moved), sort_keys=False))


def main() -> None:
    """Sync again and again, without doing anything, and say how long each pass took."""
    from octodns.manager import Manager

    logging.disable(logging.CRITICAL)
    manager = Manager(sys.argv[1])
    for _ in range(int(sys.argv[2]) + 1):
        start, used = time.perf_counter(), time.process_time()
        manager.sync()
        print(json.dumps({"wall": time.perf_counter() - start, "cpu": time.process_time() - used}), flush=True)


if __name__ == "__main__":
    main()
