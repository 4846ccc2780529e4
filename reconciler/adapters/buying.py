"""A buyer made of real doors: its identity's conversation, a purse with its budget, and the network it buys on."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from reconciler.adapters.auth import Introduced
from reconciler.adapters.certificates import Certificates
from reconciler.adapters.http import Http
from reconciler.adapters.purse import Purse
from reconciler.adapters.wallet import WALLET, LocalWallet
from reconciler.adapters.web import HttpWeb
from reconciler.consumer.budget import read_budget
from reconciler.consumer.client import Client
from reconciler.consumer.discover import Finder
from reconciler.consumer.pay import Till
from reconciler.kinds.network import Net, read_net
from reconciler.model.canonical import Json
from reconciler.model.errors import Refused
from reconciler.model.ref import ResourceRef
from reconciler.model.resource import Resource
from reconciler.ports import Ports
from reconciler.wire.speaker import Speaker

CONSUMER = "consumer"


def buyer(
    ports: Ports,
    wallet: LocalWallet,
    http: Http,
    declared: Mapping[ResourceRef, Resource],
    networks: Mapping[str, Json],
    identity: str = "",
    network: str = "",
) -> Client:
    """A client for the Identity of that name, or the only one whose role is to buy, on the Network it names, or the only one.

    Where no Identity buys, the key of the purse does, without a budget of its own.
    """
    who = _identity(declared, identity)
    name, spec = (who.ref.name, who.spec) if who is not None else (WALLET, {})
    if who is not None:
        wallet.know({name: spec["key"]})
    net = _network(networks, network or spec.get("networkRef") or "")

    def speak() -> Speaker:
        return wallet.speaker(name)

    said = spec.get("consumer") or {}
    purse = Purse(ports.ledger, wallet, speak, ports.clock, ports.entropy, read_budget(said))
    conversation = Introduced(http, speak, ports.entropy, purse, Certificates(wallet.certificates, ports.entropy))
    http.conversation = conversation
    web = HttpWeb(http, conversation, speak, lambda url: reached(net, url))
    return Client(Finder(ports, web, net), Till(ports, web, net.chain, purse), said)


def _identity(declared: Mapping[ResourceRef, Resource], name: str) -> Resource | None:
    """Who buys; Refused when that cannot be told."""
    found = {ref.name: one for ref, one in declared.items() if ref.kind == "Identity" and (not name or ref.name == name)}
    if not name:
        found = {key: one for key, one in found.items() if CONSUMER in one.spec["roles"]}
    if name and not found:
        raise Refused("no-identity", f"cannot buy as {name}: there is no such Identity", hint="reconciler consumer init")
    if len(found) > 1:
        raise Refused("which-identity", f"cannot tell who buys: there are {', '.join(sorted(found))}", hint="name one with --as")
    return next(iter(found.values()), None)


def _network(networks: Mapping[str, Json], name: str) -> Net:
    """Where it buys; Refused when that cannot be told."""
    if name not in networks and (name or len(networks) != 1):
        names = ", ".join(sorted(networks)) or "none"
        hint = "name one with --network" if networks else "reconciler consumer init writes one"
        raise Refused("which-network", f"cannot tell which Network is meant: there are {names}", hint=hint)
    chosen = name or next(iter(networks))
    return read_net(chosen, networks[chosen])


def reached(net: Net, url: str) -> tuple[str, bool]:
    """The address at which a host is reached from here, and whether only a stranger names it.

    Storage hosts announce themselves by https, always; one that the Network declares is reached as the Network says.
    """
    parts = urlsplit(url)
    for host in (*net.storage, *net.overlays):
        known = urlsplit(host.url)
        if known.netloc and known.netloc == parts.netloc:
            return parts._replace(scheme=known.scheme).geturl(), False
    return url, net.chain != "devnet"
