"""Receipts: what was bought of whom for how much, signed by the seller, and the payment that shows it. Checked offline.

The receipt is a sealed document (wire/document.py), signed by the producer's identity key:

    {"type": "Receipt", "apiVersion", "id", "producer": hex33, "buyer": hex33, "contentId", "sequence", "digest", "merkleRoot",
     "license", "satoshis", "price": [{"text","units","rate","satoshis"}], "quoteId": text | null,
     "method": "brc105" | "native" | "external",
     "payment": {"txid","vout","derivationPrefix","derivationSuffix"}, "issued": RFC 3339}

`payment.others`, where it is there, are outputs of the same transaction that paid other parties of the sale, and count.

`id` is the first 32 hex digits of the SHA-256 of the canonical JSON of the rest. A bundle adds the payment itself:

    {"format": "reconciler-receipt/1", "receipt": sealed document, "beef": hex, "headers": [{"height","raw": hex}]}

`verify_receipt` believes no claim: every link is recomputed from bytes, and reported under its own name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.model.canonical import Json, canonical
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.beef import Beef, parse_beef
from reconciler.wire.bundle import Check, Trusted
from reconciler.wire.document import open_envelope
from reconciler.wire.jsontext import MAX_SAFE, Fields
from reconciler.wire.proof import BlockHeader, parse_header, verify_beef

TYPE, FORMAT = "Receipt", "reconciler-receipt/1"
METHODS = ("brc105", "native", "external")
# One transaction with its ancestry, and as many headers as that has blocks.
MAX_BUNDLE = 4 * 1024 * 1024
_ID_DIGITS = 32
_BUNDLE = ("format", "receipt", "beef", "headers")

# What an output that a buyer pays is locked with, of (producer, prefix, suffix): only the buyer's key can say.
Lock = Callable[[bytes, str, str], bytes]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt that its producer signed. `txid` is empty where money came outside of the chain."""

    id: str
    producer: str
    buyer: str
    content: str
    sequence: int
    digest: str
    merkle_root: str
    license: str
    satoshis: int
    quote: str
    method: str
    txid: str
    vout: int
    prefix: str
    suffix: str
    issued: datetime
    others: tuple[int, ...] = ()


def receipt_id(document: Mapping[str, Json]) -> str:
    """The id that a receipt with these members has."""
    rest = {name: value for name, value in document.items() if name != "id"}
    return hashlib.sha256(canonical(rest)).hexdigest()[:_ID_DIGITS]


def open_receipt(envelope: bytes) -> Receipt:
    """A sealed receipt; RemoteProtocolError unless form and signature are right, its producer signed it and its id is its own."""
    document, signer = open_envelope(envelope)
    said = Fields.of(document, "receipt")
    if said.text("type") != TYPE:
        said.fail("type", f"must be {TYPE}")
    if said.hex("producer", 33) != signer:
        said.fail("producer", "is not who signed it")
    if said.hex("id") != receipt_id(document):
        said.fail("id", "is not that of its content")
    method = said.text("method")
    if method not in METHODS:
        said.fail("method", f"must be one of {', '.join(METHODS)}")
    paid = said.object("payment") if document.get("payment") else Fields.of({}, "receipt, payment")
    satoshis = said.integer("satoshis", 0, MAX_SAFE)
    return Receipt(
        id=said.hex("id"),
        producer=signer,
        buyer=said.hex("buyer", 33),
        content=said.text("contentId"),
        sequence=said.integer("sequence", 1),
        digest=said.hex("digest", 32),
        merkle_root=said.hex("merkleRoot", 32),
        license=said.text("license", ""),
        satoshis=satoshis,
        quote=said.text("quoteId", ""),
        method=method,
        txid=paid.hex("txid", 32, ""),
        vout=paid.integer("vout", 0, 0xFFFFFFFF, 0),
        prefix=paid.text("derivationPrefix", ""),
        suffix=paid.text("derivationSuffix", ""),
        issued=_moment(said),
        others=paid.integers("others", ()),
    )


def _moment(said: Fields) -> datetime:
    try:
        moment = datetime.fromisoformat(said.text("issued"))
    except ValueError:
        said.fail("issued", "must be a time")
    if moment.utcoffset() is None:
        said.fail("issued", "must be a time in UTC")
    return moment.astimezone(UTC)


# --- bundles --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle taken apart; nothing in it is believed yet."""

    envelope: bytes
    beef: bytes
    headers: tuple[BlockHeader, ...]


def write_receipt(envelope: bytes, beef: bytes, headers: Mapping[int, bytes]) -> bytes:
    """The bytes of a bundle; LocalProtocolError when it would not verify."""
    body: dict[str, Json] = {
        "format": FORMAT,
        "receipt": Fields.parse(envelope, "receipt").values,
        "beef": beef.hex(),
        "headers": [{"height": height, "raw": raw.hex()} for height, raw in sorted(headers.items())],
    }
    data = canonical(body)
    broken = [check for check in verify_receipt(data) if check.ok is False]
    if broken:
        raise LocalProtocolError("receipt", f"cannot bundle the receipt: {broken[0].name}: {broken[0].detail}")
    return data


def parse_receipt(data: bytes) -> Bundle:
    """Take a bundle apart; RemoteProtocolError on any fault of shape, and of spelling: a bundle has one."""
    if len(data) > MAX_BUNDLE:
        raise RemoteProtocolError(f"cannot read a receipt of {len(data)} bytes", hint=f"at most {MAX_BUNDLE}")
    top = Fields.parse(data, "receipt bundle")
    top.exactly(*_BUNDLE)
    if top.text("format") != FORMAT:
        top.fail("format", f"must be {FORMAT}")
    try:
        envelope, spelled = canonical(top.object("receipt").values), canonical(top.values)
    except (TypeError, ValueError, RecursionError) as fault:
        raise RemoteProtocolError("cannot read a receipt bundle: it has no canonical form") from fault
    if spelled != data:
        raise RemoteProtocolError("cannot read a receipt bundle: its bytes are not canonical JSON")
    headers = tuple(
        parse_header(bytes.fromhex(one.hex("raw", 80)), one.integer("height", high=0xFFFFFFFF)) for one in top.objects("headers")
    )
    return Bundle(envelope, bytes.fromhex(top.hex("beef")), headers)


def verify_receipt(data: bytes, *, lock: Lock | None = None, trusted: Trusted | None = None) -> list[Check]:
    """Every link, in order; the receipt holds when none is False.

    `lock` re-derives what the paid output must be locked with, which takes the buyer's key; without it that link is left open.
    `trusted(height, hash)` says whether a header lies on a chain you trust. RemoteProtocolError when it is no bundle at all.
    """
    bundle = parse_receipt(data)
    try:
        receipt = open_receipt(bundle.envelope)
    except RemoteProtocolError as fault:
        return [Check("signature", False, fault.message)]
    checks = [Check("signature", True, f"{receipt.id}, signed by {receipt.producer}")]
    if not receipt.txid:
        word = "nothing was due" if not receipt.satoshis else "paid outside of the chain, on the producer's word"
        return [*checks, Check("payment", None if receipt.satoshis else True, word), *_unused(bundle)]
    beef, held = _transaction(bundle, receipt)
    checks += [held, *_output(receipt, beef, lock)]
    return checks + _mined(bundle, beef, trusted)


def _unused(bundle: Bundle) -> list[Check]:
    if not bundle.beef and not bundle.headers:
        return []
    return [Check("transaction", False, "the receipt names none, and the bundle holds one")]


def _transaction(bundle: Bundle, receipt: Receipt) -> tuple[Beef | None, Check]:
    """The payment with its ancestry, against the bundle's own headers; whether to trust those is another link."""
    roots = {(header.height, header.merkle_root) for header in bundle.headers}
    try:
        beef = parse_beef(bundle.beef)
        if beef.subject != receipt.txid:
            return None, Check("transaction", False, f"the receipt names {receipt.txid}, the bundle holds {beef.subject}")
        verify_beef(beef, lambda height, root: (height, root) in roots)
    except RemoteProtocolError as fault:
        return None, Check("transaction", False, fault.message)
    return beef, Check("transaction", True, f"{beef.subject} holds, with {len(beef.txs) - 1} ancestors")


def _output(receipt: Receipt, beef: Beef | None, lock: Lock | None) -> list[Check]:
    if beef is None:
        return [Check("payment", None, "there is no transaction to read it from"), Check("lock", None, "no output")]
    if receipt.vout >= len(beef.tx.outputs):
        return [Check("payment", False, f"output {receipt.vout} does not exist"), Check("lock", None, "no output")]
    output = beef.tx.outputs[receipt.vout]
    outputs = beef.tx.outputs
    held = sum(outputs[vout].satoshis for vout in {receipt.vout, *receipt.others} if vout < len(outputs))
    which = (
        f"outputs {', '.join(map(str, (receipt.vout, *receipt.others)))} hold"
        if receipt.others
        else f"output {receipt.vout} holds"
    )
    paid = Check("payment", held >= receipt.satoshis, f"{which} {held} of {receipt.satoshis} satoshis")
    if lock is None or not receipt.prefix:
        return [paid, Check("lock", None, "only the buyer's key shows that the output is the producer's")]
    script = lock(bytes.fromhex(receipt.producer), receipt.prefix, receipt.suffix)
    good = script == output.script
    return [paid, Check("lock", good, "the output is the producer's" if good else "the output is locked to another key")]


def _mined(bundle: Bundle, beef: Beef | None, trusted: Trusted | None) -> list[Check]:
    """In which block, and whether the headers that say so meet their targets and lie on a chain."""
    if beef is None:
        return []
    bump = beef.txs[beef.subject].bump
    where = f"in block {bump.height}" if bump is not None else "not in a block yet"
    checks = [Check("mined", True if bump is not None else None, where)]
    lazy = [header.height for header in bundle.headers if not header.work_ok]
    told = f"header {lazy[0]} does not meet its own target" if lazy else f"{len(bundle.headers)} headers meet their targets"
    checks.append(Check("work", not lazy, told))
    if trusted is None:
        names = ", ".join(f"{header.height} {header.hash}" for header in bundle.headers)
        return [*checks, Check("chain", None, f"compare with a chain you trust: {names}")]
    strange = [header for header in bundle.headers if not trusted(header.height, header.hash)]
    told = f"{strange[0].hash} is not block {strange[0].height} of it" if strange else "every header lies on it"
    return [*checks, Check("chain", not strange, told)]
