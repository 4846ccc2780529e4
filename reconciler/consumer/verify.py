"""Whether what was bought is what was sold: the receipt, the signed manifest and the bytes on disk, without asking anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from reconciler.consumer.fetch import place_of, sha256_of
from reconciler.consumer.offers import Offer
from reconciler.consumer.purchases import Purchase
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire.bundle import Check
from reconciler.wire.receipt import Lock, Receipt, open_receipt
from reconciler.wire.tx import parse_tx


async def verify(
    one: Purchase, offer: Offer, buyer: str, paid: Callable[[Receipt], Check], target: Path | None = None
) -> list[Check]:
    """Every link from the receipt to the files; those at `target` are read, where it is given. `paid` looks at the payment."""
    try:
        receipt = open_receipt(one.receipt.encode())
    except RemoteProtocolError as fault:
        return [Check("receipt", False, fault.message)]
    same = receipt.buyer == buyer
    checks = [
        Check("receipt", True, f"{receipt.id}, signed by {receipt.producer}"),
        Check("buyer", same, "it is ours" if same else f"it is that of {receipt.buyer}"),
        _same("manifest", offer.anchor.digest, receipt.digest),
        _same("files", offer.merkle_root, receipt.merkle_root),
        _same("producer", offer.producer, receipt.producer),
        paid(receipt),
    ]
    return [*checks, *await _content(offer, target)]


def payment(receipt: Receipt, raw: bytes | None, lock: Lock) -> Check:
    """Whether the transaction that the receipt names, `raw` where we have it, pays its producer that much."""
    if not receipt.satoshis:
        return Check("payment", True, "nothing was due")
    if raw is None:
        return Check("payment", None, "its transaction is not one of this purse")
    outputs = parse_tx(raw).outputs
    script = lock(bytes.fromhex(receipt.producer), receipt.prefix, receipt.suffix) if receipt.prefix else b""
    good = receipt.vout < len(outputs) and outputs[receipt.vout].script == script
    good = good and outputs[receipt.vout].satoshis >= receipt.satoshis
    told = f"{receipt.txid}.{receipt.vout} pays its producer {receipt.satoshis} satoshis"
    return Check("payment", good, told if good else f"{receipt.txid}.{receipt.vout} does not pay its producer that much")


def _same(name: str, found: str, wanted: str) -> Check:
    good = found == wanted
    return Check(name, good, wanted if good else f"the receipt says {wanted}, the document {found}")


async def _content(offer: Offer, target: Path | None) -> Sequence[Check]:
    if target is None:
        return [Check("content", None, "no files given to compare with")]
    checks = []
    for file in offer.files:
        place = place_of(file, target, len(offer.files) == 1)
        if not place.is_file():
            checks.append(Check("content", None, f"{file.path} is not there"))
            continue
        found = await asyncio.to_thread(sha256_of, place)
        good = found == file.sha256
        checks.append(Check("content", good, f"{file.path}: SHA-256 {found}" + ("" if good else f", not {file.sha256}")))
    return checks
