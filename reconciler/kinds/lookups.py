"""Asking overlay hosts and the chain what exists: the read half that every kind with tokens shares.

What a host says is a claim. That a token is there counts only with the transaction that shows it; that it is not there
counts only when a majority of the hosts that serve the topic say so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.model.observation import Absent, Observation, Present, Unknown
from reconciler.model.ref import Outpoint
from reconciler.wire import advert, descriptor
from reconciler.wire.beef import parse_beef

if TYPE_CHECKING:
    from reconciler.ports import Found, Reads

# Answers asked for at a time: the largest page ls_producer gives. One identity may own this many tokens in all.
PAGE = 1000
MOST_TOKENS = 1_000_000

Query = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Question:
    """One lookup, and how to tell from a locking script whether an answer really is what was asked for."""

    service: str
    query: Query
    fits: Callable[[bytes], bool]


def of_subject(public_key: str, subject: str) -> Question:
    """The descriptors by which this key describes this subject."""

    def fits(script: bytes) -> bool:
        said = descriptor.parse_descriptor(script)
        return (said.identity.hex(), said.subject) == (public_key, subject)

    return Question(descriptor.SERVICE, {"identityKey": public_key, "subject": subject}, fits)


def of_advert(public_key: str, type_: str, service: str, name: str, domain: str) -> Question:
    """The SHIP or SLAP tokens by which this key announces this very topic or service at this address."""
    wanted = advert.Advert(type_, bytes.fromhex(public_key), domain, name)
    query = advert.query(type_, identity=wanted.identity, names=[name])
    return Question(service, query, lambda script: advert.parse_advert(script) == wanted)


async def held(reads: Reads, host: Endpoint, service: str, query: Query) -> frozenset[str] | None:
    """Every outpoint a host lists for a query; None when it did not answer. A host that lies here only hides or repeats."""
    found: set[str] = set()
    try:
        for skip in range(0, MOST_TOKENS, PAGE):
            page = await reads.overlay.lookup(host, service, {**query, "limit": PAGE, "skip": skip})
            found |= {str(answer.outpoint) for answer in page}
            if len(page) < PAGE:
                break
    except (Unavailable, RemoteProtocolError, Refused):
        return None
    return frozenset(found)


async def spender(reads: Reads, net: Net, outpoint: str) -> str | None:
    """The transaction that spends a token; None when it is unspent, or when nobody can tell."""
    try:
        return await reads.chain.spender(Outpoint.parse(outpoint), net.headers)
    except (Unavailable, RemoteProtocolError, Refused):
        return None


async def strangers(reads: Reads, net: Net, questions: Sequence[Question], known: Collection[str] = ()) -> Observation:
    """Tokens of ours on the network, besides the `known` ones: Present {"unrecorded": [outpoints]}, Absent, or Unknown.

    Unknown unless more than half of the hosts answered everything: what was paid for may stand on a silent one. A host that
    says it does not serve the topic has nothing of ours and is not counted. What the chain shows spent is a host's memory.
    """
    views = await reads.together([_view(reads, host, questions) for host in net.overlays])
    serving = [view for view in views if not isinstance(view, Refused)]
    shown = sorted({outpoint for view in serving if isinstance(view, frozenset) for outpoint in view if outpoint not in known})
    spent = await reads.together([spender(reads, net, outpoint) for outpoint in shown])
    alive = [outpoint for outpoint, by in zip(shown, spent, strict=True) if by is None]
    if alive:
        return Present({"unrecorded": alive})
    answered = sum(isinstance(view, frozenset) for view in serving)
    if 2 * answered <= len(serving):
        told = f"{answered} of {len(serving)}" if answered else "none"
        return Unknown(f"{told} of the overlay hosts of Network/{net.name} answered whether it exists already")
    return Absent("not found on any host")


async def _view(reads: Reads, host: Endpoint, questions: Sequence[Question]) -> frozenset[str] | Refused | Unavailable:
    """What a host really has of what is asked; Refused where it serves none of it, Unavailable where it did not say."""
    found: set[str] = set()
    refusals: list[Refused] = []
    for question in questions:
        try:
            page = await reads.overlay.lookup(host, question.service, {**question.query, "limit": PAGE})
        except Unavailable as error:
            return error
        except RemoteProtocolError as error:
            return Unavailable(error.code, error.message)
        except Refused as error:
            if error.code != "overlay-refused":
                return Unavailable(error.code, error.message)
            refusals.append(error)
        else:
            found |= {str(answer.outpoint) for answer in page if _fits(answer, question)}
    return refusals[0] if len(refusals) == len(questions) else frozenset(found)


async def shown(reads: Reads, net: Net, question: Question) -> dict[str, bytes]:
    """Everything the hosts show that really is what was asked for and that nothing spends: outpoint -> BEEF."""

    async def one(host: Endpoint) -> Sequence[Found]:
        try:
            return await reads.overlay.lookup(host, question.service, {**question.query, "limit": PAGE})
        except (Unavailable, RemoteProtocolError, Refused):
            return ()

    pages = await reads.together([one(host) for host in net.overlays])
    found = {str(answer.outpoint): answer.beef for page in pages for answer in page if _fits(answer, question)}
    spent = await reads.together([spender(reads, net, outpoint) for outpoint in sorted(found)])
    return {outpoint: found[outpoint] for outpoint, by in zip(sorted(found), spent, strict=True) if by is None}


def _fits(answer: Found, question: Question) -> bool:
    """A host may ignore the query, or lie: only the transaction it hands over counts."""
    try:
        outputs = parse_beef(answer.beef).transaction(answer.outpoint.txid).outputs
        return question.fits(outputs[answer.outpoint.vout].script)
    except (RemoteProtocolError, IndexError, KeyError):
        return False
