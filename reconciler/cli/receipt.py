"""`verify receipt`: what was bought, of whom and for how much, checked offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reconciler.cli import exits, output
from reconciler.cli.context import GLOBALS

if TYPE_CHECKING:
    from reconciler.wire.receipt import Receipt

_WORDS = {True: ("good", "ok"), False: ("bad", "failed"), None: ("dim", "open")}


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What consumer receipts --out wrote.", dir_okay=False)],
    headers: Annotated[
        Path | None,
        typer.Option("--headers", help="Block headers you trust: 80 bytes each, from height 0. Without it that link stays open."),
    ] = None,
    form: Annotated[Literal["text", "json"], typer.Option("-o", "--output", help="How the answer is written.")] = "text",
) -> int:
    """Check a receipt: the producer's signature, the payment, its transaction, its block. Asks nobody, believes nothing."""
    from reconciler.cli.proof import chain_of
    from reconciler.model.errors import Refused
    from reconciler.wire.receipt import open_receipt, parse_receipt, verify_receipt

    try:
        data = file.read_bytes()
    except OSError as error:
        hint = "name what consumer receipts --out wrote"
        raise Refused("no-receipt", f"cannot read {file}: {error.strerror}", hint=hint) from error
    checks = verify_receipt(data, trusted=chain_of(headers) if headers else None)
    good = all(check.ok is not False for check in checks)
    said = open_receipt(parse_receipt(data).envelope) if checks[0].ok else None
    if form == "json":
        rows = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
        output.document({"ok": good, "checks": rows, "receipt": _facts(said) if said is not None else None})
        return exits.OK if good else exits.ERROR
    paint = output.style_for(sys.stdout, GLOBALS.colour)
    if said is not None:
        output.data(f"{said.content}@{said.sequence}, {said.satoshis} sat, sold by {said.producer} to {said.buyer}")
    for check in checks:
        role, word = _WORDS[check.ok]
        output.data(f"{paint(role, f'{word:<6}')}  {check.name:<11}  {check.detail}")
    return exits.OK if good else exits.ERROR


def _facts(said: Receipt) -> dict[str, Any]:
    return {
        "id": said.id,
        "contentId": said.content,
        "sequence": said.sequence,
        "producer": said.producer,
        "buyer": said.buyer,
        "satoshis": said.satoshis,
        "txid": said.txid or None,
    }
