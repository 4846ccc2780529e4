"""Where the shop may open, and why not."""

from typing import Any

from reconciler.model.record import Record
from reconciler.model.ref import ResourceRef
from reconciler.sales.opening import Opening, openings


def record(key: str, spec: dict[str, Any], **outputs: Any) -> tuple[ResourceRef, Record]:
    ref = ResourceRef.parse(key)
    return ref, Record(ref, "u", 1, {"spec": spec, "files": [], "using": {}}, outputs)


NETWORK = record(
    "Network/local", {"gateway": {"listen": "127.0.0.1:8402", "publicUrl": "https://shop.example/", "maxClients": 9}}
)
DESK = record("Identity/desk", {}, publicKey="02" + "aa" * 32)
RATES = record("Dataset/rates", {"identityRef": "desk", "networkRef": "local"})


def test_a_gateway_opens_in_the_name_of_who_sells_there() -> None:
    (found,), faults = openings(dict([NETWORK, DESK, RATES]))
    assert found == Opening("local", "127.0.0.1:8402", "https://shop.example", "desk", "desk", 9) and faults == []


def test_after_a_rotation_the_new_key_answers() -> None:
    keys = [{"name": "desk", "source": {}}, {"name": "desk+1", "source": {}}]
    desk = record("Identity/desk", {}, publicKey="02" + "bb" * 32, keys=keys)
    (found,), _ = openings(dict([NETWORK, desk, RATES]))
    assert found.key == "desk+1"


def test_without_a_seller_or_with_two_it_stays_closed_and_says_why() -> None:
    other = record("Identity/other", {}, publicKey="03" + "aa" * 32)
    theirs = record("Dataset/theirs", {"identityRef": "other", "networkRef": "local"})
    for records, why in (
        ([NETWORK, DESK], "nobody sells there yet"),
        ([NETWORK, RATES], "nobody sells there yet"),
        ([NETWORK, DESK, RATES, other, theirs], "desk and other sell there"),
    ):
        found, (fault,) = openings(dict(records))
        assert found == [] and why in fault.message and fault.hint


def test_a_network_without_a_listener_opens_nothing() -> None:
    assert openings(dict([record("Network/local", {"gateway": {"publicUrl": "https://x"}}), DESK, RATES])) == ([], [])
