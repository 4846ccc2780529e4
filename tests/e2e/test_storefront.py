"""The storefront over what is really published: pages, JSON, DCAT, the signed service document."""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from reconciler.gateway.limits import GREETINGS
from reconciler.gateway.style import POLICY
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.sale import Rating
from reconciler.wire import descriptor
from reconciler.wire.beef import parse_beef
from reconciler.wire.document import open_envelope
from tests.e2e.scene import play
from tests.e2e.stall import BASE, EXAMPLE, Stall, publish, stall

HOSTILE = '<script>alert(1)</script> & "quotes"'
NASTY = f"""\
apiVersion: overlay.bsv/v1alpha1
kind: Dataset
metadata: {{name: nasty}}
spec:
  identityRef: fx-desk
  networkRef: local
  content: {{file: data/nasty.txt}}
  title: {json.dumps(HOSTILE)}
  description: {json.dumps("</script><img src=x onerror=alert(2)>")}
  tags: ["<b>bold</b>", fx]
  license: CC0-1.0
  price: 0sat
  replicas: 1
  sample: {{bytes: 4KiB}}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stall]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
        more = {"nasty.yaml": NASTY, "data/nasty.txt": "<i>first</i>\nsecond\n"}
        with stall(tmp_path_factory.mktemp("stall"), more) as opened:
            yield opened


@pytest.fixture(scope="module")
def key(shop: Stall) -> str:
    return shop.shop.producer


def told(shop: Stall, path: str) -> Any:
    answer = shop.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- JSON -----------------------------------------------------------------------------------------


@pytest.mark.row("P-LKP-02")
def test_a_search_finds_by_words_tags_ability_region_and_price(shop: Stall) -> None:
    def names(query: str) -> list[str]:
        return [item["contentId"] for item in told(shop, f"/catalog?{query}")["items"]]

    assert set(names("")) == {"fx-2024", "fx-history", "nasty"}
    assert names("q=historical") == ["fx-history"]
    assert names("q=euro+2024")[0] == "fx-2024"
    assert names("q=fx-2023.csv") == ["fx-history"]
    assert names("tag=daily&tag=historical") == ["fx-history"]
    assert set(names("capability=fx-reference-rates")) == {"fx-2024", "fx-history"}
    assert set(names("capability=fx-reference-rates&region=eu&maxPrice=2500sat")) == {"fx-2024", "fx-history"}
    assert names("capability=fx-reference-rates&region=Mars") == []
    assert names("maxPrice=2499") == ["nasty"]
    assert names("license=cc0-1.0") == ["nasty"]
    assert names("sort=title") == ["nasty", "fx-history", "fx-2024"]


def test_an_item_says_what_was_published(shop: Stall, key: str) -> None:
    item = told(shop, "/catalog/fx-2024")
    data = (EXAMPLE / "data" / "fx-2024.csv").read_bytes()
    assert item["files"] == [
        {
            "path": "data/fx-2024.csv",
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "mediaType": "text/csv",
            "url": f"{BASE}/content/fx-2024/files/data/fx-2024.csv",
        }
    ]
    assert item["price"]["satoshis"] == 2500 and item["producer"]["id"] == key
    assert (item["sequence"], item["version"], item["license"]) == (1, "1.0.0", "LicenseRef-ESCB-free-reuse")
    assert item["ageSeconds"] == int((shop.scene.world.clock.now() - shop.shop.offers()["fx-2024"].published).total_seconds())


def test_what_buyers_gave_is_shown(shop: Stall) -> None:
    assert told(shop, "/catalog/fx-2024")["ratings"] == {"count": 0, "mean": None} and "Rated" not in shop.page(
        "/catalog/fx-2024"
    )
    with shop.shop.ports.ledger.begin() as tx:
        for number, score in enumerate((5, 4, 4)):
            tx.put_rating(
                Rating(f"{number:032x}", "fx-2024", "02" + f"{number:064x}", score, shop.scene.world.clock.now(), "good")
            )
    assert told(shop, "/catalog/fx-2024")["ratings"] == {"count": 3, "mean": "4.3"}
    page = shop.page("/catalog/fx-2024")
    assert "4.3 of 5, 3 times" in page and '"ratingValue":"4.3"' in page


@pytest.mark.row("P-REG-12")
def test_a_producer_has_its_addresses_and_they_work(shop: Stall, key: str) -> None:
    producer = told(shop, f"/producers/{key}")
    assert told(shop, "/producers/fx-desk") == producer
    assert producer["displayName"] == "FX Desk"
    urls = {name: url.removeprefix(BASE) for name, url in producer["serviceUrls"].items()}
    listing = told(shop, urls["listing"])
    assert {item["producer"]["id"] for item in listing["items"]} == {key} and listing["total"] == 3
    assert "Euro reference rates 2024" in shop.page(urls["listing"])
    assert told(shop, urls["streaming"]) == {"items": [], "next": None}
    assert producer["paymentEndpoints"] == {"http": f"{BASE}/quotes", "native": f"{BASE}/payments/templates"}


@pytest.mark.row("P-REG-13")
def test_the_price_list_is_what_a_quote_says(shop: Stall, key: str) -> None:
    for listed in told(shop, f"/producers/{key}/pricing")["items"]:
        answer = shop.get("/quotes", "POST", json={"contentId": listed["contentId"]})
        assert answer.status_code == 201, answer.text
        quote = answer.json()["document"]
        assert (quote["satoshis"], quote["price"]) == (listed["price"]["satoshis"], listed["price"]["lines"])
        assert quote["sequence"] == listed["sequence"]
    [seven] = told(shop, f"/producers/{key}/pricing?units=7&contentId=fx-2024")["items"]
    assert seven["price"]["satoshis"] == 7 * 2500


def test_pages_follow_each_other_without_repeating(shop: Stall) -> None:
    seen, cursor = [], ""
    for _ in range(3):
        page = told(shop, f"/catalog?limit=1&sort=title{cursor}")
        seen += [item["contentId"] for item in page["items"]]
        cursor = f"&cursor={page['next']}"
    assert (seen, page["next"]) == (["nasty", "fx-history", "fx-2024"], None)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/catalog?limit=0", 422, "bad-query"),
        ("/catalog?maxPrice=cheap", 422, "bad-query"),
        ("/catalog?maxAge=yesterday", 422, "bad-query"),
        ("/catalog?cursor=%FF", 422, "bad-cursor"),
        ("/catalog?cursor=WyJ0aXRsZSIsImEiLCJiIl0", 422, "bad-cursor"),
        ("/catalog/nothing", 404, "no-content"),
        ("/producers/nobody", 404, "no-producer"),
        ("/producers/fx-desk/pricing?units=many", 422, "bad-query"),
        ("/.well-known/overlay-producer.json?service=none", 404, "no-document"),
        ("/schemas/nothing.json", 404, "no-document"),
    ],
)
def test_what_is_wrong_is_a_problem_for_programs(shop: Stall, path: str, status: int, code: str) -> None:
    answer = shop.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["type"] == f"urn:reconciler:problem:{code}"
    assert answer.json()["detail"].startswith("cannot ")


def test_the_same_answer_is_not_sent_twice(shop: Stall) -> None:
    for path in ("/catalog", "/catalog.jsonld", "/.well-known/overlay-producer.json", "/openapi.json", "/schemas/dataset.json"):
        first = shop.get(path)
        again = shop.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["etag"] == first.headers["etag"]


# --- pages ----------------------------------------------------------------------------------------


def test_browsers_get_pages_and_programs_get_json(shop: Stall) -> None:
    for accept, kind in (
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("*/*", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("text/*", "text/html"),
        ("nonsense;q=x", "application/json"),
    ):
        answer = shop.get("/catalog", headers={"accept": accept})
        assert answer.headers["content-type"].startswith(kind), accept
        assert answer.headers["vary"] == "Accept"
    assert shop.get("/catalog?format=html").headers["content-type"].startswith("text/html")
    assert shop.page("/catalog?format=json").startswith("{")


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", ["", "/fx-2024", "/nasty", "/none", "?q=nothing-like-it"])
def test_a_page_can_do_nothing_but_be_read(shop: Stall, path: str) -> None:
    answer = shop.get(f"/catalog{path}", headers={"accept": "text/html"})
    assert answer.headers["content-security-policy"] == POLICY and "'unsafe" not in POLICY
    for tag, attributes in Elements(answer.text).found:
        # Nothing is loaded from anywhere, no script runs, and no style stands outside the sheet.
        assert tag not in {"img", "iframe", "object", "embed", "video", "audio", "source", "base", "svg"}
        assert tag != "script" or attributes == {"type": "application/ld+json"}
        assert not any(name.startswith("on") or name in ("style", "src", "srcset") for name in attributes)
        for name in ("href", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "#", "?", "data:image/svg+xml;base64,")), (tag, attributes)
    assert "@import" not in answer.text and "url(" not in answer.text


def test_what_others_wrote_stays_text(shop: Stall) -> None:
    for path in (
        "/catalog",
        "/catalog/nasty",
        "/catalog?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "/catalog/%3Cb%3E",
        "/producers/fx-desk",
    ):
        page = shop.page(path)
        assert "<script>alert" not in page and "<img" not in page and "<b>" not in page, path
    page = shop.page("/catalog/nasty")
    assert "&lt;i&gt;first&lt;/i&gt;" in page
    [block] = re.findall(r'<script type="application/ld\+json">(.*?)</script>', page, re.S)
    assert json.loads(block)["name"] == HOSTILE


def test_a_page_shows_all_that_helps_to_decide(shop: Stall) -> None:
    page = shop.page("/catalog/fx-history")
    data = EXAMPLE / "data"
    assert "<td>2015-01-02</td>" in page and "<td>2015-01-09</td>" not in page  # five rows of the first file
    for path in sorted(data.glob("fx-20*.csv")):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in page
    assert "2\u202f500 sat" in page and "for all 10 files" in page
    assert "LicenseRef-ESCB-free-reuse" in page and "just now" in page
    assert f"--at {BASE}" in page and "--cost 2500sat" in page and "reconciler consumer quote" in page


def test_a_page_for_who_went_wrong_helps_on(shop: Stall) -> None:
    missing = shop.page("/catalog/nothing")
    assert "Error 404" in missing and 'action="/catalog"' in missing and "noindex" in missing
    assert "Error 404" in shop.page("/somewhere/else") and shop.get("/somewhere/else").json()["status"] == 404
    wrong = shop.get("/catalog", "DELETE", headers={"accept": "text/html"})
    assert wrong.status_code == 405 and "GET" in wrong.headers["allow"] and "Error 405" in wrong.text
    empty = shop.page("/catalog?q=unicorn")
    assert "Nothing fits “unicorn”" in empty and 'href="/catalog"' in empty


# --- documents ------------------------------------------------------------------------------------


@pytest.mark.row("P-AD-24", "S-37")
def test_the_service_document_is_the_one_the_chain_anchors(shop: Stall, key: str) -> None:
    answer = shop.get("/.well-known/overlay-producer.json")
    document, signer = open_envelope(answer.content)
    assert signer == key and document["price"]["rate"] == 2500 and document["availability"]["target"] == "99.9%"

    async def looked_up() -> list[descriptor.Descriptor]:
        host = shop.scene.net().overlays[0]
        query = {"identityKey": key, "subject": "Advertisement/fx-feed"}
        async with shop.scene.open() as space:
            found = await space.ports.overlay.lookup(host, descriptor.SERVICE, query)
        transactions = [parse_beef(one.beef).about(one.outpoint.txid).tx for one in found]
        return [
            descriptor.parse_descriptor(tx.outputs[one.outpoint.vout].script) for tx, one in zip(transactions, found, strict=True)
        ]

    [anchored] = play(looked_up, shop.scene.world.clock)
    assert anchored.digest == hashlib.sha256(answer.content).hexdigest() == answer.headers["etag"].strip('"')
    with pytest.raises(RemoteProtocolError):
        open_envelope(answer.content.replace(b"2500", b"2501"))


def test_an_identity_shows_its_profile_by_name(shop: Stall, key: str) -> None:
    answer = shop.get("/.well-known/overlay-producer.json?service=fx-desk")
    document, signer = open_envelope(answer.content)
    assert (document["type"], document["publicKey"], signer) == ("IdentityProfile", key, key)


# Terms of the vocabularies in use, as their specifications have them.
TERMS = {
    "dcat": "Catalog Dataset Distribution DataService dataset service keyword landingPage version contactPoint distribution "
    "accessURL downloadURL mediaType byteSize endpointURL endpointDescription servesDataset",
    "dcterms": "title description identifier modified publisher spatial license rights RightsStatement Location type",
    "foaf": "Agent name homepage",
    "odrl": "Offer hasPolicy assigner permission target action use duty compensate refinement compensatedParty Constraint "
    "leftOperand operator rightOperand unit payAmount eq",
    "rdf": "value",
    "spdx": "checksum Checksum algorithm checksumValue checksumAlgorithm_sha256",
    "vcard": "Organization fn hasEmail hasURL",
    "xsd": "dateTime nonNegativeInteger hexBinary decimal",
}


def every(value: Any, name: str = "") -> Iterator[str]:
    """Every term of a JSON-LD value: keys, types, and ids that are terms."""
    if isinstance(value, dict):
        for inner, below in value.items():
            if inner == "@context":
                continue
            yield from [inner] if not inner.startswith("@") else [below] if inner == "@type" else []
            if inner == "@id" and re.fullmatch(r"[a-z]+:\w+", below):
                yield below
            yield from every(below)
    elif isinstance(value, list):
        for one in value:
            yield from every(one)


@pytest.mark.row("S-48")
def test_the_catalog_speaks_dcat_in_terms_that_exist(shop: Stall, key: str) -> None:
    catalog = told(shop, "/catalog.jsonld")
    used = set(every(catalog))
    assert used <= {f"{prefix}:{word}" for prefix, words in TERMS.items() for word in words.split()}
    assert {"dcat:Catalog", "dcat:Dataset", "dcat:Distribution", "dcat:DataService", "spdx:Checksum", "odrl:Offer"} <= used
    assert {term.partition(":")[0] for term in used} <= set(catalog["@context"])
    by_name = {one["dcterms:identifier"]: one for one in catalog["dcat:dataset"]}
    assert by_name["nasty"]["dcterms:license"] == {"@id": "http://spdx.org/licenses/CC0-1.0"}
    assert by_name["fx-2024"]["dcterms:rights"]["dcterms:description"] == "LicenseRef-ESCB-free-reuse"
    [file] = by_name["fx-2024"]["dcat:distribution"]
    data = (EXAMPLE / "data" / "fx-2024.csv").read_bytes()
    assert file["spdx:checksum"]["spdx:checksumValue"]["@value"] == hashlib.sha256(data).hexdigest()
    assert file["dcat:byteSize"]["@value"] == str(len(data))
    assert file["dcat:mediaType"]["@id"].endswith("/text/csv")
    assert [place["dcterms:title"] for place in by_name["fx-2024"]["dcterms:spatial"]] == ["EU", "US", "AP"]
    duty = by_name["fx-2024"]["odrl:hasPolicy"]["odrl:permission"]["odrl:duty"]
    assert duty["odrl:action"]["odrl:refinement"]["odrl:rightOperand"]["@value"] == "2500"
    assert "odrl:duty" not in by_name["nasty"]["odrl:hasPolicy"]["odrl:permission"]
    assert {one["@id"] for one in [catalog["dcterms:publisher"]]} == {f"{BASE}/producers/{key}"}


def test_search_engines_find_a_schema_org_dataset(shop: Stall) -> None:
    [block] = re.findall(r'<script type="application/ld\+json">(.*?)</script>', shop.page("/catalog/fx-2024"), re.S)
    value = json.loads(block)
    assert (value["@context"], value["@type"]) == ("https://schema.org/", "Dataset")
    assert len(value["description"]) >= 50, "search engines ask for fifty characters"
    assert value["distribution"][0]["@type"] == "DataDownload" and value["isAccessibleForFree"] is False
    [listed] = re.findall(r'<script type="application/ld\+json">(.*?)</script>', shop.page("/catalog"), re.S)
    assert {one["name"] for one in json.loads(listed)["dataset"]} >= {"Euro reference rates 2024"}


def test_a_price_that_changes_is_shown_at_once(shop: Stall) -> None:
    before = told(shop, "/catalog/fx-2024")["price"]["satoshis"]
    prices = shop.scene.root / "prices.yaml"
    text = prices.read_text()
    prices.write_text(text.replace("2500sat", "2600sat"))
    play(lambda: publish(shop.scene), shop.scene.world.clock)
    assert (before, told(shop, "/catalog/fx-2024")["price"]["satoshis"]) == (2500, 2600)
    assert json.loads(shop.get("/.well-known/overlay-producer.json").content)["document"]["price"]["rate"] == 2600
    prices.write_text(text)
    play(lambda: publish(shop.scene), shop.scene.world.clock)


def test_a_flood_of_handshakes_is_held_back_and_visitors_are_not(shop: Stall) -> None:
    async def flood() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url=BASE) as client:
            return [
                (await client.post("/.well-known/auth?access=x", json={})).status_code for _ in range(GREETINGS.units // 2 + 1)
            ]

    *answered, last = shop.runner.run(flood())
    assert set(answered) == {401} and last == 429
    assert shop.get("/catalog").status_code == 200


def test_many_look_at_once(shop: Stall) -> None:
    async def crowd() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url=BASE) as client:
            return [answer.status_code for answer in await asyncio.gather(*(client.get("/catalog") for _ in range(20)))]

    assert shop.runner.run(crowd()) == [200] * 20
