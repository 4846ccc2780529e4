"""What a Network says of its storage hosts must go together; what does not is told where it stands, with a way out."""

import pytest

from reconciler.kinds import controllers
from reconciler.kinds.network import Net, read_net
from reconciler.manifest.load import Loaded, Loader
from reconciler.model.codec import decode, encode
from reconciler.model.effect import Submit
from reconciler.model.ref import ResourceRef

HEAD = "apiVersion: overlay.bsv/v1alpha1\nkind: Network\nmetadata: {name: local}\nspec:\n  chain: devnet\n  storage:\n"
HEAD_OF_ITEM = 7
WHO = "02de45caac0b49a9be99e71cf44beecc8a99f778f528279b4f652f0826a3fd5059"
KEY = "accessKeyId: AK, secretKey: {env: KEY}"


def load(*hosts: str) -> Loaded:
    text = HEAD + "".join(f"    - {{name: h{number}, {host}}}\n" for number, host in enumerate(hosts))
    return Loader(controllers()).load({"network.yaml": text.encode()}, lambda pattern: [], "r")


def net(*hosts: str) -> Net:
    loaded = load(*hosts)
    assert loaded.desired is not None, loaded.diagnostics
    return read_net("local", loaded.desired.resources[ResourceRef("Network", "local")].spec)


@pytest.mark.parametrize(
    ("host", "field", "message", "hint"),
    [
        ("url: data/shelf, kind: filesystem", "/url", "a directory is not written like this", "file:///path"),
        ("url: file:///srv/d", "/url", "has an http:// or https:// address", "say kind: filesystem"),
        ("url: shop.example.org", "/url", "has an http:// or https:// address", "write https://host/path"),
        ("url: https://s3.example.org/shop, kind: s3", "", "a bucket needs an access key", "accessKeyId"),
        (f"url: https://h.example.org, s3: {{{KEY}}}", "/s3", "a host of kind uhrp has no bucket", "say kind: s3"),
        (f"url: /srv/d, kind: filesystem, s3: {{{KEY}}}", "/s3", "a host of kind filesystem has no bucket", "leave s3 out"),
        ("url: https://h.example.org, publicUrl: https://files.example.org", "/publicUrl", "says itself", "leave publicUrl out"),
        ("url: /srv/d, kind: filesystem, maxPayment: 5sat", "/maxPayment", "is neither met nor paid", "leave maxPayment out"),
        (f"url: /srv/d, kind: filesystem, identityKey: {WHO}", "/identityKey", "is neither met nor paid", "leave identityKey"),
        (f"url: 'https://s3.example.org/shop?x', kind: s3, s3: {{{KEY}}}", "/url", "has no query", "https://endpoint/bucket"),
        (
            f"url: https://s3.example.org/shop, kind: s3, s3: {{{KEY}, partSize: 1MiB}}",
            "/s3/partSize",
            "from 5MiB to 5GiB",
            "16MiB",
        ),
    ],
)
def test_what_does_not_go_together_is_told(host: str, field: str, message: str, hint: str) -> None:
    loaded = load(host)
    assert loaded.desired is None
    (found,) = loaded.diagnostics
    assert (found.code, found.at.line, found.at.pointer) == ("E0401", 7, f"/spec/storage/0{field}")
    assert found.at.column == HEAD_OF_ITEM if not field else found.at.column > HEAD_OF_ITEM
    assert message in found.message
    assert hint in (found.hint or "")


def test_a_host_that_is_paid_says_whose_key_it_has_how_much_and_on_which_chain() -> None:
    (host,) = net(f"url: https://h.example.org, identityKey: {WHO}, maxPayment: 500sat").storage
    assert host.options == {"identityKey": WHO, "maxPayment": 500, "chain": "devnet"}
    assert load("url: https://h.example.org, identityKey: 04ab").desired is None


@pytest.mark.parametrize("host", ["url: http://h, kind: http", "url: https://h/b, kind: s3, s3: {accessKeyId: AK}"])
def test_what_is_not_served_or_not_whole_is_no_host(host: str) -> None:
    assert load(host).desired is None


def test_hosts_of_every_kind_become_endpoints() -> None:
    bucket = f"url: https://s3.example.org/shop, region: EU, kind: s3, s3: {{{KEY}, prefix: a/}}"
    disk = "url: /srv/d, kind: filesystem, publicUrl: https://files.example.org/"
    plain, shelf, store = net("url: https://h.example.org/", disk, bucket).storage
    assert (plain.kind, plain.url, plain.options) == ("uhrp", "https://h.example.org", {})
    assert (shelf.kind, shelf.options) == ("filesystem", {"publicUrl": "https://files.example.org"})
    assert (store.kind, store.region, store.secret) == ("s3", "EU", {"env": "KEY"})
    assert store.options == {"accessKeyId": "AK", "region": "us-east-1", "prefix": "a/", "partSize": 16 * 1024**2}


ABROAD = "apiVersion: overlay.bsv/v1alpha1\nkind: Network\nmetadata: {name: local}\nspec:\n"


@pytest.mark.row("S-18")
@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ("  chain: test\n  overlays: [{url: 'http://h.example.org'}]\n", "/overlays/0/url"),
        ("  chain: main\n  trackers: ['https://t.example.org', 'http://t.example.org']\n", "/trackers/1"),
        ("  chain: main\n  discovery: {hosts: {ls_uhrp: ['http://t.example.org']}}\n", "/discovery/hosts/ls_uhrp/0"),
        ("  chain: main\n  overlays: [{url: 'http://localhost:8080'}]\n  trackers: ['http://127.0.0.1:8081']\n", ""),
        ("  chain: devnet\n  overlays: [{url: 'http://h.example.org'}]\n", ""),
    ],
)
def test_off_a_devnet_plain_http_leads_to_this_machine_only(spec: str, where: str) -> None:
    loaded = Loader(controllers()).load({"network.yaml": (ABROAD + spec).encode()}, lambda pattern: [], "r")
    if not where:
        assert loaded.desired is not None, loaded.diagnostics
        return
    (fault,) = loaded.diagnostics
    assert "is spoken to over https" in fault.message
    assert fault.at.pointer == f"/spec{where}"


def test_only_lookup_services_have_hosts_of_their_own() -> None:
    spec = "  chain: main\n  discovery: {hosts: {tm_uhrp: ['https://t.example.org']}}\n"
    loaded = Loader(controllers()).load({"network.yaml": (ABROAD + spec).encode()}, lambda pattern: [], "r")
    assert loaded.desired is None
    assert "ls_" in " ".join(fault.message for fault in loaded.diagnostics)


def test_where_hosts_are_learnt_of_survives_the_journal() -> None:
    spec = {
        "chain": "main", "overlays": [{"url": "https://o.example/"}], "headers": {"url": "https://headers.example"},
        "discovery": {"hosts": {"ls_uhrp": ["https://t.example/"]}}, "cacheTtl": 60_000,
    }  # fmt: skip
    directory = read_net("n", spec).directory
    assert (directory.ttl, directory.fixed) == (60, {"ls_uhrp": ("https://t.example",)})
    effect = Submit("ab" * 32, ("tm_ship",), directory.declared, directory=directory)
    assert decode(Submit, encode(effect)) == effect
    assert "directory" not in encode(Submit("ab" * 32, ("tm_ship",), ())), "nothing that was written before reads differently"
