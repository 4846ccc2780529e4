"""Traps of the wire that no other suite shows, each called after its number (test_pitfalls_shown.py has the others)."""

from pathlib import Path

import pytest

from reconciler.adapters.http import Http
from reconciler.adapters.keystore import KeyStore
from reconciler.adapters.overlay import HttpOverlay
from reconciler.adapters.uhrp import UhrpHosts
from reconciler.adapters.wallet import FUNDING, LocalWallet
from reconciler.devnet.clock import SeededEntropy, run
from reconciler.devnet.world import World
from reconciler.kinds import lookups
from reconciler.kinds.network import read_net
from reconciler.kinds.token import Wanted, publish
from reconciler.model.change import Change, FeeRate, Reason, Verb
from reconciler.model.effect import Draft, Lock, TokenOutput
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.ports import Coin, Signed
from reconciler.wire import advert, auth, authhttp, draft, keys, payment, storage, uhrp
from reconciler.wire.script import decode_pushdrop, pushdrop
from reconciler.wire.tx import TxOut
from tests.conformance.producer import Producer

OVERLAY = Endpoint("overlay-1", "http://overlay-1.devnet")
SHIP = Lock("me", *advert.lock_of("SHIP"))


def test_pitfall_06_a_trailing_slash_makes_another_address() -> None:
    net = read_net(
        "n", {"chain": "devnet", "overlays": [{"url": "http://h.devnet/"}], "gateway": {"publicUrl": "https://p.example/"}}
    )
    assert (net.overlays[0].url, net.public_url) == ("http://h.devnet", "https://p.example")
    world, who = World(), Producer("slash")
    who.take(*world.faucet(who.purse.script, 10_000), 10_000)
    tx = who.pay(who.ship("tm_one"))
    overlay = HttpOverlay(_http(world))
    slashed = Endpoint("slashed", OVERLAY.url + "/")
    assert run(overlay.submit(slashed, who.beef(tx), ["tm_ship"]), clock=world.clock) == {"tm_ship": (0,)}
    assert {e.path for e in world.network.exchanges} == {"/submit"}


def _http(world: World) -> Http:
    return Http(world.clock, transport=world.transport())


def test_pitfall_09_a_signature_does_not_say_where_fields_end() -> None:
    who = Producer("borders")
    honest = decode_pushdrop(who.ship("tm_rates", "https://producer.example").script)
    assert advert.parse_advert(pushdrop(honest.fields, honest.key, honest.signature)).name == "tm_rates"
    kind, identity, domain, name = honest.fields
    for fields in (
        (kind + identity[:1], identity[1:], domain, name),
        (kind, identity + domain[:1], domain[1:], name),
        (kind, identity, domain + name[:3], name[3:]),
        (kind, identity, domain[:-1], domain[-1:] + name),
    ):
        assert b"".join(fields) == b"".join(honest.fields), "the very bytes that were signed"
        with pytest.raises(RemoteProtocolError):
            advert.parse_advert(pushdrop(fields, honest.key, honest.signature))


def test_pitfall_12_authentication_and_payment_have_their_own_versions() -> None:
    assert (auth.VERSION, payment.VERSION) == ("0.1", "1.0")
    assert payment.demand_headers(payment.Demand(1, auth.fresh_nonce(bytes(32))))["x-bsv-payment-version"] == "1.0"


def test_pitfall_21_a_payment_travels_in_a_header() -> None:
    world = World()
    who = Producer("pays", world.faucet)
    prefix, suffix = (auth.fresh_nonce(bytes([n]) * 32) for n in (1, 2))
    sizes = []
    for _ in range(12):
        tx = who.pay(TxOut(100, b"\x6a"))
        sizes.append(len(payment.write_payment(payment.Payment(prefix, suffix, who.beef(tx, atomic=True)))))
    assert sizes[0] < 2_000, "of a mined coin it fits what every server takes"
    assert sizes == sorted(sizes) and sizes[-1] > 3 * sizes[0], "and each unmined ancestor makes it longer"
    assert sizes[-1] < payment.MAX_HEADER


def test_pitfall_23_time_has_four_units() -> None:
    said = uhrp.UhrpToken(b"\x02" * 33, "ab" * 32, "https://h.example/x", 1_900_000_000, 5)
    assert said.expires == 1_900_000_000, "a token expires in unix seconds"
    assert storage.offer(5, 60) == {"fileSize": 5, "retentionPeriod": 60}, "room is asked for in minutes"


def test_pitfall_25_whoever_uploads_cannot_withdraw_what_the_host_promised() -> None:
    world = World()
    hosts = UhrpHosts(_http(world), None)
    run(hosts.release(Endpoint("eu1", "http://eu1.devnet", kind="uhrp"), "ab" * 32), clock=world.clock)
    assert world.network.exchanges == [], "there is no such request; what was paid for runs out"


def test_pitfall_28_the_network_is_told_before_the_overlay() -> None:
    net = read_net("n", {"chain": "devnet", "overlays": [{"url": "http://h.devnet"}]})
    fields = (b"SHIP", keys.public_key(b"\x11" * 32))
    wanted = Wanted("SHIP", "tm_x", "tm_ship", "ls_ship", fields, *advert.lock_of("SHIP"), "me")
    change = Change(ResourceRef("Advertisement", "feed"), Verb.CREATE, Reason.NEW, 1, rate=FeeRate(100))
    steps, asked = publish(net, change, [wanted], []), []
    answer = None
    while True:
        try:
            effect = steps.send(answer)
        except StopIteration:
            break
        asked.append(type(effect).__name__)
        answer = {"txid": "ab" * 32}
    assert asked == ["Sign", "Broadcast", "Submit"]


@pytest.fixture
def wallet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWallet:
    """A purse and one identity, both in the environment."""
    monkeypatch.setenv("PRODUCER_KEY", (b"\x11" * 32).hex())
    monkeypatch.setenv("PAYER_KEY", (b"\x22" * 32).hex())
    made = LocalWallet(KeyStore(tmp_path, SeededEntropy(1)), {"env": "PAYER_KEY"})
    made.know({"me": {"env": "PRODUCER_KEY"}})
    return made


def signed(wallet: LocalWallet) -> Signed:
    fields = advert.fields(advert.Advert("SHIP", keys.public_key(b"\x11" * 32), "https://p.example", "tm_x"))
    coin = Coin(Outpoint("ab" * 32, 0), "devnet", 1_000, wallet.funding_script(), FUNDING)
    return wallet.sign(Draft("devnet", (TokenOutput(fields, SHIP),)), [coin], {})


def test_pitfall_32_a_token_is_no_change(wallet: LocalWallet) -> None:
    made = signed(wallet)
    assert [coin.outpoint.vout for coin in made.coins] == [1], "the token at output 0 is never offered as a coin"
    assert all(coin.script == wallet.funding_script() for coin in made.coins)


def test_pitfall_38_nobody_is_asked_to_confirm(wallet: LocalWallet, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*words: object) -> str:
        raise AssertionError(f"somebody is asked: {words}")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr("getpass.getpass", asked)
    assert signed(wallet).txid


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
def test_pitfall_37_answers_are_read_page_by_page(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "PAGE", page)
    world = World()
    who = Producer("many", world.faucet)
    tx = who.pay(*(who.ship(f"tm_{letter}") for letter in "abcde"))
    world.nodes["overlay-1"].submit(who.beef(tx), ["tm_ship"])

    class Reads:
        overlay = HttpOverlay(_http(world))

    held = run(lookups.held(Reads(), OVERLAY, "ls_ship", {"identityKey": who.identity.hex()}), clock=world.clock)  # type: ignore[arg-type]
    assert held == {f"{tx.txid}.{vout}" for vout in range(5)}
    assert len(world.network.exchanges) == 5 // page + 1


def test_pitfall_40_names_of_headers_are_signed_in_lower_case() -> None:
    spelled = [
        authhttp.request_payload(bytes(32), "POST", "/", [(name, "v"), (kind, "text/plain; charset=utf-8")], b"x")
        for name, kind in (("X-BSV-Topic", "Content-Type"), ("x-bsv-topic", "content-type"))
    ]
    assert spelled[0] == spelled[1]
    assert b"x-bsv-topic" in spelled[0] and b"charset" not in spelled[0]


def test_pitfall_43_what_is_hashed_how_often() -> None:
    who = Producer("hashes", World().faucet)
    tx = who.pay(who.ship("tm_x"), who.promise(b"content"))
    token = decode_pushdrop(tx.outputs[0].script)
    once = keys.sha256(b"".join(token.fields))
    assert keys.verify_digest(token.key, once, token.signature), "a token's signature: once"
    assert not keys.verify_digest(token.key, keys.sha256(once), token.signature)
    assert tx.txid == keys.sha256(keys.sha256(tx.raw))[::-1].hex(), "a transaction's name: twice, read backwards"
    assert uhrp.parse_uhrp_token(tx.outputs[1].script).sha256 == keys.sha256(b"content").hex(), "content: once"


def test_pitfall_44_one_satoshi_is_enough() -> None:
    lone = Draft("devnet", (TokenOutput((b"x",), SHIP),))
    priced = draft.price(lone, [])
    assert priced.need == priced.fee + 1 + 1, "one for the token, one for the change"
    who = Producer("dust")
    world = World()
    who.take(*world.faucet(who.purse.script, 10_000), 10_000)
    tx = who.pay(who.ship("tm_x"))
    assert tx.outputs[0].satoshis == 1
    assert world.nodes["overlay-1"].submit(who.beef(tx), ["tm_ship"])["tm_ship"].admit == (0,)
