"""Which token is meant: an operator may name it by its outpoint, by its transaction, or a dataset's by content that it lists.

Whatever was said, it comes down to one outpoint, of which must hold that it is unspent, that a key of ours made it, and that it
describes the resource. Where several are meant nothing is chosen: the error names them.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.kinds import identity_keys, lookups
from reconciler.kinds.adoption import Content, descriptor_at, signers
from reconciler.kinds.network import Net
from reconciler.model.errors import Conflict, Refused, RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.model.resource import Resource
from reconciler.ports import Reads
from reconciler.wire import descriptor
from reconciler.wire.document import open_envelope
from reconciler.wire.jsontext import is_hex
from reconciler.wire.uhrp import parse_uhrp, uhrp_url

_HINT = "as txid.vout, or as the txid of its transaction; a dataset's also as the UHRP URL of one of its files"


def read(said: str) -> str:
    """A token as typed, in one spelling: txid.vout, txid, or a bare UHRP URL; Refused when it is none of these."""
    text = said.strip()
    if is_hex(text.lower(), 32):
        return text.lower()
    try:
        return uhrp_url(parse_uhrp(text))
    except RemoteProtocolError:
        pass
    try:
        return str(Outpoint.parse(text))
    except Refused as error:
        raise Refused("bad-token", f"cannot tell which token {said[:100]!r} means", hint=_HINT) from error


async def require_ours(want: Resource, net: Net, said: str, reads: Reads, content: Content) -> str:
    """The outpoint of the token meant by `said` (as `read` gives it), once it is known to be ours and to describe this resource.

    Conflict, naming the owner or the subject, when it is another's; Refused when it is not there, or cannot be told from others.
    """
    if "." in said:
        outpoint = said
    elif len(said) == 64:
        outpoint = await _in_transaction(want, net, said, reads)
    else:
        outpoint = await _listing(want, net, said, reads, content)
    keys = signers(want, reads)
    question = lookups.Question(
        descriptor.SERVICE, {"outpoint": outpoint}, lambda script: bool(descriptor.parse_descriptor(script))
    )
    found = await lookups.shown(reads, net, question)
    if outpoint not in found:
        raise Refused("not-found", f"cannot import {want.ref}: no host of Network/{net.name} lists {outpoint}")
    claim = descriptor_at(found[outpoint], outpoint)
    if claim.identity.hex() not in keys:
        ours = " or ".join(keys) or "us"
        raise Conflict("other-owner", f"cannot import {want.ref}: {outpoint} belongs to {claim.identity.hex()}, not to {ours}")
    if claim.subject != str(want.ref):
        raise Conflict("other-subject", f"cannot import {want.ref}: {outpoint} describes {claim.subject}")
    return outpoint


async def _described(want: Resource, net: Net, reads: Reads) -> Mapping[str, bytes]:
    """Every unspent token by which a key of ours describes the resource."""
    asked = identity_keys.questions(signers(want, reads), str(want.ref))
    pages = await reads.together([lookups.shown(reads, net, question) for question in asked])
    return {outpoint: beef for page in pages for outpoint, beef in page.items()}


async def _in_transaction(want: Resource, net: Net, txid: str, reads: Reads) -> str:
    """The only token of the resource that a transaction made; otherwise Refused, with all of ours that it made."""
    fitting = [outpoint for outpoint in await _described(want, net, reads) if outpoint.startswith(txid)]
    if len(fitting) == 1:
        return fitting[0]
    ours = await reads.together([lookups.shown(reads, net, _of_key(key)) for key in signers(want, reads)])
    made = {outpoint: beef for page in ours for outpoint, beef in page.items() if outpoint.startswith(txid)}
    said = {outpoint: descriptor_at(beef, outpoint) for outpoint, beef in made.items()}
    choices = "; ".join(f"{at} describes {one.subject} under {one.identity.hex()[:8]}…" for at, one in sorted(said.items()))
    if not choices:
        raise Refused("not-found", f"cannot import {want.ref}: no host of Network/{net.name} lists a token of ours from {txid}")
    why = "several tokens" if fitting else "no token"
    raise Refused("which-token", f"cannot import {want.ref}: {txid} made {why} of it: {choices}", hint="name one as txid.vout")


def _of_key(key: str) -> lookups.Question:
    def fits(script: bytes) -> bool:
        return descriptor.parse_descriptor(script).identity.hex() == key

    return lookups.Question(descriptor.SERVICE, {"identityKey": key}, fits)


async def _listing(want: Resource, net: Net, url: str, reads: Reads, content: Content) -> str:
    """The token whose signed document is, or lists, the content of a UHRP URL."""
    if want.ref.kind != "Dataset":
        raise Refused("no-content", f"cannot import {want.ref} by {url}: only a Dataset lists content", hint="name txid.vout")
    sha256 = parse_uhrp(url)
    for outpoint, beef in sorted((await _described(want, net, reads)).items()):
        claim = descriptor_at(beef, outpoint)
        envelope = await content(net, claim.digest)
        document, _ = open_envelope(envelope) if envelope is not None else ({}, "")
        files = document.get("files") or ()
        if sha256 == claim.digest or any(isinstance(file, Mapping) and file.get("sha256") == sha256 for file in files):
            return outpoint
    raise Refused(
        "not-listed", f"cannot import {want.ref}: the version of it that hosts of Network/{net.name} show does not list {url}"
    )
