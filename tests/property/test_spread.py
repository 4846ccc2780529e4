"""The order in which readers try hosts: complete, repeatable, near first, quick first, or even."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.engine.spread import order
from reconciler.model.endpoint import Endpoint

REGIONS = ("EU", "US", "AP", "")
NAMES = st.text("abcdefghij0123456789-", min_size=1, max_size=12)
HOSTS = st.dictionaries(NAMES, st.sampled_from(REGIONS), min_size=1, max_size=8).map(
    lambda found: tuple(Endpoint(name, f"https://{name}.example", region) for name, region in found.items())
)
BALANCES = st.sampled_from(("region", "latency", "even"))
DRAWS = 10_000


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[Endpoint, ...], dict[str, int], set[str]]:
    """Hosts, how quick some of them are, and whose copies are not sound."""
    hosts = draw(HOSTS)
    names = [host.name for host in hosts]
    quick = draw(st.dictionaries(st.sampled_from(names), st.integers(0, 5_000)))
    return hosts, quick, set(draw(st.lists(st.sampled_from(names), max_size=3)))


@pytest.mark.row("P-DIST-14")
@settings(max_examples=100, deadline=None)
@given(case=cases(), balance=BALANCES, region=st.sampled_from(REGIONS), key=st.text(max_size=10), data=st.data())
def test_every_host_is_tried_once_and_in_the_order_that_the_rule_says(case, balance, region, key, data) -> None:
    hosts, quick, unsound = case
    found = order(hosts, balance, region=region, latencies=quick, key=key, unsound=unsound)
    assert sorted(host.name for host in found) == sorted(host.name for host in hosts)
    shuffled = data.draw(st.permutations(hosts))
    assert order(shuffled, balance, region=region, latencies=quick, key=key, unsound=unsound) == found
    assert [host.name in unsound for host in found] == sorted(host.name in unsound for host in found)
    for first in (True, False):
        sound = [host for host in found if (host.name not in unsound) is first]
        if balance == "region" and region:
            away = [host.region != region for host in sound]
            assert away == sorted(away)
            sound = [host for host in sound if host.region == region]
        if balance != "even":
            took = [quick.get(host.name, float("inf")) for host in sound]
            assert took == sorted(took)
    # Who comes or goes moves nobody else's place.
    gone = data.draw(st.sampled_from(hosts))
    rest = tuple(host for host in hosts if host != gone)
    less = order(rest, balance, region=region, latencies=quick, key=key, unsound=unsound)
    assert less == tuple(host for host in found if host != gone)


@pytest.mark.row("P-DIST-14")
@settings(max_examples=5, deadline=None)
@given(names=st.lists(NAMES, min_size=2, max_size=6, unique=True), salt=st.text(max_size=5))
def test_even_means_within_a_tenth_of_the_share_and_no_worse_than_chance(names, salt) -> None:
    hosts = tuple(Endpoint(name, "https://x.example") for name in names)
    orders = [order(hosts, "even", key=f"{salt}/{number}", latencies={names[0]: 1}) for number in range(DRAWS)]
    share = DRAWS / len(hosts)
    for place in (0, 1):
        counts = Counter(found[place].name for found in orders)
        assert all(abs(counts[name] - share) < share / 10 for name in names), counts
        # Pearson's statistic has the mean n - 1 and the variance 2 (n - 1); six deviations above it are no accident.
        freedom = len(hosts) - 1
        statistic = sum((counts[name] - share) ** 2 / share for name in names)
        assert statistic < freedom + 6 * (2 * freedom) ** 0.5, counts


def test_equals_that_nobody_measured_share_their_readers_too() -> None:
    hosts = tuple(Endpoint(name, "https://x.example", "EU") for name in ("a", "b"))
    for balance in ("region", "latency"):
        first = Counter(order(hosts, balance, region="EU", key=str(number))[0].name for number in range(200))
        assert set(first) == {"a", "b"} and min(first.values()) > 50
