"""Header sources: Block Headers Service, WhatsOnChain, Chaintracks 1 and 2, or a file of headers.

Which of them a URL is, is found out by asking once, and remembered. `Endpoint.kind` may say it beforehand ("bhs",
"whatsonchain", "chaintracks", "chaintracks2", "file"), or name the chain ("main", "test", "devnet") whose paths
WhatsOnChain serves. A file (file:// URL, or a path) holds 80-byte headers end to end from height 0.

Headers are rebuilt from what the source says and hashed; that they lie on the longest chain is its word. Where an endpoint stands
for several sources (`options.also`), their words are held against one another (crosscheck.py); indexes are the first one's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reconciler.adapters import crosscheck
from reconciler.adapters.http import Answer, Http, Request, host_of, refusal
from reconciler.adapters.secret import bearer, token
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.ports import Header
from reconciler.wire import headers as wire
from reconciler.wire.jsontext import Fields, parse
from reconciler.wire.proof import BlockHeader, parse_header

CHAINS = frozenset({"main", "test", "stn", "devnet"})
_DEADLINE = 10.0
_SIZE = wire.HEADER_SIZE


@dataclass(frozen=True, slots=True)
class _Flavour:
    """How one kind of service is asked. Paths may hold `{net}` and `{height}`."""

    tip_path: str
    tip: Callable[[bytes], int]
    header_path: str
    header: Callable[[bytes, int], BlockHeader | None]


def _first(body: bytes, height: int) -> BlockHeader | None:
    return next(iter(wire.parse_by_height(body, height)), None)


def _newest(body: bytes) -> int:
    items = parse(body, "newest headers")
    if not isinstance(items, list) or not items:
        raise RemoteProtocolError("cannot read the newest headers: not an array with a header in it")
    return Fields.of(items[0], "newest header").integer("height")


# In the order of probing: the first whose tip can be read is what the source is.
_FLAVOURS = {
    "bhs": _Flavour(
        wire.TIP_PATH, lambda body: wire.parse_tip(body).height, "/api/v1/chain/header/byHeight?height={height}&count=1", _first
    ),
    "whatsonchain": _Flavour(
        "/v1/bsv/{net}/block/headers", _newest, "/v1/bsv/{net}/block/{height}/header", wire.parse_whatsonchain
    ),
    "chaintracks": _Flavour(
        "/getPresentHeight", wire.parse_height, "/findHeaderHexForHeight?height={height}", wire.parse_chaintracks
    ),
    "chaintracks2": _Flavour("/height", wire.parse_height, "/header/height/{height}", wire.parse_chaintracks),
}


class HeaderSources:
    """Headers by endpoint. `chain` names the chain for sources that serve several and do not say which."""

    def __init__(self, http: Http, chain: str = "main") -> None:
        self._http = http
        self._chain = chain
        self._known: dict[str, str] = {}
        self._indexes: set[str] = set()

    async def header(self, height: int, source: Endpoint) -> Header | None:
        """The header of that height; None above the source's tip. Unavailable("headers-disagree") where several do not agree."""
        sources = crosscheck.sources_of(source)
        if len(sources) > 1:
            return await crosscheck.header(height, sources, self._header, self._tip)
        return await self._header(height, source)

    async def tip(self, source: Endpoint) -> int:
        """The height of the last header; of several sources, one that half of them have reached."""
        sources = crosscheck.sources_of(source)
        return await crosscheck.tip(sources, self._tip) if len(sources) > 1 else await self._tip(source)

    async def _header(self, height: int, source: Endpoint) -> Header | None:
        if _is_file(source):
            return _from_file(_path(source), height)
        flavour = _FLAVOURS[await self._flavour(source)]
        answer = await self._get(source, flavour.header_path, height)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise refusal(answer, f"read the header at {height}", self._http.clock)
        found = flavour.header(answer.body, height)
        return None if found is None else _header(found)

    async def _tip(self, source: Endpoint) -> int:
        if _is_file(source):
            return _file_tip(_path(source))
        flavour = _FLAVOURS[await self._flavour(source)]
        answer = await self._get(source, flavour.tip_path)
        if answer.status != 200:
            raise refusal(answer, "read the height of the chain", self._http.clock)
        return flavour.tip(answer.body)

    async def spender(self, outpoint: Outpoint, source: Endpoint) -> str | None:
        """What spends the outpoint, by WhatsOnChain's index; None when the source, which has such an index, knows of nothing.

        A 404 means "unspent" only where the index exists: a source whose 404 is no JSON and that never answered
        such a question is Unavailable, because "no such route" must not be read as "unspent".
        """
        if _is_file(source):
            raise Unavailable("no-spend-index", f"cannot tell what spends {outpoint}: a headers file has no index of spends")
        path = f"/v1/bsv/{{net}}/tx/{outpoint.txid}/{outpoint.vout}/spent"
        answer = await self._get(source, path)
        if answer.status not in (200, 404):
            raise refusal(answer, f"learn what spends {outpoint}", self._http.clock)
        if answer.status == 200 or answer.body.lstrip()[:1] in (b"{", b"["):
            self._indexes.add(source.url)
        elif source.url not in self._indexes and await self._flavour(source) != "whatsonchain":
            raise Unavailable(
                "no-spend-index",
                f"cannot tell what spends {outpoint}: {host_of(source.url)} has no index of spends",
                hint="name a header source that serves /v1/bsv/<chain>/tx/<txid>/<vout>/spent",
            )
        return wire.parse_spent(answer.status, answer.body)

    async def unspent(self, script: bytes, source: Endpoint) -> Sequence[wire.Unspent]:
        """What pays the script and is unspent, by WhatsOnChain's index; Unavailable where the source has none."""
        answer = await self._indexed(
            source, f"/v1/bsv/{{net}}/script/{wire.script_digest(script)}/unspent/all", "what a script holds"
        )
        return wire.parse_unspent(answer.body)

    async def beef(self, txid: str, source: Endpoint) -> bytes:
        """A transaction with its ancestry, from the same index; nothing of it is verified here."""
        return wire.parse_beef_text((await self._indexed(source, f"/v1/bsv/{{net}}/tx/{txid}/beef", f"transaction {txid}")).body)

    async def _indexed(self, source: Endpoint, path: str, what: str) -> Answer:
        if _is_file(source):
            raise Unavailable("no-coin-index", f"cannot look up {what}: a headers file has no index of outputs")
        answer = await self._get(source, path)
        if answer.status == 404:
            hint = "name a header source that serves WhatsOnChain's paths"
            raise Unavailable("no-coin-index", f"cannot look up {what}: {host_of(source.url)} does not have it", hint=hint)
        if answer.status != 200:
            raise refusal(answer, f"look up {what}", self._http.clock)
        return answer

    async def _flavour(self, source: Endpoint) -> str:
        if source.kind in _FLAVOURS:
            return source.kind
        known = self._known.get(source.url)
        if known is not None:
            return known
        for name, flavour in _FLAVOURS.items():
            answer = await self._get(source, flavour.tip_path)
            if answer.status in (429, 502, 503, 504):
                raise refusal(answer, "ask what kind of header source it is", self._http.clock)
            if answer.status != 200:
                continue
            try:
                flavour.tip(answer.body)
            except RemoteProtocolError:
                continue
            self._known[source.url] = name
            return name
        raise Refused(
            "unknown-headers",
            f"cannot use {host_of(source.url)} as a header source: it speaks none of {', '.join(_FLAVOURS)}",
            hint="check Network.headers.url",
        )

    async def _get(self, source: Endpoint, path: str, height: int = 0) -> Answer:
        base = source.url.rstrip("/")
        net = source.kind if source.kind in CHAINS else self._chain
        if "/v1/bsv/" in base:
            path = path.removeprefix("/v1/bsv/{net}")
        request = Request("GET", base + path.format(net=net, height=height), _authority(source, path))
        return await self._http.send(request, deadline=_DEADLINE)


def _authority(source: Endpoint, path: str) -> dict[str, str]:
    """WhatsOnChain takes the bare key, everybody else a bearer token."""
    if path.startswith("/v1/bsv/"):
        key = token(source)
        return {"authorization": key} if key else {}
    return bearer(source)


def _header(found: BlockHeader) -> Header:
    return Header(found.height, found.hash, found.merkle_root, found.raw)


# --- a file of headers ---------------------------------------------------------------------------


def _is_file(source: Endpoint) -> bool:
    return source.kind == "file" or source.url.startswith("file:") or "://" not in source.url


def _path(source: Endpoint) -> Path:
    return Path(unquote(urlsplit(source.url).path) if source.url.startswith("file:") else source.url)


def _file_tip(path: Path) -> int:
    """The height of the last whole header; a header being appended does not count yet."""
    try:
        count = path.stat().st_size // _SIZE
    except OSError as error:
        raise Unavailable("headers-file", f"cannot read {path}: {error.strerror}", hint="check Network.headers.file") from error
    if not count:
        raise Unavailable("headers-file", f"cannot read {path}: it holds no header")
    return count - 1


def _from_file(path: Path, height: int) -> Header | None:
    """The header at that place, which must build on the one before it; RemoteProtocolError on a broken file."""
    if not 0 <= height <= _file_tip(path):
        return None
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, height - 1) * _SIZE)
            raw = stream.read(_SIZE if height == 0 else 2 * _SIZE)
    except OSError as error:
        raise Unavailable("headers-file", f"cannot read {path}: {error.strerror}") from error
    if height == 0:
        return _header(parse_header(raw, 0))
    return _header(wire.parse_binary(raw, height - 1)[-1])
