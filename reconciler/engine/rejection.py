"""A rejection is final only when nobody can have accepted the same bytes: then their coins may be used again."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.canonical import Json
from reconciler.model.effect import Broadcast
from reconciler.model.errors import ReconcilerError, Refused, Uncertain
from reconciler.ports import Ports
from reconciler.wire import arc


async def outlived(effect: Broadcast, ports: Ports, error: Refused, *, begun: bool) -> Mapping[str, Json] | None:
    """The result of a broadcast that one host rejects and another holds; None when the rejection stands.

    Uncertain while a broadcaster that an earlier attempt (`begun`) may have reached does not say.
    """
    silent: ReconcilerError | None = None
    for endpoint in effect.via:
        try:
            word = await ports.chain.status(effect.txid, (endpoint,))
        except ReconcilerError as failure:
            silent = failure
            continue
        if word is not None and arc.verdict(word.status, word.detail) in (arc.Verdict.ACCEPTED, arc.Verdict.MINED):
            return {"txid": effect.txid, "status": word.status}
    if begun and silent is not None:
        hint = "the same bytes will be sent again; a broadcaster that is gone for good is taken out of the Network"
        raise Uncertain(
            "rejected-somewhere", f"{error.message}, but another broadcaster may hold it: {silent.message}", hint=hint
        )
    return None
