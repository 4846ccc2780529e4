"""Network: what the outside is. Local: its record is its effect; dependents build on its spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.kinds.local import LocalController
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused
from reconciler.model.resource import Resource


@dataclass(frozen=True, slots=True)
class Net:
    """A Network's spec as the endpoints that effects name. `quorum` hosts must confirm a submission (0: all)."""

    name: str
    chain: str
    overlays: tuple[Endpoint, ...]
    storage: tuple[Endpoint, ...]
    broadcasters: tuple[Endpoint, ...]
    headers: Endpoint
    public_url: str
    quorum: int
    max_rate: tuple[int, int] | None


def read_net(name: str, spec: Mapping[str, Json]) -> Net:
    """The endpoints of a normalised Network spec; names default to the URL's host."""

    def endpoints(key: str) -> tuple[Endpoint, ...]:
        return tuple(
            Endpoint(
                name=item.get("name") or item["url"].split("://", 1)[-1].rstrip("/"),
                url=item["url"].rstrip("/"),
                region=item.get("region") or "",
                kind=item.get("kind") or "",
                secret=item.get("apiKey") or {},
            )
            for item in spec.get(key) or ()
        )

    headers = spec.get("headers") or {}
    ack = spec.get("ack", "any")
    quorum = {"any": 1, "all": 0}.get(ack, 1) if isinstance(ack, str) else int(ack["quorum"])
    cap = (spec.get("fees") or {}).get("max")
    return Net(
        name=name,
        chain=spec["chain"],
        overlays=endpoints("overlays"),
        storage=endpoints("storage"),
        broadcasters=endpoints("broadcasters"),
        headers=Endpoint("headers", (headers.get("url") or headers.get("file") or "").rstrip("/"), kind=spec["chain"]),
        public_url=((spec.get("gateway") or {}).get("publicUrl") or "").rstrip("/"),
        quorum=quorum,
        max_rate=(cap["satoshis"], cap["bytes"]) if cap else None,
    )


# The Network last read under each name. All that use it in one plan hold the same object, and ten thousand may.
_READ: dict[str, tuple[Json, Net]] = {}


def net_of(body: Mapping[str, Json]) -> Net:
    """The network that a resolved body uses; Refused when it names none."""
    name = body["spec"].get("networkRef")
    spec = body["using"].get(f"Network/{name}") if name else None
    if spec is None:
        raise Refused("no-network", "cannot publish without a Network", hint="add a Network manifest, or name it with networkRef")
    known = _READ.get(name)
    if known is None or known[0] is not spec:
        known = _READ[name] = (spec, read_net(name, spec))
    return known[1]


class NetworkController(LocalController):
    """Chain, hosts, broadcasters and limits, as other resources see them."""

    kind = "Network"

    def check(self, want: Resource) -> Sequence[tuple[str, str]]:
        """Host names must be distinct, because records speak of hosts by name."""
        faults = []
        for key in ("overlays", "storage", "broadcasters"):
            seen: set[str] = set()
            for index, item in enumerate(want.spec.get(key) or ()):
                name = item.get("name") or item["url"]
                if name in seen:
                    faults.append((f"/{key}/{index}", f'two {key} are called "{name}"'))
                seen.add(name)
        return faults


CONTROLLER = NetworkController()
