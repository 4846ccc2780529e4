"""What there is to know: `explain`, `schema`, `build`, `version`, `completion`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS

if TYPE_CHECKING:
    from reconciler.manifest.describe import FieldDoc
    from reconciler.model.resource import Lifecycle, Resource

# Columns of running text.
_WIDTH = 100


def explain(
    topic: Annotated[
        str | None, typer.Argument(metavar="KIND[.FIELD]", help="Such as dataset.content.fileSet; without it every kind.")
    ] = None,
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")] = "text",
    price: Annotated[
        str | None, typer.Option("--price", metavar="KIND/NAME", help="Instead: what units of a PricePlan or a Dataset cost.")
    ] = None,
    units: Annotated[int, typer.Option("--units", metavar="N", min=0, help="With --price: how many are bought.")] = 1,
    used: Annotated[int, typer.Option("--used", metavar="N", min=0, help="With --price: how many the buyer had before.")] = 0,
    tier: Annotated[str | None, typer.Option("--tier", metavar="NAME", help="With --price: the buyer's tier.")] = None,
) -> int:
    """Explain a kind or a field: type, default, rules, examples. It is the schema that validates which speaks.

    With --price, explain an amount: the steps by which a number of units comes to cost what it does.
    """
    from reconciler.manifest.describe import describe
    from reconciler.manifest.schema import packaged

    if price is not None:
        from reconciler.cli.pricing import Purchase, explain_price

        return explain_price(Purchase(price, units, used, tier), form)
    if topic is None:
        kinds = {kind: schema.get("description", "") for kind, schema in packaged().items()}
        if form == "json":
            output.document(kinds)
        else:
            output.data(output.table(list(kinds.items()), ("KIND", "MEANING"), output.style_for(sys.stdout, GLOBALS.colour)))
        return exits.OK
    kind, _, path = topic.partition(".")
    doc = describe(kind, path)
    if form == "json":
        output.document(_as_json(doc))
    else:
        output.data(_explained(doc, output.style_for(sys.stdout, GLOBALS.colour)))
    return exits.OK


def _as_json(doc: FieldDoc) -> Any:
    from dataclasses import asdict

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            plain = {key: kept(inner) for key, inner in value.items()}
            return {
                key: inner for key, inner in plain.items() if inner not in (None, [], False, "") or key in ("default", "required")
            }
        return [kept(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    return kept(asdict(doc))


def _explained(doc: FieldDoc, paint: output.Style) -> str:
    """As kubectl explains: what it is, then the facts, then the fields below it."""
    import textwrap

    from reconciler.manifest.emit import flow

    def wrapped(text: str, indent: int) -> list[str]:
        return textwrap.wrap(text, _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)

    name = f"{doc.kind}.{doc.path}" if doc.path else doc.kind
    lines = [
        f"{paint('bold', name)}  {doc.type}{'  required' if doc.required and doc.path else ''}",
        *wrapped(doc.description, 2),
    ]
    facts = {
        "default": None if doc.default is None else flow(doc.default),
        "if omitted": doc.source,
        "refers to": doc.reference and ("any kind" if doc.reference == "*" else doc.reference),
        "unit": doc.unit,
        "rule": doc.rule,
        "immutable": "a change makes the thing anew" if doc.immutable else None,
        "no effect yet": flow(list(doc.inert)) if doc.inert else None,
    }
    lines += [f"  {paint('dim', f'{label}:')} {value}" for label, value in facts.items() if value]
    if doc.examples and doc.path:
        lines += [f"  {paint('dim', 'examples:')}", *(f"    {flow(one)}" for one in doc.examples[:3])]
    for fields, title in _groups(doc):
        lines += ["", paint("bold", title)]
        for field in fields:
            needed = "  required" if field.required else "" if field.default is None else f"  default {flow(field.default)}"
            lines += [f"  {paint('bold', field.path.rpartition('.')[2])}  {field.type}{needed}", *wrapped(field.description, 6)]
    return "\n".join(lines)


def _groups(doc: FieldDoc) -> list[tuple[tuple[FieldDoc, ...], str]]:
    """The fields below; for a whole kind those of its spec too, because that is what one writes."""
    from reconciler.manifest.describe import describe

    if not doc.fields:
        return []
    below = [(doc.fields, "FIELDS")]
    return below if doc.path else [*below, (describe(doc.kind, "spec").fields, "FIELDS OF SPEC")]


def schema(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="One kind; all of them in one schema if omitted.")] = None,
    form: Annotated[Literal["json", "yaml"], typer.Option("-o", "--output", help="How it is written.")] = "json",
) -> int:
    """Print the JSON Schema (2020-12) that editors and validate use."""
    from reconciler.manifest import describe
    from reconciler.manifest.schema import combined, packaged

    output.document(describe.schema(kind) if kind else combined(packaged()), form)
    return exits.OK


def build(
    environment: Annotated[str | None, typer.Option("-e", "--env", help="Apply the patches of overlays/ENV.")] = None,
    form: Annotated[Literal["yaml", "json"], typer.Option("-o", "--output", help="How it is written.")] = "yaml",
) -> int:
    """Print every manifest as the planner sees it: patches merged, defaults filled, units canonical. Secrets stay references."""
    from reconciler.cli.checking import repository, show

    if environment is not None:
        GLOBALS.environment = environment
    repo = repository()
    loaded = repo.load(repo.environment)
    show((*repo.faults, *loaded.diagnostics), repo.texts)
    if loaded.desired is None or repo.faults:
        return exits.ERROR
    documents = [_document(one) for _, one in sorted(loaded.desired.resources.items())]
    if form == "json":
        output.document(documents)
    else:
        from reconciler.manifest.scaffold import to_yaml

        output.data("---\n".join(to_yaml(one) for one in documents))
    return exits.OK


def _document(resource: Resource) -> dict[str, Any]:
    from reconciler.manifest.schema import API_VERSION

    labels = {"labels": dict(resource.labels)} if resource.labels else {}
    lifecycle = _lifecycle(resource.lifecycle)
    return {
        "apiVersion": API_VERSION,
        "kind": resource.ref.kind,
        "metadata": {"name": resource.ref.name, **labels},
        "spec": dict(resource.spec),
        **({"lifecycle": lifecycle} if lifecycle else {}),
    }


def _lifecycle(block: Lifecycle) -> dict[str, Any]:
    """The block as a manifest writes it, without what is as it would be anyway."""
    from reconciler.model.resource import Lifecycle

    plain = Lifecycle()
    drift: dict[str, Any] = {} if block.correct_drift else {"correct": "never"}
    drift |= {"ignore": list(block.ignore)} if block.ignore else {}
    said: dict[str, Any] = {
        "dependsOn": [{"kind": ref.kind, "name": ref.name} for ref in block.depends_on],
        "deletionPolicy": block.deletion_policy.value if block.deletion_policy is not plain.deletion_policy else None,
        "prune": block.prune.value if block.prune is not plain.prune else None,
        "drift": drift,
        "suspend": block.suspend
        and {"reason": block.suspend.reason, **({"until": block.suspend.until} if block.suspend.until else {})},
        "maxSpend": block.max_spend,
        "adopt": block.adopt or None,
    }
    return {key: value for key, value in said.items() if value not in (None, [], {})}


def version(form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How it is written.")] = "text") -> int:
    """Show the versions of the program, of Python and of the machine."""
    import platform

    from reconciler import __version__
    from reconciler.manifest.schema import API_VERSION

    facts = {"reconciler": __version__, "api": API_VERSION, "python": platform.python_version(), "platform": platform.platform()}
    if form == "json":
        output.document(facts)
    else:
        output.data(f"reconciler {__version__} (api {API_VERSION}, Python {facts['python']}, {facts['platform']})")
    return exits.OK


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Which shell.")]) -> int:
    """Print the completion script of a shell: eval "$(reconciler completion bash)"."""
    import importlib

    # typer makes the script but does not name the function among its own.
    made = importlib.import_module("typer.completion").get_completion_script
    output.data(made(prog_name="reconciler", complete_var="_RECONCILER_COMPLETE", shell=shell))
    return exits.OK
