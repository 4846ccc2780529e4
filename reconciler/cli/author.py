"""Verbs of the person who writes manifests: new, set, fmt (and those of starter.py and reference.py)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS

if TYPE_CHECKING:
    from reconciler.cli.checking import Repository
    from reconciler.model.diagnostic import Diagnostic
    from reconciler.model.ref import ResourceRef

_ASSIGNMENT = re.compile(r"(?P<path>.+?)(?P<op>\+=|-=|=)(?P<value>.*)", re.DOTALL)
# What `new` may leave to the author: a missing field, and what a reference or a path will point at later.
_LATER = {"E0108", "E0312", "E0313", "E0402"}


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    from reconciler.cli.reference import build, completion, explain, schema, version
    from reconciler.cli.starter import init

    for verb in (init, new, fmt, explain, schema, build, version, completion):
        app.command()(verb)
    app.command("set")(set_)


def words(text: str | None) -> list[str]:
    """A list as typed: `a,b` or a JSON array of strings; empty for nothing."""
    if not text:
        return []
    if not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a JSON array: {error}") from error
    if not all(isinstance(word, str) for word in found):
        raise typer.BadParameter(f"{text!r} holds something that is not text")
    return list(found)


def _text(help_: str) -> Any:
    return typer.Option(help=help_, show_default=False)


def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Such as dataset, advertisement, priceplan.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="A DNS label; the resource's id everywhere.")],
    assign: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Any field (repeatable).")] = None,
    file: Annotated[str | None, _text("Dataset: the file to publish.")] = None,
    directory: Annotated[str | None, _text("Dataset: publish every file of this directory.")] = None,
    pattern: Annotated[str | None, _text("Dataset: only files of the directory that match, such as *.csv.")] = None,
    title: Annotated[str | None, _text("Dataset: its name for people.")] = None,
    description: Annotated[str | None, _text("What it is, in words.")] = None,
    tags: Annotated[str | None, _text("Dataset: a,b or a JSON array.")] = None,
    price: Annotated[str | None, _text("Dataset: such as 5000sat.")] = None,
    license_: Annotated[str | None, typer.Option("--license", help="Dataset: an SPDX id, or commercial.")] = None,
    replicas: Annotated[int | None, _text("Dataset: how many storage hosts keep a copy.")] = None,
    nodes: Annotated[str | None, _text("DistributionRule: these storage hosts, a,b or a JSON array.")] = None,
    replication: Annotated[int | None, _text("DistributionRule: at least so many copies.")] = None,
    price_plan: Annotated[str | None, _text("Dataset, Advertisement: name of a PricePlan.")] = None,
    model: Annotated[str | None, _text("PricePlan: per-item, per-request, per-minute, subscription, ...")] = None,
    rate: Annotated[str | None, _text("PricePlan: such as 15sat.")] = None,
    service_type: Annotated[str | None, _text("Advertisement: such as data-feed.")] = None,
    capability: Annotated[str | None, _text("Advertisement: the ability buyers search for.")] = None,
    capabilities: Annotated[str | None, _text("Identity: a,b or a JSON array.")] = None,
    regions: Annotated[str | None, _text("Identity, Advertisement: EU,US or a JSON array.")] = None,
    max_consumers: Annotated[int | None, _text("Advertisement: how many at once.")] = None,
    display_name: Annotated[str | None, _text("Identity: the name buyers see.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write or append to; - prints. KIND-NAME.yaml if omitted.")
    ] = None,
) -> int:
    """Write a new manifest. What is needed and was not given stands in it as a comment."""
    from reconciler.manifest import scaffold
    from reconciler.manifest.edit import parse_value

    given = {
        "content.file": file, "content.fileSet.directory": directory, "content.fileSet.pattern": pattern, "title": title,
        "description": description, "tags": words(tags), "price": price, "license": license_, "replicas": replicas,
        "pricePlanRef": price_plan, "model": model, "rate": rate, "serviceType": service_type, "capability": capability,
        "capabilities": words(capabilities), "regions": words(regions), "maxConsumers": max_consumers,
        "displayName": display_name, "nodes": words(nodes), "replicas.min": replication,
    }  # fmt: skip
    values: dict[str, Any] = {path: value for path, value in given.items() if value not in (None, [])}
    for text in assign or ():
        path, op, value = _assignment(text)
        if op != "=":
            raise typer.BadParameter(f"{text!r}: a new manifest has nothing to add to; write =")
        values[path] = parse_value(value)
    text = scaffold.new_manifest(kind, name, values)
    if str(to) == "-":
        output.data(text)
        return exits.OK
    return _add(text, to)


def _add(text: str, to: Path | None) -> int:
    """Put a manifest into the repository unless that would break it by more than what is still to be filled in."""
    from reconciler.cli.checking import repository, show
    from reconciler.manifest import scaffold
    from reconciler.manifest.judge import name_of
    from reconciler.manifest.yaml import parse
    from reconciler.model.errors import Refused

    ref = name_of(parse(text.encode())[0][0].value)
    assert ref is not None
    repo = repository()
    holder = next((file for file, held in _resources(repo) if held == ref), None)
    if holder is not None:
        raise Refused("exists", f"cannot write {ref}: it stands in {holder} already", hint=f"reconciler set {ref} path=value")
    target = (Path.cwd() / to) if to else repo.revision.root / f"{ref.kind.lower()}-{ref.name}.yaml"
    if not target.resolve().is_relative_to(repo.revision.root.resolve()):
        raise Refused("outside", f"cannot write {target}: it lies outside the repository", hint=f"below {repo.revision.root}")
    file = target.resolve().relative_to(repo.revision.root.resolve()).as_posix()
    modeline = f"{scaffold.MODELINE}\n" if (repo.revision.root / scaffold.SCHEMA_FILE).exists() and "/" not in file else ""
    before = target.read_text() if target.exists() else ""
    after = (f"{before.rstrip()}\n---\n{text}" if before.strip() else modeline + text).encode()
    fresh = _fresh_faults(repo, {**repo.revision.texts, file: after})
    bad = [one for one in fresh if one.code not in _LATER]
    show(bad or fresh, {**repo.revision.texts, file: after})
    if bad:
        raise Refused("invalid", f"cannot write {ref}: the manifest would be invalid", hint="nothing was written")
    _replace(target, after)
    output.data(file)
    if not GLOBALS.quiet:
        output.say(f"wrote {ref}" + ("; fill in what is named above" if fresh else "; next: reconciler plan"))
    return exits.OK


def set_(
    key: Annotated[str, typer.Argument(metavar="KIND/NAME", help="The resource to change.")],
    assign: Annotated[list[str], typer.Argument(metavar="PATH=VALUE...", help="PATH=VALUE, PATH+=VALUE or PATH-=VALUE.")],
    environment: Annotated[str | None, typer.Option("-e", "--env", help="Change the patch below overlays/ENV.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and write nothing.")] = False,
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")] = "text",
) -> int:
    """Change fields of a manifest in place: every comment and every other byte stays. An invalid result is not written."""
    from reconciler.cli.checking import repository, show
    from reconciler.manifest.describe import kind_named
    from reconciler.manifest.edit import parse_value, set_value
    from reconciler.model.errors import Refused
    from reconciler.model.ref import ResourceRef

    ref = ResourceRef.parse(key)
    ref = ResourceRef(kind_named(ref.kind), ref.name)
    repo = repository()
    file = _holder(repo, ref, environment if environment is not None else GLOBALS.environment)
    before = after = repo.revision.texts[file]
    for text in assign:
        path, op, value = _assignment(text)
        after = set_value(after, ref.kind, ref.name, path, op, parse_value(value))
    fresh = _fresh_faults(repo, {**repo.revision.texts, file: after})
    if fresh:
        show(fresh, {**repo.revision.texts, file: after})
        raise Refused("invalid", f"cannot change {ref}: the repository would be invalid", hint="nothing was written")
    if after != before and not dry_run:
        _replace(repo.revision.root / file, after)
    if form == "json":
        output.document({"key": str(ref), "file": file, "changed": after != before, "written": after != before and not dry_run})
    elif after == before:
        output.say(f"{ref} is like that already")
    else:
        output.data(_difference(before, after, file))
    return exits.OK


def _assignment(text: str) -> tuple[str, str, str]:
    found = _ASSIGNMENT.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no assignment; write path=value, path+=value or path-=value")
    return found["path"], found["op"], found["value"]


def _resources(repo: Repository) -> Iterator[tuple[str, ResourceRef]]:
    """Every (file, resource) of base and patches."""
    from reconciler.manifest import overlay
    from reconciler.manifest.judge import name_of
    from reconciler.manifest.yaml import parse

    for file, text in repo.revision.texts.items():
        if overlay.is_manifest(file):
            for document in parse(text)[0]:
                ref = name_of(document.value)
                if ref is not None:
                    yield file, ref


def _holder(repo: Repository, ref: ResourceRef, environment: str | None) -> str:
    """The file that declares a resource: the base's, or with an environment that of its patch."""
    from reconciler.manifest import overlay
    from reconciler.manifest.fault import near
    from reconciler.model.errors import Refused

    held = [(file, one) for file, one in _resources(repo)]
    patches = f"{overlay.FOLDER}/{environment}/" if environment else ""
    for file, one in held:
        if one == ref and (file.startswith(patches) if patches else not file.startswith(f"{overlay.FOLDER}/")):
            return file
    if patches and any(one == ref for _, one in held):
        hint = f"write one below {patches}, or leave -e out to change the base"
        raise Refused("no-patch", f"cannot change {ref} in {environment}: it has no patch there", hint=hint)
    meant = near(str(ref), (str(one) for _, one in held))
    hint = f"did you mean {meant}?" if meant else f"reconciler new {ref.kind.lower()} {ref.name}"
    raise Refused("unknown-resource", f"cannot find {ref} in the manifests", hint=hint)


def _fresh_faults(repo: Repository, texts: Mapping[str, bytes]) -> list[Diagnostic]:
    """Errors that these texts have in any environment and those on disk do not."""
    seen = {(one.code, one.message, one.at.file) for env in repo.environments() for one in repo.load(env).errors}
    found = dict.fromkeys(one for env in repo.environments() for one in repo.load(env, texts).errors)
    return [one for one in found if (one.code, one.message, one.at.file) not in seen]


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    if path.exists():
        part.chmod(path.stat().st_mode & 0o7777)
    part.replace(path)


def _difference(before: bytes, after: bytes, file: str) -> str:
    """A unified diff, coloured on a terminal."""
    import difflib

    paint = output.style_for(sys.stdout, GLOBALS.colour)
    roles = {"+": "add", "-": "remove", "@": "hint"}
    old, new_ = before.decode("utf-8", "replace").splitlines(), after.decode("utf-8", "replace").splitlines()
    lines = difflib.unified_diff(old, new_, f"a/{file}", f"b/{file}", lineterm="", n=2)
    return "\n".join(paint(roles.get(line[:1], ""), line) for line in lines)


def fmt(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or directories; every manifest if omitted; - is a filter.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 when something would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what changes.")] = False,
) -> int:
    """Put manifests into canonical order; comments stay with their lines. Prints the files it changed."""
    from reconciler.manifest.fmt import format_text
    from reconciler.model.errors import Refused

    if [str(path) for path in paths or ()] == ["-"]:
        sys.stdout.buffer.write(format_text(sys.stdin.buffer.read()))
        return exits.OK
    changed = failed = 0
    for path in _manifests(paths or [GLOBALS.directory]):
        before = path.read_bytes()
        try:
            after = format_text(before)
        except Refused as error:
            failed += 1
            output.fail(f"{path}: {error.message}", error.hint)
            continue
        if after == before:
            continue
        changed += 1
        output.data(_difference(before, after, str(path)) if diff else str(path))
        if not check:
            _replace(path, after)
    return exits.ERROR if failed or (check and changed) else exits.OK


def _manifests(paths: Sequence[Path]) -> Iterator[Path]:
    """The files named, and every manifest below the directories named; hidden ones only by name."""
    from reconciler.manifest import overlay

    for path in paths:
        if path.is_dir():
            below = (one for one in sorted(path.rglob("*.y*ml")) if one.is_file())
            yield from (one for one in below if overlay.is_manifest(one.relative_to(path).as_posix()))
        elif path.is_file():
            yield path
        else:
            raise typer.BadParameter(f"there is no file or directory {path}")
