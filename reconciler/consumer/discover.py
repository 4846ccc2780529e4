"""Finding what is on offer. No answer is trusted: tokens are signed and proven, documents hash to what their token names.

Theory of operation. Descriptor tokens (ls_producer) say which producer describes what by which document; the Discovery port hands
over those that hold (signature, key link, SPV). Of one producer and subject the newest counts, unless the chain shows it spent.
Documents come from whoever has the bytes (ls_uhrp), are compared with the token's digest, opened, and must be signed by the
token's owner; those at hand already are not fetched again. What does not hold is left out, and said so in `Found.notes`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

from reconciler.consumer.offers import Anchor, Offer, Service, read_offer, read_service, sold_by
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError, Refused, RemoteProtocolError, Unavailable
from reconciler.model.ref import Outpoint
from reconciler.ports import Found, Ports
from reconciler.web import Asking, Web
from reconciler.wire import descriptor, uhrp
from reconciler.wire.beef import parse_beef
from reconciler.wire.document import MAX_ENVELOPE, open_envelope
from reconciler.wire.proof import parse_header

# Reads at a time: many enough to be quick, few enough not to be taken for an attack.
TOGETHER = 16
# Pages asked of ls_producer; a hundred thousand descriptors are more than one person looks through.
MOST_PAGES = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Described:
    """A descriptor that holds: its token, and when it was mined."""

    token: descriptor.Descriptor
    anchor: Anchor

    @property
    def owner(self) -> str:
        """The producer's key, hex33."""
        return self.token.identity.hex()


@dataclass(frozen=True, slots=True)
class Market:
    """What was found: offers and services that hold, and what was left out and why."""

    offers: tuple[Offer, ...]
    services: tuple[Service, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Finder:
    """Looks for offers on one network, through the doors of a buyer."""

    ports: Ports
    web: Web
    net: Net
    _notes: list[str] = field(default_factory=list)

    async def market(self, *, producer: str = "", name: str = "") -> Market:
        """Every offer that holds, with who sells it; of one producer, or of one name, where given."""
        self._notes.clear()
        tokens, adverts = await asyncio.gather(
            self.described("Dataset", producer, f"Dataset/{name}" if name else ""), self.described("Advertisement", producer)
        )
        read = await self._all([self._service(one) for one in adverts])
        services = tuple(one for one in read if one is not None)
        found = [one for one in await self._all([self._offer(one) for one in tokens]) if one is not None]
        offers = tuple(replace(one, service=sold_by(one, services)) for one in found)
        return Market(offers, services, tuple(sorted(self._notes)))

    async def described(self, kind: str, producer: str = "", subject: str = "") -> list[Described]:
        """The newest unspent descriptor of every producer and subject."""
        asked = descriptor.Query(identity=producer, kind=kind, subject=subject, limit=descriptor.MAX_LIMIT)
        tokens: dict[Outpoint, Found] = {}
        for page in range(MOST_PAGES):
            query = replace(asked, skip=page * asked.limit).json()
            found = await self.ports.discovery.find(self.net.directory, descriptor.SERVICE, query)
            tokens |= {one.outpoint: one for one in found}
            if len(found) < asked.limit:
                break
        read = await self._all([self._read(one, asked) for one in tokens.values()])
        newest: dict[tuple[str, str], Described] = {}
        for one in sorted((one for one in read if one), key=lambda one: (-one.anchor.version, one.anchor.outpoint)):
            newest.setdefault((one.owner, one.token.subject), one)
        return list(newest.values())

    async def _read(self, found: Found, asked: descriptor.Query) -> Described | None:
        """A descriptor out of its transaction, if it is what was asked for and nothing is known to spend it."""
        try:
            beef = parse_beef(found.beef).about(found.outpoint.txid)
            said = descriptor.parse_descriptor(beef.tx.outputs[found.outpoint.vout].script)
            if not asked.matches(found.outpoint, said):
                return None
            if await self._spender(found.outpoint):
                return None
            bump = beef.txs[found.outpoint.txid].bump
            published = None
            if bump is not None:
                header = await self.ports.chain.header(bump.height, self.net.headers)
                if header is None or header.merkle_root != bump.root(found.outpoint.txid):
                    raise RemoteProtocolError(f"cannot believe {found.outpoint}: block {bump.height} does not hold it")
                published = datetime.fromtimestamp(parse_header(header.raw, header.height).time, UTC)
            height = bump.height if bump is not None else 0
            return Described(said, Anchor(str(found.outpoint), said.digest, said.version, height, published))
        except (ReconcilerError, IndexError, KeyError) as error:
            self._notes.append(f"{found.outpoint}: {error}")
            return None

    async def _spender(self, outpoint: Outpoint) -> str | None:
        try:
            return await self.ports.chain.spender(outpoint, self.net.headers)
        except (Unavailable, Refused):
            return None  # a header source without an index cannot tell; the host's word stands

    async def _offer(self, one: Described) -> Offer | None:
        document = await self._document(one)
        try:
            return None if document is None else read_offer(document, one.owner, one.anchor)
        except RemoteProtocolError as error:
            self._leave_out(one, error)
            return None

    async def _service(self, one: Described) -> Service | None:
        document = await self._document(one)
        try:
            return None if document is None else read_service(document, one.owner, one.anchor)
        except RemoteProtocolError as error:
            self._leave_out(one, error)
            return None

    async def _document(self, one: Described) -> Mapping[str, Json] | None:
        """The document a descriptor anchors, signed by its owner; None, and a note, where it cannot be had or does not hold."""
        try:
            return await self.document(one.token.digest, one.owner)
        except ReconcilerError as error:
            self._leave_out(one, error)
            return None

    def _leave_out(self, one: Described, error: ReconcilerError) -> None:
        self._notes.append(f"{one.token.subject} of {one.owner[:16]}…: {error.message}")

    async def document(self, digest: str, owner: str) -> Mapping[str, Json]:
        """A signed document by its digest; RemoteProtocolError when it is another's."""
        document, signer = open_envelope(await self._envelope(digest))
        if signer != owner:
            raise RemoteProtocolError(f"cannot believe document {digest[:12]}: {signer} signed it, not {owner}")
        return document

    async def _envelope(self, digest: str) -> bytes:
        if self.ports.blobs.has(digest):
            return self.ports.blobs.get(digest)
        why = []
        for url in await self.replicas(digest):
            try:
                reply = await self.web.ask(Asking("GET", url), plain=True)
            except ReconcilerError as error:
                why.append(error.message)
                continue
            if reply.status == 200 and len(reply.body) <= MAX_ENVELOPE and hashlib.sha256(reply.body).hexdigest() == digest:
                self.ports.blobs.put(reply.body)
                return reply.body
            why.append(f"{url} answers {reply.status} and other bytes")
        message = f"cannot read document {digest[:12]}: " + ("; ".join(why) or "no host promises to have it")
        raise Unavailable("no-document", message, hint="try again later; its producer keeps copies renewed")

    async def replicas(self, sha256: str) -> list[str]:
        """Where hosts promise to serve content, those whose promise lasts longest first; empty where nobody does."""
        try:
            found = await self.ports.discovery.find(self.net.directory, uhrp.SERVICE, uhrp.query(sha256=sha256))
        except (Unavailable, Refused):
            return []
        now, promises = self.ports.clock.now().timestamp(), []
        for one in found:
            try:
                outputs = parse_beef(one.beef).transaction(one.outpoint.txid).outputs
                said = uhrp.parse_uhrp_token(outputs[one.outpoint.vout].script)
            except (RemoteProtocolError, IndexError):
                continue
            if said.sha256 == sha256 and said.expires > now:
                promises.append((-said.expires, said.url))
        return list(dict.fromkeys(url for _, url in sorted(promises)))

    async def _all(self, reads: Sequence[Awaitable[T]]) -> list[T]:
        """A bounded number of reads at a time, in order."""
        gate = asyncio.Semaphore(TOGETHER)

        async def one(read: Awaitable[T]) -> T:
            async with gate:
                return await read

        return list(await asyncio.gather(*(one(read) for read in reads)))


def matching(
    offers: Iterable[Offer], *, tags: Sequence[str] = (), words: str = "", terms: str = "", names: Sequence[str] = ()
) -> list[Offer]:
    """Offers that have every tag, every word in what is said of them, and `terms` for a licence; case does not matter."""
    wanted = {tag.casefold() for tag in tags}
    looked = words.casefold().split()

    def fits(offer: Offer) -> bool:
        text = " ".join((offer.name, offer.title, offer.description, *offer.tags)).casefold()
        return (
            wanted <= {tag.casefold() for tag in offer.tags}
            and all(word in text for word in looked)
            and terms.casefold() in ("", offer.license.casefold())
            and (not names or offer.name in names)
        )

    return [offer for offer in offers if fits(offer)]
