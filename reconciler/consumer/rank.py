"""The order in which offers are shown: a published score from facts that a buyer can check, computed by the buyer.

    score = 400 price + 150 region + 150 latency + 150 uptime + 150 reputation        each term from 0 to 1, in thousandths

    price       the lowest price among what is compared / this price; 1 where it is free; 0 where it is not known
    region      1 in a region asked for, or when none was; 1/2 global or unsaid; 0 elsewhere
    latency     250 ms / (250 ms + measured); 0 where it did not answer, 1/2 where nobody has asked
    uptime      answered / asked of our own probes, one pretended answer and one pretended silence added
    reputation  planner/reputation.py over what this buyer knows: since when the producer's oldest token is mined, its own
                purchases that led to a receipt, its own probes, revoked keys

Whole numbers all the way: the same facts give the same score in any program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.planner.reputation import Evidence
from reconciler.planner.reputation import reputation as formula

WEIGHTS: Mapping[str, int] = {"price": 400, "region": 150, "latency": 150, "uptime": 150, "reputation": 150}
ONE = 1000
_MS = 250
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one offer and of its producer.

    `price` None: not known. `ms` None: it was asked and did not answer; -1: nobody asked. `age` in days, None: not anchored.
    """

    price: int | None
    regions: tuple[str, ...] = ()
    ms: int | None = -1
    asked: int = 0
    answered: int = 0
    age: int | None = None
    paid: int = 0
    kept: int = 0
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a score: its value and its weight in thousandths, and the facts in words."""

    name: str
    value: int
    weight: int
    why: str

    @property
    def points(self) -> int:
        """What it adds."""
        return self.value * self.weight // ONE


@dataclass(frozen=True, slots=True)
class Score:
    """A score and what it is made of."""

    points: int
    terms: tuple[Term, ...]


def score(facts: Facts, *, cheapest: int | None, regions: Sequence[str] = ()) -> Score:
    """The score of one offer; `cheapest` is the lowest known price among those compared, `regions` what the buyer asked for."""
    values = (
        ("price", *_price(facts.price, cheapest)),
        ("region", *_region(facts.regions, regions)),
        ("latency", *_latency(facts.ms)),
        ("uptime", (facts.answered + 1) * ONE // (facts.asked + 2), f"{facts.answered} of {facts.asked} probes answered"),
        ("reputation", reputation(facts) * ONE // 100, _standing(facts)),
    )
    terms = tuple(Term(name, value, WEIGHTS[name], why) for name, value, why in values)
    return Score(sum(term.points for term in terms), terms)


def scores(facts: Sequence[Facts], regions: Sequence[str] = ()) -> list[Score]:
    """The scores of offers compared with each other."""
    known = [one.price for one in facts if one.price is not None]
    return [score(one, cheapest=min(known, default=None), regions=regions) for one in facts]


def reputation(facts: Facts) -> int:
    """0 to 100, by the published formula."""
    evidence: list[Evidence] = [{"fact": "looks", "sound": facts.answered, "asked": facts.asked}]
    evidence += [{"fact": "sale", "outcome": "kept" if number < facts.kept else "lost"} for number in range(facts.paid)]
    evidence += [{"fact": "advertised", "at": 0}] if facts.age is not None else []
    evidence += [{"fact": "revoked"}] if facts.revoked else []
    return formula(evidence, (facts.age or 0) * _DAY).points


def _price(price: int | None, cheapest: int | None) -> tuple[int, str]:
    if price is None or cheapest is None:
        return 0, "the price is not known"
    if price == 0:
        return ONE, "free"
    return cheapest * ONE // price, f"{price} sat, the lowest is {cheapest}"


def _region(has: Sequence[str], wanted: Sequence[str]) -> tuple[int, str]:
    if not wanted:
        return ONE, "any region will do"
    said = {one.casefold() for one in has}
    if said & {one.casefold() for one in wanted}:
        return ONE, f"in {', '.join(has)}"
    if not said or "global" in said:
        return ONE // 2, "global" if said else "says no region"
    return 0, f"in {', '.join(has)}"


def _latency(ms: int | None) -> tuple[int, str]:
    if ms is None:
        return 0, "did not answer"
    return (ONE // 2, "not measured") if ms < 0 else (_MS * ONE // (_MS + ms), f"{ms} ms")


def _standing(facts: Facts) -> str:
    age = "a key was revoked, " if facts.revoked else ""
    age += "not anchored yet" if facts.age is None else f"anchored for {facts.age} days"
    return f"{age}, {facts.kept} of {facts.paid} payments led to a receipt"
