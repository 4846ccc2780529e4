"""ARC and Arcade: sending transactions and reading what became of them, both sides of the conversation.

A broadcaster speaks of a transaction in two shapes: a status object (HTTP 200, or 202 from Arcade) and a problem object
(RFC 9457, HTTP status = its `status`). HTTP 200 does not mean accepted: `txStatus` does, and `verdict` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from reconciler.model.canonical import Json
from reconciler.model.change import FeeRate
from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import tx as transactions
from reconciler.wire.bytesio import Reader
from reconciler.wire.jsontext import Fields, compact, is_hex, media_type, parse

OCTETS = "application/octet-stream"
# More in one batch than any broadcaster takes.
MAX_BATCH = 1000
# Ours to choose; keeps a hostile policy from overflowing sums: 1 BSV for every byte is no fee anyone pays.
_MAX_RATE = 100_000_000_000


class Verdict(Enum):
    """What a status means for us."""

    PENDING = "pending"  # known or on its way; ask again
    ACCEPTED = "accepted"  # in a mempool, unconfirmed
    MINED = "mined"  # in a block of the longest chain; check the proof
    DOUBLE_SPEND = "double-spend"  # not final: may yet be mined or rejected; do not build on it
    STALE = "stale"  # its block lost; the old proof is void, and the broadcaster sends again
    REJECTED = "rejected"  # final for these bytes


# In rough order of progress; the position is the rank. Statuses of ARC and of Arcade in one table.
_PROGRESS: tuple[tuple[str, Verdict], ...] = (
    ("UNKNOWN", Verdict.PENDING),
    ("QUEUED", Verdict.PENDING),
    ("RECEIVED", Verdict.PENDING),
    ("STORED", Verdict.PENDING),
    ("PENDING_RETRY", Verdict.PENDING),
    ("ANNOUNCED_TO_NETWORK", Verdict.PENDING),
    ("REQUESTED_BY_NETWORK", Verdict.PENDING),
    ("SENT_TO_NETWORK", Verdict.PENDING),
    ("ACCEPTED_BY_NETWORK", Verdict.ACCEPTED),
    ("SEEN_IN_ORPHAN_MEMPOOL", Verdict.PENDING),  # a parent is missing: send it
    ("SEEN_ON_NETWORK", Verdict.ACCEPTED),
    ("SEEN_MULTIPLE_NODES", Verdict.ACCEPTED),
    ("STUMP_PROCESSING", Verdict.ACCEPTED),  # in a block whose proof Arcade is still assembling
    ("DOUBLE_SPEND_ATTEMPTED", Verdict.DOUBLE_SPEND),
    ("REJECTED", Verdict.REJECTED),
    ("MINED_IN_STALE_BLOCK", Verdict.STALE),
    ("MINED", Verdict.MINED),
    ("IMMUTABLE", Verdict.MINED),
)
STATUSES: Mapping[str, Verdict] = dict(_PROGRESS)
_RANK: Mapping[str, int] = {name: rank for rank, (name, _) in enumerate(_PROGRESS)}
# Never in ARC's enumeration, but treated as failures by the deployed clients.
_FAILED_WORDS = frozenset({"INVALID", "MALFORMED", "ERROR"})


def rank(status: str) -> int:
    """How far along a status is; one we have never heard of counts as UNKNOWN. Callbacks may go backwards."""
    return _RANK.get(status.upper(), 0)


def verdict(status: str, extra_info: str = "") -> Verdict:
    """What the status means; a word from a newer broadcaster is PENDING, so that it is asked again and nothing is concluded."""
    name = status.upper()
    found = Verdict.REJECTED if name in _FAILED_WORDS else STATUSES.get(name, Verdict.PENDING)
    orphan = "ORPHAN" in name or "ORPHAN" in extra_info.upper()
    return Verdict.PENDING if orphan and found is Verdict.ACCEPTED else found


@dataclass(frozen=True, slots=True)
class TxState:
    """A status object: hashes in display hex, `proof` the BUMP bytes (unverified) or empty, `timestamp` as the peer wrote it."""

    txid: str
    status: str
    height: int = 0
    block: str = ""
    proof: bytes = b""
    extra: str = ""
    competing: tuple[str, ...] = ()
    timestamp: str = ""

    @property
    def verdict(self) -> Verdict:
        """What it means for us."""
        return verdict(self.status, self.extra)


# HTTP status -> (meaning, whether the same request may succeed later).
PROBLEMS: Mapping[int, tuple[str, bool]] = {
    400: ("bad request", False),
    401: ("key missing or wrong", False),
    402: ("payment required", False),
    403: ("not allowed", False),
    404: ("unknown transaction", True),
    408: ("timed out", True),
    409: ("unclassified conflict", True),
    413: ("request too large", False),
    422: ("not processable", False),
    429: ("too many requests", True),
    460: ("inputs missing: send extended format or BEEF", False),
    461: ("unlocking script invalid", False),
    462: ("inputs invalid, none, or coinbase", False),
    463: ("malformed transaction", False),
    464: ("outputs invalid", False),
    465: ("fee too low", False),
    466: ("conflicts with a known spend", False),
    467: ("BEEF lacks mined ancestors", False),
    468: ("BEEF invalid", False),
    469: ("BEEF merkle root not on the chain: refresh its proofs", False),
    471: ("input frozen by policy", False),
    472: ("input frozen by consensus", False),
    473: ("fee of the unconfirmed chain too low", False),
    474: ("transaction size not accepted", False),
    475: ("a mined ancestor is not in the supplied proofs", False),
    476: ("not final: its lock time lies ahead", True),
}
# The transaction itself is at fault; every other code speaks of the request, of its envelope, or of the moment.
_FINAL = frozenset({461, 462, 463, 464, 465, 471, 472, 473, 474})


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal (RFC 9457 shape)."""

    status: int
    title: str = ""
    detail: str = ""
    txid: str = ""
    extra: str = ""

    @property
    def meaning(self) -> str:
        """The code in words."""
        return PROBLEMS.get(self.status, ("server fault" if self.status >= 500 else "refused", False))[0]

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later."""
        return PROBLEMS.get(self.status, ("", self.status >= 500))[1]

    @property
    def verdict(self) -> Verdict:
        """REJECTED only where these bytes can never pass; a conflict may still be won."""
        if self.status == 466:
            return Verdict.DOUBLE_SPEND
        return Verdict.REJECTED if self.status in _FINAL else Verdict.PENDING


# --- the client's side ----------------------------------------------------------------------------


def submit_headers(
    *, callback: str = "", callback_token: str = "", wait_for: str = "", full_updates: bool = False
) -> dict[str, str]:
    """Headers for POST /v1/tx (Arcade: /tx) whose body is the EF, BEEF or raw bytes themselves."""
    headers = {"content-type": OCTETS}
    if callback:
        headers["x-callbackurl"] = callback
    if callback_token:
        headers["x-callbacktoken"] = callback_token
    if wait_for:
        headers["x-waitfor"] = wait_for
    if full_updates:
        headers["x-fullstatusupdates"] = "true"
    return headers


def submit_json(payload: bytes) -> dict[str, str]:
    """The JSON form of one transaction."""
    return {"rawTx": payload.hex()}


def parse_answer(http_status: int, body: bytes) -> TxState | Problem:
    """The answer to a submission, or to GET /v1/tx/{txid}."""
    if http_status // 100 == 2:
        return _state(_inner(parse(body, "broadcast status")))
    return _problem(http_status, body)


def parse_answers(http_status: int, body: bytes) -> tuple[TxState | Problem, ...]:
    """The answer to POST /v1/txs, in the order sent; a batch refused as a whole is one Problem."""
    if http_status // 100 != 2:
        return (_problem(http_status, body),)
    items = parse(body, "broadcast statuses")
    if not isinstance(items, list):
        raise RemoteProtocolError("cannot read broadcast statuses: not an array")
    return tuple(_either(Fields.of(item, f"broadcast statuses[{i}]")) for i, item in enumerate(items))


def parse_callback(body: bytes) -> tuple[TxState, ...]:
    """What a broadcaster posts to our callback URL: one status object, or a batch of them."""
    fields = Fields.parse(body, "broadcast callback")
    return tuple(_state(item) for item in fields.objects("callbacks")) if "callbacks" in fields.values else (_state(fields),)


def parse_policy(body: bytes) -> FeeRate:
    """The miner fee of GET /v1/policy; the caller keeps a ceiling of its own."""
    fields = Fields.parse(body, "fee policy")
    policy = fields.object("policy") if "policy" in fields.values else fields
    fee = policy.object("miningFee")
    return FeeRate(fee.integer("satoshis", high=_MAX_RATE), fee.integer("bytes", low=1, high=1_000_000_000))


def parse_health(http_status: int, body: bytes) -> bool:
    """Whether GET /v1/health says it is healthy."""
    return http_status == 200 and Fields.parse(body, "broadcaster health").flag("healthy", default=False)


def _inner(value: Json) -> Fields:
    fields = Fields.of(value, "broadcast status")
    return fields.object("data") if isinstance(fields.values.get("data"), Mapping) else fields


def _either(fields: Fields) -> TxState | Problem:
    return _state(fields) if "txStatus" in fields.values else _problem_of(fields, fields.integer("status", 100, 599))


def _state(fields: Fields) -> TxState:
    proof = fields.text("merklePath", "")
    if not is_hex(proof):
        fields.fail("merklePath", "must be hex")
    status = fields.text("txStatus")
    if not status:
        fields.fail("txStatus", "is empty")
    competing = fields.strings("competingTxs", ())
    if not all(is_hex(txid, 32) for txid in competing):
        fields.fail("competingTxs", "must hold txids")
    return TxState(
        txid=fields.hex("txid", 32),
        status=status,
        height=fields.integer("blockHeight", high=0xFFFFFFFF, default=0),
        block=fields.hex("blockHash", 32, ""),
        proof=bytes.fromhex(proof),
        extra=fields.text("extraInfo", ""),
        competing=competing,
        timestamp=fields.text("timestamp", ""),
    )


def _problem(http_status: int, body: bytes) -> Problem:
    """Tolerant on purpose: a proxy in front of the broadcaster answers in HTML, and its status still says what to do."""
    try:
        return _problem_of(_inner(parse(body, "problem")), http_status)
    except RemoteProtocolError:
        return Problem(http_status)


def _problem_of(fields: Fields, http_status: int) -> Problem:
    def word(*names: str) -> str:
        return next((value for name in names if isinstance(value := fields.values.get(name), str) and value), "")

    txid = word("txid")
    return Problem(
        http_status, word("title"), word("detail", "error"), txid if is_hex(txid, 32) else "", word("extraInfo", "reason")
    )


# --- the server's side ----------------------------------------------------------------------------


def parse_submit(content_type: str, body: bytes) -> bytes:
    """The EF, BEEF or raw bytes of a POST /v1/tx, in any of the three body forms."""
    form = media_type(content_type)
    if form == "application/json":
        return bytes.fromhex(Fields.parse(body, "submission").hex("rawTx"))
    if form == "text/plain":
        return _unhex(body)
    if form == OCTETS and body:
        return body
    raise RemoteProtocolError("cannot read a submission: no transaction in it", hint="send octet-stream, hex text or JSON rawTx")


def parse_submits(content_type: str, body: bytes) -> tuple[bytes, ...]:
    """The transactions of a POST /v1/txs: a JSON array, lines of hex, or raw transactions end to end."""
    form = media_type(content_type)
    if form == "application/json":
        items = parse(body, "submissions")
        if not isinstance(items, list):
            raise RemoteProtocolError("cannot read submissions: not an array")
        payloads = [bytes.fromhex(Fields.of(item, "submission").hex("rawTx")) for item in items]
    elif form == "text/plain":
        payloads = [_unhex(line) for line in body.splitlines() if line.strip()]
    elif form == OCTETS:
        reader, payloads = Reader(body, "submissions"), []
        while reader.left:
            payloads.append(transactions.read_tx(reader).raw)
    else:
        raise RemoteProtocolError(f"cannot read submissions of type {form!r}")
    if not payloads or len(payloads) > MAX_BATCH:
        raise RemoteProtocolError(f"cannot take {len(payloads)} transactions at once", hint=f"send 1 to {MAX_BATCH}")
    return tuple(payloads)


def state_answer(state: TxState) -> dict[str, Json]:
    """The status object a broadcaster answers with HTTP 200."""
    return {**callback_json(state), "status": 200, "title": "OK"}


def callback_json(state: TxState) -> dict[str, Json]:
    """The status object as posted to a callback URL."""
    return {
        "timestamp": state.timestamp,
        "txid": state.txid,
        "txStatus": state.status,
        "blockHash": state.block,
        "blockHeight": state.height,
        "merklePath": state.proof.hex(),
        "extraInfo": state.extra,
        "competingTxs": list(state.competing) or None,
    }


def problem_answer(problem: Problem) -> dict[str, Json]:
    """The problem object; its `status` is also the HTTP status."""
    return {
        "type": f"https://bitcoin-sv.github.io/arc/#/errors?id=_{problem.status}",
        "title": problem.title or problem.meaning,
        "status": problem.status,
        "detail": problem.detail,
        "instance": None,
        "txid": problem.txid or None,
        "extraInfo": problem.extra or None,
    }


def policy_answer(rate: FeeRate, timestamp: str, *, max_tx_size: int = 100_000_000) -> dict[str, Json]:
    """GET /v1/policy."""
    return {
        "timestamp": timestamp,
        "policy": {
            "maxscriptsizepolicy": max_tx_size,
            "maxtxsigopscountspolicy": 4_294_967_295,
            "maxtxsizepolicy": max_tx_size,
            "miningFee": {"satoshis": rate.satoshis, "bytes": rate.bytes},
            "standardFormatSupported": True,
        },
    }


def answers_json(answers: Sequence[TxState | Problem]) -> bytes:
    """The array that answers POST /v1/txs, always under HTTP 200."""
    return compact([state_answer(item) if isinstance(item, TxState) else problem_answer(item) for item in answers])


def _unhex(text: bytes) -> bytes:
    word = text.strip().lower().decode("ascii", "replace")
    if not word or not is_hex(word):
        raise RemoteProtocolError("cannot read a submission: not hex")
    return bytes.fromhex(word)
