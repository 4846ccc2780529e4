"""BRC-87 names, advertisable URLs, and RFC 6962 trees."""

import hashlib

import pytest

from reconciler.model.errors import LocalProtocolError
from reconciler.wire import merkle, names


@pytest.mark.parametrize("name", ["tm_a\n", "tm_ä", "ls_", "tm_" + "a" * 48, "tm_A", " tm_a"])
def test_a_name_with_anything_else_in_it_is_none(name: str) -> None:
    assert not names.name_ok(name)


def test_topics_and_services_are_told_apart_by_their_prefix() -> None:
    assert names.topic_ok("tm_ship") and not names.topic_ok("ls_ship")
    assert names.service_ok("ls_ship") and not names.service_ok("tm_ship")
    assert names.topic_ok("tm_" + "a" * 47)


def test_a_dotted_alias_becomes_a_topic_by_table_or_by_underscores() -> None:
    assert names.topic_name("tm_demo") == "tm_demo"
    assert names.topic_name("gitdata.events.iot") == "tm_gitdata_events_iot"
    assert names.topic_name("btc2024", {"btc2024": "tm_btc"}) == "tm_btc"
    for alias, table in (("btc2024", None), ("x", {"x": "ls_x"}), ("a..b", None)):
        with pytest.raises(LocalProtocolError, match="cannot use"):
            names.topic_name(alias, table)


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("https://user@example.com", "password"),
        ("https:/example.com", "scheme://host"),
        ("https://", "host"),
        ("https://exa mple.com", "characters"),
        ("https://example.com\n", "characters"),
        ("https://example.com:99999", "not a URL"),
        ("https://999.1.1.1", "host"),
        ("https://-x.com", "host"),
        ("https://[::1", "not a URL"),
        ("https://ex%61mple.com", "host"),
        ("js8c+bsvauth+smf:?lat=91&long=0&freq=7&radius=1", "lat"),
        ("js8c+bsvauth+smf:?lat=1&long=-181&freq=7&radius=1", "long"),
        ("js8c+bsvauth+smf:?lat=1&long=1&freq=0&radius=1", "freq"),
        ("js8c+bsvauth+smf:?lat=nan&long=1&freq=7&radius=1", "lat"),
        ("js8c+bsvauth+smf:?lat=1&long=1&freq=7", "radius"),
    ],
)
def test_a_url_that_nobody_could_call_is_not_advertised(uri: str, fault: str) -> None:
    assert fault in (names.advertisable(uri) or "")


@pytest.mark.parametrize("uri", ["https://[2001:db8::1]:8443", "https://xn--bcher-kva.example", "wss://example.com/feed"])
def test_unusual_but_callable_urls_are_advertised(uri: str) -> None:
    assert names.advertisable(uri) is None


def test_the_tree_of_rfc_6962_has_its_published_roots() -> None:
    # The reference tree of certificate-transparency: eight entries, and the heads of its prefixes.
    entries = [
        bytes.fromhex(text)
        for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
    ]
    heads = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    assert {size: merkle.root(leaves[:size]).hex() for size in heads} == heads
    assert merkle.root([]) == hashlib.sha256().digest()


@pytest.mark.row("P-PUB-20")
def test_each_leaf_proves_itself_alone_and_nothing_else() -> None:
    for size in range(1, 18):
        leaves = [merkle.leaf_hash(bytes([i])) for i in range(size)]
        head = merkle.root(leaves)
        for index in range(size):
            path = merkle.inclusion(leaves, index)
            assert merkle.verify_inclusion(leaves[index], index, size, path, head)
            assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, path, head)
            assert not merkle.verify_inclusion(leaves[index], index, size, (*path, head), head)
            assert not merkle.verify_inclusion(leaves[index], (index + 1) % size if size > 1 else 1, size, path, head)
            if path:
                assert not merkle.verify_inclusion(leaves[index], index, size, path[:-1], head)


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(4)]
    left, right = merkle.node_hash(*leaves[:2]), merkle.node_hash(*leaves[2:])
    assert merkle.node_hash(left, right) == merkle.root(leaves)
    assert merkle.leaf_hash(leaves[0] + leaves[1]) != left


def test_raw_entries_and_absent_leaves_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="raw entries"):
        merkle.root([b"not hashed"])
    with pytest.raises(LocalProtocolError, match="leaf 1"):
        merkle.inclusion([merkle.leaf_hash(b"")], 1)
