"""The whole function: what is priced, what is left out, and what one bad resource costs the others."""

from typing import Any

import pytest

from reconciler.model.change import FeeRate, Reason, Verb
from reconciler.model.errors import Refused
from reconciler.model.observation import Unknown
from reconciler.model.ref import ResourceRef


def test_a_plan_states_where_it_stands(market: Any) -> None:
    made = market.plan(notes=("Observed 5/5 at height 912345",))
    assert (made.lineage, made.serial, made.revision, made.environment) == ("lin", 7, "main@9f2c1ab", "prod")
    assert made.notes == ("Observed 5/5 at height 912345",)


def test_every_acting_change_has_its_price_rate_and_needs(market: Any, pick: Any) -> None:
    market.declare("Dataset/new", {"networkRef": "net", "storage": 7}, "Network/net")
    change = pick(market.plan(), "Dataset/new")
    assert change.rate == FeeRate(100)
    assert (change.cost.transactions, change.cost.fees, change.cost.payments, change.cost.locked) == (1, 40, 7, 1)
    assert change.needs == (42,)


def test_the_funding_follows_the_dearest_rate_of_its_chain(market: Any) -> None:
    market.declare("Network/fast", {"chain": "devnet"})
    market.declare("Dataset/slow", {"networkRef": "net"}, "Network/net")
    market.declare("Dataset/quick", {"networkRef": "fast"}, "Network/fast")
    market.rates["fast"] = FeeRate(250)
    market.coins = (100_000,)
    (funding,) = market.plan().funding
    assert (funding.chain, funding.rate, len(funding.outputs)) == ("devnet", FeeRate(250), 2)


def test_without_a_rate_or_a_chain_nothing_is_paid(market: Any, pick: Any) -> None:
    market.declare("Dataset/new", {"networkRef": "net"}, "Network/net")
    market.declare("Dataset/lost", {"networkRef": "nowhere"})
    market.rates = {}
    made = market.plan()
    assert pick(made, "Dataset/new").blocked.startswith("no fee rate is known for Network/net")
    market.rates = {"net": FeeRate(100), "nowhere": FeeRate(100)}
    assert pick(market.plan(), "Dataset/lost").blocked == "Network/nowhere does not say on which chain to pay"


def test_one_resource_that_its_kind_cannot_plan_leaves_the_rest_alone(market: Any, pick: Any) -> None:
    class Picky(type(market.kinds["Dataset"])):  # type: ignore[misc]
        def estimate(self, change: Any) -> Any:
            if change.ref.name == "few":
                raise Refused("too-few-hosts", "cannot keep 9 replicas on 2 hosts")
            return super().estimate(change) if change.ref.name == "good" else {}["size"]

    market.kinds["Dataset"] = Picky("Dataset", 4)
    for name in ("few", "odd", "good"):
        market.declare(f"Dataset/{name}", {"networkRef": "net"}, "Network/net")
    made = market.plan()
    assert pick(made, "Dataset/few").blocked == "cannot keep 9 replicas on 2 hosts"
    assert pick(made, "Dataset/odd").blocked == "its kind cannot plan it: KeyError: 'size'"
    assert [str(change.ref) for change in made.acting] == ["Dataset/good"]


def test_a_record_that_cannot_be_read_blocks_only_itself(market: Any, pick: Any) -> None:
    market.record("Identity/main", outputs={})
    market.declare("Dataset/new", {"networkRef": "net"}, "Network/net")
    made = market.plan()
    assert pick(made, "Dataset/eth").blocked == "its kind cannot plan it: KeyError: 'publicKey'"
    assert [str(change.ref) for change in made.acting] == ["Dataset/new"]


def test_a_kind_that_is_not_installed_is_named(market: Any, pick: Any) -> None:
    market.declare("Oracle/a", {"datasetRef": "btc"}, "Dataset/btc")
    market.declare("Dataset/new", {"networkRef": "net"}, "Oracle/a", "Network/net")
    del market.kinds["Advertisement"]
    market.undeclare("Advertisement/btc")
    made = market.plan()
    assert pick(made, "Oracle/a").blocked == "no kind Oracle is installed"
    assert pick(made, "Dataset/new").blocked == "requires Oracle/a, which is blocked"
    gone = pick(made, "Advertisement/btc")
    assert (gone.verb, gone.blocked) == (Verb.DELETE, "no kind Advertisement is installed")


def test_targets_come_with_what_they_stand_on(market: Any) -> None:
    market.records.clear()
    made = market.plan(only=frozenset({ResourceRef("Dataset", "eth")}))
    assert [str(change.ref) for change in made.changes] == ["Network/net", "Identity/main", "Dataset/eth"]


def test_targets_that_go_take_what_stands_on_them(market: Any) -> None:
    made = market.plan(destroy=True, only=frozenset({ResourceRef("Dataset", "btc")}))
    assert [str(change.ref) for change in made.acting] == ["Advertisement/btc", "Dataset/btc"]


def test_what_is_excluded_stays_as_recorded(market: Any, pick: Any) -> None:
    market.declare("Dataset/new", {"networkRef": "net"}, "Network/net")
    market.declare("Advertisement/new", {"datasetRef": "new", "networkRef": "net"}, "Dataset/new", "Network/net")
    market.change("Dataset/btc", spec={"identityRef": "main", "networkRef": "net", "title": "x"})
    spec = {"datasetRef": "btc", "networkRef": "net", "domain": "new.example"}
    market.change("Advertisement/btc", spec=spec)
    left_out = frozenset({ResourceRef("Dataset", "btc"), ResourceRef("Dataset", "new")})
    made = market.plan(exclude=left_out)
    assert left_out.isdisjoint(change.ref for change in made.changes)
    assert pick(made, "Advertisement/btc").body["using"]["Dataset/btc"] == {"outpoint": f"{1:064x}.0"}
    assert pick(made, "Advertisement/new").blocked == "requires Dataset/new, which is not part of this plan and does not exist"
    gone = market.plan(destroy=True, exclude=frozenset({ResourceRef("Dataset", "eth")}))
    assert pick(gone, "Identity/main").blocked == "still used by Dataset/eth, which is not part of this plan"


def test_requirements_in_a_circle_do_not_hang(world: Any) -> None:
    world.declare("Dataset/a", {}, "Dataset/b")
    world.declare("Dataset/b", {}, "Dataset/a")
    made = world.plan()
    assert made.acting == () and all(change.blocked for change in made.changes)


def test_nothing_declared_and_nothing_recorded_is_an_empty_plan(world: Any) -> None:
    made = world.plan()
    assert made.empty and made.changes == () and made.refusals == ()


def test_a_whole_life_settles_after_every_step(market: Any) -> None:
    steps = [
        lambda: market.declare("Dataset/new", {"networkRef": "net"}, "Network/net"),
        lambda: market.change("Dataset/btc", spec={"identityRef": "main", "networkRef": "net", "title": "x"}),
        lambda: market.undeclare("Dataset/new"),
        lambda: market.change("Network/net", spec={"chain": "devnet", "hosts": []}),
    ]
    for step in steps:
        step()
        made = market.plan()
        assert made.acting and not made.refusals
        market.apply(made)
        assert market.plan().empty


@pytest.mark.parametrize("name", ["Network/net", "Identity/main", "Dataset/btc", "Advertisement/btc"])
def test_doubt_about_one_never_makes_it_act(market: Any, pick: Any, name: str) -> None:
    market.change(name, spec={"networkRef": "net", "chain": "devnet", "title": "moved"})
    market.see(name, Unknown("silence"))
    change = pick(market.plan(), name)
    assert (change.verb, change.reason) == (Verb.DEFER, Reason.UNKNOWN)
