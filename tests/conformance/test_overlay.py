"""Submission and lookup (BRC-22, BRC-24): what every overlay node does, held against the engine that others wrote and ours."""

import json
from dataclasses import replace

import pytest

from reconciler.model.errors import RemoteProtocolError
from reconciler.wire import advert, overlay, uhrp
from reconciler.wire.beef import parse_beef
from reconciler.wire.keys import public_key
from reconciler.wire.tx import Tx
from tests.conformance.networks import Network
from tests.conformance.producer import DOMAIN, Producer

pytestmark = pytest.mark.slow

CONTENT = b"date,USD\n2024-01-02,1.0956\n"
SHIP, SLAP, UHRP = "tm_ship", "tm_slap", "tm_uhrp"
OCTETS = {"content-type": overlay.OCTETS}


def ships(who: Producer, *topics: str) -> dict[str, object]:
    return dict(advert.query("SHIP", identity=who.identity, names=topics))


def spend(who: Producer, tx: Tx, *outputs: object, vout: int = 0, kind: str = "SHIP") -> Tx:
    """The end of a token, and perhaps what comes in its place."""
    return who.pay(*outputs, tokens=[who.token(tx, vout, *advert.lock_of(kind))])  # type: ignore[arg-type]


# --- admission ----------------------------------------------------------------------------------------------------


@pytest.mark.row("P-AD-15", "P-AD-16")
def test_tokens_are_admitted_and_found_in_both_forms_of_answer(net: Network) -> None:
    who = net.producer("found in both forms")
    tx = who.pay(who.ship("tm_fx_rates"), who.slap("ls_fx_rates"), who.promise(CONTENT + b"both"))
    said = net.submit(who.beef(tx), SHIP, SLAP, UHRP)
    assert said == {
        SHIP: overlay.Admittance((0,)), SLAP: overlay.Admittance((1,)), UHRP: overlay.Admittance((2,)),
    }  # fmt: skip
    sha256 = uhrp.parse_uhrp_token(tx.outputs[2].script).sha256
    queries = {
        "ls_ship": ships(who, "tm_fx_rates"),
        "ls_slap": advert.query("SLAP", identity=who.identity, names=["ls_fx_rates"]),
        "ls_uhrp": uhrp.query(sha256=sha256, host=who.identity),
    }
    for vout, (service, query) in enumerate(queries.items()):
        net.until(service, query, tx.txid)
        for aggregated in (False, True):
            (found,) = net.ask(service, query, aggregated=aggregated)
            assert (found.txid, found.vout) == (tx.txid, vout)
            assert parse_beef(found.beef).tx.outputs[vout].script == tx.outputs[vout].script


def test_one_answer_carries_many_tokens_and_each_stands_alone(net: Network) -> None:
    who = net.producer("many in one answer")
    made = [who.pay(who.ship("tm_many", f"https://h{number}.example")) for number in range(4)]
    for tx in made:
        net.submit(who.beef(tx), SHIP)
    net.until("ls_ship", ships(who), *(tx.txid for tx in made))
    found = net.ask("ls_ship", ships(who), aggregated=True)
    assert {one.txid for one in found} == {tx.txid for tx in made}
    for one in found:
        assert parse_beef(one.beef).subject == one.txid


def test_a_token_replaced_in_one_transaction_is_never_missing(net: Network) -> None:
    who = net.producer("replaced")
    one = who.pay(who.ship("tm_first"))
    net.submit(who.beef(one), SHIP)
    net.until("ls_ship", ships(who), one.txid)
    two = spend(who, one, who.ship("tm_first"))
    assert net.submit(who.beef(two), SHIP)[SHIP] == overlay.Admittance((0,))
    net.until("ls_ship", ships(who), two.txid)


def test_a_second_identical_advertisement_is_admitted_and_not_listed(net: Network) -> None:
    who = net.producer("twice the same")
    one, two = who.pay(who.ship("tm_same")), who.pay(who.ship("tm_same"))
    net.submit(who.beef(one), SHIP)
    net.until("ls_ship", ships(who), one.txid)
    assert net.submit(who.beef(two), SHIP)[SHIP].admit == (0,)
    net.until("ls_ship", ships(who), one.txid)
    net.submit(who.beef(spend(who, one)), SHIP)
    net.until("ls_ship", ships(who))


def test_seen_before_spent_and_not_admitted_all_answer_alike(net: Network) -> None:
    who = net.producer("nothing to say")
    tx = who.pay(who.ship("tm_one"), who.promise(CONTENT + b"alike"))
    net.submit(who.beef(tx), SHIP)
    empty = {SHIP: overlay.Admittance()}
    net.until("ls_ship", ships(who), tx.txid)
    assert net.submit(who.beef(tx), SHIP) == empty
    assert net.submit(who.beef(who.pay(who.slap("ls_other"))), SHIP) == empty
    assert net.submit(who.beef(spend(who, tx)), SHIP) == empty
    net.until("ls_ship", ships(who))


def test_one_topic_too_many_fails_the_whole_submission(net: Network) -> None:
    who = net.producer("one too many")
    tx = who.pay(who.ship("tm_one"))
    asked = overlay.submission(who.beef(tx), [SHIP, "tm_nowhere"])
    said = net.refusal("/submit", content=asked.body, headers=asked.headers)
    assert said == "This server does not support this topic: tm_nowhere"
    assert net.ask("ls_ship", ships(who)) == ()
    assert net.submit(who.beef(tx), SHIP)[SHIP].admit == (0,), "nothing had been processed"


@pytest.mark.parametrize("form", ["v1", "v2", "atomic v1", "atomic v2"])
def test_every_form_of_envelope_is_taken(net: Network, form: str) -> None:
    who = net.producer(f"form {form}")
    tx = who.pay(who.ship("tm_form"))
    beef = who.beef(tx, atomic=form.startswith("atomic"), version=2 if form.endswith("2") else 1)
    assert net.submit(beef, SHIP)[SHIP].admit == (0,)
    net.until("ls_ship", ships(who), tx.txid)


def test_an_unproven_ancestry_is_taken_whole(net: Network) -> None:
    who = net.producer("a chain of unproven parents")
    tip = [who.pay(who.ship("tm_chain")) for _ in range(5)][-1]
    assert len(parse_beef(who.beef(tip)).txs) == 6
    assert net.submit(who.beef(tip), SHIP)[SHIP].admit == (0,)
    (found,) = net.until("ls_ship", ships(who), tip.txid)
    assert parse_beef(found.beef).subject == tip.txid


def test_values_beside_the_chain_travel_in_front_of_the_envelope(net: Network) -> None:
    who = net.producer("off-chain values")
    tx = who.pay(who.ship("tm_beside"))
    assert net.submit(who.beef(tx), SHIP, off_chain=b"beside")[SHIP].admit == (0,)


def test_what_is_no_submission_is_refused(net: Network) -> None:
    who = net.producer("no submission")
    tx = who.pay(who.ship("tm_refused"))
    beef, topics = who.beef(tx), {"x-topics": '["tm_ship"]'}
    assert net.request("POST", "/submit", content=beef, headers=OCTETS).status_code == 400
    assert net.request("POST", "/submit", content=beef, headers={**OCTETS, "x-topics": "tm_ship"}).status_code == 400
    assert net.request("POST", "/submit", content=beef, headers={"content-type": "text/plain", **topics}).status_code == 400
    assert net.refusal("/submit", content=b"junk", headers={**OCTETS, **topics})
    nothing = net.request("POST", "/submit", content=beef, headers={**OCTETS, "x-topics": "[]"})
    assert (nothing.status_code, nothing.json()) == (200, {})


def test_what_cannot_be_proven_is_refused(net: Network) -> None:
    who = net.producer("unproven")
    tx = who.pay(who.ship("tm_unproven"))
    unsigned = replace(tx, inputs=(replace(tx.inputs[0], script=b"\x51"),))
    who.parts[unsigned.txid] = (unsigned.raw, b"")
    asked = overlay.submission(who.beef(unsigned), [SHIP])
    assert net.refusal("/submit", content=asked.body, headers=asked.headers)
    at, envelope = net.faucet(who.purse.script, 9_000)
    lost = Producer("its block was lost")
    lost.purse, lost.secret, lost.identity = who.purse, who.secret, who.identity
    lost.take(at, envelope, 9_000)
    orphan = lost.pay(lost.ship("tm_unproven"))
    net.forget(at, envelope)
    asked = overlay.submission(lost.beef(orphan), [SHIP])
    assert net.refusal("/submit", content=asked.body, headers=asked.headers)
    assert net.ask("ls_ship", ships(who)) == ()


def test_tokens_linked_to_self_are_refused_by_the_node_and_by_us(net: Network) -> None:
    """The text of BRC-88 derives the key with counterparty "self"; what runs today does not admit that."""
    who = net.producer("linked to self")
    tx = who.pay(who.ship("tm_self", counterparty=who.identity), who.slap("ls_self", counterparty=who.identity))
    assert set(net.submit(who.beef(tx), SHIP, SLAP).values()) == {overlay.Admittance()}
    for output in tx.outputs[:2]:
        with pytest.raises(RemoteProtocolError, match="do not belong to the identity"):
            advert.parse_advert(output.script)


@pytest.mark.parametrize(
    ("topic", "domain"),
    [
        ("tm_rates2024", DOMAIN), ("tm_Rates", DOMAIN), ("tm__rates", DOMAIN), ("rates", DOMAIN), ("ls_rates", DOMAIN),
        ("tm_" + "a" * 48, DOMAIN), ("tm_rates", "https://localhost"), ("tm_rates", "https://h.example/api"),
        ("tm_rates", "ftp://h.example"), ("tm_rates", "h.example"),
    ],
)  # fmt: skip
def test_what_may_not_be_advertised_is_admitted_nowhere(net: Network, topic: str, domain: str) -> None:
    who = net.producer(f"not to be advertised {topic} {domain}")
    tx = who.pay(who.ship(topic, domain))
    assert net.submit(who.beef(tx), SHIP) == {SHIP: overlay.Admittance()}
    with pytest.raises(RemoteProtocolError):
        advert.parse_advert(tx.outputs[0].script, plain_http=True)


# --- lookup -------------------------------------------------------------------------------------------------------


def test_pages_are_cut_from_the_newest_unless_asked_otherwise(net: Network) -> None:
    who = net.producer("pages")
    made = []
    for letter in "abcde":
        tx = who.pay(who.ship(f"tm_page_{letter}"))
        net.submit(who.beef(tx), SHIP)
        made.append(tx.txid)
        net.until("ls_ship", {"identityKey": who.identity.hex()}, *made)

    def page(**more: object) -> list[str]:
        return [one.txid for one in net.ask("ls_ship", {"identityKey": who.identity.hex(), **more})]

    assert page() == made[::-1]
    assert page(limit=2) == made[:2:-1]
    assert page(limit=2, skip=2) == [made[2], made[1]]
    assert page(skip=4) == made[:1]
    assert page(skip=5) == []
    assert page(sortOrder="asc", limit=3) == made[:3]
    assert page(topics=["tm_page_b", "tm_page_d"], sortOrder="asc") == [made[1], made[3]]


def test_queries_for_hosts_match_literally(net: Network) -> None:
    who = net.producer("literal")
    made = [who.pay(who.ship("tm_literal", domain)) for domain in ("https://h.example", "https://h.example/")]
    for tx in made:
        net.submit(who.beef(tx), SHIP)
    net.until("ls_ship", ships(who), *(tx.txid for tx in made))
    for domain, tx in zip(("https://h.example", "https://h.example/"), made, strict=True):
        query = {"domain": domain, "identityKey": who.identity.hex()}
        assert [one.txid for one in net.ask("ls_ship", query)] == [tx.txid]
    all_of_them = {one.txid for one in net.ask("ls_ship", "findAll")}
    assert {tx.txid for tx in made} <= all_of_them
    assert all_of_them == {one.txid for one in net.ask("ls_ship", {"findAll": True})}
    assert all_of_them == {one.txid for one in net.ask("ls_ship", {})}
    assert len(net.ask("ls_ship", {"findAll": True, "limit": 1})) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"query": {}}, {"service": "ls_ship"}, {"service": 7, "query": {}}, {"service": "ls_nothing", "query": {}},
        {"service": "ls_ship", "query": {"topics": "tm_x"}}, {"service": "ls_ship", "query": {"domain": 7}},
        {"service": "ls_ship", "query": {"identityKey": []}}, {"service": "ls_ship", "query": {"limit": -1}},
        {"service": "ls_ship", "query": {"limit": "9"}}, {"service": "ls_ship", "query": {"skip": -1}},
        {"service": "ls_ship", "query": {"sortOrder": "up"}}, {"service": "ls_ship", "query": "findSome"},
        {"service": "ls_slap", "query": {"service": 7}}, {"service": "ls_uhrp", "query": {}},
    ],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(net: Network, body: object) -> None:
    assert net.refusal("/lookup", json=body)


def test_a_service_that_is_not_there_is_named(net: Network) -> None:
    said = net.refusal("/lookup", json={"service": "ls_nothing", "query": {}})
    assert said == "Lookup service not found for provider: ls_nothing "


@pytest.mark.row("P-PUB-23")
def test_content_is_found_by_its_bare_url_its_host_or_its_outpoint(net: Network) -> None:
    who, content = net.producer("content"), CONTENT + b"by url"
    tx = who.pay(who.promise(content), who.promise(content + b"2"))
    assert net.submit(who.beef(tx), UHRP)[UHRP].admit == (0, 1)
    url = uhrp.uhrp_url(uhrp.parse_uhrp_token(tx.outputs[0].script).sha256)
    host = {"hostIdentityKey": who.identity.hex()}
    net.until("ls_uhrp", host, tx.txid, tx.txid)

    def found(query: object) -> list[int]:
        return sorted(one.vout for one in net.ask("ls_uhrp", query))

    assert found({"uhrpUrl": url}) == [0]
    assert found({"uhrpUrl": f"uhrp://{url}"}) == []
    assert found({"uhrpUrl": url, **host}) == [0]
    assert found({"uhrpUrl": url, "hostIdentityKey": public_key(b"\x05" * 32).hex()}) == []
    assert found({"expiryTime": 1_900_000_000, **host}) == [0, 1]
    assert found({"outpoint": f"{tx.txid}.1"}) == [1]
    assert found({"outpoint": f"{'00' * 32}.1"}) == []


# --- the rest of the surface --------------------------------------------------------------------------------------


def test_a_node_says_what_it_hosts_and_documents_it(net: Network) -> None:
    for path, least in (("/listTopicManagers", {SHIP, SLAP, UHRP}), ("/listLookupServiceProviders", {"ls_ship", "ls_uhrp"})):
        answer = net.request("GET", path)
        assert least <= set(overlay.parse_listing(answer.content))
        assert all({"name", "shortDescription"} <= set(entry) for entry in answer.json().values())
    pages = {
        "/getDocumentationForTopicManager": ("manager", UHRP),
        "/getDocumentationForLookupServiceProvider": ("lookupService", "ls_uhrp"),
    }
    for path, (name, value) in pages.items():
        page = net.request("GET", path, params={name: value})
        assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/markdown")
        assert page.text.startswith("# ")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_a_node_is_healthy_by_the_rule_that_others_ban_by(net: Network, path: str) -> None:
    answer = net.request("GET", path, headers={"origin": "https://anywhere.example"})
    assert overlay.healthy(answer.status_code, answer.content)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert {"status", "live", "ready", "service", "checks"} <= set(answer.json())
    assert {"name", "topicManagerCount", "lookupServiceCount"} <= set(answer.json()["service"])


def test_any_page_of_the_web_may_ask(net: Network) -> None:
    asked = {
        "origin": "https://shop.example", "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-topics,x-aggregation",
    }  # fmt: skip
    answer = net.request("OPTIONS", "/submit", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"


def test_an_unknown_route_is_not_found(net: Network) -> None:
    assert net.request("GET", "/nowhere").status_code == 404
    assert net.request("POST", "/lookup", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert json.loads(net.request("POST", "/lookup", content=b"{", headers={"content-type": "application/json"}).content)
