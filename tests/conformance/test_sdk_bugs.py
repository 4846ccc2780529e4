"""Mistakes found in the Python SDK of this network, and the test that shows that our code makes none of them.

The SDK is no dependency: it is an oracle where it is right. Where it was found wrong, money or trust would be lost, so each
finding is kept here under a name of its own. What no other suite shows is shown below, in tests called after the finding.
"""

import json
import subprocess
import sys

import pytest

from reconciler.devnet.world import World
from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.wire import advert, overlay, payment
from reconciler.wire.beef import V1, parse_beef
from reconciler.wire.keys import ANYONE_SECRET, anyone_public, child_secret, invoice, public_key, sign, verify
from reconciler.wire.message import sign_message, verify_message
from reconciler.wire.script import decode_pushdrop, p2pkh, pushdrop, unlock_pushdrop
from reconciler.wire.speaker import Speaker
from tests.conformance.producer import Producer
from tests.conformance.test_pitfalls_shown import exists

PROOF, BEEF, KEYS = "tests/unit/wire/test_proof.py", "tests/unit/wire/test_beef.py", "tests/unit/wire/test_keys.py"
CORE, CHAIN = "tests/property/test_wire_core.py", "tests/contract/test_chain.py"
VECTORS, FORMATS = "tests/interop/test_vectors_core.py", "tests/interop/test_vectors_formats.py"

FOUND: dict[str, tuple[str, ...]] = {
    "the extended form reads as an empty transaction": (
        "tests/unit/wire/test_tx.py::test_the_extended_form_is_not_mistaken_for_an_empty_transaction",
    ),
    "the default fee policy asks a public service": (
        f"{CHAIN}::test_without_a_quote_the_documented_fallback_holds_and_is_not_kept",
        f"{CHAIN}::test_no_broadcaster_is_a_matter_of_configuration",
    ),
    "malformed signatures raise": (
        f"{KEYS}::test_malformed_der_is_false_and_not_an_error",
        f"{CORE}::test_verify_answers_and_never_raises",
    ),
    "merkle paths of one-transaction blocks and cut ones are refused": (
        "tests/unit/wire/test_bump.py::test_every_transaction_of_a_block_leads_to_one_root",
        "tests/unit/wire/test_bump.py::test_a_path_that_stops_early_is_completed_from_below",
    ),
    "envelopes take exponential time": (
        f"{BEEF}::test_shared_ancestors_are_written_once_and_read_in_linear_time",
        f"{PROOF}::test_sixty_diamonds_are_linear_work",
    ),
    "malformed envelopes raise whatever they hit": (f"{CORE}::test_mutated_bytes_raise_nothing_else",),
    "atomic and second-version envelopes are refused": (f"{BEEF}::test_every_form_is_read_and_written_again",),
    "money is forged out of nothing": (
        f"{CORE}::test_tripwire_outputs_worth_more_than_inputs",
        f"{CORE}::test_tripwire_money_from_a_transaction_without_inputs",
        f"{PROOF}::test_satoshis_from_nowhere",
        f"{PROOF}::test_money_without_inputs",
    ),
    "a forged first-version envelope is believed": (f"{CORE}::test_tripwire_a_forged_v1_envelope",),
    "an inner node passes for a transaction": (f"{PROOF}::test_two_merkle_nodes_posing_as_a_transaction",),
    "discovery finds no host": (
        "tests/conformance/test_clients.py::test_their_resolver_and_ours_follow_the_same_advertisement",
        "tests/unit/adapters/test_discovery.py::test_the_trackers_tell_who_answers_a_service",
    ),
    "a lookup has no deadline": ("tests/unit/adapters/test_discovery.py::test_a_silent_host_is_waited_for_five_seconds",),
    "broadcasts to hosts always fail": (
        "tests/conformance/test_clients.py::test_their_broadcaster_and_ours_find_who_keeps_a_topic",
    ),
    "uploads raise on every call": ("tests/contract/test_storage.py::test_content_goes_there_and_is_read_back",),
    "downloads find nobody": ("tests/interop/test_product.py::test_their_storage_client_finds_and_downloads_what_we_published",),
    "no server understands its authentication": (
        "tests/conformance/test_auth.py::test_a_server_believes_our_requests_and_we_its_answers",
        "tests/conformance/test_auth.py::test_their_client_gets_through_our_door_and_believes_what_it_hears",
    ),
    "certificates of others are refused": (
        "tests/conformance/test_auth.py::test_their_client_shows_the_certificate_that_our_door_asks_for",
    ),
    "signed messages of others are refused": (f"{FORMATS}::test_messages_signed_by_the_reference_sdk",),
    "an unreachable broadcaster is an answer": (f"{CHAIN}::test_when_nobody_is_reached_nothing_was_sent",),
    "an uncompressed key derives another secret": (f"{KEYS}::test_an_uncompressed_key_is_refused_although_it_is_on_the_curve",),
    "names of protocols may be too short": (f"{KEYS}::test_brc43_rules",),
    "zero is a secret": (f"{KEYS}::test_a_bad_secret_is_our_fault",),
    "change that is too small goes to the miners": ("tests/unit/wire/test_draft.py::test_a_coin_one_satoshi_short_is_refused",),
    "an empty field and a zero byte read back alike": (
        "tests/unit/wire/test_script.py::test_fields_that_would_not_read_back_are_not_written",
    ),
    "a content URL comes with its scheme": (
        "tests/unit/wire_formats/test_tokens.py::test_a_uhrp_url_has_three_spellings_and_one_bare_form",
    ),
}


@pytest.mark.parametrize("finding", FOUND)
def test_every_finding_is_shown_not_to_be_ours(finding: str) -> None:
    assert [test for test in FOUND[finding] if not exists(test)] == []


def test_sdk_bug_topics_are_sent_as_a_list_of_words() -> None:
    """It writes `a,b`; nodes read a JSON array and answer 400."""
    headers = overlay.submission(b"", ["tm_a", "tm_b"]).headers
    assert json.loads(headers["x-topics"]) == ["tm_a", "tm_b"]


def test_sdk_bug_values_beside_the_chain_cannot_be_sent() -> None:
    """It calls a method that does not exist."""
    asked = overlay.submission(b"beef", ["tm_a"], b"beside")
    assert overlay.parse_submit(asked.headers, asked.body) == asked


def test_sdk_bug_an_advertisement_is_unsigned_at_level_zero_and_for_self() -> None:
    who = Producer("advertises")
    said = decode_pushdrop(who.ship("tm_x").script)
    kind = advert.lock_of("SHIP")
    assert said.key == anyone_public(who.identity, invoice(*kind, level=2))
    assert verify(said.key, b"".join(said.fields), said.signature)


def test_sdk_bug_a_token_is_signed_with_a_zero_byte_or_left_to_anybody() -> None:
    """On any error its lock becomes OP_1, which everybody can spend."""
    secret = b"\x07" * 32
    with pytest.raises(LocalProtocolError):
        pushdrop((b"x",), public_key(secret), b"")
    unsigned = decode_pushdrop(Producer("unsigned").ship("tm_x").script)
    with pytest.raises(RemoteProtocolError, match="do not belong"):
        advert.parse_advert(pushdrop(unsigned.fields, unsigned.key, b"\x00"))
    with pytest.raises(LocalProtocolError):
        pushdrop((b"x",), b"\x02" * 5, sign(secret, b"x"))
    script = pushdrop((b"x",), public_key(secret), sign(secret, b"x"))
    assert script[:1] == b"\x21" and script[34:35] == b"\xac", "it begins with the check of a signature"
    assert len(unlock_pushdrop(sign(secret, b"spend") + b"\x41")) > 60, "and is unlocked by one"


def test_sdk_bug_a_payment_is_locked_to_the_text_of_its_script() -> None:
    """It writes the letters "76a9..." as bytes, which nobody can ever spend."""
    payer, payee = b"\x08" * 32, b"\x09" * 32
    script = payment.script_to(payer, public_key(payee), "cHJl", "c3Vm")
    assert script == p2pkh(public_key(payment.secret_from(payee, public_key(payer), "cHJl", "c3Vm")))
    assert (script[:3], len(script)) == (b"\x76\xa9\x14", 25)


def test_sdk_bug_a_message_is_hashed_twice_under_a_key_of_zeros() -> None:
    signature = sign_message(b"\x0a" * 32, b"said", b"\x01" * 32)
    assert verify_message(signature, b"said") == public_key(b"\x0a" * 32)
    assert signature[4 + 33 + 1 :][:32] == b"\x01" * 32
    with pytest.raises(RemoteProtocolError):
        verify_message(signature, b"said!")
    key = child_secret(
        b"\x0a" * 32, public_key(ANYONE_SECRET), "2-message signing-" + "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
    )
    assert verify(public_key(key), b"said", signature[4 + 33 + 1 + 32 :]), "hashed once"


def test_sdk_bug_a_first_version_envelope_keeps_its_subject_only() -> None:
    who = Producer("ancestors", World().faucet)
    tip = [who.pay(who.ship("tm_x")) for _ in range(3)][-1]
    raw = who.beef(tip, version=1)
    assert int.from_bytes(raw[:4], "little") == V1
    beef = parse_beef(raw)
    assert len(beef.txs) == 4
    assert sum(entry.bump is not None for entry in beef.txs.values()) == 1


def test_sdk_bug_a_check_prints_the_secret_it_expected(capfd: pytest.CaptureFixture[str]) -> None:
    speaker = Speaker(b"\x0b" * 32)
    mac = speaker.mac("purpose", b"message")
    assert mac != speaker.mac("purpose", b"another")
    assert capfd.readouterr() == ("", "")


def test_sdk_bug_importing_it_takes_a_second_and_shadows_builtins() -> None:
    """So nothing of ours imports it; what the program imports to sign and check is small."""
    code = "import reconciler.wire.proof, reconciler.wire.overlay, reconciler.adapters.wallet, sys; print('bsv' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_sdk_bug_an_admittance_is_read_as_an_object_of_a_class() -> None:
    """It reads attributes of a dictionary."""
    said = overlay.parse_steak(
        b'{"tm_a":{"outputsToAdmit":[0],"coinsToRetain":[]},"tm_b":{"outputsToAdmit":[],"coinsToRetain":[1]}}'
    )
    assert (said["tm_a"].admit, said["tm_b"].retain, said["tm_b"].acknowledged) == ((0,), (1,), True)
    with pytest.raises(RemoteProtocolError):
        overlay.parse_steak(b'{"tm_a":[0]}')
