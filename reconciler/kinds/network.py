"""Network: what the outside is. Local: its record is its effect; dependents build on its spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from reconciler.kinds.local import LocalController
from reconciler.model.canonical import Json
from reconciler.model.endpoint import Directory, Endpoint
from reconciler.model.errors import Refused
from reconciler.model.resource import Resource

# The bounds of a part, by the interface that S3-compatible stores share.
LEAST_PART, MOST_PART = 5 * 1024**2, 5 * 1024**3
# Asked for who serves what where a Network names no trackers: those that the reference clients ask.
TRACKERS: Mapping[str, tuple[str, ...]] = {
    "main": (
        "https://overlay-us-1.bsvb.tech",
        "https://overlay-eu-1.bsvb.tech",
        "https://overlay-ap-1.bsvb.tech",
        "https://users.bapp.dev",
    ),
    "test": ("https://testnet-users.bapp.dev",),
}
# Hosts by these names are this machine; all others are spoken to over TLS, except on a devnet.
_OWN_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


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
    directory: Directory
    authrite: bool = False

    @property
    def reach(self) -> Directory | None:
        """Where submissions look for further hosts; None where only the declared ones are told."""
        return self.directory if self.directory.trackers else None


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

    ack = spec.get("ack", "any")
    quorum = {"any": 1, "all": 0}.get(ack, 1) if isinstance(ack, str) else int(ack["quorum"])
    cap = (spec.get("fees") or {}).get("max")
    overlays, headers = endpoints("overlays"), _headers(spec)
    return Net(
        name=name,
        chain=spec["chain"],
        overlays=overlays,
        storage=endpoints("storage"),
        broadcasters=endpoints("broadcasters"),
        headers=headers,
        public_url=((spec.get("gateway") or {}).get("publicUrl") or "").rstrip("/"),
        quorum=quorum,
        max_rate=(cap["satoshis"], cap["bytes"]) if cap else None,
        directory=_directory(spec, overlays, headers),
        authrite=bool((spec.get("gateway") or {}).get("authrite")),
    )


def _headers(spec: Mapping[str, Json]) -> Endpoint:
    """Where headers come from: the first source, and in its options under `also` those that it is held against."""
    said = spec.get("headers") or {}
    places = [(one.get("url") or one.get("file") or "").rstrip("/") for one in (said if isinstance(said, list) else [said])]
    return Endpoint("headers", places[0], kind=spec["chain"], options={"also": places[1:]} if len(places) > 1 else {})


def _directory(spec: Mapping[str, Json], overlays: tuple[Endpoint, ...], headers: Endpoint) -> Directory:
    """Where hosts are learnt of that nobody declared; no trackers where the Network keeps to its own, as on a devnet."""
    said = spec.get("discovery") or {}
    wanted = said.get("enabled", spec["chain"] != "devnet")
    trackers = tuple(spec.get("trackers") or TRACKERS.get(spec["chain"], ())) if wanted else ()
    return Directory(
        chain=spec["chain"],
        headers=headers,
        trackers=tuple(url.rstrip("/") for url in trackers),
        declared=overlays,
        fixed={service: tuple(url.rstrip("/") for url in urls) for service, urls in (said.get("hosts") or {}).items()},
        ttl=int(spec.get("cacheTtl") or 300_000) // 1000,
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


def aimed(net: Net, spec: Mapping[str, Json]) -> Net:
    """The network as a resource sees it whose `hosts.regions` say where its tokens go: the hosts that stand there, no others.

    Where strangers stand nobody knows, so they are told nothing of it.
    """
    regions = (spec.get("hosts") or {}).get("regions")
    if not regions:
        return net
    overlays = tuple(host for host in net.overlays if host.region in regions)
    return replace(net, overlays=overlays, directory=replace(net.directory, trackers=(), declared=overlays))


class NetworkController(LocalController):
    """Chain, hosts, broadcasters and limits, as other resources see them."""

    kind = "Network"

    def check(self, want: Resource) -> Sequence[tuple[str, str] | tuple[str, str, str]]:
        """Host names must be distinct, because records speak of hosts by name; a storage host says what its kind needs."""
        faults: list[tuple[str, str] | tuple[str, str, str]] = []
        for index, item in enumerate(want.spec.get("storage") or ()):
            faults += [(f"/storage/{index}{where}", message, hint) for where, message, hint in _misfits(item)]
        if want.spec["chain"] != "devnet":
            faults += _in_the_clear(want.spec)
        for key in ("overlays", "storage", "broadcasters"):
            seen: set[str] = set()
            for index, item in enumerate(want.spec.get(key) or ()):
                name = item.get("name") or item["url"]
                if name in seen:
                    faults.append((f"/{key}/{index}", f'two {key} are called "{name}"'))
                seen.add(name)
        return faults


def _in_the_clear(spec: Mapping[str, Json]) -> list[tuple[str, str, str]]:
    """The overlay hosts and trackers that would be spoken to over plain http, as (pointer, message, hint)."""
    hosts = [(f"/overlays/{index}/url", item["url"]) for index, item in enumerate(spec.get("overlays") or ())]
    hosts += [(f"/trackers/{index}", url) for index, url in enumerate(spec.get("trackers") or ())]
    for service, urls in ((spec.get("discovery") or {}).get("hosts") or {}).items():
        hosts += [(f"/discovery/hosts/{service}/{index}", url) for index, url in enumerate(urls)]
    hint = "write https://host; plain http is for a devnet, and for a host on this machine"
    return [
        (where, f"an overlay host on chain {spec['chain']} is spoken to over https", hint)
        for where, url in hosts
        if urlsplit(url).scheme == "http" and urlsplit(url).hostname not in _OWN_MACHINE
    ]


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
