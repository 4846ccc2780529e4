"""Evidence of what was published: a record, its signed document, its transaction and block headers, in one file.

Everything but the headers is ours already; those are asked for once, so that the bundle can be checked by anybody, offline
(wire/bundle.py says what is in it and how it is verified).
"""

from __future__ import annotations

from reconciler.engine.ancestry import beef_of
from reconciler.kinds.network import Net, net_of
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint
from reconciler.ports import Ports, StoredTx
from reconciler.wire.beef import parse_beef
from reconciler.wire.bundle import build
from reconciler.wire.proof import BlockHeader, parse_header, roots_needed


def anchor_of(record: Record) -> Outpoint:
    """The descriptor token that anchors a record's document; Refused when it has none."""
    for token in record.outputs.get("tokens") or ():
        if token["type"] == "DESCRIPTOR":
            return Outpoint.parse(token["outpoint"])
    raise Refused("no-evidence", f"cannot prove {record.ref}: it published no signed document", hint=_how_to_publish(record))


def _how_to_publish(record: Record) -> str:
    if record.ref.kind == "Identity":
        return "set register: true and apply; a key alone leaves nothing on the chain"
    return "only Identity, Advertisement and Dataset publish documents"


def network_of(record: Record) -> Net:
    """The network a record was published on; Refused when it names none."""
    return net_of(record.body)


def stored(ports: Ports, outpoint: Outpoint) -> StoredTx | None:
    """The transaction behind a token, as the ledger holds it."""
    with ports.ledger.begin() as tx:
        return tx.transaction(outpoint.txid)


async def assemble(ports: Ports, record: Record, path: str | None = None) -> bytes:
    """The proof bundle of a record; with `path`, of that one of its files too.

    Refused while the transaction is not in a block, or the document is not at hand. Nothing is written.
    """
    outpoint = anchor_of(record)
    document: Json = record.outputs["document"]
    found = stored(ports, outpoint)
    if found is None or not found.proof:
        state = "not in the ledger" if found is None else f"{found.state}, not in a block yet"
        raise Refused(
            "not-mined", f"cannot prove {record.ref} yet: transaction {outpoint.txid} is {state}", hint="try again after a block"
        )
    if path is not None and path not in (names := [file["path"] for file in record.outputs.get("files") or ()]):
        raise Refused(
            "no-file", f"cannot prove {path}: it is not a file of {record.ref}", hint=f"files: {', '.join(names) or 'none'}"
        )
    if not ports.blobs.has(document["digest"]):
        raise Refused(
            "no-document", f"cannot prove {record.ref}: its document is not at hand", hint=f"it is at {document['url']}"
        )
    return await assemble_at(ports, str(record.ref), document["digest"], outpoint, network_of(record), path)


async def assemble_at(ports: Ports, subject: str, digest: str, outpoint: Outpoint, net: Net, path: str | None = None) -> bytes:
    """The proof bundle of any version whose document is at hand and whose token is in a block, current or not."""
    beef = beef_of(ports.ledger, outpoint.txid)
    headers = await headers_of_beef(ports, beef, net)
    return build(subject, ports.blobs.get(digest), outpoint, beef, headers, path)


async def headers_of_beef(ports: Ports, beef: bytes, net: Net) -> list[BlockHeader]:
    """The header of every block that the transaction and its ancestors are proven to be in."""
    headers = []
    for height in sorted({height for height, _ in roots_needed(parse_beef(beef))}):
        header = await ports.chain.header(height, net.headers)
        if header is None:
            raise Refused(
                "no-header", f"cannot prove it yet: Network/{net.name} has no header at {height}", hint="try again later"
            )
        headers.append(parse_header(header.raw, height))
    return headers
