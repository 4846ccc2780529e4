"""Where content came from: the versions before it, each proven to be spent by the next, and what it is said to be made of.

A producer publishes version n by spending the token of version n-1 (specs/tm_producer.md). So the chain of versions needs
nobody's word: the transaction of each is fetched, proven, and must spend the token before it, of the same owner and subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.consumer.offers import Offer
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.errors import ReconcilerError, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.ports import Ports
from reconciler.wire.beef import Beef, parse_beef
from reconciler.wire.descriptor import Descriptor, parse_descriptor
from reconciler.wire.proof import parse_header, roots_needed, verify_beef

# A dataset of daily versions has this many in five years; nobody reads more at once.
MOST_VERSIONS = 2000


@dataclass(frozen=True, slots=True)
class Version:
    """One version that is proven: its number, token, document, and block (0 and None while in none)."""

    version: int
    outpoint: str
    digest: str
    height: int
    published: datetime | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Versions, newest first; `complete` when they reach the first one. `inputs` are as declared. `note` says where it ended."""

    versions: tuple[Version, ...]
    inputs: tuple[Mapping[str, Json], ...]
    complete: bool
    note: str = ""


async def lineage(ports: Ports, net: Net, offer: Offer) -> Lineage:
    """Walk back from the current version, as far as the source of headers still has the transactions."""
    found: list[Version] = []
    at: Outpoint | None = Outpoint.parse(offer.anchor.outpoint)
    spent_by: Beef | None = None
    note = ""
    while at is not None and len(found) < MOST_VERSIONS:
        try:
            beef = await _proven(ports, net, at)
            said = parse_descriptor(beef.tx.outputs[at.vout].script)
            _require_chain(offer, said, at, spent_by, found)
        except (ReconcilerError, IndexError) as error:
            note = str(error)
            break
        found.append(await _version(ports, net, beef, said, at))
        at, spent_by = await _before(ports, net, offer, beef, said), beef
    complete = bool(found) and found[-1].version == 1
    return Lineage(tuple(found), offer.lineage, complete, note)


async def _proven(ports: Ports, net: Net, at: Outpoint) -> Beef:
    beef = parse_beef(await ports.chain.beef(at.txid, net.headers)).about(at.txid)
    roots = {}
    for height, _ in sorted(roots_needed(beef)):
        header = await ports.chain.header(height, net.headers)
        roots[height] = None if header is None else header.merkle_root
    verify_beef(beef, lambda height, root: roots[height] == root)
    return beef


def _require_chain(offer: Offer, said: Descriptor, at: Outpoint, by: Beef | None, found: list[Version]) -> None:
    """RemoteProtocolError unless this token is the same producer's, of the same subject, and the version before."""
    if (said.identity.hex(), said.subject) != (offer.producer, f"Dataset/{offer.name}"):
        raise RemoteProtocolError(f"cannot follow {at}: it describes {said.subject} of {said.identity.hex()}")
    if by is not None and all(one.outpoint != at for one in by.tx.inputs):
        raise RemoteProtocolError(f"cannot follow {at}: version {found[-1].version} does not spend it")
    if found and said.version >= found[-1].version:
        raise RemoteProtocolError(f"cannot follow {at}: version {said.version} does not come before {found[-1].version}")


async def _version(ports: Ports, net: Net, beef: Beef, said: Descriptor, at: Outpoint) -> Version:
    bump, published = beef.txs[at.txid].bump, None
    if bump is not None:
        header = await ports.chain.header(bump.height, net.headers)
        published = None if header is None else datetime.fromtimestamp(parse_header(header.raw, header.height).time, UTC)
    return Version(said.version, str(at), said.digest, bump.height if bump is not None else 0, published)


async def _before(ports: Ports, net: Net, offer: Offer, beef: Beef, said: Descriptor) -> Outpoint | None:
    """The input that spent the version before, found by looking at what each input was; None for a first version."""
    if said.version == 1:
        return None
    for one in beef.tx.inputs:
        try:
            spent = parse_beef(await ports.chain.beef(one.outpoint.txid, net.headers)).transaction(one.outpoint.txid)
            old = parse_descriptor(spent.outputs[one.outpoint.vout].script)
        except (ReconcilerError, IndexError):
            continue
        if (old.identity, old.subject) == (said.identity, said.subject):
            return one.outpoint
    return None
