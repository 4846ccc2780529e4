"""Conversations with overlay nodes: /submit (BRC-22), /lookup (BRC-24), /health; both sides, bytes only.

TRAPS of deployed nodes, kept visible here: one topic a node does not host fails the whole submission; an empty admittance means
"nothing admitted", "seen before" or "a pure spend" alike, so admission is confirmed by lookup; the aggregated answer writes txids
in display order and shares one BEEF; whether an answer is aggregated is told by its content type, not by what was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.model.canonical import Json
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire.beef import V2, Beef, parse_beef, write_beef
from reconciler.wire.bytesio import Reader, varbytes, varint
from reconciler.wire.jsontext import Fields, media_type, parse
from reconciler.wire.names import name_ok

OCTETS, JSON = "application/octet-stream", "application/json"
OUTPUT_LIST = "output-list"
# A shared BEEF may speak for many tokens and all they descend from; single ones keep the tighter bound of the parser.
MAX_SHARED_TXS = 100_000
# What tokens have in common stands once in a shared BEEF and once more in the own BEEF of each. Real answers unfold to a few
# times their size; one long ancestor under a hundred thousand tokens would fill any memory.
UNFOLDED = 16 * 1024 * 1024
_U32 = 0xFFFFFFFF
_LEAST_OUTPUT = 34  # txid, index, context length


# --- submit ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to /submit. `off_chain` travels beside the BEEF; None when there is none (empty bytes are some)."""

    beef: bytes
    topics: tuple[str, ...]
    off_chain: bytes | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The request headers."""
        topics = "[" + ",".join(f'"{topic}"' for topic in self.topics) + "]"
        marks = {} if self.off_chain is None else {"x-includes-off-chain-values": "true"}
        return {"content-type": OCTETS, "x-topics": topics} | marks

    @property
    def body(self) -> bytes:
        """The request body."""
        return self.beef if self.off_chain is None else varbytes(self.beef) + self.off_chain


def submission(beef: bytes, topics: Iterable[str], off_chain: bytes | None = None) -> Submission:
    """A request; LocalProtocolError when a topic has a name no node can host."""
    names = tuple(topics)
    for name in names:
        if not name_ok(name):
            raise LocalProtocolError("topic-name", f"cannot submit to {name!r}: not a legal topic name")
    return Submission(beef, names, off_chain)


def parse_submit(headers: Mapping[str, str], body: bytes) -> Submission:
    """Read a request (header names lower-case); the messages are for the 400 that answers a fault."""
    if media_type(headers.get("content-type", "")) != OCTETS:
        raise RemoteProtocolError(f"cannot read the submission: Content-Type must be {OCTETS}")
    text = headers.get("x-topics")
    if text is None:
        raise RemoteProtocolError("cannot read the submission: the X-Topics header is missing")
    topics = parse(text.encode("utf-8", "replace"), "X-Topics")
    if not isinstance(topics, list) or not all(isinstance(topic, str) for topic in topics):
        raise RemoteProtocolError("cannot read X-Topics: not an array of strings")
    if headers.get("x-includes-off-chain-values", "").lower() != "true":
        return Submission(body, tuple(topics))
    reader = Reader(body, "submission")
    beef = reader.varbytes()
    return Submission(beef, tuple(topics), reader.take(reader.left))


@dataclass(frozen=True, slots=True)
class Admittance:
    """What one topic did: admitted output indices, and input indices whose spent tokens it kept or dropped."""

    admit: tuple[int, ...] = ()
    retain: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()

    @property
    def acknowledged(self) -> bool:
        """Whether the node said anything at all; if not, ask by lookup."""
        return bool(self.admit or self.retain or self.removed)


def parse_steak(body: bytes) -> Mapping[str, Admittance]:
    """The answer to /submit: what each topic did."""
    answer = Fields.parse(body, "admittance")
    return {topic: _admittance(answer.object(topic)) for topic in answer.values}


def _admittance(fields: Fields) -> Admittance:
    return Admittance(
        fields.integers("outputsToAdmit", ()), fields.integers("coinsToRetain", ()), fields.integers("coinsRemoved", ())
    )


def steak_json(steak: Mapping[str, Admittance]) -> dict[str, Json]:
    """The answer to /submit; deployed nodes answer before they remove, so `coinsRemoved` stands only where there is one."""
    return {
        topic: {"outputsToAdmit": list(did.admit), "coinsToRetain": list(did.retain)}
        | ({"coinsRemoved": list(did.removed)} if did.removed else {})
        for topic, did in steak.items()
    }


# --- lookup ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """One found output: a BEEF whose subject is its transaction, which output, and what the service says about it."""

    txid: str
    vout: int
    beef: bytes
    context: bytes = b""


def lookup_request(service: str, query: Json) -> dict[str, Json]:
    """The body of /lookup."""
    return {"service": service, "query": query}


def lookup_headers(aggregated: bool = False) -> dict[str, str]:
    """The headers of /lookup; a node may answer in JSON whatever was asked."""
    return {"content-type": JSON} | ({"x-aggregation": "yes"} if aggregated else {})


def parse_lookup_request(body: bytes) -> tuple[str, Json]:
    """(service, query) of a request; the messages are for the 400 that answers a fault."""
    asked = Fields.parse(body, "lookup")
    if "query" not in asked.values:
        asked.fail("query", "is missing")
    return asked.text("service"), asked.values["query"]


def parse_lookup(content_type: str, body: bytes) -> tuple[Answer, ...]:
    """The answer to /lookup in either form. Every output exists in its transaction; SPV is still to be checked."""
    form = media_type(content_type)
    if form == OCTETS:
        return _parse_aggregated(body)
    if form != JSON:
        raise RemoteProtocolError(f"cannot read a lookup answer of type {form!r}")
    answer = Fields.parse(body, "lookup answer")
    if answer.text("type") != OUTPUT_LIST:
        answer.fail("type", f"must be {OUTPUT_LIST}")
    return tuple(_parse_output(item) for item in answer.objects("outputs"))


def _parse_output(item: Fields) -> Answer:
    raw, vout = item.octets("beef"), item.integer("outputIndex", high=_U32)
    beef = parse_beef(raw)
    _require_output(beef, beef.subject, vout)
    return Answer(beef.subject, vout, raw, item.octets("context", b""))


def _parse_aggregated(body: bytes) -> tuple[Answer, ...]:
    reader = Reader(body, "aggregated lookup answer")
    found = [(reader.take(32).hex(), reader.varint(), reader.varbytes()) for _ in range(reader.count(_LEAST_OUTPUT))]
    if not found:  # a BEEF of nothing follows, or nothing at all
        return ()
    shared = parse_beef(reader.take(reader.left), MAX_SHARED_TXS)
    own, room = {}, UNFOLDED + 4 * len(body)
    for txid in dict.fromkeys(txid for txid, _, _ in found):
        own[txid] = _own_beef(shared, txid)
        room -= len(own[txid])
        if room < 0:
            raise RemoteProtocolError(
                f"cannot read the aggregated lookup answer: {len(body)} bytes unfold to too many", code="too-large"
            )
    for txid, vout, _ in found:
        _require_output(shared, txid, vout)
    return tuple(Answer(txid, vout, own[txid], context) for txid, vout, context in found)


def _own_beef(shared: Beef, txid: str) -> bytes:
    try:
        return write_beef(txid, shared.part)
    except LocalProtocolError as fault:  # what is missing or misproven is the sender's fault, not ours
        raise RemoteProtocolError(f"cannot read the aggregated lookup answer: it does not prove {txid}") from fault


def _require_output(beef: Beef, txid: str, vout: int) -> None:
    if vout >= len(beef.transaction(txid).outputs):
        raise RemoteProtocolError(f"cannot read the lookup answer: {txid} has no output {vout}")


def output_list(answers: Sequence[Answer]) -> dict[str, Json]:
    """The JSON answer of /lookup; bytes become arrays, as clients in the field read them."""
    outputs: list[Json] = []
    for answer in answers:
        line: dict[str, Json] = {"beef": list(answer.beef), "outputIndex": answer.vout}
        outputs.append(line | {"context": list(answer.context)} if answer.context else line)
    return {"type": OUTPUT_LIST, "outputs": outputs}


def aggregated(answers: Sequence[Answer]) -> bytes:
    """The octet-stream answer of /lookup: the list, then one BEEF V2 in which every transaction stands once."""
    lines = [bytes.fromhex(a.txid) + varint(a.vout) + varbytes(a.context) for a in answers]
    return varint(len(answers)) + b"".join(lines) + merge_beefs(a.beef for a in answers)


def merge_beefs(beefs: Iterable[bytes]) -> bytes:
    """One BEEF V2 of all these, parents before children; a proof given once proves the transaction everywhere."""
    parts: dict[str, tuple[bytes, bytes]] = {}
    for data in beefs:
        beef = parse_beef(data)
        for txid in beef.txs:
            part = beef.part(txid)
            if part is not None and (txid not in parts or part[1]):
                parts[txid] = part  # replacing keeps the place, which is after its parents
    bumps: dict[bytes, int] = {}
    entries = []
    for raw, proof in parts.values():
        mark = b"\x01" + varint(bumps.setdefault(proof, len(bumps))) if proof else b"\x00"
        entries.append(mark + raw)
    return V2.to_bytes(4, "little") + varint(len(bumps)) + b"".join(bumps) + varint(len(entries)) + b"".join(entries)


# --- health and refusals --------------------------------------------------------------------------


def parse_refusal(body: bytes) -> str:
    """The message of `{"status":"error","message"}`; there is no machine-readable code. Empty when the body is something else."""
    try:
        message = Fields.parse(body, "refusal").values.get("message")
    except RemoteProtocolError:
        return ""
    return message if isinstance(message, str) else ""


def refusal_json(message: str) -> dict[str, Json]:
    """The body of a 400 or 500."""
    return {"status": "error", "message": message}


def healthy(status: int, body: bytes) -> bool:
    """Whether /health passes the test by which nodes decide to keep a host's advertisements.

    A host that fails it three times loses them, and its domain is banned there.
    """
    try:
        report = Fields.parse(body, "health report").values
    except RemoteProtocolError:
        return False
    live, ready = report.get("live"), report.get("ready")
    return status // 100 == 2 and ((report.get("status") == "ok" and ready is not False) or (ready is True and live is not False))


def health_json(name: str, *, ok: bool = True) -> dict[str, Json]:
    """A health report; it goes with HTTP 200 when ok and 503 when not."""
    return {"status": "ok" if ok else "error", "live": True, "ready": ok, "service": {"name": name}, "checks": []}


def parse_listing(body: bytes) -> tuple[str, ...]:
    """The names in /listTopicManagers or /listLookupServiceProviders, in order."""
    return tuple(sorted(Fields.parse(body, "listing").values))
