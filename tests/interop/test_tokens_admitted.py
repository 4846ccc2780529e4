"""Tokens that we make, judged by an overlay engine that others wrote: admitted, found, revoked, and refused where due."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from reconciler.model.effect import Draft, Lock, TokenInput, TokenOutput
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.ref import Outpoint
from reconciler.wire import advert, uhrp
from reconciler.wire.beef import parse_beef, write_beef
from reconciler.wire.draft import assemble, price, sign_inputs
from reconciler.wire.keys import ANYONE, child_secret, invoice, public_key, sign
from reconciler.wire.overlay import (
    Answer,
    lookup_headers,
    lookup_request,
    parse_lookup,
    parse_steak,
    submission,
)
from reconciler.wire.proof import verify_beef
from reconciler.wire.script import p2pkh, pushdrop
from reconciler.wire.tx import Tx
from tests.interop.lab import Coin, Lab

pytestmark = pytest.mark.slow

HOST = "https://fx.example.com"
CONTENT = b"date,USD\n2024-01-02,1.0956\n"
# The node answers a submission before it has indexed it; a lookup is repeated this often at most.
LOOKUPS = 200


@dataclass(frozen=True)
class Token:
    """A token to be made: where it is submitted and found, and what locks it."""

    topic: str
    service: str
    query: Any
    fields: tuple[bytes, ...]
    protocol: str
    key_id: str

    def secret(self, identity: bytes, counterparty: bytes = ANYONE) -> bytes:
        return child_secret(identity, counterparty, invoice(self.protocol, self.key_id))

    def script(self, identity: bytes, counterparty: bytes = ANYONE) -> bytes:
        secret = self.secret(identity, counterparty)
        return pushdrop(self.fields, public_key(secret), sign(secret, b"".join(self.fields)))

    @property
    def lock(self) -> Lock:
        return Lock("desk", self.protocol, self.key_id)


def tokens(identity: bytes) -> tuple[Token, Token, Token]:
    who = public_key(identity)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    ship = advert.Advert(advert.SHIP, who, HOST, "tm_fx_rates")
    slap = advert.Advert(advert.SLAP, who, HOST, "ls_fx_rates")
    promise = uhrp.UhrpToken(who, sha256, f"{HOST}/cdn/{sha256}", 1_900_000_000, len(CONTENT))
    find_ship = advert.query(advert.SHIP, identity=who, names=["tm_fx_rates"])
    find_slap = advert.query(advert.SLAP, identity=who, names=["ls_fx_rates"])
    return (
        Token("tm_ship", "ls_ship", find_ship, advert.fields(ship), *advert.lock_of("SHIP")),
        Token("tm_slap", "ls_slap", find_slap, advert.fields(slap), *advert.lock_of("SLAP")),
        Token("tm_uhrp", "ls_uhrp", uhrp.query(sha256=sha256, host=who), uhrp.fields(promise), *uhrp.lock()),
    )


@dataclass(frozen=True)
class Published:
    """One transaction that holds every token, and how to prove and to spend it."""

    lab: Lab
    identity: bytes
    purse: bytes
    coin: Coin
    tx: Tx
    tokens: tuple[Token, ...]

    def source(self, txid: str) -> tuple[bytes, bytes] | None:
        return {self.coin.txid: (self.coin.raw, self.coin.bump), self.tx.txid: (self.tx.raw, b"")}.get(txid)

    @property
    def beef(self) -> bytes:
        return write_beef(self.tx.txid, self.source)


def mint(lab: Lab, seed: bytes, counterparty: bytes | None = None) -> Published:
    """Fund one draft with a mined coin of the lab and finish it with our own code."""
    identity, purse = (hashlib.sha256(what + seed).digest() for what in (b"identity ", b"purse "))
    wanted = tokens(identity)
    draft = Draft("devnet", tuple(TokenOutput(token.fields, token.lock) for token in wanted))
    change = p2pkh(public_key(purse))
    coin = lab.faucet(change, price(draft, []).need + 999)
    scripts = [token.script(identity, counterparty or ANYONE) for token in wanted]
    unsigned, sources = assemble(draft, [(Outpoint(coin.txid, coin.vout), coin.satoshis, change)], [], scripts, change)
    return Published(lab, identity, purse, coin, sign_inputs(unsigned, sources, [purse]), wanted)


def submit(lab: Lab, beef: bytes, topics: Sequence[str]) -> dict[str, tuple[int, ...]]:
    asked = submission(beef, topics)
    answer = lab.request("POST", "/submit", content=asked.body, headers=asked.headers)
    assert answer.status_code == 200, answer.text
    return {topic: did.admit for topic, did in parse_steak(answer.content).items()}


def ask(lab: Lab, token: Token, *, aggregated: bool = False) -> tuple[Answer, ...]:
    headers = lookup_headers(aggregated)
    answer: httpx.Response = lab.request("POST", "/lookup", json=lookup_request(token.service, token.query), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/octet-stream" if aggregated else "application/json")
    return parse_lookup(answer.headers["content-type"], answer.content)


def until(lab: Lab, token: Token, count: int) -> tuple[Answer, ...]:
    """Ask until that many are found; fails when the node never gets there."""
    found: tuple[Answer, ...] = ()
    for _ in range(LOOKUPS):
        found = ask(lab, token)
        if len(found) == count:
            return found
    raise AssertionError(f"{token.service} found {len(found)} of {count} tokens")


def believed(lab: Lab, beef: bytes) -> None:
    """Our own proof check, with the roots the node was told."""
    roots = lab.chain()["roots"]
    verify_beef(parse_beef(beef), lambda height, root: root in roots.get(str(height), ()))


@pytest.fixture
def published(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Published]:
    """Tokens on the node, withdrawn afterwards: UHRP lookups are by content, which other tests share."""
    made = mint(lab, request.node.name.encode())
    admitted = submit(lab, made.beef, [token.topic for token in made.tokens])
    assert admitted == {"tm_ship": (0,), "tm_slap": (1,), "tm_uhrp": (2,)}
    for token in made.tokens:
        until(lab, token, 1)
    yield made
    revoke(made)


def revoke(made: Published) -> None:
    """Spend every token and the change of the transaction that made them; harmless when it was done before."""
    draft = Draft("devnet", (), tuple(TokenInput(Outpoint(made.tx.txid, i), t.lock) for i, t in enumerate(made.tokens)))
    change = p2pkh(public_key(made.purse))
    last = len(made.tx.outputs) - 1
    spent = [(made.tx.outputs[i].satoshis, made.tx.outputs[i].script) for i in range(last)]
    funding = [(Outpoint(made.tx.txid, last), made.tx.outputs[last].satoshis, change)]
    unsigned, sources = assemble(draft, funding, spent, [], change)
    tx = sign_inputs(unsigned, sources, [*(token.secret(made.identity) for token in made.tokens), made.purse])
    beef = write_beef(tx.txid, lambda txid: (tx.raw, b"") if txid == tx.txid else made.source(txid))
    believed(made.lab, beef)
    assert set(submit(made.lab, beef, [token.topic for token in made.tokens]).values()) == {()}


@pytest.mark.row("P-AD-15", "P-AD-16")
def test_our_tokens_are_admitted_and_found_in_both_forms_of_answer(lab: Lab, published: Published) -> None:
    for vout, token in enumerate(published.tokens):
        for aggregated in (False, True):
            (answer,) = ask(lab, token, aggregated=aggregated)
            assert (answer.txid, answer.vout) == (published.tx.txid, vout)
            believed(lab, answer.beef)
            script = parse_beef(answer.beef).tx.outputs[vout].script
            assert script == token.script(published.identity)
    assert advert.parse_advert(published.tx.outputs[0].script).domain == HOST
    assert uhrp.parse_uhrp_token(published.tx.outputs[2].script).sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.row("P-AD-15", "P-AD-16")
def test_a_client_of_another_implementation_finds_and_reads_our_tokens(lab: Lab, published: Published) -> None:
    for vout, token in enumerate(published.tokens):
        answer = lab.client("lookup", lab.url, token.service, json.dumps(token.query))
        assert answer["ok"], answer
        (found,) = answer["outputs"]
        assert (found["txid"], found["outputIndex"], found["satoshis"]) == (published.tx.txid, vout, 1)
        assert [bytes.fromhex(field) for field in found["fields"][:-1]] == list(token.fields)
        if vout < 2:
            assert found["advertisement"]["domain"] == HOST
            assert found["advertisement"]["identityKey"] == public_key(published.identity).hex()
            assert found["advertisement"]["topicOrService"] == ("tm_fx_rates", "ls_fx_rates")[vout]


def test_a_client_of_another_implementation_accepts_our_beef(lab: Lab) -> None:
    made = mint(lab, b"sent by their client")
    answer = lab.client("submit", lab.url, ",".join(token.topic for token in made.tokens), made.beef.hex())
    assert answer["ok"], answer
    steak = answer["steaks"][lab.url]
    assert {topic: did["outputsToAdmit"] for topic, did in steak.items()} == {"tm_ship": [0], "tm_slap": [1], "tm_uhrp": [2]}
    for token in made.tokens:
        until(lab, token, 1)
    revoke(made)


def test_submitting_again_admits_nothing_new_and_loses_nothing(lab: Lab, published: Published) -> None:
    again = submit(lab, published.beef, [token.topic for token in published.tokens])
    assert again == {"tm_ship": (), "tm_slap": (), "tm_uhrp": ()}
    for token in published.tokens:
        assert len(ask(lab, token)) == 1


def test_spending_the_tokens_takes_them_off_the_node(lab: Lab) -> None:
    made = mint(lab, b"to be revoked")
    submit(lab, made.beef, [token.topic for token in made.tokens])
    for token in made.tokens:
        until(lab, token, 1)
    revoke(made)
    for token in made.tokens:
        assert until(lab, token, 0) == ()


def test_tokens_linked_to_self_are_refused_by_the_node_and_by_us(lab: Lab) -> None:
    """The text of BRC-88 derives the key with counterparty "self"; what runs today does not admit that."""
    itself = public_key(hashlib.sha256(b"identity linked to self").digest())
    made = mint(lab, b"linked to self", counterparty=itself)
    assert itself == public_key(made.identity)
    assert set(submit(lab, made.beef, [token.topic for token in made.tokens]).values()) == {()}
    for token in made.tokens:
        assert ask(lab, token) == ()
    with pytest.raises(RemoteProtocolError, match="do not belong to the identity"):
        advert.parse_advert(made.tx.outputs[0].script)


def test_a_proof_the_node_cannot_check_is_refused(lab: Lab) -> None:
    made = mint(lab, b"its block was lost")
    lab.forget(made.coin.height, made.coin.merkle_root)
    asked = submission(made.beef, ["tm_ship"])
    answer = lab.request("POST", "/submit", content=asked.body, headers=asked.headers)
    assert answer.status_code == 400
    assert ask(lab, made.tokens[0]) == ()
