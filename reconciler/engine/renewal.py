"""Prolonging copies on storage hosts: whatever happens to an answer, one renewal is never paid for twice.

The journal says that a renewal was begun; the world says whether it happened, because a renewed copy ends later than the plan
saw. So the host is asked before anything is paid, and again after anything that went wrong once the request had left.
"""

from __future__ import annotations

from reconciler.model.canonical import Json
from reconciler.model.effect import Renew, Rented
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, RemoteProtocolError, Unavailable
from reconciler.ports import Ports

# Refusals of ours, not of the host: the price has moved since it was quoted. The next plan knows the new one.
_OURS = frozenset({"payment-limit"})


async def renew(effect: Renew, ports: Ports, *, begun: bool) -> dict[str, Json]:
    """One copy after the other. Uncertain leaves the rest for the replay, which finds those already done.

    `begun`: an earlier attempt may have reached the host, so that an end that has moved was moved by us.
    """
    return {copy.sha256: await _one(copy, effect.host, effect.minutes, ports, begun) for copy in effect.copies}


async def _one(copy: Rented, host: Endpoint, minutes: int, ports: Ports, begun: bool) -> dict[str, Json]:
    try:
        found = await ports.storage.find(host, copy.sha256)
    except Unavailable as error:
        if begun:
            raise
        return {"expires": copy.expires, "paid": 0, "late": error.message}
    if found is None:
        return {"expires": copy.expires, "paid": 0, "late": "the host holds it no longer"}
    if found.expires > copy.expires:
        return {"expires": found.expires, "paid": copy.price if begun else 0}
    try:
        renewed = await ports.storage.renew(host, copy.sha256, minutes, copy.price)
    except RemoteProtocolError as error:
        # It answered, only not sensibly: what it did shows in what it holds.
        return await _told(copy, host, ports, error.message, 0)
    except Refused as error:
        return {"expires": copy.expires, "paid": 0, "late" if error.code in _OURS else "refused": error.message}
    except Unavailable as error:
        # Nothing happened, and there is time: the copy is still due at the next look.
        return {"expires": copy.expires, "paid": 0, "late": error.message}
    if renewed.expires <= copy.expires:
        return await _told(
            copy, host, ports, f"{host.name} was asked to keep it longer and said nothing of the kind", renewed.paid
        )
    return {"expires": renewed.expires, "paid": renewed.paid}


async def _told(copy: Rented, host: Endpoint, ports: Ports, why: str, paid: int) -> dict[str, Json]:
    """What an answer meant that was none: the end of the copy has moved, or the host counts as refusing."""
    after = await ports.storage.find(host, copy.sha256)
    if after is not None and after.expires > copy.expires:
        return {"expires": after.expires, "paid": paid}
    return {"expires": copy.expires, "paid": paid, "refused": why}
