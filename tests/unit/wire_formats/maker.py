"""Small real things to test with: signed tokens, mined transactions, headers with their work done, whole proof bundles."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.model.ref import Outpoint
from reconciler.wire import bundle, descriptor, document, message
from reconciler.wire.beef import write_beef
from reconciler.wire.bump import from_block, merkle_root
from reconciler.wire.bytesio import internal
from reconciler.wire.keys import ANYONE, child_secret, invoice, public_key, sign
from reconciler.wire.proof import BlockHeader, parse_header
from reconciler.wire.script import p2pkh, pushdrop
from reconciler.wire.tx import Tx, TxIn, TxOut
from reconciler.wire.uhrp import uhrp_url

SECRET = hashlib.sha256(b"producer under test").digest()
OTHER = hashlib.sha256(b"somebody else").digest()
IDENTITY = public_key(SECRET)
EASY_BITS = 0x207FFFFF
HEIGHT = 900


def token_script(
    fields: Sequence[bytes],
    lock: tuple[str, str],
    secret: bytes = SECRET,
    counterparty: bytes = ANYONE,
    signer: bytes | None = None,
) -> bytes:
    """A PushDrop output, locked to the child key of `secret` and signed by it (or by `signer`)."""
    child = child_secret(secret, counterparty, invoice(*lock))
    return pushdrop(fields, public_key(child), sign(signer or child, b"".join(fields)))


def spending(*outputs: TxOut, salt: bytes = b"coin") -> Tx:
    """A transaction; what it spends does not matter once it is mined."""
    return Tx((TxIn(hashlib.sha256(salt).hexdigest(), 0, b"\x00"),), outputs)


def coin(satoshis: int = 1000, salt: bytes = b"coin") -> Tx:
    """A transaction that pays SECRET."""
    return spending(TxOut(satoshis, p2pkh(IDENTITY)), salt=salt)


def header(root: str, height: int = HEIGHT, prev: str = "11" * 32) -> BlockHeader:
    """A header of that merkle root whose hash meets the easiest target."""
    for nonce in range(1000):
        numbers = (1_700_000_000, EASY_BITS, nonce)
        raw = (
            (0x20000000).to_bytes(4, "little")
            + internal(prev)
            + internal(root)
            + b"".join(n.to_bytes(4, "little") for n in numbers)
        )
        found = parse_header(raw, height)
        if found.work_ok:
            return found
    raise AssertionError("half of all nonces meet the easiest target")


@dataclass(frozen=True)
class Mined:
    """A transaction in a block: its proof, its header, and both as BEEF."""

    tx: Tx
    proof: bytes
    header: BlockHeader

    @property
    def beef(self) -> bytes:
        return write_beef(self.tx.txid, lambda txid: (self.tx.raw, self.proof) if txid == self.tx.txid else None)


def mine(tx: Tx, others: int = 5, height: int = HEIGHT, prev: str = "11" * 32) -> Mined:
    """Put the transaction third in a block of `others` + 1."""
    txids = [hashlib.sha256(bytes([height % 251, i])).hexdigest() for i in range(others)]
    txids.insert(min(2, others), tx.txid)
    return Mined(tx, from_block(height, txids, txids.index(tx.txid)).raw, header(merkle_root(txids), height, prev))


FILES = {
    f"2024/{name}.csv": f"date,price\n2024-{name}-01,{i}\n".encode() for i, name in enumerate(["01", "02", "03", "04", "05"])
}


def manifest(files: Mapping[str, bytes] = FILES) -> dict[str, Any]:
    """A document with files and the root over them."""
    entries = [
        {
            "path": path,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "uhrp": uhrp_url(hashlib.sha256(content).hexdigest()),
            "mediaType": "text/csv",
        }
        for path, content in sorted(files.items())
    ]
    return {"title": "Größe", "files": entries, "merkleRoot": bundle.file_tree(entries).root.hex()}


def seal(content: Mapping[str, Any], secret: bytes = SECRET) -> bytes:
    """The signed envelope of a document."""
    signer, signed = public_key(secret), document.signed_bytes(content)
    return document.seal(content, signer.hex(), message.sign_message(secret, signed, message.key_id_for(signer, signed)))


def describe(envelope: bytes, subject: str = "Dataset/btc-2024", version: int = 1) -> descriptor.Descriptor:
    """What SECRET says of a sealed document."""
    sha256 = document.digest_of(envelope)
    return descriptor.Descriptor(IDENTITY, subject, sha256, f"uhrp://{uhrp_url(sha256)}", version)


@dataclass(frozen=True)
class Proof:
    """A bundle and what it was made of."""

    data: bytes
    envelope: bytes
    mined: Mined
    path: str

    def trusted(self, height: int, block: str) -> bool:
        return (height, block) == (self.mined.header.height, self.mined.header.hash)

    @property
    def content_sha256(self) -> str:
        return hashlib.sha256(FILES[self.path]).hexdigest()


def prove(path: str = "2024/03.csv") -> Proof:
    """A whole publication, mined and bundled, with one file proven."""
    envelope = seal(manifest())
    said = describe(envelope)
    mined = mine(spending(TxOut(1, token_script(descriptor.fields(said), descriptor.lock_of(said.subject)))))
    data = bundle.build(said.subject, envelope, Outpoint(mined.tx.txid, 0), mined.beef, [mined.header], path)
    return Proof(data, envelope, mined, path)
