"""SHIP, SLAP, UHRP and descriptor tokens: what is admitted, what is refused and for which reason."""

from dataclasses import replace

import pytest

from reconciler.model.errors import LocalProtocolError, RemoteProtocolError
from reconciler.model.ref import Outpoint, ResourceRef
from reconciler.wire import advert, descriptor, token, uhrp
from reconciler.wire.keys import ANYONE, child_secret, invoice, public_key, sign
from reconciler.wire.script import decode_pushdrop, p2pkh, pushdrop
from tests.unit.wire_formats.maker import IDENTITY, OTHER, SECRET, describe, manifest, seal, token_script

SHIP = advert.Advert("SHIP", IDENTITY, "https://producer.example.com", "tm_demo_stream")
SLAP = advert.Advert("SLAP", IDENTITY, "https://producer.example.com", "ls_demo_stream")
HASH = "ab" * 32
PROMISE = uhrp.UhrpToken(IDENTITY, HASH, "https://storage.example.com/cdn/abc", 1_893_456_000, 1234)
SAID = describe(seal(manifest()))
TXID = "cd" * 32


def ship_script(*fields: bytes, **how: bytes) -> bytes:
    return token_script(fields or advert.fields(SHIP), advert.lock_of("SHIP"), **how)


@pytest.mark.row("P-AD-15", "P-AD-16")
@pytest.mark.parametrize("said", [SHIP, SLAP])
def test_an_advertisement_reads_back_from_its_script(said: advert.Advert) -> None:
    script = token_script(advert.fields(said), advert.lock_of(said.type))
    assert advert.parse_advert(script) == said


def test_a_token_locked_towards_oneself_cannot_be_checked_and_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="do not belong to the identity"):
        advert.parse_advert(ship_script(counterparty=IDENTITY))


def test_a_token_whose_fields_another_key_signed_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="do not belong"):
        advert.parse_advert(ship_script(signer=OTHER))
    with pytest.raises(RemoteProtocolError, match="do not belong"):
        advert.parse_advert(ship_script(secret=OTHER))


def test_a_signature_of_the_right_key_does_not_excuse_a_wrong_lock() -> None:
    fields = advert.fields(SHIP)
    signature = sign(child_secret(SECRET, ANYONE, invoice(*advert.lock_of("SHIP"))), b"".join(fields))
    with pytest.raises(RemoteProtocolError, match="do not belong"):
        advert.parse_advert(pushdrop(fields, public_key(OTHER), signature))


def test_a_slap_token_under_the_ship_key_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="do not belong"):
        advert.parse_advert(token_script(advert.fields(SLAP), advert.lock_of("SHIP")))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ((b"SHIP", IDENTITY, b"https://h.example", b"tm_x", b"more"), "6 items where 5"),
        ((b"SHIP", IDENTITY, b"https://h.example"), "4 items where 5"),
        ((b"SHOP", IDENTITY, b"https://h.example", b"tm_x"), "neither SHIP nor SLAP"),
        ((b"SHIP", IDENTITY[:32], b"https://h.example", b"tm_x"), "not a compressed public key"),
        ((b"SHIP", b"\x05" + IDENTITY[1:], b"https://h.example", b"tm_x"), "not a compressed public key"),
        ((b"SHIP", IDENTITY, b"http://h.example", b"tm_x"), "scheme 'http'"),
        ((b"SHIP", IDENTITY, b"https://localhost", b"tm_x"), "localhost"),
        ((b"SHIP", IDENTITY, b"https://h.example/overlay", b"tm_x"), "path"),
        ((b"SHIP", IDENTITY, b"https://h.example", b"ls_x"), "not a legal topic name"),
        ((b"SLAP", IDENTITY, b"https://h.example", b"tm_x"), "not a legal lookup service name"),
        ((b"SHIP", IDENTITY, b"https://h.example", b"tm_demo1"), "not a legal topic name"),
        ((b"SHIP", IDENTITY, b"https://h.example", b"\xff\xfe"), "UTF-8"),
        ((b"SHIP", IDENTITY, b"https://h.example", b"\x10"), "single byte 10"),
    ],
)
def test_an_inadmissible_advertisement_says_why(fields: tuple[bytes, ...], fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault):
        advert.parse_advert(ship_script(*fields))


def test_an_output_that_is_no_token_is_refused() -> None:
    for parse in (advert.parse_advert, uhrp.parse_uhrp_token, descriptor.parse_descriptor):
        for script in (b"", p2pkh(IDENTITY), ship_script()[:-1]):
            with pytest.raises(RemoteProtocolError):
                parse(script)


def test_what_no_node_admits_is_not_signed() -> None:
    with pytest.raises(LocalProtocolError, match="scheme"):
        advert.fields(replace(SHIP, domain="http://producer.example.com"))
    with pytest.raises(LocalProtocolError, match="not Kind/name"):
        descriptor.fields(replace(SAID, subject="dataset"))
    with pytest.raises(LocalProtocolError, match="https"):
        uhrp.fields(replace(PROMISE, url="http://storage.example.com"))


def test_lookup_queries_name_what_is_asked() -> None:
    assert advert.query("SHIP", identity=IDENTITY, names=["tm_a", "tm_b"], limit=5) == {
        "topics": ["tm_a", "tm_b"],
        "identityKey": IDENTITY.hex(),
        "limit": 5,
        "skip": 0,
    }
    assert advert.query("SLAP", names=["ls_a"], domain="https://h.example")["service"] == "ls_a"
    with pytest.raises(LocalProtocolError, match="several services"):
        advert.query("SLAP", names=["ls_a", "ls_b"])
    with pytest.raises(LocalProtocolError, match="'SHOP'"):
        advert.lock_of("SHOP")


@pytest.mark.row("P-PUB-23")
def test_a_uhrp_url_has_three_spellings_and_one_bare_form() -> None:
    bare = uhrp.uhrp_url(HASH)
    assert len(bare) == 52 and bare.startswith("XU")
    assert {uhrp.parse_uhrp(prefix + bare) for prefix in ("", "uhrp:", "uhrp://", "UHRP:", "Uhrp://")} == {HASH}
    for wrong in (bare.lower(), bare[:-1], bare + "1", "uhrp:///" + bare, "", "https://" + bare):
        with pytest.raises(RemoteProtocolError):
            uhrp.parse_uhrp(wrong)
    with pytest.raises(LocalProtocolError, match="UHRP URL"):
        uhrp.uhrp_url(HASH.upper())


def test_base58check_of_another_kind_is_no_uhrp_url() -> None:
    with pytest.raises(RemoteProtocolError, match="as a UHRP URL"):
        uhrp.parse_uhrp("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa")


@pytest.mark.row("P-PUB-23")
@pytest.mark.parametrize("size", [1, 13, 15, 17, 252, 253, 70_000, 2**33])
def test_a_storage_promise_reads_back_whatever_the_size(size: int) -> None:
    promise = replace(PROMISE, size=size)
    assert uhrp.parse_uhrp_token(token_script(uhrp.fields(promise), uhrp.lock())) == promise


def test_a_promise_for_sixteen_bytes_would_be_lost_and_is_not_made() -> None:
    with pytest.raises(LocalProtocolError, match="single byte 10"):
        uhrp.fields(replace(PROMISE, size=16))


@pytest.mark.parametrize(
    ("index", "field", "fault"),
    [
        (1, b"\xab" * 31, "SHA-256"),
        (2, b"http://storage.example.com", "https"),
        (2, b"uhrp://x", "https"),
        (3, b"\x00", "at least 1"),
        (3, b"\xfd\x01\x00", "more bytes than it needs"),
        (4, b"\xfd\x00", "promised"),
        (4, b"\x05\x05", "follow the end"),
    ],
)
def test_an_inadmissible_promise_says_why(index: int, field: bytes, fault: str) -> None:
    fields = list(uhrp.fields(PROMISE))
    fields[index] = field
    with pytest.raises(RemoteProtocolError, match=fault):
        uhrp.parse_uhrp_token(token_script(fields, uhrp.lock()))


def test_a_promise_in_the_name_of_another_host_is_refused() -> None:
    for how in ({"secret": OTHER}, {"signer": OTHER}, {"counterparty": IDENTITY}):
        with pytest.raises(RemoteProtocolError, match="do not belong"):
            uhrp.parse_uhrp_token(token_script(uhrp.fields(PROMISE), uhrp.lock(), **how))


def test_uhrp_lookups_ask_by_the_bare_url() -> None:
    assert uhrp.query(sha256=HASH, host=IDENTITY) == {"uhrpUrl": uhrp.uhrp_url(HASH), "hostIdentityKey": IDENTITY.hex()}
    assert uhrp.query(outpoint=f"{TXID}.0", sha256=HASH) == {"outpoint": f"{TXID}.0"}
    with pytest.raises(LocalProtocolError, match="everything"):
        uhrp.query()


# --- descriptors ----------------------------------------------------------------------------------


def descriptor_script(*fields: bytes, lock: tuple[str, str] | None = None) -> bytes:
    return token_script(fields or descriptor.fields(SAID), lock or descriptor.lock_of(SAID.subject))


@pytest.mark.row("P-AD-24", "P-PUB-18")
def test_a_descriptor_reads_back_from_its_script() -> None:
    assert descriptor.parse_descriptor(descriptor_script()) == SAID
    assert SAID.kind == "Dataset"
    assert descriptor.lock_of(ResourceRef("Dataset", "btc-2024")) == ("producer descriptor", "Dataset/btc-2024")


def test_a_descriptor_locked_for_another_subject_is_refused() -> None:
    script = descriptor_script(lock=descriptor.lock_of("Dataset/other"))
    with pytest.raises(RemoteProtocolError, match="do not belong"):
        descriptor.parse_descriptor(script)


@pytest.mark.parametrize(
    ("index", "field", "fault"),
    [
        (0, b"DESCRIPTION", "tag"),
        (1, b"\x02" + b"\xff" * 32, "compressed public key"),
        (2, b"dataset/btc-2024", "Kind/name"),
        (2, b"Dataset/btc_2024", "Kind/name"),
        (2, b"Dataset/" + b"a" * 64, "Kind/name"),
        (3, b"\x01" * 33, "SHA-256"),
        (4, b"ftp://example.com/doc", "URL"),
        (4, b"https://user:pw@example.com/doc", "URL"),
        (4, b"https://example.com/" + b"a" * 2048, "URL"),
        (4, b"/doc", "URL"),
        (5, b"0", "version"),
        (5, b"01", "version"),
        (5, b"-1", "version"),
        (5, b"9" * 16, "version"),
        (5, b"9" * 17, "version"),
        (5, "１".encode(), "version"),
    ],
)
def test_an_inadmissible_descriptor_says_why(index: int, field: bytes, fault: str) -> None:
    fields = list(descriptor.fields(SAID))
    fields[index] = field
    subject = fields[2].decode()
    lock = (descriptor.PROTOCOL, subject)
    with pytest.raises(RemoteProtocolError, match=fault):
        descriptor.parse_descriptor(descriptor_script(*fields, lock=lock))


@pytest.mark.row("P-PUB-26", "C-24")
def test_a_spent_descriptor_is_history_only_where_its_subject_goes_on() -> None:
    other = replace(SAID, subject="Dataset/eth-2024")
    stranger = replace(SAID, identity=public_key(OTHER))
    spent = {0: SAID, 2: other, 5: stranger}
    assert descriptor.retained(spent, [replace(SAID, version=2)]) == (0,)
    assert descriptor.retained(spent, [other, SAID]) == (0, 2)
    assert descriptor.retained(spent, []) == ()


def test_readers_follow_the_highest_version() -> None:
    first, second = Outpoint("aa" * 32, 0), Outpoint("bb" * 32, 0)
    newer = replace(SAID, version=10)
    assert descriptor.newest([(first, replace(SAID, version=9)), (second, newer)]) == (second, newer)
    assert descriptor.newest([(second, SAID), (first, SAID)]) == (first, SAID)
    assert descriptor.newest([]) is None


def test_a_query_matches_what_it_names_and_survives_the_wire() -> None:
    at = Outpoint(TXID, 1)
    for value, matches in (
        ({}, True),
        ({"identityKey": IDENTITY.hex(), "subject": SAID.subject, "kind": "Dataset", "digest": SAID.digest}, True),
        ({"outpoint": str(at)}, True),
        ({"outpoint": f"{TXID}.2"}, False),
        ({"identityKey": public_key(OTHER).hex()}, False),
        ({"subject": "Dataset/btc"}, False),
        ({"kind": "Data"}, False),
        ({"digest": "00" * 32}, False),
    ):
        asked = descriptor.parse_query(value)
        assert asked.matches(at, SAID) is matches, value
        assert descriptor.parse_query(asked.json()) == asked
    assert descriptor.parse_query({}).limit == 100


@pytest.mark.parametrize(
    "value",
    [
        None,
        "findAll",
        [],
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"skip": -1},
        {"sortOrder": "up"},
        {"subject": "btc"},
        {"kind": 1},
        {"digest": "AB" * 32},
        {"identityKey": "02"},
        {"outpoint": TXID},
        {"outpoint": f"{TXID}.01"},
        {"owner": "x"},
    ],
)
def test_a_query_that_means_nothing_is_refused(value: object) -> None:
    with pytest.raises(RemoteProtocolError, match="ls_producer query"):
        descriptor.parse_query(value)


def test_the_link_holds_for_exactly_one_identity_protocol_and_key_id() -> None:
    opened = decode_pushdrop(ship_script())
    right = (IDENTITY, "service host interconnect", "1", opened.fields, opened.signature, opened.key)
    assert token.link_ok(*right)
    assert token.link_ok(IDENTITY, "Service Host Interconnect", *right[2:]), "protocol names are lower-cased before use"
    for position, wrong in enumerate((public_key(OTHER), "service lookup availability", "2", opened.fields[:3], b"\x30", ANYONE)):
        changed = list(right)
        changed[position] = wrong
        assert not token.link_ok(*changed), position
    assert not token.link_ok(b"\x00" * 33, *right[1:])
