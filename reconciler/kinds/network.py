"""Network: what the outside is. Local: its record is its effect; dependents build on its spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.kinds.local import LocalController
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused
from reconciler.model.resource import Resource

# The bounds of a part, by the interface that S3-compatible stores share.
LEAST_PART, MOST_PART = 5 * 1024**2, 5 * 1024**3


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
                secret=item.get("apiKey") or (item.get("s3") or {}).get("secretKey") or {},
                options=_options(item, spec["chain"]),
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


def _options(item: Mapping[str, Json], chain: str) -> dict[str, Json]:
    """What an adapter needs to know of a host beyond its address: where buyers find content, the terms of a bucket, the key a
    host must show, and the most it is paid for an upload, on which chain.
    """
    found = {name: value for name, value in (item.get("s3") or {}).items() if name != "secretKey"}
    found |= {"publicUrl": item["publicUrl"].rstrip("/")} if item.get("publicUrl") else {}
    found |= {"identityKey": item["identityKey"]} if item.get("identityKey") else {}
    return found | ({"maxPayment": item["maxPayment"], "chain": chain} if item.get("maxPayment") else {})


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

    def check(self, want: Resource) -> Sequence[tuple[str, str] | tuple[str, str, str]]:
        """Host names must be distinct, because records speak of hosts by name; a storage host says what its kind needs."""
        faults: list[tuple[str, str] | tuple[str, str, str]] = []
        for index, item in enumerate(want.spec.get("storage") or ()):
            faults += [(f"/storage/{index}{where}", message, hint) for where, message, hint in _misfits(item)]
        for key in ("overlays", "storage", "broadcasters"):
            seen: set[str] = set()
            for index, item in enumerate(want.spec.get(key) or ()):
                name = item.get("name") or item["url"]
                if name in seen:
                    faults.append((f"/{key}/{index}", f'two {key} are called "{name}"'))
                seen.add(name)
        return faults


def _misfits(item: Mapping[str, Json]) -> list[tuple[str, str, str]]:
    """What does not go together in one storage host, as (pointer, message, hint)."""
    kind, url, found = item.get("kind") or "uhrp", str(item["url"]), []
    on_disk = url.startswith(("file:///", "/"))
    if kind == "filesystem" and not on_disk:
        found.append(("/url", "a directory is not written like this", "write file:///path, or an absolute path"))
    if kind != "filesystem" and not url.startswith(("http://", "https://")):
        hint = "say kind: filesystem" if on_disk else "write https://host/path"
        found.append(("/url", f"a host of kind {kind} has an http:// or https:// address", hint))
    if kind == "s3" and ("?" in url or "#" in url):
        found.append(("/url", "the address of a bucket has no query", "write https://endpoint/bucket"))
    if kind == "s3" and not item.get("s3"):
        found.append(("", "a bucket needs an access key", "add s3: {accessKeyId: .., secretKey: {env: ..}}"))
    if kind != "s3" and item.get("s3"):
        found.append(("/s3", f"a host of kind {kind} has no bucket", "say kind: s3, or leave s3 out"))
    for name in ("identityKey", "maxPayment") if kind != "uhrp" else ():
        if item.get(name):
            found.append((f"/{name}", f"a host of kind {kind} is neither met nor paid this way", f"leave {name} out"))
    if kind == "uhrp" and item.get("publicUrl"):
        found.append(("/publicUrl", "a UHRP host says itself where its content is found", "leave publicUrl out"))
    part = (item.get("s3") or {}).get("partSize")
    if part is not None and not LEAST_PART <= int(part) <= MOST_PART:
        found.append(("/s3/partSize", "object stores take parts from 5MiB to 5GiB", "leave it out for 16MiB"))
    return found


CONTROLLER = NetworkController()
