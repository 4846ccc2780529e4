"""Clients that others wrote, unmodified, and ours, at both networks: resolver, broadcaster, downloader."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.discovery import Resolver
from reconciler.adapters.http import Http
from reconciler.adapters.overlay import HttpOverlay
from reconciler.model.endpoint import Directory, Endpoint
from reconciler.ports import Chain
from reconciler.wire import advert, uhrp
from tests.conformance.networks import Network
from tests.conformance.producer import DOMAIN
from tests.interop.lab import Lab
from tests.interop.tls import certify, over_tls

pytestmark = pytest.mark.slow


@pytest.mark.row("P-AD-15", "P-AD-16")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_their_resolver_reads_our_tokens(net: Network, lab: Lab, options: tuple[str, ...]) -> None:
    who = net.producer(f"read by their resolver {options}")
    tx = who.pay(who.ship("tm_read"))
    net.submit(who.beef(tx), "tm_ship")
    query = {"identityKey": who.identity.hex()}
    net.until("ls_ship", query, tx.txid)
    answer = lab.client("lookup", net.url, "ls_ship", json.dumps(query), *options)
    assert answer["ok"], answer
    (found,) = answer["outputs"]
    assert (found["txid"], found["outputIndex"], found["satoshis"]) == (tx.txid, 0, 1)
    said = found["advertisement"]
    assert (said["protocol"], said["domain"], said["topicOrService"]) == ("SHIP", DOMAIN, "tm_read")
    assert said["identityKey"] == who.identity.hex()


@pytest.mark.row("S-18")
def test_their_resolver_and_ours_follow_the_same_advertisement(net: Network, lab: Lab) -> None:
    """The node is the tracker, and by its own SLAP token the host of ls_uhrp."""
    who = net.producer("follows a SLAP token")
    tx = who.pay(who.slap("ls_uhrp", net.url), who.promise(b"followed", location=f"{DOMAIN}/followed"))
    net.submit(who.beef(tx), "tm_slap", "tm_uhrp")
    query = {"hostIdentityKey": who.identity.hex()}
    net.until("ls_uhrp", query, tx.txid)
    net.until("ls_slap", {"identityKey": who.identity.hex()}, tx.txid)
    answer = lab.client("lookup", net.url, "ls_uhrp", json.dumps(query), "--discover")
    assert answer["ok"], answer
    assert [(one["txid"], one["outputIndex"]) for one in answer["outputs"]] == [(tx.txid, 1)]

    async def ours(resolver: Resolver, directory: Directory) -> Any:
        hosts = await resolver.discover(directory, "ls_uhrp")
        return [host.url for host in hosts], await resolver.find(directory, "ls_uhrp", query)

    hosts, found = resolved(net, ours)
    assert hosts == [net.url]
    assert [(one.outpoint.txid, one.outpoint.vout) for one in found] == [(tx.txid, 1)]
    net.submit(who.beef(who.pay(tokens=[who.token(tx, 0, *advert.lock_of("SLAP"))])), "tm_slap")


def resolved(net: Network, work: Callable[[Resolver, Directory], Any]) -> Any:
    """Run with a resolver of ours whose only tracker is this node."""

    async def main() -> Any:
        clock = SystemClock()
        http = Http(clock)
        resolver = Resolver(clock, HttpOverlay(http), cast("Chain", net))
        try:
            return await work(resolver, Directory("devnet", Endpoint("headers", net.url), trackers=(net.url,)))
        finally:
            await resolver.close()
            await http.close()

    return asyncio.run(main())


@pytest.mark.row("S-18")
def test_their_broadcaster_and_ours_find_who_keeps_a_topic(net: Network, lab: Lab) -> None:
    who = net.producer("keeps a topic")
    ads = who.pay(who.ship("tm_uhrp", net.url), who.slap("ls_ship", net.url))
    net.submit(who.beef(ads), "tm_ship", "tm_slap")
    net.until("ls_ship", {"identityKey": who.identity.hex()}, ads.txid)
    tx = who.pay(who.promise(b"kept", location=f"{DOMAIN}/kept"))
    answer = lab.client("submit", net.url, "tm_uhrp", who.beef(tx).hex(), "--discover")
    assert answer["ok"], answer
    assert answer["steaks"][net.url]["tm_uhrp"]["outputsToAdmit"] == [0]

    async def ours(resolver: Resolver, directory: Directory) -> Any:
        return [(host.url, topics) for host, topics in await resolver.interested(directory, ["tm_uhrp"])]

    assert resolved(net, ours) == [(net.url, ("tm_uhrp",))]
    locks = [who.token(ads, vout, *advert.lock_of(kind)) for vout, kind in enumerate(("SHIP", "SLAP"))]
    net.submit(who.beef(who.pay(tokens=locks)), "tm_ship", "tm_slap")


def test_a_pure_revocation_is_a_failure_to_their_broadcaster(net: Network, lab: Lab) -> None:
    """Why ours settles it by lookup: the spend took effect."""
    who = net.producer("revoked by their broadcaster")
    tx = who.pay(who.ship("tm_gone"))
    net.submit(who.beef(tx), "tm_ship")
    net.until("ls_ship", {"identityKey": who.identity.hex()}, tx.txid)
    gone = who.pay(tokens=[who.token(tx, 0, *advert.lock_of("SHIP"))])
    answer = lab.client("submit", net.url, "tm_ship", who.beef(gone).hex())
    assert (answer["ok"], answer["result"]["code"]) == (False, "ERR_REQUIRE_ACK_FROM_ANY_HOST_FAILED")
    net.until("ls_ship", {"identityKey": who.identity.hex()})


@pytest.mark.row("P-PUB-23")
def test_their_downloader_finds_the_promise_and_checks_the_content(
    net: Network, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"the content itself " + net.name.encode()
    files = certify(tmp_path)
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(files.certificate))

    async def blob(request: Request) -> Response:
        return Response(content, media_type="text/plain")

    async def main() -> Any:
        async with over_tls(Starlette(routes=[Route("/blob", blob)]), files) as base:
            who = net.producer("downloaded")
            tx = who.pay(who.promise(content, location=base + "/blob"))
            net.submit(who.beef(tx), "tm_uhrp")
            url = uhrp.uhrp_url(uhrp.parse_uhrp_token(tx.outputs[0].script).sha256)
            net.until("ls_uhrp", {"uhrpUrl": url}, tx.txid)
            return base, await asyncio.to_thread(lab.client, "uhrp-download", net.url, url)

    base, done = asyncio.run(main())
    assert done["ok"], done
    assert (done["urls"], done["size"], done["mimeType"].partition(";")[0]) == ([base + "/blob"], len(content), "text/plain")
