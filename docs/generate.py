"""Writes the pages that the sources already know: reference of kinds, settings, verbs, errors; decisions; coverage of rows.

`python docs/generate.py` writes them; `pages()` returns them, so that a test can say when they are stale.
"""

from __future__ import annotations

import ast
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # this file is run, and loaded by a test, from elsewhere

from code_pages import code_pages  # noqa: E402
from http_page import http_page, openapi_text  # noqa: E402

from reconciler.manifest.schema import COMBINED, combined, packaged  # noqa: E402

ROOT = DOCS.parent
KINDS = DOCS / "reference" / "kinds"
DECISIONS = DOCS / "decisions"
GENERATED = "<!-- Written by docs/generate.py; edit the source it names, then run `make docs`. -->\n"
Schema = Mapping[str, Any]

SECTIONS = {
    "S": "Overclaims, and what is built instead",
    "P-ID": "Identity",
    "P-REG": "Registration",
    "P-AD": "Advertisement",
    "P-PUB": "Publishing",
    "P-STR": "Streams",
    "P-DIST": "Distribution",
    "P-PAY": "Payment",
    "P-LKP": "Lookup",
    "P-AN": "Analytics",
    "P-DASH": "Dashboard and customers",
    "P-CFG": "Configuration",
    "P-API": "Calls from code",
    "P-DB": "What is stored about a producer",
    "P-DOD": "Definition of done",
    "P-TEST": "Tests asked for",
    "P-RISK": "Risks",
    "P-SEC": "Security",
    "P-PERF": "Performance",
    "P-EX": "Examples",
    "P-TRB": "Trouble",
    "P-DEP": "Dependencies",
    "C": "Consumer",
    "E": "Producer and consumer together",
    "RT": "Real-time packets",
    "EV": "Events and certification",
    "K": "Constraints, and how they were settled",
}


def pages() -> dict[Path, str]:
    """Every generated page, by path."""
    schemas = {path: json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "specs").glob("*.v1alpha1.json"))}
    made = {KINDS / f"{schema['title'].lower()}.md": kind_page(path.name, schema) for path, schema in schemas.items()}
    made[KINDS / "README.md"] = envelope_page(list(schemas.values()))
    settings = ROOT / "specs" / "reconciler.schema.json"
    made[DOCS / "reference" / "settings.md"] = settings_page(settings.name, json.loads(settings.read_text("utf-8")))
    made |= {DOCS / "reference" / name: GENERATED + text for name, text in code_pages().items()}
    made[DOCS / "reference" / "http.md"] = GENERATED + http_page()
    made[ROOT / "specs" / "openapi.json"] = openapi_text()
    made[ROOT / "specs" / COMBINED] = json.dumps(combined(packaged()), indent=2, ensure_ascii=False) + "\n"
    made[DECISIONS / "README.md"] = decisions_page(sorted(DECISIONS.glob("[0-9]*.md")))
    made[DOCS / "coverage.md"] = coverage_page(rows(DOCS / "rows.tsv"), marks(ROOT / "tests"))
    return made


# --- kinds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """One field of a manifest: dotted path ([] = each item, {} = each key), and its schema with references followed."""

    path: str
    schema: Schema
    required: bool


def follow(schema: Schema, whole: Schema) -> Schema:
    """The schema with a local $ref replaced by what it names; what stands beside the $ref wins."""
    while "$ref" in schema:
        target: Any = whole
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def fields(schema: Schema, whole: Schema, above: str = "") -> Iterator[Field]:
    """Every field below a schema, parents before children, in the order of the file."""
    for name, raw in schema.get("properties", {}).items():
        inner = follow(raw, whole)
        path = f"{above}.{name}" if above else name
        yield Field(path, inner, name in schema.get("required", ()))
        yield from below(inner, whole, path)


def below(schema: Schema, whole: Schema, path: str) -> Iterator[Field]:
    """Fields of an object, of the objects in an array or a map, and of the object among alternatives."""
    yield from fields(schema, whole, path)
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from below(follow(schema[key], whole), whole, path + suffix)
    for other in schema.get("oneOf", ()):
        yield from fields(follow(other, whole), whole, path)


def type_of(schema: Schema, whole: Schema) -> str:
    """The type in words: its JSON type, the values of an enumeration, or what a list holds."""
    if "x-ref" in schema and schema.get("type") == "string":
        return "name of any resource" if schema["x-ref"] == "*" else f"name of {an(schema['x-ref'])}"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if "oneOf" in schema and "type" not in schema:
        return " or ".join(type_of(follow(other, whole), whole) for other in schema["oneOf"])
    kinds = schema.get("type", "any")
    if kinds == "array":
        return f"list of {type_of(follow(schema.get('items', {}), whole), whole)}"
    if kinds == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of name to {type_of(follow(schema['additionalProperties'], whole), whole)}"
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def an(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"


def notes(field: Field) -> str:
    """The description, and after it what an editor cannot see: references, immutability, inheritance, examples."""
    schema = field.schema
    said = [schema.get("description", "").strip()]
    if field.required:
        said.append("**Required.**")
    if schema.get("x-immutable"):
        said.append("Immutable: a change replaces the resource.")
    if "x-inherit" in schema and schema["x-inherit"]["field"] not in said[0]:
        said.append(f"Inherited from `{schema['x-inherit']['field']}` of the `{schema['x-inherit']['via']}`.")
    if "minimum" in schema or "maximum" in schema:
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and high is not None:
            said.append(f"{low} to {high}.")
        elif high is not None:
            said.append(f"At most {high}.")
        elif low:  # "at least 0" is what one expects
            said.append(f"At least {low}.")
    if "x-says" in schema and "x-ref" not in schema and schema["x-says"].lower() not in said[0].lower():
        said.append(f"Must be {schema['x-says']}.")
    if schema.get("x-inert"):
        values = ", ".join(shown(value) for value in schema["x-inert"]) if isinstance(schema["x-inert"], list) else ""
        said.append(f"Accepted, without effect yet{': ' + values if values else ''}.")
    if "x-refused" in schema:
        said.append(f"Refused: {schema['x-refused']}.")
    if "examples" in schema:
        said.append("Such as " + ", ".join(shown(value) for value in schema["examples"][:2]) + ".")
    return " ".join(part for part in said if part).replace("|", "\\|").replace("<", "\\<")


def shown(value: Any) -> str:
    """A value as one would write it in YAML."""
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def table(found: Sequence[Field], whole: Schema) -> str:
    """A Markdown table, one field a row."""
    lines = ["| field | type | unit | default | meaning |", "|---|---|---|---|---|"]
    for field in found:
        default = shown(field.schema["default"]) if "default" in field.schema else ""
        cells = [
            f"`{field.path}`",
            type_of(field.schema, whole),
            str(field.schema.get("x-unit", "")),
            default,
            notes(field),
        ]
        lines.append("| " + " | ".join(cell.replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def kind_page(source: str, schema: Schema) -> str:
    """The reference page of one kind."""
    kind, spec = schema["title"], follow(schema["properties"]["spec"], schema)
    examples = "---\n".join(
        yaml.safe_dump(example, sort_keys=False, default_flow_style=False, allow_unicode=True, width=110)
        for example in schema.get("examples", ())
    )
    rules = sorted({rule["x-says"] for rule in spec.get("dependentSchemas", {}).values() if "x-says" in rule})
    said = "".join(f"- {rule}\n" for rule in rules)
    return (
        f"{GENERATED}# {kind}\n\n{schema['description']}\n\n"
        f"Schema: [`specs/{source}`](../../../specs/{source}). `metadata` and `lifecycle` are the same on every kind: "
        f"[the envelope](README.md).\n\n## Examples\n\n```yaml\n{examples}```\n\n"
        f"## Fields of `spec`\n\n{table(list(fields(spec, schema)), schema)}" + (f"\n## Rules\n\n{said}" if said else "")
    )


def envelope_page(schemas: Sequence[Schema]) -> str:
    """The index of kinds, and the fields that every kind shares."""
    index = "".join(f"| [{schema['title']}]({schema['title'].lower()}.md) | {schema['description']} |\n" for schema in schemas)
    page = (
        f"{GENERATED}# Kinds\n\n| kind | what it is |\n|---|---|\n{index}\n## The envelope\n\n"
        "Every document of every file has it; several documents may stand in one file, with `---` between them.\n"
    )
    for name in ("metadata", "lifecycle"):
        if schemas:
            whole = schemas[0]
            part = follow(whole["properties"][name], whole)
            page += f"\n### `{name}`\n\n{part['description']}\n\n{table(list(fields(part, whole)), whole)}"
    return page


def settings_page(source: str, schema: Schema) -> str:
    """The reference page of the one file that is no manifest."""
    return (
        f"{GENERATED}# `{schema['title']}`\n\n{schema['description']} "
        "It stands at the root of the repository; every field may be left out.\n\n"
        f"Schema: [`specs/{source}`](../../specs/{source}).\n\n{table(list(fields(schema, schema)), schema)}"
    )


def decisions_page(paths: Sequence[Path]) -> str:
    """The list of decisions, by the first line of each."""
    page = f"{GENERATED}# Decisions\n\nEach begins with an example and names the forces, the decision, and what was given up.\n\n"
    for path in paths:
        number, _, title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ").partition(" ")
        page += f"- [{number}]({path.name}) {title}\n"
    return page


# --- coverage ------------------------------------------------------------------------------------


def rows(path: Path) -> dict[str, str]:
    """The inventory: row id -> its text, in order."""
    lines = path.read_text("utf-8").splitlines()[1:]
    return dict(line.split("\t", 1) for line in lines)


def marks(tests: Path) -> dict[str, list[str]]:
    """Row id -> the tests whose `row` marker names it, as `file::test` below the repository, from the syntax tree."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(tests.rglob("test_*.py")):
        where = path.relative_to(tests.parent).as_posix()
        for test, row in marked(ast.parse(path.read_text("utf-8")), where):
            if test not in found[row]:
                found[row].append(test)
    return dict(found)


def marked(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
    """(test, row) pairs below a node; a marker outside any test or class speaks for what encloses it."""
    for child in ast.iter_child_nodes(node):
        inside = where
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and child.name.lower().startswith("test"):
            inside = f"{where}::{child.name}"
        if isinstance(child, ast.Call) and ast.unparse(child.func) == "pytest.mark.row":
            for argument in child.args:
                yield where, str(ast.literal_eval(argument))
        yield from marked(child, inside)


def coverage_page(inventory: Mapping[str, str], shown_by: Mapping[str, Sequence[str]]) -> str:
    """One line a row: the tests that show it, or "not yet"."""
    done = sum(row in shown_by for row in inventory)
    page = [
        GENERATED + "# Coverage\n",
        "What this project has promised, row by row ([rows.tsv](rows.tsv)), and the test that shows it. A row without a test is",
        f"*not yet*, whatever the code may say. **{done} of {len(inventory)} rows are shown.**\n",
        "A test claims a row with the marker `row(ID)`; a test may show several rows, and a row may need several tests.\n",
    ]
    groups: dict[str, list[str]] = defaultdict(list)
    for row in inventory:
        groups[row.rpartition("-")[0]].append(row)
    for prefix, title in SECTIONS.items():
        count = sum(row in shown_by for row in groups[prefix])
        page.append(f"## {title} ({count} of {len(groups[prefix])})\n\n| row | what | shown by |\n|---|---|---|")
        for row in groups[prefix]:
            tests = [link(test) for test in shown_by.get(row, ())]
            page.append(f"| {row} | {cell(inventory[row])} | {', '.join(tests) or 'not yet'} |")
        page.append("")
    return "\n".join(page).rstrip() + "\n"


def link(test: str) -> str:
    """A link from docs/ to the file of a test, named by the test."""
    path, _, name = test.partition("::")
    return f"[{name or Path(path).name}](../{path})"


def cell(text: str) -> str:
    """Text that Markdown leaves alone inside a table."""
    for mark in ("\\", "|", "<", ">", "[", "]", "*", "_"):
        text = text.replace(mark, "\\" + mark)
    return text


def main() -> None:
    """Write every page, and remove pages of kinds that are gone."""
    made = pages()
    KINDS.mkdir(parents=True, exist_ok=True)
    for path in set(KINDS.glob("*.md")) - set(made):
        path.unlink()
    for path, text in made.items():
        path.write_text(text, "utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
