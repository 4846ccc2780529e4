"""A dataset bought by one transaction of outputs that the shop names: each party is paid at once, or nobody is."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.adapters.auth import Introduced
from reconciler.adapters.http import Answer, Http, Request
from reconciler.compose import Workspace
from reconciler.devnet.clock import SeededEntropy
from reconciler.devnet.network import Fault, Trouble
from reconciler.devnet.world import World
from reconciler.engine.ancestry import beef_of
from reconciler.engine.confirm import confirm
from reconciler.gateway.app import application
from reconciler.gateway.door import shop_of
from reconciler.model.effect import Draft, PaymentOutput
from reconciler.model.errors import Refused
from reconciler.model.sale import Method, PaymentState
from reconciler.ports import Ports
from reconciler.sales.opening import openings
from reconciler.sales.paywall import Shop
from reconciler.sales.refund import Refunder, wanted
from reconciler.wire import keys
from reconciler.wire.beef import write_beef
from reconciler.wire.document import open_envelope
from reconciler.wire.payment import secret_from
from reconciler.wire.receipt import verify_receipt
from reconciler.wire.script import p2pkh
from reconciler.wire.tx import parse_tx
from tests.e2e.scene import DATASET, FULL, IDENTITY, NETWORK, Scene, play

URL = "http://shop.devnet"
# A second broadcaster, which the policy asks first.
TWO = NETWORK.replace(
    '{name: arc, url: "http://arc.devnet"}', '{name: arc, url: "http://arc.devnet"}, {name: first, url: "http://first.devnet"}'
).replace("gateway: {", 'gateway: {listen: "127.0.0.1:0", ')
PROCESS = "wallet: {key: {env: PURSE}}\n"
AGENT = keys.sha256(b"the agent")
POLICY: dict[str, Any] = {
    "native": {"enabled": True, "broadcasters": ["first", "arc"], "templateExpiry": "24h"},
    "routing": {"small": "http", "large": "native", "threshold": 1000},
    "splits": {"producer": "0.85", "agent": "0.05", "overlay": "0.1"},
    "parties": {"agent": {"identityKey": keys.public_key(AGENT).hex()}, "overlay": {"script": "51"}},
    "confirmations": {"below": 0, "above": 2},
}


def files(price: int, policy: dict[str, Any]) -> dict[str, str | bytes]:
    head = {"apiVersion": "overlay.bsv/v1alpha1", "kind": "PaymentPolicy", "metadata": {"name": "shared"}, "spec": policy}
    priced = DATASET.replace("pricePlanRef: standard", f"price: {price}\n  paymentPolicyRef: shared")
    # A key from the environment, because to open a sealed one takes longer than the rest.
    who = re.sub(r"key: .*", "key: {env: DESK}", IDENTITY)
    return {
        "reconciler.yaml": PROCESS,
        "identity.yaml": who,
        "data/rates.csv": FULL["data/rates.csv"],
        "network.yaml": TWO,
        "dataset.yaml": priced,
        "policy.yaml": yaml.safe_dump(head),
    }


@dataclass
class Market:
    """A seller whose shop is open, and a buyer with a purse."""

    scene: Scene
    space: Workspace
    shop: Shop
    buyer: Ports
    http: Http

    @property
    def world(self) -> World:
        return self.scene.world

    async def post(self, path: str, **members: Any) -> Answer:
        request = Request("POST", URL + path, {"content-type": "application/json"}, json.dumps(members).encode())
        return await self.http.send(request, talk=True)

    async def template(self) -> dict[str, Any]:
        answer = await self.post("/payments/templates", contentId="rates")
        assert answer.status == 201, answer.body
        document, signer = open_envelope(answer.body)
        assert signer == self.shop.producer
        return dict(document)

    def paying(self, outputs: list[dict[str, Any]]) -> tuple[str, str]:
        """A signed transaction of these outputs, which nobody has seen yet, as (txid, Atomic BEEF in hex)."""
        wanted = tuple(PaymentOutput(one["satoshis"], bytes.fromhex(one["lockingScript"])) for one in outputs)
        with self.buyer.ledger.begin() as tx:
            coins = tx.coins(state="free")
        signed = self.buyer.wallet.sign(Draft("devnet", wanted), coins, {})
        with self.buyer.ledger.begin() as tx:

            def part(txid: str) -> tuple[bytes, bytes] | None:
                stored = tx.transaction(txid)
                return (signed.raw, b"") if txid == signed.txid else None if stored is None else (stored.raw, stored.proof)

            return signed.txid, write_beef(signed.txid, part, atomic=True).hex()

    async def pay(self, template: dict[str, Any], beef: str | None) -> Answer:
        return await self.post(f"/payments/templates/{template['id']}/tx", beef=beef)

    def revenue(self) -> list[Any]:
        with self.space.ports.ledger.sales() as rows:
            return list(rows.payments())


Act = Callable[[Market], Awaitable[None]]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays a scene in a market whose dataset costs so much, under a policy."""
    for name in ("DESK", "PURSE", "BUYER"):
        monkeypatch.setenv(name, keys.sha256(name.encode()).hex())

    def act(work: Act, price: int = 1000, policy: dict[str, Any] | None = None) -> None:
        scene = Scene(tmp_path / "seller")
        scene.write(files(price, policy or POLICY))
        world = scene.world
        # The second name of the one broadcaster, so that either can fail alone.
        world.network.apps["first.devnet"] = world.network.apps["arc.devnet"]

        async def main() -> None:
            await scene.fund()
            async with scene.open() as space:
                _, report = await scene.apply(space)
                assert report.complete, report
                records = space.ports.ledger.read(world.clock.now()).records
                (opening,), faults = openings(records)
                assert not faults
                shop = shop_of(space.ports, opening, records, space.ports.wallet.speaker)  # type: ignore[attr-defined]
                world.network.apps["shop.devnet"] = application(replace(shop, base=URL))
                buyer = Scene(tmp_path / "buyer", world, SeededEntropy(8))
                buyer.write({"network.yaml": NETWORK, "reconciler.yaml": PROCESS.replace("PURSE", "BUYER")})
                await buyer.fund(50_000)
                async with buyer.open() as theirs:
                    http = Http(world.clock, transport=world.transport())
                    speak = theirs.ports.wallet.speaker  # type: ignore[attr-defined]
                    http.conversation = Introduced(http, speak, theirs.ports.entropy, None)
                    await work(Market(scene, space, shop, theirs.ports, http))

        play(main, world.clock)

    return act


@pytest.mark.row("P-PAY-20", "P-PAY-22", "P-PAY-23", "P-PAY-08", "P-DOD-08", "P-DB-76", "P-DB-78")
def test_one_transaction_pays_every_party_and_is_served_once_it_is_deep_enough(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        template = await m.template()
        assert [(one["party"], one["satoshis"]) for one in template["outputs"]] == [
            ("producer", 850),
            ("agent", 50),
            ("overlay", 100),
        ]
        txid, beef = m.paying(list(reversed(template["outputs"])))
        # The broadcaster that the policy asks first is down: the next one gets the very same transaction.
        m.world.network.arm(Fault(Trouble.REFUSE, "first.devnet", times=9))
        waiting = await m.pay(template, beef)
        assert (waiting.status, json.loads(waiting.body)["confirmations"]) == (202, {"standing": 0, "needed": 2})
        assert m.world.chain.live(txid) is not None
        (paid,) = m.revenue()
        assert (paid.method, paid.satoshis, paid.state, paid.template) == (
            Method.NATIVE,
            1000,
            PaymentState.PENDING,
            template["id"],
        )
        assert {one["party"]: one["satoshis"] for one in paid.splits} == {"producer": 850, "agent": 50, "overlay": 100}
        with m.space.ports.ledger.begin() as tx:
            assert tx.dues() == [], "nobody is owed what he got"
            assert [coin.satoshis for coin in tx.coins(state="free") if coin.outpoint.txid == txid] == [850]
        # Each party finds its key with what the template says, and nobody else's opens it.
        prefix, suffix = template["derivationPrefix"], template["derivationSuffix"]
        theirs = secret_from(AGENT, bytes.fromhex(m.shop.producer), prefix, suffix)
        assert p2pkh(keys.public_key(theirs)).hex() == template["outputs"][1]["lockingScript"]
        for depth, status in ((1, 202), (2, 200)):
            m.world.mine()
            await confirm(m.space.ports, {"devnet": m.shop.till.net})
            answer = await m.pay(template, None)
            assert (answer.status, json.loads(answer.body)["confirmations"]["standing"]) == (status, depth)
        got = json.loads(answer.body)
        await m.http.send(Request("GET", got["files"][0]["url"] + f"?access={got['access']['token']}"))
        proof = beef_of(m.space.ports.ledger, txid, atomic=True)
        assert proof and got["receipt"]["document"]["method"] == "native"
        bundle = await m.http.send(Request("GET", f"{URL}/receipts/{got['receiptId']}"), talk=True)
        assert [check for check in verify_receipt(bundle.body) if check.ok is False] == []
        assert "1000 of 1000" in next(check.detail for check in verify_receipt(bundle.body) if check.name == "payment")

    at(scene)


@pytest.mark.row("P-PAY-30", "P-PAY-16")
def test_a_template_is_paid_once_however_often_it_is_shown(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        template = await m.template()
        _, beef = m.paying(template["outputs"])
        first, again = await m.pay(template, beef), await m.pay(template, beef)
        assert (first.status, again.status) == (201, 200)
        assert json.loads(first.body)["receiptId"] == json.loads(again.body)["receiptId"]
        assert len(m.revenue()) == 1
        told = await m.post("/payments/templates", contentId="rates")
        assert (told.status, json.loads(told.body)["type"]) == (409, "urn:reconciler:problem:bought-already")

    at(scene, policy={**POLICY, "confirmations": {"above": 0}})


@pytest.mark.row("S-12", "P-PAY-19", "P-PAY-16")
def test_a_transaction_that_does_not_pay_everybody_is_refused_before_anybody_sees_it(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        template = await m.template()
        outputs = template["outputs"]
        for wrong, detail in (
            (outputs[:2], "the share of overlay is wrong: no output of it goes there"),
            ([{**outputs[0], "satoshis": 849}, *outputs[1:]], "it gives 849 satoshis instead of 850"),
            ([outputs[0], {**outputs[1], "lockingScript": "51"}, outputs[2]], "the share of agent is wrong"),
        ):
            txid, beef = m.paying(wrong)
            answer = await m.pay(template, beef)
            body = json.loads(answer.body)
            assert (answer.status, body["type"], body["check"]) == (
                422,
                "urn:reconciler:problem:payment-refused",
                "output-missing",
            )
            assert detail in body["detail"]
            assert m.world.chain.live(txid) is None, "nothing was broadcast"
        assert m.revenue() == []
        broken = await m.pay(template, "00")
        assert (broken.status, json.loads(broken.body)["type"]) == (422, "urn:reconciler:problem:payment-refused")
        unread = await m.post(f"/payments/templates/{template['id']}/tx", beef="zz")
        assert json.loads(unread.body)["type"] == "urn:reconciler:problem:bad-member"
        lost = await m.post("/payments/templates/none/tx")
        assert (lost.status, json.loads(lost.body)["type"]) == (404, "urn:reconciler:problem:no-template")

    at(scene)


@pytest.mark.row("P-PAY-10")
def test_a_template_dies_at_its_time(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        template = await m.template()
        txid, beef = m.paying(template["outputs"])
        await m.world.clock.sleep(timedelta(hours=24).total_seconds())
        answer = await m.pay(template, beef)
        assert (answer.status, json.loads(answer.body)["type"]) == (409, "urn:reconciler:problem:template-expired")
        assert m.world.chain.live(txid) is None and m.revenue() == []

    at(scene)


@pytest.mark.row("P-PAY-11", "P-PAY-12", "P-PAY-13", "P-PAY-02")
@pytest.mark.parametrize(("price", "native"), [(999, False), (1000, True), (1001, True)])
def test_the_threshold_decides_which_way_is_open(at: Callable[..., None], price: int, native: bool) -> None:
    async def scene(m: Market) -> None:
        quote = open_envelope((await m.post("/quotes", contentId="rates")).body)[0]
        assert quote["methods"] == (["native"] if native else ["brc105"])
        by_template = await m.post("/payments/templates", contentId="rates")
        assert by_template.status == (201 if native else 409)
        if not native:
            # A buyer without a purse hears what a request would have to bring.
            with pytest.raises(Refused) as asked:
                await m.post("/purchases", contentId="rates")
            assert asked.value.code == "payment-required"
            return
        assert (await m.post("/purchases", contentId="rates")).status == 409
        held = await m.post("/payments/templates", contentId="rates", quoteId=quote["id"])
        made = open_envelope(held.body)[0]
        assert sum(one["satoshis"] for one in made["outputs"]) == made["satoshis"] == price

    at(scene, price=price)


def test_the_outputs_follow_from_one_nonce(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        from reconciler.sales import template as templates
        from reconciler.sales.split import divide

        template = await m.template()
        shares = divide(m.shop.offers()["rates"].policy, 1000).shares
        buyer = m.buyer.wallet.speaker().identity  # type: ignore[attr-defined]
        again = templates.outputs(shares, m.shop.till.speaker, buyer, template["derivationPrefix"])
        assert [one.json("rates@1") for one in again] == template["outputs"]
        assert (await m.template())["outputs"] != template["outputs"], "another nonce, other keys"

    at(scene)


@pytest.mark.row("P-PAY-25", "S-01")
def test_a_buyer_asks_for_his_money_and_finds_it(at: Callable[..., None]) -> None:
    async def scene(m: Market) -> None:
        template = await m.template()
        bought = json.loads((await m.pay(template, m.paying(template["outputs"])[1])).body)
        place = f"/receipts/{bought['receiptId']}/refund"
        asked = [await m.post(place, reason="wrong file"), await m.post(place)]
        assert [(one.status, json.loads(one.body)["state"]) for one in asked] == [(202, "asked")] * 2
        with m.space.ports.ledger.begin() as tx:
            assert wanted(tx, bought["receiptId"]) == "wrong file"
        m.world.mine()
        await confirm(m.space.ports, {"devnet": m.shop.till.net})
        refunder = Refunder(m.space.runner, m.space.ports.wallet.speaker)  # type: ignore[attr-defined]
        await refunder.refund(bought["receiptId"], "wrong file")
        answer = await m.post(place)
        said = json.loads(answer.body)
        assert (answer.status, said["state"], said["satoshis"]) == (200, "refunded", 1000)
        with m.space.ports.ledger.begin() as tx:
            stored = tx.transaction(said["payment"]["txid"])
        assert stored is not None
        keys_of = (said["payment"]["derivationPrefix"], said["payment"]["derivationSuffix"])
        mine = m.buyer.wallet.speaker().script_from(bytes.fromhex(m.shop.producer), *keys_of)  # type: ignore[attr-defined]
        paid = parse_tx(stored.raw).outputs[said["payment"]["vout"]]
        assert (paid.satoshis, paid.script) == (1000, mine)
        # What was given back is not served any more; it can be bought again.
        assert (await m.post("/payments/templates", contentId="rates")).status == 201
        strange = await m.post("/receipts/none/refund")
        assert (strange.status, json.loads(strange.body)["type"]) == (404, "urn:reconciler:problem:no-receipt")

    at(scene, policy={**POLICY, "confirmations": {"above": 0}})
