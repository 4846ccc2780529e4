"""Who must agree before a plan is carried out, and whether they have: m of n distinct keys over one plan and its digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.model.approval import Approval
from reconciler.model.canonical import Json
from reconciler.model.plan import GuardResult, Plan
from reconciler.planner.guard import APPROVALS, POLICY
from reconciler.planner.policy import Matches


@dataclass(frozen=True, slots=True)
class Demand:
    """So many signatures for plans that `matches`, which is `when` compiled."""

    name: str
    required: int
    when: Json
    matches: Matches = field(compare=False)


@dataclass(frozen=True, slots=True)
class Seat:
    """So many of these keys must agree, because a plan changes what they guard (planner/seat.py)."""

    subject: str
    required: int
    keys: frozenset[str]

    def name(self, key: str) -> str:
        """What one of its keys is called."""
        return f"{self.subject.partition('/')[2]}:{key[:8]}"


@dataclass(frozen=True, slots=True)
class Panel:
    """Those who may approve (public key, hex33 -> name) and how many of them must.

    `guards` are those that only signatures let pass, never a word at the terminal; "policy:*" stands for every policy. Whoever
    has a seat counts for that seat alone, unless listed among the people, too.
    """

    people: Mapping[str, str] = field(default_factory=dict)
    required: int = 0
    demands: tuple[Demand, ...] = ()
    guards: frozenset[str] = frozenset()
    seats: tuple[Seat, ...] = ()

    def signed(self, guard: str) -> bool:
        """Whether only signatures let this guard pass."""
        return guard == APPROVALS or guard in self.guards or (guard.startswith(POLICY) and POLICY + "*" in self.guards)

    def needed(self, document: Json, refused: Iterable[str]) -> tuple[int, tuple[str, ...]]:
        """How many signatures a plan needs, and what says so: rules by name, and refusals that only signatures let pass."""
        said = [demand for demand in self.demands if demand.matches(document)]
        held = sorted(guard for guard in refused if guard != APPROVALS and self.signed(guard))
        most = max([self.required, *(demand.required for demand in said), *([1] if held else [])])
        return most, (*(demand.name for demand in said if demand.required == most), *held)

    def verdict(self, document: Json, refused: Iterable[str]) -> GuardResult | None:
        """The guard that stands until enough have signed; None where nobody has to."""
        needed, because = self.needed(document, refused)
        why = f" ({', '.join(because)})" if because else ""
        said = [f"{needed} of {', '.join(self.names) or 'nobody'} must sign{why}"] if needed else []
        said += [_short(seat, 0) for seat in self.seats]
        return GuardResult(APPROVALS, False, "; ".join(said)) if said else None

    def name(self, key: str) -> str | None:
        """What a key is called; None when it has no say."""
        return self.people.get(key) or next((seat.name(key) for seat in self.seats if key in seat.keys), None)

    @property
    def names(self) -> list[str]:
        """The people, in the order of their names."""
        return sorted(self.people.values())


@dataclass(frozen=True, slots=True)
class Tally:
    """What the approvals of one plan come to: who counts, who does not and why, which refusals may pass, and what is lacking.

    `names` are those of the keys that count; `needed` is what the settings ask for, of their own people.
    """

    needed: int
    counted: tuple[Approval, ...] = ()
    ignored: tuple[tuple[Approval, str], ...] = ()
    passes: frozenset[str] = frozenset()
    lacking: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def enough(self) -> bool:
        """Whether as many have signed as must."""
        return not self.lacking


def tally(plan: Plan, panel: Panel, needed: int, approvals: Iterable[Approval]) -> Tally:
    """Count the approvals of a plan.

    One key counts once, whatever it is called and however often it signed; what it lets pass is all it ever named. A guard
    passes when as many have named it as the plan needs, one at least.
    """
    sha256, counted, ignored = plan.digest, dict[str, Approval](), list[tuple[Approval, str]]()
    named: dict[str, set[str]] = {}
    for one in approvals:
        if one.plan != plan.id:
            ignored.append((one, f"it is for plan {one.plan}"))
        elif one.sha256 != sha256:
            ignored.append((one, "it is for other content under the same id"))
        elif panel.name(one.key) is None:
            ignored.append((one, "its key is not among approvals.keys"))
        else:
            counted.setdefault(one.key, one)
            for guard in one.guards if one.key in panel.people else ():
                named.setdefault(guard, set()).add(one.key)
    names = {key: panel.name(key) or "" for key in counted}
    enough, voted = max(1, needed), len(counted.keys() & panel.people.keys())
    passes = {guard for guard, keys in named.items() if len(keys) >= enough and guard != APPROVALS}
    lacking = [f"{needed - voted} more of {', '.join(panel.names) or 'nobody'} must sign"] if voted < needed else []
    lacking += [_short(seat, have) for seat in panel.seats if (have := len(counted.keys() & seat.keys)) < seat.required]
    if (needed or panel.seats) and not lacking:
        passes.add(APPROVALS)
    ordered = tuple(counted[key] for key in sorted(counted, key=names.__getitem__))
    return Tally(needed, ordered, tuple(ignored), frozenset(passes), tuple(lacking), names)


def _short(seat: Seat, have: int) -> str:
    """How many of a seat's keys have still to sign, and for what."""
    said = f"{seat.required - have} more" if have else str(seat.required)
    return f"{said} of {', '.join(sorted(map(seat.name, seat.keys)))} must sign for {seat.subject}"
