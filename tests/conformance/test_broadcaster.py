"""Broadcasters (ARC): what they take, say and refuse, heard raw and through our own client."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reconciler.adapters.chain import ArcChain
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.headers import HeaderSources
from reconciler.adapters.http import Http
from reconciler.model.endpoint import Endpoint
from reconciler.model.errors import Refused, Unavailable, Uncertain
from reconciler.wire import arc
from reconciler.wire.bump import parse_bump
from reconciler.wire.tx import TxOut, extended, parse_tx
from tests.conformance.networks import Network
from tests.conformance.producer import RATE

pytestmark = pytest.mark.slow

NOTHING = TxOut(500, b"\x6a")


def heard(net: Network, work: Callable[[ArcChain, Sequence[Endpoint]], Any]) -> Any:
    """Run with a Chain port whose only broadcaster is the network's."""

    async def main() -> Any:
        http = Http(SystemClock())
        try:
            return await work(ArcChain(http, HeaderSources(http)), [Endpoint("arc", net.arc)])
        finally:
            await http.close()

    return asyncio.run(main())


@pytest.mark.parametrize("form", ["raw", "extended", "envelope", "json"])
def test_every_form_of_a_transaction_is_taken(net: Network, form: str) -> None:
    who = net.producer(f"broadcast as {form}")
    coin = who.coins[0][0]
    source = parse_tx(who.parts[coin.txid][0]).outputs[coin.vout]
    tx = who.pay(NOTHING)
    whole = extended(tx, [source])
    if form == "json":
        answer = net.at(net.arc, "POST", "/v1/tx", json=arc.submit_json(whole))
    else:
        payload = {"raw": tx.raw, "extended": whole, "envelope": who.beef(tx)}[form]
        answer = net.at(net.arc, "POST", "/v1/tx", content=payload, headers={"content-type": "application/octet-stream"})
    said = arc.parse_answer(answer.status_code, answer.content)
    assert isinstance(said, arc.TxState), said
    assert (said.txid, said.status) == (tx.txid, "SEEN_ON_NETWORK")


def test_a_transaction_is_taken_once_seen_and_then_mined_with_a_proof(net: Network) -> None:
    who = net.producer("seen, then mined")
    tx = who.pay(NOTHING)

    async def work(chain: ArcChain, via: Sequence[Endpoint]) -> Any:
        first = await chain.broadcast(who.beef(tx), tx.txid, via)
        again = await chain.broadcast(who.beef(tx), tx.txid, via)
        seen = await chain.status(tx.txid, via)
        await asyncio.to_thread(net.mine)
        return first, again, seen, await chain.status(tx.txid, via), await chain.status("ab" * 32, via)

    first, again, seen, mined, unknown = heard(net, work)
    assert [one.status for one in (first, again, seen)] == ["SEEN_ON_NETWORK"] * 3
    assert {one.txid for one in (first, again, seen, mined)} == {tx.txid}
    assert (mined.status, unknown) == ("MINED", None)
    assert net.root_ok(mined.height, parse_bump(mined.proof).root(tx.txid))


def test_a_second_spend_is_not_final_and_names_its_rival(net: Network) -> None:
    who = net.producer("spends twice")
    coin, satoshis = who.coins[0]
    first = who.pay(NOTHING)
    second = who.purse.pay(coin, satoshis, [TxOut(600, b"\x6a")], RATE)
    who.parts[second.txid] = (second.raw, b"")

    async def work(chain: ArcChain, via: Sequence[Endpoint]) -> Any:
        await chain.broadcast(who.beef(first), first.txid, via)
        with pytest.raises(Uncertain) as spent:
            await chain.broadcast(who.beef(second), second.txid, via)
        return spent.value, await chain.status(second.txid, via), await chain.status(first.txid, via)

    spent, rival, kept = heard(net, work)
    assert (spent.code, first.txid in spent.message) == ("double-spend", True)
    # The lab forgets a rival that it refused; ARC keeps it until one of the two is mined.
    assert rival is None or (rival.status, rival.competing) == ("DOUBLE_SPEND_ATTEMPTED", (first.txid,))
    assert kept.status in ("SEEN_ON_NETWORK", "DOUBLE_SPEND_ATTEMPTED")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, {}, Unavailable),
        (429, {}, Unavailable),
        (401, {}, Refused),
        (463, {"status": 463, "title": "Malformed transaction"}, Refused),
        (473, {"status": 473, "title": "Cumulative fees too low"}, Refused),
        (460, {"status": 460, "title": "Not extended format"}, Unavailable),
        (200, {"txStatus": "REJECTED"}, Refused),
    ],
)
def test_what_a_refusal_means_is_the_same_whoever_says_it(
    net: Network, status: int, body: dict[str, Any], error: type[Exception]
) -> None:
    who = net.producer(f"refused with {status}")
    tx = who.pay(NOTHING)

    async def work(chain: ArcChain, via: Sequence[Endpoint]) -> None:
        said = {**body, "txid": tx.txid} if "txStatus" in body else body
        await asyncio.to_thread(net.provoke, status, said)
        with pytest.raises(error):
            await chain.broadcast(who.beef(tx), tx.txid, via)

    heard(net, work)


def test_what_is_no_transaction_is_refused(net: Network) -> None:
    answer = net.at(net.arc, "POST", "/v1/tx", content=b"{", headers={"content-type": "application/json"})
    said = arc.parse_answer(answer.status_code, answer.content)
    assert isinstance(said, arc.Problem)
    assert (answer.status_code, said.status) == (400, 400)


def test_a_policy_is_quoted(net: Network) -> None:
    async def work(chain: ArcChain, via: Sequence[Endpoint]) -> Any:
        return await chain.fee_rate(via)

    rate = heard(net, work)
    answer = net.at(net.arc, "GET", "/v1/policy").json()["policy"]
    assert (rate.satoshis, rate.bytes) == (answer["miningFee"]["satoshis"], answer["miningFee"]["bytes"])
