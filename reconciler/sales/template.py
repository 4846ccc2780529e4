"""A payment by a transaction whose outputs we name (D21): the template, and whether a transaction follows it. Pure.

A template is a sealed document (wire/document.py) that the producer signs, kept like a quote and as long. It lists every output
as wallets take them: `outputs` can be handed to `createAction` (BRC-100) as they stand. Everything in it follows from the sale
and one nonce of ours, which is the derivation prefix of every key in it (BRC-29): the producer's is derived with the buyer's key,
that of another party with the producer's, so each can be found and spent by who it pays, and by nobody else.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.kinds.paymentpolicy import PRODUCER
from reconciler.model.canonical import Json, digest
from reconciler.model.codec import timestamp
from reconciler.model.errors import Refused, RemoteProtocolError
from reconciler.model.sale import Quote
from reconciler.sales.split import Share, script_of
from reconciler.wire.document import open_envelope
from reconciler.wire.keys import sha256
from reconciler.wire.payment import Income
from reconciler.wire.speaker import Speaker
from reconciler.wire.tx import Tx

TYPE = "PaymentTemplate"
_ID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Output:
    """One output that is to be made."""

    party: str
    satoshis: int
    script: bytes

    def json(self, content: str) -> dict[str, Json]:
        """As a wallet takes it, with the party beside."""
        said = f"{self.party} of {content}"[:50]
        return {"party": self.party, "satoshis": self.satoshis, "lockingScript": self.script.hex(), "outputDescription": said}


@dataclass(frozen=True, slots=True)
class Template:
    """What a buyer is to pay. The producer's output is the first; `confirmations` blocks must stand on it before it is served."""

    quote: Quote
    prefix: str
    suffix: str
    confirmations: int
    outputs: tuple[Output, ...]


def outputs(shares: Sequence[Share], speaker: Speaker, buyer: bytes, prefix: str) -> tuple[Output, ...]:
    """An output for each share that is something, the producer's first."""
    suffix = suffix_of(prefix)

    def script(share: Share) -> bytes:
        if share.party == PRODUCER:
            return speaker.script_from(buyer, prefix, suffix)
        return script_of(share, lambda payee: speaker.script_to(payee, prefix, suffix))

    return tuple(Output(share.party, share.satoshis, script(share)) for share in shares if share.satoshis)


def suffix_of(prefix: str) -> str:
    """The other half of the key ID, which follows from the first."""
    return base64.b64encode(sha256(b"template " + prefix.encode())[:16]).decode()


def document(
    quoted: Mapping[str, Json], made: Sequence[Output], prefix: str, confirmations: int, expires: datetime
) -> dict[str, Json]:
    """The statement that the producer signs, with its id: what a quote says, and how that is paid."""
    content = f"{quoted['contentId']}@{quoted['sequence']}"
    said = {name: value for name, value in quoted.items() if name != "id"} | {
        "type": TYPE,
        "expires": timestamp(expires),
        "derivationPrefix": prefix,
        "derivationSuffix": suffix_of(prefix),
        "confirmations": confirmations,
        "outputs": [one.json(content) for one in made],
    }
    return {**said, "id": digest(said)[:_ID_DIGITS]}


def read(quote: Quote | None, buyer: str, now: datetime) -> Template:
    """The template that was kept as a quote; Refused where there is none, it is another buyer's, or its time is over."""
    said: Mapping[str, Json] = open_envelope(quote.envelope)[0] if quote is not None else {}
    if quote is None or said.get("type") != TYPE:
        raise Refused("no-template", "cannot find such a payment template", hint="POST /payments/templates gives one")
    if quote.buyer != buyer:
        raise Refused("not-yours", f"cannot pay template {quote.id}: it was given to another buyer", hint="ask for one")
    if now >= quote.expires:
        hint = "ask for a new one; send nothing for this one"
        raise Refused("template-expired", f"cannot pay template {quote.id}: it has expired", hint=hint)
    made = tuple(Output(one["party"], one["satoshis"], bytes.fromhex(one["lockingScript"])) for one in said["outputs"])
    return Template(quote, said["derivationPrefix"], said["derivationSuffix"], said["confirmations"], made)


def found_in(template: Template, tx: Tx) -> tuple[int, ...]:
    """At which places a transaction has the template's outputs, in their order; RemoteProtocolError names the first it lacks.

    Wallets shuffle outputs, so any order is good; amounts are exact, and no output counts twice.
    """
    places: list[int] = []
    for wanted in template.outputs:
        exact = (wanted.satoshis, wanted.script)
        free = (vout for vout, out in enumerate(tx.outputs) if (out.satoshis, out.script) == exact and vout not in places)
        place = next(free, None)
        if place is None:
            holds = [out.satoshis for out in tx.outputs if out.script == wanted.script]
            told = f"it gives {holds[0]} satoshis instead of {wanted.satoshis}" if holds else "no output of it goes there"
            raise RemoteProtocolError(
                f"cannot accept the transaction: the share of {wanted.party} is wrong: {told}", code="output-missing"
            )
        places.append(place)
    return tuple(places)


def income_of(template: Template, tx: Tx, places: Sequence[int], buyer: bytes) -> Income:
    """The producer's part, as the purse takes it."""
    mine = template.outputs[0]
    return Income(tx.txid, places[0], mine.satoshis, mine.script, buyer, template.prefix, template.suffix)
