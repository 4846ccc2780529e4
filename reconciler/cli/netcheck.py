"""`doctor --network`: each host of one Network, and whether it serves what our resources need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

    from reconciler.adapters.netlook import Visit
    from reconciler.model.resource import DesiredState


async def visited(name: str, transport: httpx.AsyncBaseTransport | None = None) -> list[Visit]:
    """What the hosts of the declared Network show; Refused when there is none of that name."""
    from reconciler.adapters.clock import SystemClock
    from reconciler.adapters.netlook import NetLook
    from reconciler.cli.checking import repository
    from reconciler.kinds.network import read_net
    from reconciler.model.errors import Refused

    repo = repository()
    loaded = repo.load(repo.environment)
    if loaded.desired is None:
        first = loaded.errors[0] if loaded.errors else repo.faults[0]
        raise Refused("bad-manifests", f"cannot read the manifests: {first.at}: {first.message}", hint="reconciler validate")
    nets = {ref.name: want for ref, want in loaded.desired.resources.items() if ref.kind == "Network"}
    if name not in nets:
        known = ", ".join(sorted(nets)) or "none"
        raise Refused("no-network", f"cannot find Network/{name}: there are {known}", hint="check the name and the environment")
    look = NetLook(SystemClock(), transport)
    try:
        return await look.visit(read_net(name, nets[name].spec), *needed(loaded.desired))
    finally:
        await look.close()


def needed(desired: DesiredState) -> tuple[set[str], set[str]]:
    """Topics and lookup services that the declared resources are published in and found by."""
    from reconciler.wire import advert, descriptor

    speaks = {ref.kind for ref in desired.resources} & {"Identity", "Dataset", "Advertisement"}
    ads = [want.spec for ref, want in desired.resources.items() if ref.kind == "Advertisement"]
    kinds = {kind for spec in ads for kind, listed in ((advert.SHIP, "ship"), (advert.SLAP, "slap")) if spec.get(listed)}
    topics = {advert.TOPICS[kind] for kind in kinds} | ({descriptor.TOPIC} if speaks else set())
    return topics, {advert.SERVICES[kind] for kind in kinds} | ({descriptor.SERVICE} if speaks else set())
