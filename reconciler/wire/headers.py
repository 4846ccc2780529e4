"""Block headers from the services that keep them: Block Headers Service, Chaintracks 1 and 2, WhatsOnChain.

Whatever the service says is rebuilt into the 80 bytes and hashed: a header whose claimed hash, height or link to its neighbour
does not follow from its own bytes is refused. Whether it lies on the longest chain remains the service's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from reconciler.model.canonical import Json
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire.jsontext import Fields, is_hex, parse
from reconciler.wire.keys import sha256
from reconciler.wire.proof import BlockHeader, parse_header

HEADER_SIZE = 80
_U32 = 0xFFFFFFFF

# The same field in the spellings of the services and their builds.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "prev": ("prevBlockHash", "previousHash", "prevHash", "previousblockhash", "previousBlockHash"),
    "root": ("merkleRoot", "merkleroot"),
    "time": ("creationTimestamp", "time", "timestamp"),
    "bits": ("difficultyTarget", "bits"),
}


# --- the client's side ----------------------------------------------------------------------------


def header_path(height: int, count: int = 1) -> str:
    """Block Headers Service: headers of the longest chain from this height."""
    return f"/api/v1/chain/header/byHeight?height={height}&count={count}"


TIP_PATH = "/api/v1/chain/tip/longest"
VERIFY_PATH = "/api/v1/chain/merkleroot/verify"


def parse_by_height(body: bytes, height: int) -> tuple[BlockHeader, ...]:
    """The answer to `header_path`: consecutive headers, the first at `height`; empty when the chain is not that long."""
    items = parse(body, "headers")
    if not isinstance(items, list):
        raise RemoteProtocolError("cannot read headers: not an array")
    return chained(_header(Fields.of(item, f"headers[{i}]"), height + i) for i, item in enumerate(items))


def parse_tip(body: bytes) -> BlockHeader:
    """The answer to TIP_PATH: the last header of the longest chain."""
    answer = Fields.parse(body, "chain tip")
    return _header(answer.object("header"), answer.integer("height", high=_U32))


def parse_chaintracks(body: bytes, height: int | None = None) -> BlockHeader | None:
    """One header from Chaintracks, wrapped in `{"status","value"}` (version 1) or bare (version 2); None when it has none."""
    answer = Fields.parse(body, "chaintracks header")
    if "value" in answer.values:
        if answer.text("status") != "success":
            answer.fail("status", "is not success")
        if answer.values["value"] is None:
            return None
        answer = answer.object("value")
    return _header(answer, height)


def parse_height(body: bytes) -> int:
    """A bare height: Chaintracks 1 `{"status","value"}`, or version 2 `{"height"}` or a plain number."""
    value = parse(body, "chain height")
    if isinstance(value, Mapping):
        value = value.get("value", value.get("height"))
    return Fields("chain height", {"height": value}).integer("height", high=_U32)


def parse_whatsonchain(body: bytes, height: int | None = None) -> BlockHeader:
    """One header from WhatsOnChain, which writes the bits as hex text."""
    return _header(Fields.parse(body, "header"), height)


def parse_binary(raw: bytes, height: int) -> tuple[BlockHeader, ...]:
    """Headers end to end, 80 bytes each, the first at `height` (Chaintracks 2)."""
    if len(raw) % HEADER_SIZE:
        raise RemoteProtocolError(f"cannot read headers: {len(raw)} bytes are no multiple of {HEADER_SIZE}")
    return chained(parse_header(raw[i : i + HEADER_SIZE], height + i // HEADER_SIZE) for i in range(0, len(raw), HEADER_SIZE))


def parse_spent(status: int, body: bytes) -> str | None:
    """WhatsOnChain's index of spends: the txid that spends the output, None (HTTP 404) when nothing does."""
    if status == 404:
        return None
    if status != 200:
        raise RemoteProtocolError(f"cannot read a spend: HTTP {status}")
    return Fields.parse(body, "spend").hex("txid", 32)


@dataclass(frozen=True, slots=True)
class Unspent:
    """An output that nothing spends; `height` is 0 while its transaction is in no block."""

    outpoint: Outpoint
    satoshis: int
    height: int = 0


def script_digest(script: bytes) -> str:
    """The name of a locking script in indexes of outputs: its SHA-256, in display order."""
    return sha256(script)[::-1].hex()


def unspent_json(digest: str, found: Iterable[Unspent]) -> dict[str, Json]:
    """WhatsOnChain's answer to which outputs pay a script and are unspent."""
    rows = [
        {"height": one.height, "tx_pos": one.outpoint.vout, "tx_hash": one.outpoint.txid, "value": one.satoshis} for one in found
    ]
    return {"script": digest, "result": rows, "error": ""}


def parse_unspent(body: bytes) -> tuple[Unspent, ...]:
    """The outputs of such an answer; those that a transaction in no block spends already are left out."""
    answer = Fields.parse(body, "unspent outputs")
    if answer.text("error", ""):
        answer.fail("error", "is set")
    return tuple(
        Unspent(
            Outpoint(one.hex("tx_hash", 32), one.integer("tx_pos")),
            one.integer("value"),
            max(0, one.integer("height", -1, default=0)),
        )
        for one in answer.objects("result")
        if not one.flag("isSpentInMempoolTx", False)
    )


def parse_beef_text(body: bytes) -> bytes:
    """An envelope (BRC-62) as hex text, which may stand in quotes."""
    try:
        return bytes.fromhex(body.decode("ascii").strip().strip('"'))
    except ValueError as fault:
        raise RemoteProtocolError("cannot read a transaction with its ancestors: not hex") from fault


def chained(headers: Iterable[BlockHeader]) -> tuple[BlockHeader, ...]:
    """The headers, each of which must build on the one before."""
    out = tuple(headers)
    for before, after in pairwise(out):
        if after.prev != before.hash:
            raise RemoteProtocolError(f"cannot read headers: {after.height} does not build on {before.height}")
    return out


class Confirmation(Enum):
    """What a header service says of a merkle root; UNABLE_TO_VERIFY is a height above its tip: ask again."""

    CONFIRMED = "CONFIRMED"
    INVALID = "INVALID"
    UNABLE_TO_VERIFY = "UNABLE_TO_VERIFY"


@dataclass(frozen=True, slots=True)
class RootCheck:
    """One verdict: the block's hash is empty unless CONFIRMED."""

    height: int
    root: str
    state: Confirmation
    block: str = ""


def verify_request(roots: Iterable[tuple[int, str]]) -> list[Json]:
    """The body of VERIFY_PATH for (height, display-order root) pairs."""
    return [{"merkleRoot": root, "blockHeight": height} for height, root in sorted(roots)]


def parse_verification(body: bytes) -> tuple[RootCheck, ...]:
    """The verdict on every root asked about."""
    return tuple(
        RootCheck(
            item.integer("blockHeight", high=_U32),
            item.hex("merkleRoot", 32),
            _confirmation(item, "confirmation"),
            item.text("blockHash", ""),
        )
        for item in Fields.parse(body, "merkle root verdict").objects("confirmations")
    )


def _confirmation(item: Fields, name: str) -> Confirmation:
    try:
        return Confirmation(item.text(name))
    except ValueError:
        item.fail(name, "is no state we know")


def _header(fields: Fields, height: int | None) -> BlockHeader:
    """Rebuild the bytes; `height` is what we asked for, and the service's own height must agree where it gives one."""
    names = {name: next((s for s in spellings if s in fields.values), spellings[0]) for name, spellings in _SPELLINGS.items()}
    if height is None:
        height = fields.integer("height", high=_U32)
    elif fields.integer("height", high=_U32, default=height) not in (height, 0):  # some builds leave it 0
        fields.fail("height", f"is not the {height} asked for")
    raw = b"".join(
        (
            # Signed in some services: miners use the high bits.
            (fields.integer("version", -(2**31), _U32) & _U32).to_bytes(4, "little"),
            bytes.fromhex(fields.hex(names["prev"], 32))[::-1],
            bytes.fromhex(fields.hex(names["root"], 32))[::-1],
            fields.integer(names["time"], high=_U32).to_bytes(4, "little"),
            _bits(fields, names["bits"]),
            fields.integer("nonce", high=_U32).to_bytes(4, "little"),
        )
    )
    header = parse_header(raw, height)
    if fields.hex("hash", 32) != header.hash:
        fields.fail("hash", "is not that of the header's fields")
    return header


def _bits(fields: Fields, name: str) -> bytes:
    value = fields.values.get(name)
    if isinstance(value, str) and is_hex(value, 4):
        return bytes.fromhex(value)[::-1]
    return fields.integer(name, high=_U32).to_bytes(4, "little")


# --- the service's side ---------------------------------------------------------------------------


def header_json(header: BlockHeader) -> dict[str, Json]:
    """One header as the Block Headers Service writes it."""
    return {
        "hash": header.hash,
        "version": int.from_bytes(header.raw[:4], "little", signed=True),
        "prevBlockHash": header.prev,
        "merkleRoot": header.merkle_root,
        "creationTimestamp": header.time,
        "difficultyTarget": header.bits,
        "nonce": header.nonce,
        "work": _work(header),
    }


def tip_json(header: BlockHeader, chain_work: int = 0) -> dict[str, Json]:
    """The answer to TIP_PATH."""
    return {
        "header": header_json(header),
        "state": "LONGEST_CHAIN",
        "chainWork": str(chain_work) if chain_work else _work(header),
        "height": header.height,
    }


def parse_verify_request(body: bytes) -> tuple[tuple[int, str], ...]:
    """The (height, root) pairs of a request to VERIFY_PATH."""
    items = parse(body, "merkle roots")
    if not isinstance(items, list):
        raise RemoteProtocolError("cannot read merkle roots: not an array")
    fields = [Fields.of(item, f"merkle roots[{i}]") for i, item in enumerate(items)]
    return tuple((item.integer("blockHeight", high=_U32), item.hex("merkleRoot", 32)) for item in fields)


def verification_json(checks: Sequence[RootCheck]) -> dict[str, Json]:
    """The answer to VERIFY_PATH; the overall state is the worst of all."""
    states = {check.state for check in checks}
    worst = next((s for s in (Confirmation.INVALID, Confirmation.UNABLE_TO_VERIFY) if s in states), Confirmation.CONFIRMED)
    lines = [{"blockHash": c.block, "blockHeight": c.height, "merkleRoot": c.root, "confirmation": c.state.value} for c in checks]
    return {"confirmationState": worst.value, "confirmations": lines}


def work_of(header: BlockHeader) -> int:
    """Expected number of hashes to find such a header; 0 for one that does not meet the target it states."""
    return 2**256 // (header.target + 1) if header.work_ok else 0


def _work(header: BlockHeader) -> str:
    """The same for one that is taken on trust, as decimal text."""
    return str(2**256 // (header.target + 1))
