"""PaymentPolicy: how money arrives, and whose it is. Local: datasets that name it sell by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from reconciler.kinds.later import later
from reconciler.kinds.local import LocalController
from reconciler.kinds.network import Net
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.resource import Resource

if TYPE_CHECKING:
    from reconciler.wire import keys
else:
    keys = later("reconciler.wire.keys")

KIND = "PaymentPolicy"
# The party that sells; it has the remainder, and needs no address.
PRODUCER = "producer"
MAX_REVENUE_SPLITS = 10
_UNSPENDABLE = ("6a", "006a")


class PaymentPolicyController(LocalController):
    """Ways to pay, routing between them, shares, settlement. `most` parties may share."""

    kind = KIND
    stage = 2

    def __init__(self, most: int = MAX_REVENUE_SPLITS) -> None:
        self._most = most

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """Some way is open, every route leads to one, and the shares are exactly everything."""
        spec = want.spec
        return [*_ways(spec), *_shares(spec.get("splits") or {}, spec.get("parties") or {}, self._most)]


def policy_of(body: Mapping[str, Json]) -> Mapping[str, Any] | None:
    """The policy that a resolved body uses, if any."""
    name = body["spec"].get("paymentPolicyRef")
    found: Mapping[str, Any] | None = body["using"].get(f"{KIND}/{name}") if name else None
    return found


def reachable(net: Net, body: Mapping[str, Json]) -> None:
    """Refused when the policy of a body names broadcasters that its network does not have."""
    named: Collection[str] = ((policy_of(body) or {}).get("native") or {}).get("broadcasters") or ()
    known = [one.name for one in net.broadcasters]
    lost = [name for name in named if name not in known]
    if lost:
        raise Refused(
            "unknown-broadcaster",
            f"cannot take payments by {', '.join(lost)}: Network/{net.name} has no such broadcaster",
            hint=f"broadcasters of the network: {', '.join(known) or 'none'}",
        )


def _ways(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    http, native, routing = spec["http"], spec["native"], spec.get("routing")
    taken = {"http": http["enabled"], "native": native["enabled"]}
    faults = []
    if not any(taken.values()):
        faults.append(("", "neither http nor native is enabled, so nobody can pay"))
    elif routing:
        for size in ("small", "large"):
            if not taken[routing[size]]:
                faults.append((f"/routing/{size}", f"{routing[size]} is not enabled"))
    if http.get("min", 0) > http.get("max", http.get("min", 0)):
        faults.append(("/http/max", "max is less than min"))
    return faults


def _shares(splits: Mapping[str, str], parties: Mapping[str, Mapping[str, str]], most: int) -> list[tuple[str, str]]:
    faults = []
    if len(splits) > most:
        faults.append(("/splits", f"{len(splits)} parties share, more than {most}"))
    whole = sum(map(Fraction, splits.values()), Fraction(0))
    if splits and PRODUCER not in splits:
        faults.append(("/splits", "the producer has no share, and somebody has to have the remainder"))
    if splits and whole != 1:
        faults.append(("/splits", f"the shares add up to {decimal(whole)}, not to 1"))
    faults += [(f"/splits/{name}", "a share is more than nothing") for name, share in splits.items() if not Fraction(share)]
    faults += [
        (f"/splits/{name}", "parties does not say who that is") for name in splits if name not in parties and name != PRODUCER
    ]
    for name, party in parties.items():
        if name == PRODUCER:
            faults.append((f"/parties/{name}", "the producer is whoever sells, and is not declared"))
        elif name not in splits:
            faults.append((f"/parties/{name}", "has no share in splits"))
        if "identityKey" in party and not keys.is_public_key(bytes.fromhex(party["identityKey"])):
            faults.append((f"/parties/{name}/identityKey", "is no point of the curve, so nobody has its key"))
        if party.get("script", "").startswith(_UNSPENDABLE):
            faults.append((f"/parties/{name}/script", "can never be spent"))
    return faults


def decimal(exact: Fraction) -> str:
    """A sum of finite decimals in digits: up to 18 behind the point, none of them needless."""
    scaled = exact * 10**18
    digits = f"{scaled.numerator:019d}"
    return f"{digits[:-18]}.{digits[-18:]}".rstrip("0").rstrip(".")


CONTROLLER = PaymentPolicyController()
