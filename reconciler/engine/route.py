"""Where an effect goes now: an open run follows its Network when hosts move, or it would call on dead ones for ever.

The journal keeps the effect as it was asked for; only the addresses it is carried to are those of the Network as it is
recorded today. Bytes, txids and digests are the same whoever takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.kinds.network import Net, aimed, net_of, read_net
from reconciler.model.change import Change
from reconciler.model.effect import Broadcast, Effect, Renew, Store, Submit
from reconciler.model.ref import ResourceRef
from reconciler.planner.resolve import network, paid_on
from reconciler.ports import Ledger

Route = Callable[[Effect], Effect]


def straight(effect: Effect) -> Effect:
    """Where it was planned."""
    return effect


def pays(change: Change) -> Net:
    """The Network a change pays on."""
    return net_of(paid_on(change))


def route_of(ledger: Ledger, change: Change) -> Route:
    """The route of a change's effects: straight, unless its Network has been recorded anew on the same chain since."""
    name = network(change.body)
    planned = (change.body.get("using") or {}).get(f"Network/{name}")
    if name is None or planned is None:
        return straight
    with ledger.begin() as tx:
        record = tx.record(ResourceRef("Network", name))
    if record is None or record.body["spec"] == planned:
        return straight
    old, new = read_net(name, planned), aimed(read_net(name, record.body["spec"]), change.body.get("spec") or {})
    return straight if old.chain != new.chain else lambda effect: _moved(effect, new)


def _moved(effect: Effect, net: Net) -> Effect:
    match effect:
        case Broadcast():
            return replace(effect, via=net.broadcasters or effect.via)
        case Submit():
            return replace(effect, hosts=net.overlays or effect.hosts, quorum=net.quorum, directory=net.reach)
        case Store(host=host) | Renew(host=host):
            return replace(effect, host=next((one for one in net.storage if one.name == host.name), host))
        case _:
            return effect
