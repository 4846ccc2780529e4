"""A stranger finds a dataset, pays for it and has it with a receipt: the real application, on a devnet under virtual time."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.devnet.network import Fault, Trouble
from reconciler.engine.confirm import confirm
from reconciler.gateway import content
from reconciler.model.errors import Unavailable, Uncertain
from reconciler.model.sale import PaymentState
from reconciler.sales import paywall
from reconciler.wire import keys
from reconciler.wire.bundle import holds, verify_bundle
from reconciler.wire.document import open_envelope
from reconciler.wire.receipt import verify_receipt
from tests.e2e.market import CSV, HOST, Buyer, Market, buyer, told
from tests.e2e.scene import DATASET, PRICE

RATE = 25
# --- bytes for money ------------------------------------------------------------------------------


@pytest.mark.row("P-PUB-28", "P-PAY-01")
def test_a_paid_request_gives_the_bytes_once_and_both_ledgers_agree(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        answer = await b.get("/content/rates")
        assert (answer.status, answer.body.decode(), answer.paid) == (200, CSV, RATE)
        sha256 = hashlib.sha256(CSV.encode()).hexdigest()
        assert answer.headers["etag"] == f'"{sha256}"' and answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
        (paid,) = s.payments()
        (made,) = b.payments()
        assert (paid.satoshis, paid.consumer, paid.txid, paid.id) == (RATE, b.key, made["txid"], answer.headers["x-receipt-id"])
        assert (s.income(), b.coins()) == ([RATE], 5_000 - RATE - made["fee"])
        # Bought before is free again.
        again = await b.get("/content/rates")
        assert (again.status, again.body, again.paid, len(b.payments())) == (200, answer.body, 0, 1)
        s.shop.tally.enter()
        with s.space.ports.ledger.sales() as rows:
            known = rows.consumer("Identity/desk", b.key)
        assert known is not None and (known.satoshis, known.bytes) == (RATE, 2 * len(CSV))

    selling(scene)


def test_a_purchase_gives_a_receipt_and_a_token_that_anybody_may_use(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        answer = await b.buy()
        assert (answer.status, answer.paid) == (201, RATE)
        said = answer.json()
        document, signer = open_envelope(json.dumps(said["receipt"], separators=(",", ":"), sort_keys=True).encode())
        assert signer == s.shop.producer and document["buyer"] == b.key and document["satoshis"] == RATE
        assert document["id"] == said["receiptId"] and document["contentId"] == "rates" and said["contentId"] == "rates@1"
        (file,) = said["files"]
        token = said["access"]["token"]
        got = await b.look(file["url"].removeprefix(HOST) + f"?access={token}")
        assert (got.status, hashlib.sha256(got.body).hexdigest()) == (200, file["sha256"])
        again = await b.buy()
        assert (again.status, again.paid, again.json()["receiptId"]) == (200, 0, said["receiptId"])
        for wrong, why in ((token[:-2], "bad-token"), ("v1.x", "bad-token")):
            assert told(await b.look(f"/content/rates?access={wrong}")) == (403, why)
        s.world.clock.advance(paywall.TOKEN_FOR.total_seconds() + 1)
        assert told(await b.look(f"/content/rates?access={token}")) == (403, "token-expired")

    selling(scene)


@pytest.mark.row("P-PUB-29")
def test_parts_conditions_and_heads_are_as_http_has_them(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        token = (await b.buy()).json()["access"]["token"]
        path = f"/content/rates/files/data%2Frates.csv?access={token}"
        size = len(CSV)
        for asked, want, shown in (
            ("bytes=0-3", CSV[:4], f"bytes 0-3/{size}"),
            ("bytes=5-", CSV[5:], f"bytes 5-{size - 1}/{size}"),
            ("bytes=-6", CSV[-6:], f"bytes {size - 6}-{size - 1}/{size}"),
            (f"bytes=9-{size * 2}", CSV[9:], f"bytes 9-{size - 1}/{size}"),
        ):
            part = await b.look(path, range=asked)
            assert (part.status, part.body.decode(), part.headers["content-range"]) == (206, want, shown)
        for odd in ("bytes=0-1,4-5", "lines=1-2", "bytes=5-2"):
            assert (await b.look(path, range=odd)).status == 200
        beyond = await b.look(path, range=f"bytes={size}-")
        assert (*told(beyond), beyond.headers["content-range"]) == (416, "bad-range", f"bytes */{size}")
        tag = part.headers["etag"]
        same = await b.look(path, if_none_match=f'"x", W/{tag}')
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
        assert (await b.look(path, range="bytes=0-3", if_range='"other"')).status == 200
        head = await b.look(path, method="HEAD")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(size))
        # Under mutual authentication, too, and there the part has a digest of its own.
        part = await b.get("/content/rates", range="bytes=0-3")
        digest = base64.b64encode(hashlib.sha256(b"date").digest()).decode()
        assert (part.status, part.body, part.headers["content-digest"]) == (206, b"date", f"sha-256=:{digest}:")

    selling(scene)


def test_a_stranger_looks_and_does_not_touch(selling: Callable[..., None]) -> None:
    files = {"dataset.yaml": DATASET + "  sample: {rows: 2}\n"}

    async def scene(s: Market, b: Buyer) -> None:
        refused = await b.look("/content/rates")
        assert (told(refused), refused.json()["code"]) == ((401, "unauthorized"), "UNAUTHORIZED")
        for path in ("/content/none", "/content/rates@7", "/content/rates@x", "/nowhere"):
            assert (await b.look(path)).status == 404
        assert told(await b.look("/content/rates/files/other")) == (404, "no-file")
        assert (await b.look("/content/rates/sample")).body.decode() == "".join(CSV.splitlines(True)[:3])
        (version,) = (await b.look("/content/rates/versions")).json()["versions"]
        assert (version["contentId"], version["current"], version["size"]) == ("rates@1", True, len(CSV))
        assert told(await b.look("/content/rates/proof")) == (409, "not-mined")
        await confirm(s.space.ports, {"devnet": s.shop.till.net})
        proof = await b.look("/content/rates/proof?file=data/rates.csv")
        assert holds(verify_bundle(proof.body, hashlib.sha256(CSV.encode()).hexdigest()))
        assert told(await b.look("/content/rates", {}, "POST")) == (405, "method-not-allowed")
        assert s.payments() == []

    selling(scene, files)


def test_what_costs_nothing_is_given_with_a_receipt(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        answer = await b.buy()
        assert (answer.status, answer.paid) == (201, 0)
        bundle = await b.get(f"/receipts/{answer.json()['receiptId']}")
        assert holds(verify_receipt(bundle.body))
        (paid,) = s.payments()
        assert (paid.satoshis, paid.state, paid.outpoint) == (0, PaymentState.CONFIRMED, None)
        assert (await b.get("/content/rates")).body.decode() == CSV and len(s.payments()) == 1

    selling(scene, {"dataset.yaml": DATASET.replace("pricePlanRef: standard", "price: 0sat"), "price.yaml": PRICE})


def test_of_several_files_each_is_fetched_by_its_path(selling: Callable[..., None]) -> None:
    files = {
        "dataset.yaml": DATASET.replace("file: data/rates.csv", "fileSet: {directory: data}"),
        "data/ü & more.csv": "a,b\n1,2\n",
    }

    async def scene(s: Market, b: Buyer) -> None:
        answer = await b.get("/content/rates")
        said = answer.json()
        assert (answer.status, answer.paid, [one["path"] for one in said["files"]]) == (
            200, RATE, ["data/rates.csv", "data/ü & more.csv"],
        )  # fmt: skip
        for one in said["files"]:
            got = await b.look(one["url"].removeprefix(HOST) + f"?access={said['access']['token']}")
            assert (got.status, len(got.body), hashlib.sha256(got.body).hexdigest()) == (200, one["size"], one["sha256"])
        assert len(s.payments()) == 1

    selling(scene, files)


def test_what_cannot_be_signed_whole_is_said_so_before_it_is_paid(
    selling: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_ANSWER", 10)

    async def scene(s: Market, b: Buyer) -> None:
        refused = await b.get("/content/rates")
        assert told(refused) == (406, "too-large-to-sign") and "token" in refused.json()["hint"]
        assert s.payments() == [] and b.payments() == []
        part = await b.get("/content/rates", range="bytes=0-9")
        assert (part.status, part.body.decode(), part.paid) == (206, CSV[:10], RATE)
        token = (await b.buy()).json()["access"]["token"]
        assert (await b.look(f"/content/rates?access={token}")).body.decode() == CSV

    selling(scene)


ACCESS = """\
apiVersion: overlay.bsv/v1alpha1
kind: AccessPolicy
metadata: {name: customers}
spec:
  defaultTier: standard
  tiers: [{name: standard}, {name: premium, members: [MEMBER], discount: "20%"}]
"""


@pytest.mark.row("P-DASH-15")
def test_a_policy_gives_discounts_and_blocks_at_once(selling: Callable[..., None]) -> None:
    member = keys.public_key(keys.sha256(b"BUYER")).hex()
    policy = ACCESS.replace("MEMBER", member)
    files = {"access.yaml": policy, "dataset.yaml": DATASET + "  accessPolicyRef: customers\n"}

    async def scene(s: Market, b: Buyer) -> None:
        bought = await b.buy()
        assert (bought.status, bought.paid) == (201, 20)
        token = bought.json()["access"]["token"]
        left = ACCESS.replace("members: [MEMBER], ", "")
        await s.publish(access_yaml=left + f"  blocked: [{{identityKey: {member}, reason: leaked it}}]\n")
        for answer in (await b.get("/content/rates"), await b.buy(), await b.look(f"/content/rates?access={token}")):
            assert told(answer) == (403, "blocked")

    selling(scene, files)


SPLIT = """\
apiVersion: overlay.bsv/v1alpha1
kind: PaymentPolicy
metadata: {name: shared}
spec:
  splits: {producer: "0.9", agents: "0.1"}
  parties: {agents: {identityKey: AGENT}}
"""


@pytest.mark.row("P-DB-78")
def test_what_a_party_has_of_a_payment_is_owed_from_its_commit_on(selling: Callable[..., None]) -> None:
    agent = keys.public_key(keys.sha256(b"AGENT")).hex()
    files = {"split.yaml": SPLIT.replace("AGENT", agent), "dataset.yaml": DATASET + "  paymentPolicyRef: shared\n"}

    async def scene(s: Market, b: Buyer) -> None:
        await b.buy()
        (paid,) = s.payments()
        with s.space.ports.ledger.sales() as rows:
            (due,) = rows.dues()
        assert (due.payment, due.party, due.satoshis, due.terms) == (paid.id, "agents", 2, {"identityKey": agent})
        assert {one["party"]: one["satoshis"] for one in paid.splits} == {"producer": 23, "agents": 2}

    selling(scene, files)


# --- prices that stand ----------------------------------------------------------------------------


@pytest.mark.row("P-PAY-28")
def test_a_quote_stands_when_the_price_moves_and_falls_when_it_expires(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        await b.get("/receipts/none")  # only who was asked once introduces himself
        asked = await b.send("POST", "/quotes", {"contentId": "rates", "maxSatoshis": RATE})
        quote, signer = open_envelope(asked.body)
        assert (asked.status, signer, quote["satoshis"], quote["buyer"]) == (201, s.shop.producer, RATE, b.key)
        assert sum(line["satoshis"] for line in quote["price"]) == RATE and quote["methods"] == ["brc105"]
        assert asked.headers["location"] == f"{HOST}/quotes/{quote['id']}"
        assert (await b.look(f"/quotes/{quote['id']}")).body == asked.body
        await s.publish(price_yaml=PRICE.replace("25sat", "40sat"))
        over = await b.send("POST", "/quotes", {"contentId": "rates", "maxSatoshis": RATE})
        assert told(over) == (409, "over-max")
        late = (await b.send("POST", "/quotes", {"contentId": "rates"})).json()["document"]
        assert late["satoshis"] == 40
        answer = await b.buy(quoteId=quote["id"])
        assert (answer.status, answer.paid) == (201, RATE)
        s.world.clock.advance(timedelta(minutes=31).total_seconds())
        assert (await b.buy(quoteId=quote["id"])).status == 200, "what it bought is bought"
        assert s.refused == []

    selling(scene)


def test_a_quote_is_for_its_buyer_its_content_and_its_time(selling: Callable[..., None], tmp_path: Path, empty: Path) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        await b.get("/receipts/none")
        mine = (await b.send("POST", "/quotes", {"contentId": "rates"})).json()["document"]
        anyones = (await b.look("/quotes", {"contentId": "rates"}, "POST")).json()["document"]
        assert anyones["buyer"] is None
        async with buyer(s, tmp_path / "other", empty, "OTHER") as other:
            assert told(await other.buy(quoteId=mine["id"])) == (409, "quote-of-another")
            assert told(await other.buy("rates@2", quoteId=anyones["id"])) == (409, "quote-of-other-content")
            assert (await other.buy(quoteId=anyones["id"])).paid == RATE
        assert told(await b.buy(quoteId="0" * 32)) == (404, "no-quote")
        s.world.clock.advance(timedelta(minutes=31).total_seconds())
        assert told(await b.buy(quoteId=mine["id"])) == (409, "quote-expired")
        assert s.refused == ["quote-of-another", "quote-of-other-content", "expired-quote"] and b.payments() == []

    selling(scene)


def test_a_question_that_makes_no_sense_is_told_so(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        for body, status, code in (
            ({}, 422, "bad-member"),
            ({"contentId": 7}, 422, "bad-member"),
            ({"contentId": "rates", "colour": "red"}, 422, "bad-member"),
            ({"contentId": "rates", "units": 3}, 422, "bad-member"),
            ({"contentId": "rates", "units": True}, 422, "bad-member"),
            ({"contentId": "none"}, 404, "no-content"),
            ([], 400, "bad-request"),
        ):
            assert told(await b.look("/quotes", body, "POST")) == (status, code), body

    selling(scene)


def test_a_plan_that_counts_time_sells_no_dataset(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        assert told(await b.get("/content/rates")) == (409, "not-for-sale")

    selling(scene, {"price.yaml": PRICE.replace("per-item", "per-minute")})


# --- versions and time ----------------------------------------------------------------------------


@pytest.mark.row("P-PUB-30")
def test_a_purchase_survives_a_new_version_and_does_not_include_it(selling: Callable[..., None]) -> None:
    newer = CSV + "2024-01-04,1.13\n"

    async def scene(s: Market, b: Buyer) -> None:
        await b.buy()
        quote = (await b.send("POST", "/quotes", {"contentId": "rates"})).json()["document"]
        await s.publish(data__rates_csv=newer)
        old = await b.get("/content/rates@1")
        assert (old.status, old.body.decode(), old.paid) == (200, CSV, 0)
        assert (await b.buy(quoteId=quote["id"])).json()["contentId"] == "rates@1", "a quote is about its edition"
        new = await b.get("/content/rates")
        assert (new.status, new.body.decode(), new.paid) == (200, newer, RATE)
        versions = (await b.look("/content/rates/versions")).json()["versions"]
        assert [(one["contentId"], one["current"]) for one in versions] == [("rates@2", True), ("rates@1", False)]
        # It is withdrawn altogether, and what was bought is served all the same, and sold to nobody.
        (s.scene.root / "dataset.yaml").unlink()
        await s.publish()
        assert (await b.get("/content/rates@1")).body.decode() == CSV
        assert told(await b.look("/content/rates")) == (404, "no-content")

    selling(scene)


def test_a_subscription_begins_at_its_first_byte_and_covers_what_is_new(selling: Callable[..., None]) -> None:
    plan = PRICE.replace("per-item, rate: 25sat", "subscription, rate: 25sat, period: 1h")

    async def scene(s: Market, b: Buyer) -> None:
        answer = await b.buy()
        token = answer.json()["access"]["token"]
        s.world.clock.advance(1800)
        assert (await b.look(f"/content/rates?access={token}", method="HEAD")).status == 200
        s.world.clock.advance(3000)
        assert (await b.get("/content/rates")).paid == 0, "an hour after it was bought nothing of it was used"
        with s.space.ports.ledger.sales() as rows:
            (right,) = rows.entitlements(b.key, "rates")
        assert right.began == s.world.clock.now() and right.period == timedelta(hours=1)
        await s.publish(data__rates_csv=CSV + "x,1\n")
        s.world.clock.advance(3590)
        assert (await b.get("/content/rates")).paid == 0
        s.world.clock.advance(20)
        assert (await b.get("/content/rates")).paid == RATE

    selling(scene, {"price.yaml": plan})


@pytest.mark.row("P-AD-03")
def test_a_price_by_the_request_is_paid_for_every_request(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        assert [(await b.get("/content/rates")).paid for _ in range(3)] == [RATE] * 3
        # An answer that is lost is given again, for the same payment and for no other.
        s.world.network.arm(Fault(Trouble.LOSE, host="shop.devnet", path="/content/rates", skip=1, times=1))
        with pytest.raises((Uncertain, Unavailable)):
            await b.get("/content/rates")
        assert (await b.get("/content/rates")).body.decode() == CSV
        assert len(b.payments()) == len(s.payments()) == 4 and s.income() == [RATE] * 4
        # A token that was bought opens one answer.
        token = (await b.buy()).json()["access"]["token"]
        assert (await b.look(f"/content/rates?access={token}")).status == 200
        assert told(await b.look(f"/content/rates?access={token}"))[1] == "bad-token"
        assert len(s.payments()) == 5

    selling(scene, {"price.yaml": PRICE.replace("per-item", "per-request")})


# --- what happens on the way ----------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Trouble.LOSE, Trouble.REFUSE, Trouble.STATUS])
def test_after_a_lost_answer_it_is_bought_once(selling: Callable[..., None], trouble: Trouble) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        # The first request is asked who it is, the second what it costs, the third pays.
        s.world.network.arm(Fault(trouble, host="shop.devnet", path="/content/rates", skip=2, times=1))
        with pytest.raises((Uncertain, Unavailable)):
            await b.get("/content/rates")
        reached = trouble is Trouble.LOSE
        assert len(s.payments()) == (1 if reached else 0)
        again = await b.anew().get("/content/rates")
        assert (again.status, again.body.decode()) == (200, CSV)
        assert len(b.payments()) == len(s.payments()) == 1 and s.income() == [RATE]

    selling(scene)


def test_purchases_at_once_are_one_purchase(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        others = [b.anew() for _ in range(3)]
        answers = await asyncio.gather(b.buy(), *(one.get("/content/rates") for one in others), return_exceptions=True)
        good = [one for one in answers if not isinstance(one, BaseException) and one.status in (200, 201)]
        assert good and len(s.payments()) == 1 and s.income() == [RATE]
        assert {told(one) for one in answers if one not in good} <= {(400, "not-due")}  # type: ignore[comparison-overlap]

    selling(scene)


@pytest.mark.row("P-DB-80")
def test_a_payment_is_confirmed_with_its_block_and_its_receipt_proves_it(selling: Callable[..., None]) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        receipt = (await b.buy()).json()["receiptId"]
        early = await b.get(f"/receipts/{receipt}")
        assert {check.name: check.ok for check in verify_receipt(early.body)}["mined"] is None
        s.world.mine()
        await confirm(s.space.ports, {"devnet": s.shop.till.net})
        (paid,) = s.payments()
        assert (paid.state, paid.confirmed) == (PaymentState.CONFIRMED, s.world.clock.now())
        bundle = await b.get(f"/receipts/{receipt}")
        speaker = b.ports.wallet.speaker()  # type: ignore[attr-defined]
        checks = {check.name: check.ok for check in verify_receipt(bundle.body, lock=speaker.script_to)}
        assert checks["lock"] and checks["payment"] and checks["mined"] and False not in checks.values()

    selling(scene)


def test_a_receipt_is_its_buyers_and_so_is_the_rating(selling: Callable[..., None], tmp_path: Path, empty: Path) -> None:
    async def scene(s: Market, b: Buyer) -> None:
        receipt = (await b.buy()).json()["receiptId"]
        place = f"/receipts/{receipt}/rating"
        assert told(await b.look(f"/receipts/{receipt}")) == (401, "unauthorized")
        async with buyer(s, tmp_path / "other", empty, "OTHER") as other:
            assert told(await other.get(f"/receipts/{receipt}")) == (403, "not-yours")
            assert told(await other.send("POST", place, {"score": 1})) == (403, "not-yours")
        assert told(await b.get("/receipts/none")) == (404, "no-receipt")
        for wrong in ({}, {"score": 6}, {"score": "5"}):
            assert told(await b.send("POST", place, wrong)) == (422, "bad-member")
        for score in (2, 5):
            assert (await b.send("POST", place, {"score": score, "comment": "gut"})).status == 201
        with s.space.ports.ledger.sales() as rows:
            assert [(one.score, one.comment, one.consumer) for one in rows.ratings("rates")] == [(5, "gut", b.key)]

    selling(scene)
