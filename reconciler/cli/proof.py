"""`proof` writes evidence of a publication to a file; `verify` checks such a file offline, believing nothing in it.

Verification opens no ledger, reads no settings and contacts nobody: a buyer runs it on a machine that never saw this repository.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from reconciler.cli import audit, exits, output, receipt, rotation
from reconciler.cli.approve import verify_plan
from reconciler.cli.context import GLOBALS, with_workspace

if TYPE_CHECKING:
    from reconciler.compose import Workspace
    from reconciler.model.ref import ResourceRef
    from reconciler.wire.bundle import Check

Form = Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The proof file.", dir_okay=False)]
Content = Annotated[Path | None, typer.Option("--content", help="The bytes in hand, to be shown to be the published ones.")]
Headers = Annotated[
    Path | None,
    typer.Option("--headers", help="Block headers you trust: 80 bytes each, from height 0. Without it that link stays open."),
]
Keys = Annotated[
    Path | None,
    typer.Option(
        "--identity", help="A proof of the identity that signed: was its key honoured when this was mined?", dir_okay=False
    ),
]
_HEADER = 80
_BLOCK = 1 << 20
_WORDS = {True: ("good", "ok"), False: ("bad", "failed"), None: ("dim", "open")}


def bind(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(proof)
    says = "Check a proof file, or who approved a plan file, offline: no ledger, no network."
    family = typer.Typer(cls=_OrPlan, no_args_is_help=True, rich_markup_mode=None, help=says)
    for verb in (dataset, advertisement, identity):
        family.command()(verb)
    family.command("audit")(audit.verify)
    family.command("rotation")(rotation.verify)
    family.command("plan")(verify_plan)
    family.command("receipt")(receipt.verify)
    app.add_typer(family, name="verify")
    audit.bind(app)


class _OrPlan(TyperGroup):
    """`verify PLANFILE` is `verify plan PLANFILE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """What looks like a file is one."""
        first = args[0] if args else ""
        if first not in self.commands and not first.startswith("-") and (set("./") & set(first) or Path(first).is_file()):
            args = ["plan", *args]
        return super().resolve_command(ctx, args)


def proof(
    key: Annotated[str, typer.Argument(metavar="KIND/NAME", help="A Dataset, Advertisement or registered Identity.")],
    out: Annotated[Path, typer.Option("--out", help="Where the proof goes; - for standard output.")],
    file: Annotated[str | None, typer.Option("--file", help="Prove that this file of the dataset was published.")] = None,
    form: Form = "text",
) -> int:
    """Write a file that shows, offline, what was published, by whom, and in which block."""
    from reconciler.manifest.describe import kind_named
    from reconciler.model.ref import ResourceRef

    ref = ResourceRef.parse(key)
    ref = ResourceRef(kind_named(ref.kind), ref.name)
    data, facts = with_workspace(lambda space: _assemble(space, ref, file))
    if str(out) == "-":
        sys.stdout.buffer.write(data)
        return exits.OK
    out.write_bytes(data)
    facts = {**facts, "path": str(out), "size": len(data)}
    if form == "json":
        output.document(facts)
    else:
        output.data(f"{out}: {facts['subject']}, {facts['outpoint']} in block {facts['height']}, {len(data)} bytes")
        output.say(f"check it anywhere: reconciler verify {ref.kind.lower()} {out}" + (" --content FILE" if file else ""))
    return exits.OK


async def _assemble(space: Workspace, ref: ResourceRef, path: str | None) -> tuple[bytes, dict[str, object]]:
    from reconciler.engine import evidence
    from reconciler.engine.confirm import confirm
    from reconciler.model.errors import Refused

    with space.ports.ledger.begin() as tx:
        record = tx.record(ref)
    if record is None:
        raise Refused("not-published", f"cannot prove {ref}: it has not been published", hint="reconciler apply")
    outpoint = evidence.anchor_of(record)
    net = evidence.network_of(record)
    # A proof may have arrived, or a reorganisation revoked one, since anybody looked.
    await confirm(space.ports, {net.chain: net})
    data = await evidence.assemble(space.ports, record, path)
    mined = evidence.stored(space.ports, outpoint)
    return data, {"subject": str(ref), "outpoint": str(outpoint), "height": mined.height if mined else 0, "file": path}


def dataset(bundle: Bundle, content: Content = None, headers: Headers = None, identity: Keys = None, form: Form = "text") -> int:
    """Check the proof of a dataset: file, list of files, signature, token, transaction, block."""
    return _verify("Dataset", bundle, content, headers, form, identity)


def advertisement(bundle: Bundle, headers: Headers = None, identity: Keys = None, form: Form = "text") -> int:
    """Check the proof of an advertisement's signed service document."""
    return _verify("Advertisement", bundle, None, headers, form, identity)


def identity(bundle: Bundle, headers: Headers = None, form: Form = "text") -> int:
    """Check the proof of a registered identity's signed profile."""
    return _verify("Identity", bundle, None, headers, form)


def _verify(kind: str, path: Path, content: Path | None, headers: Path | None, form: str, signer: Path | None = None) -> int:
    checks, subject = _checks(kind, _read(path), _sha256(content) if content else None, chain_of(headers) if headers else None)
    if signer is not None:
        checks.append(rotation.key_check(_read(path), _read(signer)))
    broken = [check.name for check in checks if check.ok is False]
    if form == "json":
        links = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
        output.document({"subject": subject, "holds": not broken, "checks": links})
    else:
        paint = output.style_for(sys.stdout, GLOBALS.colour)
        width = max(len(check.name) for check in checks)
        for check in checks:
            role, word = _WORDS[check.ok]
            output.data(f"{paint(role, f'{word:<6}')}  {check.name:<{width}}  {check.detail}")
    if broken:
        output.fail(f"cannot accept {path}: {', '.join(broken)} failed")
        return exits.ERROR
    left = [check.name for check in checks if check.ok is None]
    output.say(f"{subject}: every link holds" + (f"; left open: {', '.join(left)}" if left else ""))
    return exits.OK


def _checks(kind: str, data: bytes, sha256: str | None, trusted: Callable[[int, str], bool] | None) -> tuple[list[Check], str]:
    """Every link by name; a file that is no bundle at all has one link, its form, and that is broken."""
    from reconciler.model.errors import RemoteProtocolError
    from reconciler.wire.bundle import Check, parse_bundle, verify_bundle

    try:
        subject = parse_bundle(data).subject
        checks = verify_bundle(data, sha256, trusted)
    except RemoteProtocolError as error:
        return [Check("form", False, error.message)], ""
    named = subject.partition("/")[0]
    if named != kind:
        checks.insert(0, Check("subject", False, f"it is about {subject}, which is no {kind}"))
    return checks, subject


def _read(path: Path) -> bytes:
    from reconciler.model.errors import Refused

    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused("no-bundle", f"cannot read {path}: {error.strerror}", hint="name what reconciler proof wrote") from error


def _sha256(path: Path) -> str:
    from reconciler.model.errors import Refused

    total = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                total.update(block)
    except OSError as error:
        raise Refused("no-content", f"cannot read {path}: {error.strerror}", hint="name the file you were sold") from error
    return total.hexdigest()


def chain_of(path: Path) -> Callable[[int, str], bool]:
    """Whether a block of that height and hash stands in a file of headers."""
    from reconciler.wire.proof import parse_header

    data = _read(path)

    def trusted(height: int, block: str) -> bool:
        raw = data[height * _HEADER : (height + 1) * _HEADER]
        return len(raw) == _HEADER and parse_header(raw, height).hash == block

    return trusted
