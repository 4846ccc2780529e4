"""How far an identity can be relied on: 0 to 100 points, from facts that can be looked up, by a formula anybody can redo.

    points = age + sales + uptime - revoked, at least 0

    age      30 * min(days, 365) // 365       days since the block of its first advertisement
    sales    30 * kept // max(sold, 10)       sales that were neither refunded nor refused by the network, of all
    uptime   40 * sound // max(asked, 100)    looks at its copies on storage hosts that found them whole, of all
    revoked  25 for each key that was declared compromised

Whole numbers throughout; `//` rounds down. What nobody can look up gives no points, and the least numbers of sales and looks
are there so that one good day is not a record. Nobody's opinion enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.model.canonical import Json

FORMULA = "reconciler-reputation/1"
_DAY = 86_400

# One fact: {"fact": "advertised", "outpoint", "height", "at"}, {"fact": "sale", "outpoint", "satoshis", "outcome"},
# {"fact": "looks", "subject", "host", "sound", "asked"} or {"fact": "revoked", "key"}. Times are unix seconds.
Evidence = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Reputation:
    """Points by part; `at` is the moment that ages are counted to, in unix seconds."""

    at: int
    age: int
    sales: int
    uptime: int
    revoked: int

    @property
    def points(self) -> int:
        """The sum, which no revocation makes less than nothing."""
        return max(0, self.age + self.sales + self.uptime - self.revoked)


def reputation(evidence: Sequence[Evidence], at: int) -> Reputation:
    """What the facts come to at a moment."""
    facts: dict[str, list[Evidence]] = {}
    for row in evidence:
        facts.setdefault(row["fact"], []).append(row)
    since = min((row["at"] for row in facts.get("advertised", ())), default=at)
    sold = facts.get("sale", [])
    kept = sum(row["outcome"] == "kept" for row in sold)
    sound, asked = (sum(row[name] for row in facts.get("looks", ())) for name in ("sound", "asked"))
    return Reputation(
        at=at,
        age=30 * min(max(0, at - since) // _DAY, 365) // 365,
        sales=30 * kept // max(len(sold), 10),
        uptime=40 * sound // max(asked, 100),
        revoked=25 * len(facts.get("revoked", ())),
    )
