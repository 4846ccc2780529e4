"""When enough hosts have confirmed, one row each."""

import pytest

from reconciler.wire.acknowledgement import Heard, Verdict, judge

BOTH = ("tm_ship", "tm_slap")


def host(*topics: str, said: str = "yes") -> Heard:
    """A host that keeps these topics: it confirmed them, refused for good, or has not answered yet."""
    return Heard(frozenset(topics), confirmed=said == "yes", final=said == "no")


YES, NO, LATER = host(*BOTH), host(*BOTH, said="no"), host(*BOTH, said="later")
SHIP, SLAP = host("tm_ship"), host("tm_slap")


@pytest.mark.row("S-18")
@pytest.mark.parametrize(
    ("quorum", "declared", "found", "needed", "got", "code"),
    [
        # any
        (1, [YES], [], 1, 1, ""),
        (1, [NO, YES], [], 1, 1, ""),
        (1, [LATER], [YES], 1, 1, ""),
        (1, [], [YES], 1, 1, ""),
        (1, [LATER, NO], [], 1, 0, "ack-from-any"),
        (1, [NO], [NO], 1, 0, "all-hosts-rejected"),
        # all: of the declared, whatever strangers say
        (0, [YES, YES], [], 2, 2, ""),
        (0, [YES, YES], [NO, LATER], 2, 2, ""),
        (0, [YES, LATER], [YES], 2, 1, "ack-from-all"),
        (0, [NO, NO], [YES], 2, 0, "all-hosts-rejected"),
        (0, [], [YES, LATER], 2, 1, "ack-from-all"),
        # a number, or as many as there are
        (2, [YES, NO], [YES], 2, 2, ""),
        (2, [YES, NO], [LATER], 2, 1, "ack-from-quorum"),
        (3, [YES], [], 1, 1, ""),
        (3, [YES], [YES], 2, 2, ""),
        # a topic is judged by those who keep it
        (0, [SHIP, SLAP], [], 1, 1, ""),
        (1, [SHIP], [SLAP], 1, 1, ""),
        (0, [YES, host("tm_ship", said="later")], [], 2, 1, "ack-from-all"),
        (1, [SHIP], [], 1, 0, "no-hosts-interested"),
        (0, [SHIP], [SLAP], 1, 0, "no-hosts-interested"),
        (2, [], [], 2, 0, "no-hosts-interested"),
    ],
)
def test_each_topic_is_judged_by_the_hosts_that_keep_it(
    quorum: int, declared: list[Heard], found: list[Heard], needed: int, got: int, code: str
) -> None:
    verdict = judge(BOTH, quorum, declared, found)
    assert (verdict.needed, verdict.got, verdict.code) == (needed, got, code)


def test_the_topic_that_fared_worst_is_named() -> None:
    assert judge(BOTH, 1, [SHIP]).topic == "tm_slap"
    assert judge(BOTH, 0, [YES, host("tm_ship", said="later")]).topic == "tm_ship"
    assert judge((), 1, [YES]) == Verdict("", 0, 0)
