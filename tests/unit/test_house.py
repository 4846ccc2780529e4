"""The house rules of docs/explanation/architecture.md, read from the AST. A rule that is not here is a wish."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "reconciler"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Imports point down, never up or sideways. A room is the first path component below the package.
LAYER = {
    "model": 0,
    "controller": 1, "ports": 1, "hosts": 1, "trade": 1, "web": 1,
    "planner": 2, "manifest": 2, "wire": 2,
    "kinds": 3,
    "engine": 4, "sales": 4, "consumer": 4,
    "adapters": 5, "devnet": 5, "gateway": 5,
    "compose": 6, "settings": 6, "doors": 6,
    "cli": 7, "__main__": 7,
    "telemetry": 0,
    "__init__": 0,
}  # fmt: skip
# Named exceptions, each with its reason.
SIDEWAYS = {
    ("devnet", "adapters"),  # the devnet builds worlds out of real adapters
    ("controller", "ports"),  # `observe` is given the read half of the ports
    ("ports", "hosts"),  # one interface in two files: the doors to storage hosts have one of their own
    ("ports", "trade"),  # likewise the rows of sales
    ("sales", "engine"),  # one road to the chain, and one journal
    ("consumer", "engine"),
    ("compose", "settings"),
    ("compose", "doors"),
    ("doors", "settings"),
    ("__main__", "cli"),
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
# Third-party libraries and the only rooms that may import them.
ONLY_IN = {
    "httpx": {"adapters", "devnet"},
    "sqlmodel": {"adapters"},
    "sqlalchemy": {"adapters"},
    "sqlite3": {"adapters"},
    "watchfiles": {"adapters"},
    "apscheduler": {"adapters"},
    "cryptography": {"adapters"},
    "starlette": {"devnet", "gateway"},
    "uvicorn": {"devnet", "gateway"},
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "segno": {"cli"},
    "coincurve": {"wire"},
    "bitcoinx": {"wire"},
    "yaml": {"manifest"},
    "jsonschema": {"manifest"},
    "jsonschema_rs": {"manifest"},
    "prometheus_client": {"telemetry"},
}
# Layers 0-3 are pure: no socket, file, thread, wall clock or randomness.
IMPURE = {"socket", "threading", "subprocess", "random", "secrets", "time", "tempfile", "shutil", "asyncio", "os"}
PURE_ROOMS = {"model", "controller", "ports", "trade", "planner", "manifest", "wire", "kinds"}
MAX_LINES = 400
MAX_FUNCTION = 60


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def only_for_types(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:` imports nothing when the program runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node of the module that exists when the program runs."""
    for child in ast.iter_child_nodes(node):
        if not only_for_types(child):
            yield child
            yield from running(child)


def imports(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in running(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.module, node.lineno))
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}:{node.lineno}: relative import"
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_obeys_the_house(path: Path) -> None:
    here = room(path)
    faults = []
    assert here in LAYER, f"{here} has no layer: add it to the house on purpose"
    for name, line in imports(path):
        first, *rest = name.split(".")
        if first == "reconciler":
            there = rest[0] if rest else "__init__"
            if there == here or there not in LAYER or (here, there) in SIDEWAYS:
                continue
            if LAYER[there] >= LAYER[here]:
                faults.append(f"{path.name}:{line}: {here} (layer {LAYER[here]}) imports {there} (layer {LAYER[there]})")
        elif first in ONLY_IN and here not in ONLY_IN[first]:
            faults.append(f"{path.name}:{line}: {first} may be imported only in {sorted(ONLY_IN[first])}")
        elif here in PURE_ROOMS and first in IMPURE:
            faults.append(f"{path.name}:{line}: {here} is pure and may not import {first}")
    lines = path.read_text().count("\n")
    if lines > MAX_LINES:
        faults.append(f"{path.name}: {lines} lines; more than {MAX_LINES} is two ideas")
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                faults.append(f"{path.name}:{node.lineno}: {node.name} has {length} lines")
    stems = set(path.relative_to(PACKAGE).with_suffix("").parts)
    faults += [f"{path}: forbidden name {stem}" for stem in stems & FORBIDDEN_NAMES]
    assert not faults, "\n".join(faults)


def wall_clock_calls(path: Path) -> list[str]:
    calls = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            text = ast.unparse(node.func)
            if text in {"datetime.now", "datetime.utcnow", "time.time", "date.today", "datetime.datetime.now"}:
                calls.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text}")
    return calls


def test_only_the_clock_adapter_reads_the_wall_clock() -> None:
    allowed = {PACKAGE / "adapters" / "clock.py"}
    assert [call for path in MODULES if path not in allowed for call in wall_clock_calls(path)] == []


def test_every_public_module_class_and_function_says_what_holds() -> None:
    silent = []
    for path in MODULES:
        if not ast.get_docstring(tree(path)):
            silent.append(str(path.relative_to(ROOT)))
        for node in tree(path).body:
            public = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}")
    assert silent == []


def test_the_top_level_is_the_one_the_design_names() -> None:
    allowed = {
        "pyproject.toml", "constraints.txt", "reconciler", "specs", "examples", "tests", "systemd", "Makefile", "docs", "changes",
        "bench", "README.md", "LICENSE", "NOTICE", "CONTRIBUTING.md", "CHANGELOG.md", ".ci", ".git", ".gitignore", ".venv",
        ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis",
    }  # fmt: skip
    assert {entry.name for entry in ROOT.iterdir()} - allowed == set()
