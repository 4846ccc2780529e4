"""octoDNS as a peer: as many records in as many files, planned by its own Manager against a provider in memory.

The source is its YamlProvider. The target stands where a DNS host would: its records were fetched beforehand into one
JSON file, and every plan turns them into records with `Record.new`, as each provider of octoDNS does with the answers of
its API. No network is measured on either side.

    python bench/octo.py CONFIG ROUNDS        seconds of one sync after another in one process, as JSON lines
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from octodns.provider.base import BaseProvider
from octodns.record import Record

PER_FILE = 100


class Host(BaseProvider):  # type: ignore[misc]
    """A DNS host whose zones are at hand."""

    SUPPORTS_GEO = False
    SUPPORTS_DYNAMIC = False
    SUPPORTS = frozenset(("A", "CNAME", "MX", "TXT"))

    def __init__(self, name: str, path: str) -> None:
        self.log = logging.getLogger(name)
        super().__init__(name)
        self._path, self._zones = Path(path), dict[str, Any]()

    def populate(self, zone: Any, target: bool = False, lenient: bool = False) -> bool:
        if not self._zones:
            self._zones = json.loads(self._path.read_text())
        for name, data in self._zones[zone.name]:
            zone.add_record(Record.new(zone, name, data, source=self, lenient=lenient), lenient=lenient)
        return True


def record(number: int, moved: bool) -> dict[str, Any]:
    """One of the records people have most; `moved` gives it another time to live."""
    ttl = 600 if moved else 300
    kinds: tuple[dict[str, Any], ...] = (
        {"type": "A", "ttl": ttl, "values": [f"10.{number >> 8 & 255}.{number & 255}.1", f"10.{number >> 8 & 255}.{number & 255}.2"]},
        {"type": "CNAME", "ttl": ttl, "value": f"target-{number}.example.net."},
        {"type": "TXT", "ttl": ttl, "values": [f"set {number} of the made-up records", "license=CC0-1.0"]},
        {"type": "MX", "ttl": ttl, "values": [{"exchange": f"mx{n}.example.net.", "preference": n * 10} for n in (1, 2)]},
    )
    return kinds[number % len(kinds)]


def zones(count: int, moved: int = 0) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """`count` records in zones of PER_FILE; each `moved`-th one differs, none with 0."""
    for first in range(0, count, PER_FILE):
        numbers = range(first, min(first + PER_FILE, count))
        held = [(f"r{number:05}", record(number, bool(moved) and number % moved == 0)) for number in numbers]
        yield f"zone-{first // PER_FILE:04}.example.com.", held


def write(root: Path, count: int) -> Path:
    """A configuration of `count` records that agree with the host; returns its path."""
    (root / "zones").mkdir(parents=True)
    declare(root, count)
    (root / "host.json").write_text(json.dumps(dict(zones(count))))
    config = {
        "manager": {"max_workers": 1},
        "providers": {
            "config": {"class": "octodns.provider.yaml.YamlProvider", "directory": str(root / "zones"), "enforce_order": False},
            "host": {"class": "bench.octo.Host", "path": str(root / "host.json")},
        },
        "zones": {name: {"sources": ["config"], "targets": ["host"]} for name, _ in zones(count)},
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def declare(root: Path, count: int, moved: int = 0) -> None:
    """Write the zone files."""
    for name, held in zones(count, moved):
        (root / "zones" / f"{name}yaml").write_text(yaml.safe_dump(dict(held), sort_keys=False))


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
