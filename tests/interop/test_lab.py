"""The lab itself: the node answers, serves what it says, and hands out coins that our codecs can read."""

import pytest

from reconciler.wire.beef import parse_beef
from tests.interop.lab import Lab

pytestmark = pytest.mark.slow


def test_the_node_is_alive_and_serves_the_overlay_topics(lab: Lab) -> None:
    health = lab.request("GET", "/health").json()
    assert (health["status"], health["ready"]) == ("ok", True)
    assert {"tm_ship", "tm_slap", "tm_uhrp"} <= set(lab.request("GET", "/listTopicManagers").json())
    assert {"ls_ship", "ls_slap", "ls_uhrp"} <= set(lab.request("GET", "/listLookupServiceProviders").json())
    assert {"tm_ship", "tm_slap", "tm_uhrp"} <= set(lab.topics)


def test_a_faucet_coin_comes_with_a_proof_that_we_can_read(lab: Lab) -> None:
    script = bytes.fromhex("76a914" + "11" * 20 + "88ac")
    coin = lab.faucet(script, 777)
    beef = parse_beef(coin.beef)
    entry = beef.txs[coin.txid]
    assert entry.tx is not None and entry.bump is not None
    assert entry.tx.raw == coin.raw
    assert (entry.tx.outputs[coin.vout].satoshis, entry.tx.outputs[coin.vout].script) == (777, script)
    assert (entry.bump.height, entry.bump.root(coin.txid)) == (coin.height, coin.merkle_root)
    assert entry.bump.raw == coin.bump
    assert coin.merkle_root in lab.chain()["roots"][str(coin.height)]


def test_the_node_believes_the_roots_it_is_told_and_no_others(lab: Lab) -> None:
    height, root = lab.chain()["tip"] + 1, "ab" * 32
    lab.believe(height, root)
    assert lab.chain()["roots"][str(height)] == [root]
    lab.forget(height, root)
    assert lab.chain()["roots"][str(height)] == []


def test_a_client_of_another_implementation_reads_its_answers(lab: Lab) -> None:
    answer = lab.client("lookup", lab.url, "ls_ship", '{"topics":["tm_nobody_has_this"]}')
    assert answer == {"ok": True, "type": "output-list", "outputs": []}
