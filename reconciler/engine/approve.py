"""The gate of a plan that a person has to agree to: signed approvals, from files and from the ledger.

An approval counts for one plan id and the content under it. So a plan that is made again, and comes out otherwise because
the manifests, the records or the world moved, has no approvals: whoever agreed has not seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.model.approval import Approval
from reconciler.model.errors import RemoteProtocolError
from reconciler.model.plan import GuardResult, Plan
from reconciler.planner.approval import Panel, Tally, tally
from reconciler.planner.guard import lifted
from reconciler.planner.policy import document
from reconciler.planner.seat import seated
from reconciler.ports import Ledger
from reconciler.wire.approval import read_approval

# (where it was found, its bytes)
Letter = tuple[str, bytes]
# One entry a plan; a plan has few approvals, and each is small.
_NAME = "approvals/"
_NOTED = "approved/"


@dataclass(frozen=True, slots=True)
class Consent:
    """What the approvals of a plan come to, and the letters that were none."""

    tally: Tally
    refused: tuple[GuardResult, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def given(self) -> bool:
        """Whether the plan may be carried out: nothing refuses it any more, and somebody has signed, where somebody must."""
        return not self.refused and self.tally.enough


@dataclass(slots=True)
class Approvals:
    """Who may approve, and where their letters are. `inbox` lists the files that lie in the directory of the settings."""

    ledger: Ledger
    panel: Panel
    inbox: Callable[[], Sequence[Letter]] = lambda: ()
    _last: dict[str, Consent] = field(default_factory=dict, init=False)

    def consent(
        self,
        plan: Plan,
        letters: Iterable[Letter] = (),
        *,
        guards: Sequence[GuardResult] | None = None,
        passed: frozenset[str] = frozenset(),
    ) -> Consent:
        """Count what there is for this plan, in the letters given, in the inbox and in the ledger."""
        found = count(self.panel, plan, [*letters, *self.inbox(), *self.entered(plan.id)], guards=guards, passed=passed)
        self._last = {plan.id: found}
        return found

    def approved(self, plan_id: str) -> bool:
        """Whether the plan of that id, when it was last counted, had been signed by at least one and by as many as must."""
        found = self._last.get(plan_id)
        return found is not None and found.given and bool(found.tally.counted)

    def names(self, consent: Consent) -> list[str]:
        """Who has signed and counts."""
        return [consent.tally.names[one.key] for one in consent.tally.counted]

    def note(self, plan: Plan, consent: Consent, now: datetime) -> None:
        """Enter into the history that a plan was agreed to, by whom, and what that lets pass; once, even when it is resumed."""
        signed = [
            {"name": consent.tally.names[one.key], "key": one.key, "guards": list(one.guards), "reason": one.reason}
            for one in consent.tally.counted
        ]
        detail = {"plan": plan.id, "needed": consent.tally.needed, "passes": sorted(consent.tally.passes), "by": signed}
        with self.ledger.begin() as tx:
            if tx.get(_NOTED + plan.id) != detail:
                tx.put(_NOTED + plan.id, detail)
                tx.note(None, now, "plan.approved", detail)

    def entered(self, plan_id: str) -> Sequence[Letter]:
        """The letters that were handed in for a plan."""
        with self.ledger.begin() as tx:
            stored = tx.get(_NAME + plan_id) or []
        return [(f"ledger {number}", text.encode()) for number, text in enumerate(stored, 1)]

    def enter(self, letters: Iterable[Letter]) -> None:
        """Keep letters in the ledger, so that the daemon finds them and the books show who agreed to what."""
        for _, data in letters:
            one, text = read_approval(data), data.decode()
            with self.ledger.begin() as tx:
                known = tx.get(_NAME + one.plan) or []
                if text not in known:
                    tx.put(_NAME + one.plan, [*known, text])


def count(
    panel: Panel,
    plan: Plan,
    letters: Iterable[Letter],
    *,
    guards: Sequence[GuardResult] | None = None,
    passed: frozenset[str] = frozenset(),
) -> Consent:
    """What some letters come to. `guards` are the verdicts of today where they are others than the plan's own.

    `passed` are guards that were let pass at the terminal; those that only signatures let pass are not.
    """
    panel = seated(panel, plan) or panel
    verdicts = plan.guards if guards is None else tuple(guards)
    refusals = [guard for guard in verdicts if not guard.ok]
    needed, _ = panel.needed(document(replace(plan, guards=verdicts)), [guard.name for guard in refusals])
    approvals, unreadable = opened(letters)
    counted = tally(plan, panel, needed if plan.acting else 0, approvals)
    said = frozenset(guard for guard in passed if not panel.signed(guard)) | counted.passes
    return Consent(counted, tuple(g for g in refusals if g.name not in said or not lifted(g)), unreadable)


def opened(letters: Iterable[Letter]) -> tuple[list[Approval], tuple[tuple[str, str], ...]]:
    """The approvals among some letters, and what is wrong with the others."""
    approvals: list[Approval] = []
    unreadable: list[tuple[str, str]] = []
    for place, data in letters:
        try:
            approvals.append(read_approval(data))
        except RemoteProtocolError as error:
            unreadable.append((place, error.message))
    return approvals, tuple(unreadable)
