"""A buyer on a devnet with a real gateway: what is found is proven, bought is paid once, fetched is what was sold."""

import asyncio
import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reconciler.compose import Workspace
from reconciler.consumer import purchases
from reconciler.consumer.client import Client
from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.till import Till
from reconciler.gateway.auth import Authenticated
from reconciler.gateway.payment import priced
from reconciler.model.errors import Attention, Conflict, GuardRefused, Refused, Unavailable, Uncertain
from reconciler.web import Asking
from reconciler.wire.document import seal, signed_bytes
from reconciler.wire.receipt import open_receipt, receipt_id, verify_receipt
from tests.e2e.fair import FUNDS, PRICE, SHOP, URL, Fair, coins, payments, scene
from tests.e2e.scene import FULL, play

CONTENT = FULL["data/rates.csv"].encode()


# --- the whole way --------------------------------------------------------------------------------


@pytest.mark.row("C-04", "C-06", "C-08", "C-09", "C-10", "C-20", "C-21", "C-28", "E-203", "E-205", "P-LKP-06")
def test_found_quoted_paid_fetched_and_proven(fair: Fair, tmp_path: Path) -> None:
    async def work(shop: Workspace, buyer: Client) -> None:
        (best,) = await buyer.search("euro", tags=["FX"])
        assert (best.offer.name, best.offer.satoshis, best.offer.service.url) == ("rates", PRICE, URL)
        quote = await buyer.quote(best.offer, cost=PRICE)
        assert (quote.satoshis, quote.producer, payments(buyer)) == (PRICE, best.offer.producer, [])
        one = await buyer.pay(quote.id)
        assert (one.state, one.paid, payments(buyer)) == ("had", PRICE, [PRICE])
        seen: list[tuple[str, int, int]] = []
        (file,) = await buyer.fetch(one, tmp_path / "out", told=lambda *said: seen.append(said))
        assert file.place.read_bytes() == CONTENT and file.source.startswith(URL)
        assert seen[-1] == ("data/rates.csv", len(CONTENT), len(CONTENT))
        # A second time nothing is paid, and what stands there is left alone.
        assert await buyer.pay(quote) == one
        (again,) = await buyer.fetch("rates", tmp_path / "out")
        assert (again.source, payments(buyer), coins(shop)[0]) == ("", [PRICE], PRICE)
        assert all(check.ok for check in await buyer.verify(one.id, tmp_path / "out"))
        # The books say what left the purse, to the satoshi.
        found = buyer.report(fair.world.clock.start)
        assert found.total.satoshis + found.total.fees == FUNDS - sum(coins(buyer))
        assert (found.total.purchases, found.total.receipts, found.total.bytes) == (1, 1, len(CONTENT))

    scene(fair, work)


@pytest.mark.row("C-02", "C-03", "C-05", "C-19", "C-31", "P-LKP-02", "P-LKP-04")
def test_what_is_found_can_be_narrowed_and_the_reasons_are_told(fair: Fair) -> None:
    from reconciler.consumer.ceiling import Ceiling

    async def work(shop: Workspace, buyer: Client) -> None:
        (service,) = await buyer.discover(service_type="data-feed", most=Ceiling(PRICE, "item"))
        assert (service.service.capability, service.service.offers) == ("rates", ("Dataset/rates",))
        assert await buyer.discover(service_type="weather") == []
        assert await buyer.search(most=Ceiling(PRICE - 1)) == []
        assert any("costs 25 satoshis" in note for note in buyer.notes)
        assert [one.offer.name for one in await buyer.search(most=Ceiling(PRICE))] == ["rates"]
        assert await buyer.search(tags=["fx", "weekly"]) == [] and await buyer.search(terms="MIT") == []
        (found,) = await buyer.search(producer=service.service.producer, terms="cc0-1.0")
        assert found.score.points == sum(term.points for term in found.score.terms)
        with pytest.raises(Refused, match="nobody offers it"):
            await buyer.offer("rents")

    scene(fair, work)


@pytest.mark.row("C-02", "C-17")
def test_what_cannot_be_proven_is_left_out(fair: Fair) -> None:
    async def work(shop: Workspace, buyer: Client) -> None:
        digest = (await buyer.search())[0].offer.anchor.digest
        buyer.till.ports.blobs.path(digest).unlink()
        for host in ("eu1", "us1", "ap1"):
            fair.world.corrupt(host, digest)
        assert await buyer.search() == []
        assert any("cannot read document" in note for note in buyer.notes)

    scene(fair, work)


# --- paid once ------------------------------------------------------------------------------------


@pytest.mark.row("C-07")
def test_more_than_the_cost_is_refused_and_nothing_is_paid(fair: Fair) -> None:
    async def work(shop: Workspace, buyer: Client) -> None:
        with pytest.raises(GuardRefused) as dear:
            await buyer.quote("rates", cost=PRICE - 1)
        assert dear.value.code == "over-cost"
        quote = await buyer.quote("rates")
        with pytest.raises(GuardRefused, match="at most 24 are allowed"):
            await buyer.pay(quote, PRICE - 1)
        # A producer that asks for more than it quoted gets nothing.
        with pytest.raises(GuardRefused):
            await buyer.pay(replace(quote, satoshis=PRICE - 1))
        assert (payments(buyer), sum(coins(buyer))) == ([], FUNDS)
        assert (await buyer.pay(await buyer.quote("rates"))).paid == PRICE, "a refusal does not stand in the way"

    scene(fair, work)


@pytest.mark.row("C-08", "C-34", "C-36")
@pytest.mark.parametrize("trouble", [Trouble.LOSE, Trouble.REFUSE, Trouble.CORRUPT, Trouble.STATUS])
def test_an_answer_lost_after_the_payment_costs_nothing_more(fair: Fair, trouble: Trouble) -> None:
    async def main() -> None:
        async with fair.shop() as shop:
            async with fair.buying() as buyer:
                quote = await buyer.quote("rates")
                # The first request is told the price, the second carries the payment.
                fair.lose("/purchases", 1, trouble)
                with pytest.raises((Uncertain, Unavailable)):
                    await buyer.pay(quote)
                assert payments(buyer) == [PRICE]
                assert (await buyer.status("rates")).payment == "open"
            async with fair.buying() as buyer:
                # Another process, another quote: the purchase under way is brought to its end.
                one = await buyer.pay(await buyer.quote("rates"))
                assert (one.state, payments(buyer), [c for c in coins(shop) if c == PRICE]) == ("had", [PRICE], [PRICE])
                assert (await buyer.status(one.id)).payment == "taken"

    play(main, fair.world.clock)


@pytest.mark.row("C-08", "C-36")
def test_a_process_that_dies_between_payment_and_receipt_loses_nothing(fair: Fair, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """As good as SIGKILL: nothing is tidied up."""

    settle = purchases.settle

    async def main() -> None:
        async with fair.shop() as shop:
            with pytest.raises(Killed):
                async with fair.buying() as buyer:
                    quote = await buyer.quote("rates")

                    def die(*_: object) -> None:
                        raise Killed

                    monkeypatch.setattr("reconciler.consumer.pay.purchases.settle", die)
                    await buyer.pay(quote)
            monkeypatch.setattr("reconciler.consumer.pay.purchases.settle", settle)
            async with fair.buying() as buyer:
                one = await buyer.pay(quote.id)
                assert (one.state, one.paid, payments(buyer)) == ("had", PRICE, [PRICE])
                assert [c for c in coins(shop) if c == PRICE] == [PRICE]

    play(main, fair.world.clock)


@pytest.mark.row("C-30", "C-36")
def test_buyers_at_once_buy_one_thing_once(fair: Fair) -> None:
    async def main() -> None:
        async with fair.shop() as shop, fair.buying() as one, fair.buying() as other:
            quotes = [await one.quote("rates"), await other.quote("rates"), await one.quote("rates")]
            had = await asyncio.gather(one.pay(quotes[0]), other.pay(quotes[1]), one.pay(quotes[2]))
            assert {bought.receipt_id for bought in had} == {had[0].receipt_id}
            assert (payments(one), [c for c in coins(shop) if c == PRICE]) == ([PRICE], [PRICE])

    play(main, fair.world.clock)


def test_a_quote_that_ran_out_is_not_paid(fair: Fair) -> None:
    async def work(shop: Workspace, buyer: Client) -> None:
        quote = await buyer.quote("rates")
        fair.world.clock.advance(3600)
        with pytest.raises(Refused) as caught:
            await buyer.pay(quote)
        assert (caught.value.code, payments(buyer)) == ("quote-expired", [])
        assert (await buyer.pay(await buyer.quote("rates"))).state == "had"

    scene(fair, work)


def test_a_refused_payment_is_replaced_with_the_same_coin(fair: Fair) -> None:
    async def main() -> None:
        async with fair.shop() as shop, fair.buying() as buyer:
            quote = await buyer.quote("rates")
            fair.lose("/purchases", 1, Trouble.REFUSE)
            with pytest.raises((Uncertain, Unavailable)):
                await buyer.pay(quote)
            # The demand runs out, and so does the quote; then the payment is shown, and refused.
            fair.world.clock.advance(2 * 3600)
            with pytest.raises(Attention):
                await buyer.pay(quote)
            one = await buyer.pay(await buyer.quote("rates"))
            assert (one.state, len(payments(buyer))) == ("had", 2)
            # Two were signed, and only one of them can ever be mined.
            found = buyer.report(fair.world.clock.start)
            assert (found.total.satoshis, [c for c in coins(shop) if c == PRICE]) == (PRICE, [PRICE])
            assert sum(coins(buyer)) == FUNDS - PRICE - found.total.fees

    play(main, fair.world.clock)


# --- within the budget ----------------------------------------------------------------------------


def tolls(fair: Fair, shop: Workspace, price: int) -> list[str]:
    """A host that asks the same price for every address; what it gave."""
    till = Till(shop.ports, fair.seller.net(), shop.ports.wallet.speaker("desk"), "desk")
    given: list[str] = []

    async def asked(request: Request) -> int:
        return price

    async def serve(request: Request) -> Response:
        given.append(request.url.path)
        return PlainTextResponse(request.url.path)

    app = Starlette(routes=[Route("/{rest:path}", priced(serve, asked, till))])
    fair.world.network.apps["tolls.devnet"] = Authenticated(app, till.speaker, fair.world.clock, shop.ports.entropy)
    return given


@pytest.mark.row("C-12", "C-14", "C-30")
@pytest.mark.parametrize("budget", ["perDay: 450sat", "perHour: 450sat", "perProducer: 350sat"])
def test_no_number_of_buyers_at_once_overspends(fair: Fair, budget: str) -> None:
    """Two processes, twelve requests at once, and answers that are lost after the payment: what was signed away is counted."""
    fair.budget(f"{{budget: {{perRequest: 100sat, {budget}}}}}")
    cap = int(budget.split()[1].removesuffix("sat"))

    async def main() -> None:
        async with fair.shop() as shop:
            given = tolls(fair, shop, 100)
            fair.world.network.arm(Fault(Trouble.LOSE, host="tolls.devnet", path="/1", skip=2, times=1))
            async with fair.buying() as one, fair.buying() as other:
                asked = [(one, other)[number % 2].get(f"http://tolls.devnet/{number}", 100) for number in range(12)]
                ended = await asyncio.gather(*asked, return_exceptions=True)
                refused = [str(error) for error in ended if isinstance(error, GuardRefused)]
                assert refused and all("are left of the budget" in told for told in refused)
                # Coins in use are another reason to wait; the rest of the budget may be spent as soon as one is free.
                for number in range(12, 18):
                    with contextlib.suppress(GuardRefused, Uncertain):
                        await one.get(f"http://tolls.devnet/{number}", 100)
            async with fair.buying() as later:
                found = later.report(fair.world.clock.start).total
                counted = found.satoshis if "perProducer" in budget else found.satoshis + found.fees
                assert (found.satoshis, counted <= cap) == (300, True)
                assert 0 < len(given) <= 3 and sum(payments(later)) == found.satoshis
                with pytest.raises(GuardRefused):
                    await later.get("http://tolls.devnet/again", 100)
                if "perHour" in budget:
                    fair.world.clock.advance(3601)
                    assert (await later.get("http://tolls.devnet/again", 100)).paid == 100

    play(main, fair.world.clock)


@pytest.mark.row("C-36")
def test_one_purchase_asked_for_twice_at_once_is_paid_once_even_where_nothing_is_remembered(fair: Fair) -> None:
    async def work(shop: Workspace, buyer: Client) -> None:
        given, key = tolls(fair, shop, 100), shop.ports.wallet.public_key("desk")
        asking = Asking("GET", "http://tolls.devnet/x", None, key, "a" * 16, "devnet")
        ended = await asyncio.gather(*(buyer.till.web.ask(asking, 100) for _ in range(3)), return_exceptions=True)
        assert [error.code for error in ended if isinstance(error, Conflict)] == ["bought", "bought"]
        assert (payments(buyer), given) == ([100], ["/x"])

    scene(fair, work)


@pytest.mark.row("C-30")
def test_one_request_may_not_cost_more_than_one_request(fair: Fair) -> None:
    fair.budget(f"{{budget: {{perRequest: {PRICE - 1}sat}}}}")

    async def work(shop: Workspace, buyer: Client) -> None:
        quote = await buyer.quote("rates")
        with pytest.raises(GuardRefused) as caught:
            await buyer.pay(quote)
        assert (caught.value.code, payments(buyer), sum(coins(buyer))) == ("budget-perRequest", [], FUNDS)

    scene(fair, work)


# --- who it is ------------------------------------------------------------------------------------


@pytest.mark.row("C-17")
def test_an_impostor_is_refused_and_paid_nothing(fair: Fair) -> None:
    async def main() -> None:
        async with fair.shop() as shop:
            async with fair.buying() as buyer:
                producer = (await buyer.offer("rates")).producer
                await buyer.quote("rates")
            speaker = shop.ports.wallet.speaker("wallet")
            fair.world.network.apps["shop.example.com"] = _shop_of(shop, speaker)
            async with fair.buying() as buyer:
                assert buyer.till.pinned(URL) == producer
                with pytest.raises(Refused) as caught:
                    await buyer.quote("rates")
                assert (caught.value.code, payments(buyer)) == ("other-identity", [])
                with pytest.raises(GuardRefused, match="pinned since"):
                    buyer.till.check(URL, speaker.identity.hex())
                with pytest.raises(GuardRefused, match="pinned since"):
                    await buyer.get(f"{URL}/anything", PRICE)
                assert payments(buyer) == []

    play(main, fair.world.clock)


def _shop_of(space: Workspace, speaker: object):  # type: ignore[no-untyped-def]
    from reconciler.gateway.app import application
    from reconciler.gateway.door import shop_of
    from reconciler.sales.opening import openings

    records = space.ports.ledger.read(space.ports.clock.now()).records
    (opening,), _ = openings(records)
    return application(shop_of(space.ports, opening, records, lambda key: speaker))


@pytest.mark.row("C-17")
def test_a_key_that_follows_by_signed_succession_is_accepted(fair: Fair, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with fair.shop(), fair.buying() as buyer:
            old = (await buyer.quote("rates")).producer
            bought = await buyer.pay(await buyer.quote("rates"))
        monkeypatch.setenv("FAIR_NEXT", hashlib.sha256(b"next").hexdigest())
        fair.seller.write(
            {"identity.yaml": SHOP["identity.yaml"] + "  rotation: {next: {env: FAIR_NEXT}, transitionPeriod: 7d}\n"}
        )
        async with fair.seller.open() as space:
            await fair.seller.apply(space)
        fair.world.mine()
        await fair.world.settle()
        async with fair.shop(), fair.buying() as buyer:
            assert buyer.till.pinned(URL) == old
            quote = await buyer.quote("rates")
            assert quote.producer != old and buyer.till.pinned(URL) == quote.producer
            assert (await buyer.ready("rates")).verdict != "block"
            # What was bought under the old key is ours still.
            assert all(check.ok is not False for check in await buyer.verify(bought.id))

    play(main, fair.world.clock)


# --- the bytes ------------------------------------------------------------------------------------


@pytest.mark.row("C-22", "C-27", "E-404")
def test_other_hosts_serve_what_the_producer_cannot(fair: Fair, tmp_path: Path) -> None:
    async def main() -> None:
        async with fair.buying() as buyer:
            async with fair.shop():
                one = await buyer.pay(await buyer.quote("rates"))
                # Bytes that are not the ones sold are passed over, and the next host is asked.
                fair.lose("/content", 0, Trouble.CORRUPT)
                (file,) = await buyer.fetch(one, tmp_path / "a")
                assert file.place.read_bytes() == CONTENT
                assert list(file.passed) == [f"{URL}/content/rates%401/files/data/rates.csv"] and ".devnet" in file.source
            # The producer is gone; its hosts are not.
            (file,) = await buyer.fetch(one, tmp_path / "b")
            assert file.place.read_bytes() == CONTENT and ".devnet" in file.source
            sha256 = hashlib.sha256(CONTENT).hexdigest()
            hosts = [name for name in ("eu1", "us1", "ap1") if fair.world.corrupt(name, sha256)]
            with pytest.raises(Unavailable, match="it is something else"):
                await buyer.fetch(one, tmp_path / "c")
            assert len(hosts) == 2 and not [path for path in (tmp_path / "c").rglob("*") if path.is_file()]

    play(main, fair.world.clock)


@pytest.mark.row("C-09")
def test_a_token_that_ran_out_is_renewed_for_nothing(fair: Fair, tmp_path: Path) -> None:
    async def work(shop: Workspace, buyer: Client) -> None:
        one = await buyer.pay(await buyer.quote("rates"))
        for host in ("eu1", "us1", "ap1"):
            fair.world.drop(host)
        fair.world.clock.advance(2 * 3600)
        (file,) = await buyer.fetch(one, tmp_path)
        assert (file.place.read_bytes(), payments(buyer)) == (CONTENT, [PRICE])

    scene(fair, work)


# --- receipts -------------------------------------------------------------------------------------


@pytest.mark.row("C-25", "C-28", "P-PAY-23")
def test_a_receipt_holds_offline_and_no_byte_of_it_can_change(fair: Fair) -> None:
    async def work(shop: Workspace, buyer: Client) -> None:
        one = await buyer.pay(await buyer.quote("rates"))
        fair.world.mine()
        await fair.world.settle()
        assert (await buyer.status(one.id)).confirmations == 1
        from reconciler.engine.confirm import confirm

        await confirm(shop.ports, {"devnet": fair.seller.net()})
        data = await buyer.receipt("rates")
        hashes = {}
        for height in range(await buyer.till.ports.chain.tip(buyer.finder.net.headers) + 1):
            header = await buyer.till.ports.chain.header(height, buyer.finder.net.headers)
            hashes[height] = header.hash if header else ""
        lock = buyer.till.web.script_to
        checks = verify_receipt(data, lock=lock, trusted=lambda height, block: hashes.get(height) == block)
        assert [check.name for check in checks if check.ok is not True] == []
        for index in range(0, len(data), 7):
            changed = bytearray(data)
            changed[index] ^= 1
            assert not _holds(bytes(changed), hashes), f"byte {index} of {len(data)} does not count"
        envelope = one.receipt.encode()
        for index in range(len(envelope)):
            changed = bytearray(envelope)
            changed[index] ^= 1
            with pytest.raises(Refused):
                open_receipt(bytes(changed))

    scene(fair, work)


def _holds(data: bytes, hashes: dict[int, str]) -> bool:
    try:
        checks = verify_receipt(data, trusted=lambda height, block: hashes.get(height) == block)
    except Refused:
        return False
    return all(check.ok is not False for check in checks)


@pytest.mark.row("C-28", "C-36")
def test_a_receipt_for_somebody_else_is_not_accepted_and_kept(fair: Fair) -> None:
    async def main() -> None:
        async with fair.shop() as shop:
            async with fair.buying() as buyer:
                one = await buyer.pay(await buyer.quote("rates"))
            told = json.loads(one.receipt)["document"]
            forged = {**told, "buyer": told["producer"]}
            forged["id"] = receipt_id(forged)
            mark = shop.ports.wallet.attest("desk", signed_bytes(forged))
            envelope = json.loads(seal(forged, one.producer, mark))
            goods = {"receiptId": forged["id"], "receipt": envelope, "files": [], "access": None}

            async def cheat(request: Request) -> Response:
                return JSONResponse(goods, 201)

            speaker = shop.ports.wallet.speaker("desk")
            app = Starlette(routes=[Route("/purchases", cheat, methods=["POST"])])
            async with fair.buying() as buyer:
                another = replace(one, id="f" * 16, state="open", receipt="")
                fair.world.network.apps["shop.example.com"] = Authenticated(app, speaker, fair.world.clock, shop.ports.entropy)
                with pytest.raises(Attention, match="its buyer is not what was bought"):
                    await buyer.till.finish(another)
                kept = buyer.purchase("f" * 16)
                assert (kept.state, json.loads(kept.receipt) == envelope, "buyer" in kept.fault) == ("open", True, True)
                with pytest.raises(Refused, match="is open"):
                    await buyer.fetch(kept, fair.buyer.root)

    play(main, fair.world.clock)


# --- may it be used -------------------------------------------------------------------------------


@pytest.mark.row("C-24", "C-40", "P-PUB-29")
def test_a_purchase_outlives_a_new_version_and_readiness_says_so(fair: Fair, tmp_path: Path) -> None:
    async def main() -> None:
        async with fair.shop(), fair.buying() as buyer:
            one = await buyer.pay(await buyer.quote("rates"))
        fair.seller.write({"data/rates.csv": CONTENT + b"2024-01-03,1.12\n"})
        async with fair.seller.open() as space:
            await fair.seller.apply(space)
        fair.world.mine()
        await fair.world.settle()
        fair.budget("{readiness: {minConfirmations: 1, licenses: [CC0-1.0], maxPrice: 30sat}}")
        async with fair.shop(), fair.buying() as buyer:
            found = await buyer.lineage("rates")
            assert ([v.version for v in found.versions], found.complete) == ([2, 1], True)
            verdict = await buyer.ready("rates")
            assert (verdict.verdict, [r.rule for r in verdict.reasons if r.verdict != "allow"]) == ("warn", ["version"])
            (file,) = await buyer.fetch(one.id, tmp_path)
            assert file.place.read_bytes() == CONTENT
            newer = await buyer.pay(await buyer.quote("rates"))
            assert (newer.sequence, payments(buyer)) == (2, [PRICE, PRICE])
            assert (await buyer.ready("rates")).verdict == "allow"
        fair.budget("{readiness: {minConfirmations: 6, licenses: [MIT], maxAge: 1h}}")
        fair.world.clock.advance(7200)
        async with fair.shop(), fair.buying() as buyer:
            verdict = await buyer.ready("rates")
            blocked = [reason.rule for reason in verdict.reasons if reason.verdict == "block"]
            assert (verdict.verdict, blocked) == ("block", ["license", "confirmations", "age"])
        fair.seller.write({"dataset.yaml": SHOP["dataset.yaml"] + "  recall: {reason: wrong by a cent}\n"})
        async with fair.seller.open() as space:
            await fair.seller.apply(space)
        async with fair.shop(), fair.buying() as buyer:
            assert await buyer.search() == []
            assert any("recalled by its producer: wrong by a cent" in note for note in buyer.notes)
            assert "recall" in [reason.rule for reason in (await buyer.ready("rates")).reasons if reason.verdict == "block"]

    play(main, fair.world.clock)
