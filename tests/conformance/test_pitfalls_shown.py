"""Traps of the deployed network, by number, and the test that shows where each of them is stepped around.

A trap that no other suite shows has a test of its own, called after it (test_pitfalls_*.py beside this file). The numbers are
part of the names, so none can get lost.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = "tests/conformance/test_overlay.py"
AUTH, PAY, DEVNET = "tests/unit/wire/test_auth.py", "tests/e2e/test_paid_requests.py", "tests/contract/test_devnet.py"
TOKENS, FOUND = "tests/unit/wire_formats/test_tokens.py", "tests/unit/adapters/test_discovery.py"
TOLD = "tests/e2e/test_discovered_hosts.py"

# number: (what goes wrong, where it is shown not to)
PITFALLS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "advertisements are locked towards anyone, and the text says self",
        (f"{HERE}::test_tokens_linked_to_self_are_refused_by_the_node_and_by_us",),
    ),
    2: (
        "of two identical advertisements the second is never listed",
        (
            f"{HERE}::test_a_second_identical_advertisement_is_admitted_and_not_listed",
            "tests/e2e/test_replace.py::test_at_no_moment_are_both_or_neither_found",
        ),
    ),
    3: (
        "an empty admittance is ambiguous",
        (
            f"{HERE}::test_seen_before_spent_and_not_admitted_all_answer_alike",
            f"{TOLD}::test_a_spend_is_told_to_found_hosts_too_and_settled_by_lookup",
        ),
    ),
    4: (
        "one topic that a node does not host fails the submission",
        (
            f"{HERE}::test_one_topic_too_many_fails_the_whole_submission",
            f"{TOLD}::test_a_declared_host_without_one_of_the_topics_keeps_the_others",
        ),
    ),
    5: (
        "a domain that does not answer /health is banned",
        (
            f"{HERE}::test_a_node_is_healthy_by_the_rule_that_others_ban_by",
            "tests/unit/wire_formats/test_overlay.py::test_our_own_health_report_passes_and_an_error_page_does_not",
        ),
    ),
    7: (
        "localhost and plain http cannot be advertised",
        (
            f"{HERE}::test_what_may_not_be_advertised_is_admitted_nowhere",
            "tests/interop/test_vectors_formats.py::test_advertisable_urls",
        ),
    ),
    8: (
        "a field of one byte 10 is lost by deployed decoders",
        (
            "tests/unit/wire/test_script.py::test_one_zero_byte_and_sixteen_survive",
            f"{TOKENS}::test_a_promise_for_sixteen_bytes_would_be_lost_and_is_not_made",
        ),
    ),
    10: (
        "envelopes come in several forms, and aggregated answers share one",
        (
            f"{HERE}::test_every_form_of_envelope_is_taken",
            f"{HERE}::test_one_answer_carries_many_tokens_and_each_stands_alone",
            "tests/interop/test_vectors_core.py::test_brc62_every_form_is_read_believed_and_written_again",
        ),
    ),
    11: (
        "aggregated answers write txids as people read them",
        ("tests/interop/test_vectors_formats.py::test_the_sdk_resolvers_aggregated_answer_holds_an_admissible_token",),
    ),
    13: (
        "initial nonces are 48 bytes, and signatures are arrays here and hex there",
        (
            f"{AUTH}::test_nonces_are_made_of_the_right_amount_of_randomness",
            "tests/interop/test_vectors_auth.py::test_session_nonces_are_those_of_the_reference",
        ),
    ),
    14: (
        "signed JSON must be what JavaScript prints",
        (
            f"{AUTH}::test_json_is_sent_as_a_server_that_prints_it_again_will_see_it",
            f"{AUTH}::test_json_with_more_than_one_spelling_is_not_signed",
        ),
    ),
    15: (
        "empty bodies are written in two ways",
        (
            "tests/unit/gateway/test_auth.py::test_an_empty_answer_is_believed",
            "tests/conformance/test_auth.py::test_an_empty_answer_of_a_server_is_believed",
        ),
    ),
    16: (
        "the content type is signed in requests and not in answers",
        (f"{AUTH}::test_an_answer_is_signed_with_its_status_and_without_its_content_type",),
    ),
    17: (
        "the path is signed as it is sent",
        (
            f"{AUTH}::test_a_target_that_a_server_would_rewrite_is_not_signed",
            "tests/conformance/test_auth.py::test_their_client_gets_through_our_door_and_believes_what_it_hears",
        ),
    ),
    18: (
        "the reference takes any amount, and the same payment twice",
        (
            "tests/conformance/test_auth.py::test_one_satoshi_of_theirs_does_not_pay_for_a_hundred",
            f"{PAY}::test_a_payment_buys_nothing_else_and_nothing_twice",
        ),
    ),
    19: (
        "a payment is output 0",
        ("tests/unit/wire/test_payment.py::test_only_output_0_counts_and_only_for_who_signed_the_request",),
    ),
    20: (
        "after a lost answer the same payment is shown",
        (
            f"{PAY}::test_after_a_lost_answer_the_same_payment_is_shown_again",
            "tests/conformance/test_auth.py::test_what_was_lost_on_the_way_back_is_never_paid_again",
        ),
    ),
    22: (
        "content is asked for by its bare URL",
        (
            f"{TOKENS}::test_uhrp_lookups_ask_by_the_bare_url",
            f"{HERE}::test_content_is_found_by_its_bare_url_its_host_or_its_outpoint",
        ),
    ),
    24: ("a storage host says 500 for what it does not have", ("tests/contract/test_storage.py::test_not_found_is_no_trouble",)),
    26: ("what is uploaded is public", (f"{DEVNET}::test_uploaded_content_is_found_served_and_advertised",)),
    27: (
        "a rejection comes with status 200, blocks go stale, callbacks come in any order",
        (
            "tests/contract/test_chain.py::test_http_200_with_rejected_is_a_refusal",
            "tests/contract/test_chain.py::test_the_most_advanced_word_counts",
            "tests/contract/test_chain.py::test_arcade_is_spoken_to_without_v1",
            "tests/conformance/test_broadcaster.py::test_what_a_refusal_means_is_the_same_whoever_says_it",
        ),
    ),
    29: (
        "a double spend in doubt is waited out",
        (
            "tests/e2e/test_weather.py::test_a_double_spend_in_doubt_freezes_the_resource_and_makes_no_second_transaction",
            "tests/conformance/test_broadcaster.py::test_a_second_spend_is_not_final_and_names_its_rival",
        ),
    ),
    30: (
        "tokens of a key are retired with that key",
        (
            "tests/e2e/test_rotation.py::test_a_rotation_rolls_everything_over_and_the_clock_ends_it",
            "tests/e2e/test_rotation.py::test_revoking_retires_everything_of_the_old_key_at_once",
        ),
    ),
    31: ("two runs must not spend one coin", ("tests/contract/test_ledger.py::test_two_processes_never_reserve_the_same_coin",)),
    33: (
        "a block that carried an advertisement can vanish",
        (
            f"{DEVNET}::test_a_reorganisation_voids_proofs_until_the_next_block",
            "tests/e2e/test_converge.py::test_confirmations_rise_with_blocks_and_fall_with_a_reorg",
        ),
    ),
    34: ("lookup answers are nobody's word", (f"{FOUND}::test_a_tracker_that_lies_is_not_believed",)),
    35: ("trackers list hosts that are gone", (f"{FOUND}::test_a_host_that_keeps_failing_is_left_alone_and_asked_again_later",)),
    36: ("answers are in the order of arrival, not of versions", (f"{TOKENS}::test_readers_follow_the_highest_version",)),
    39: (
        "a signature that does not hold is false, and no error",
        (
            "tests/property/test_wire_core.py::test_verify_answers_and_never_raises",
            "tests/unit/wire/test_keys.py::test_malformed_der_is_false_and_not_an_error",
        ),
    ),
    41: (
        "published shapes name fields that nobody sends",
        (
            "tests/interop/test_vectors_formats.py::test_submit_shapes",
            "tests/interop/test_vectors_formats.py::test_storage_shapes",
        ),
    ),
    42: ("clocks differ", (f"{PAY}::test_a_demand_that_ran_out_is_paid_anew_with_the_same_coin",)),
}
TRAPS = range(1, 45)
_OWN = re.compile(r"test_pitfall_(\d\d)_\w+")


@cache
def named_in(path: str) -> frozenset[str]:
    """The test functions of a file."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions) and node.name.startswith("test_"))


def exists(test: str) -> bool:
    """Whether such a test is there."""
    path, _, name = test.partition("::")
    return (ROOT / path).is_file() and name in named_in(path)


@pytest.mark.parametrize("number", TRAPS)
def test_every_trap_is_shown_somewhere(number: int) -> None:
    own = [
        name
        for path in sorted(Path(__file__).parent.glob("test_pitfalls_*.py"))
        for name in named_in(str(path.relative_to(ROOT)))
        if (match := _OWN.fullmatch(name)) and int(match[1]) == number
    ]
    _, elsewhere = PITFALLS.get(number, ("", ()))
    assert own or elsewhere, f"nothing shows trap {number}"
    assert [test for test in elsewhere if not exists(test)] == []
