"""What every Ledger must keep. Another adapter joins by adding a line to STORES."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.adapters.clock import SystemClock, SystemEntropy
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.adapters.sql.plain import PlainLedger, open_store
from reconciler.model.effect import Lock
from reconciler.model.errors import Conflict, Invariant, Refused
from reconciler.model.intent import Intent, IntentState, Run, RunState
from reconciler.model.record import Record
from reconciler.model.ref import Outpoint, Position, ResourceRef
from reconciler.model.status import Condition, Status, Truth
from reconciler.ports import Coin, Ledger, Queue, StoredTx
from tests.contract import postgres

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BTC = ResourceRef("Dataset", "btc")
LOCK = Lock("wallet", "reconciler funding", "1", "self")
Open = Callable[[], tuple[Ledger, Queue]]


def plainly(path: Path) -> tuple[Ledger, Queue]:
    """A ledger in a file as commands open it once it is there."""
    open_ledger(path / "ledger.db")[0].close()
    ledger, queue = open_store(path / "ledger.db", SystemClock(), SystemEntropy())
    assert isinstance(ledger, PlainLedger)
    return ledger, queue


STORES = {
    "sqlite": lambda path: open_ledger(path / "ledger.db"),
    "plain": plainly,
    "postgresql": lambda path: open_ledger(postgres.server().url(path)),
}


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again, as another process would."""
    opened = []

    def again() -> tuple[Ledger, Queue]:
        opened.append(STORES[request.param](tmp_path))
        return opened[-1]

    yield again
    for ledger, _ in opened:
        ledger.close()


@pytest.fixture
def ledger(reopen: Open) -> Ledger:
    return reopen()[0]


def record(ref: ResourceRef = BTC, generation: int = 1) -> Record:
    ready = Condition("Ready", Truth.TRUE, "Published", "1 file", generation, NOW)
    return Record(
        ref, "uid-1", generation,
        body={"spec": {"title": "Kurse für später", "tags": ["a"]}, "files": [], "using": {}},
        outputs={"tokens": [{"outpoint": "ab" * 32 + ".0"}]},
        requires=(ResourceRef("Identity", "me"),),
        status=Status(generation, (ready,), fees=12, payments=5, facts={"confirmations": 3}),
        protected=True, revision="r1", at=Position("a.yaml", 3, 1, "/spec"),
    )  # fmt: skip


def coin(number: int, satoshis: int, state: str = "free", run: str = "", chain: str = "devnet") -> Coin:
    return Coin(Outpoint(f"{number:064x}", number), chain, satoshis, bytes([number]), LOCK, state, run)


def spending(txid: str, *coins: Coin, run: str = "", state: str = "signed") -> StoredTx:
    """A transaction whose bytes name the coins."""
    inputs = b"".join(bytes.fromhex(c.outpoint.txid)[::-1] + c.outpoint.vout.to_bytes(4, "little") for c in coins)
    return StoredTx(txid * 64, b"\x01" + inputs, "devnet", state, run=run)


def states(ledger: Ledger) -> dict[int, tuple[str, str]]:
    with ledger.begin() as tx:
        return {c.outpoint.vout: (c.state, c.run) for c in tx.coins()}


def put(ledger: Ledger, *coins: Coin) -> None:
    with ledger.begin() as tx:
        for item in coins:
            tx.put_coin(item)


# --- identity, records, snapshots ----------------------------------------------------------------


def test_a_ledger_keeps_its_lineage_and_no_two_share_one(reopen: Open, tmp_path: Path) -> None:
    first, again = reopen()[0].read(NOW).lineage, reopen()[0].read(NOW).lineage
    other, _ = open_ledger(tmp_path / "other.db")
    with other.begin() as tx:
        assert first == again != tx.lineage()
    other.close()


def test_a_record_comes_back_as_it_was_in_another_process_too(reopen: Open) -> None:
    ledger = reopen()[0]
    with ledger.begin() as tx:
        tx.put_record(record())
    other = reopen()[0]
    with other.begin() as tx:
        assert tx.record(BTC) == record()
        assert tx.record(ResourceRef("Dataset", "none")) is None
    assert other.read(NOW).records == {BTC: record()}


def test_an_error_inside_the_block_leaves_nothing_behind(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), ledger.begin() as tx:
        tx.put_record(record())
        tx.advance()
        tx.put_coin(coin(1, 10))
        tx.open_run(Run("r", "ref/Dataset/btc", {}, "1"))
        tx.note(BTC, NOW, "x", {})
        tx.put("cursor", 1)
        tx.book("r", None, NOW, 1, 0, 0)
        raise ZeroDivisionError
    state = ledger.read(NOW)
    assert (state.serial, state.records, state.purses, state.frozen, state.spent_today) == (0, {}, {}, frozenset(), 0)
    with ledger.begin() as tx:
        assert tx.run("r") is None
        assert (tx.history(), tx.get("cursor"), tx.coins()) == ([], None, [])


def test_the_serial_advances_once_a_commit(ledger: Ledger) -> None:
    for expected in (1, 2):
        with ledger.begin() as tx:
            assert tx.advance() == tx.advance() == expected
            assert tx.serial() == expected
    assert ledger.read(NOW).serial == 2


def test_a_reader_sees_what_other_processes_wrote_dropped_and_wrote_again(reopen: Open) -> None:
    ours, theirs = reopen()[0], reopen()[0]
    gone, kept = ResourceRef("Dataset", "a"), ResourceRef("Dataset", "b")
    with theirs.begin() as tx:
        tx.put_record(record(gone))
        tx.put_record(record(kept))
    assert list(ours.read(NOW).records) == [gone, kept]
    with theirs.begin() as tx:
        tx.drop_record(gone)
        tx.put_record(record(BTC))
    assert list(ours.read(NOW).records) == [kept, BTC]
    with theirs.begin() as tx:
        tx.drop_record(kept)
        tx.put_record(record(kept, generation=7))
    assert ours.read(NOW).records[kept].generation == 7


def test_a_warm_read_decodes_only_what_changed(ledger: Ledger) -> None:
    refs = [ResourceRef("Dataset", f"d{i}") for i in range(3)]
    with ledger.begin() as tx:
        for ref in refs:
            tx.put_record(record(ref))
    before = ledger.read(NOW)
    assert ledger.read(NOW).records is before.records
    with ledger.begin() as tx:
        tx.put_record(record(refs[1], generation=2))
    after = ledger.read(NOW)
    assert [after.records[ref] is before.records[ref] for ref in refs] == [True, False, True]
    assert before.records[refs[1]].generation == 1


def test_a_snapshot_counts_attempts_and_names_what_is_frozen_and_what_may_be_spent(ledger: Ledger) -> None:
    other = ResourceRef("Identity", "me")
    with ledger.begin() as tx:
        for run_id, key, state in (
            ("1", f"ref/{BTC}", RunState.DONE), ("2", f"ref/{BTC}", RunState.STALLED), ("3", f"ref/{BTC}", None),
            ("4", f"ref/{other}", RunState.DONE), ("5", "funding/devnet", None), ("6", "funding/devnet", None),
        ):  # fmt: skip
            tx.open_run(Run(run_id, key, {}, "1"))
            if state is not None:
                tx.close_run(run_id, state)
        for item in (coin(1, 10), coin(2, 99), coin(3, 5, "pending"), coin(4, 7, chain="test"), coin(5, 1, "reserved", "9")):
            tx.put_coin(item)
        tx.book("1", BTC, NOW, 5, 20, 1)
        tx.book("0", BTC, NOW - timedelta(days=1), 1000, 0, 0)
    state = ledger.read(NOW)
    assert state.attempts == {BTC: 2, other: 1}
    assert state.frozen == {BTC}
    assert {chain: purse.coins for chain, purse in state.purses.items()} == {"devnet": (99, 10), "test": (7,)}
    assert state.spent_today == 26
    with ledger.begin() as tx:
        tx.close_run("3", RunState.DONE)
    assert (ledger.read(NOW).attempts[BTC], ledger.read(NOW).frozen) == (3, frozenset())


# --- runs and intents ----------------------------------------------------------------------------


def test_a_run_is_opened_once_and_found_by_state_and_key(ledger: Ledger) -> None:
    first = Run("r1", f"ref/{BTC}", {"change": {"verb": "create"}}, "0.1", began=NOW)
    with ledger.begin() as tx:
        assert tx.open_run(first) == first
        assert tx.open_run(replace(first, subject={"other": True}, version="9")) == first
        tx.open_run(Run("r2", "funding/devnet", {}, "0.1", began=NOW))
        tx.close_run("r2", RunState.STALLED, "cannot go on")
        assert [run.id for run in tx.runs()] == ["r1", "r2"]
        assert [run.id for run in tx.runs(RunState.OPEN)] == ["r1"]
        assert [run.error for run in tx.runs(key="funding/devnet")] == ["cannot go on"]
        assert tx.runs(RunState.DONE, f"ref/{BTC}") == []


def test_a_run_is_not_done_while_the_fate_of_an_intent_is_unknown(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.open_run(Run("r", "k", {}, "1"))
        tx.open_intent(Intent("r", 0, "Sign", "f0", IntentState.OPEN))
        with pytest.raises(Invariant, match="fate of its intents"):
            tx.close_run("r", RunState.DONE)
        tx.settle("r", 0, IntentState.DONE, {"txid": "aa"})
        tx.close_run("r", RunState.DONE)
        tx.close_run("r", RunState.DONE)
        for state in (RunState.OPEN, RunState.STALLED):
            with pytest.raises(Invariant, match="cannot close run"):
                tx.close_run("r", state)
        with pytest.raises(Invariant, match="cannot find run"):
            tx.close_run("none", RunState.DONE)


def test_intents_are_the_journal_a_replay_meets(reopen: Open) -> None:
    ledger = reopen()[0]
    sign, send = (Intent("r", seq, name, f"f{seq}", IntentState.OPEN, fence=4) for seq, name in enumerate(("Sign", "Broadcast")))
    with ledger.begin() as tx:
        tx.open_run(Run("r", "k", {}, "1"))
        tx.open_intent(sign)
        tx.settle("r", 0, IntentState.DONE, {"txid": "aa", "outputs": ["aa.0"]})
        tx.open_intent(send)
    done = replace(sign, state=IntentState.DONE, result={"txid": "aa", "outputs": ["aa.0"]})
    with reopen()[0].begin() as tx:
        assert tx.intents("r") == [done, send]
        tx.open_intent(replace(send, fence=9))
        assert [intent.fence for intent in tx.intents("r")] == [4, 9]
        with pytest.raises(Invariant, match="the journal holds Broadcast"):
            tx.open_intent(replace(send, effect="Sign", fingerprint="other"))
        with pytest.raises(Invariant, match="the journal holds Sign, done"):
            tx.open_intent(sign)


def test_a_fate_is_never_rewritten(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.open_run(Run("r", "k", {}, "1"))
        tx.open_intent(Intent("r", 0, "Broadcast", "f", IntentState.OPEN))
        tx.settle("r", 0, IntentState.REFUSED, {"code": "no"})
        tx.settle("r", 0, IntentState.REFUSED, {"code": "no"})
        with pytest.raises(Invariant, match="settled as refused"):
            tx.settle("r", 0, IntentState.DONE, {"txid": "aa"})
        with pytest.raises(Invariant, match="never opened"):
            tx.settle("r", 1, IntentState.DONE, {})
        tx.close_run("r", RunState.STALLED)
        with pytest.raises(Invariant, match="the run is stalled"):
            tx.open_intent(Intent("r", 1, "Sign", "f", IntentState.OPEN))


def test_a_stale_fence_writes_nothing(reopen: Open) -> None:
    ledger, queue = reopen()
    first = queue.take("k", "a", NOW)
    assert first is not None
    with ledger.begin() as tx:
        tx.check_fence("k", first.fence)
    second = queue.take("k", "b", first.until)
    assert second is not None
    with pytest.raises(Conflict, match=f"fence {second.fence} does"), ledger.begin() as tx:
        tx.put_coin(coin(1, 5))
        tx.check_fence("k", first.fence)
    assert states(ledger) == {}
    with ledger.begin() as tx:
        tx.check_fence("k", second.fence)
    queue.put("k", NOW)
    queue.done(second)
    with pytest.raises(Conflict, match="nobody holds it"), ledger.begin() as tx:
        tx.check_fence("k", second.fence)


# --- coins ---------------------------------------------------------------------------------------


def test_each_need_gets_the_smallest_coin_that_suffices_the_largest_need_first(ledger: Ledger) -> None:
    put(ledger, coin(1, 100), coin(2, 1000), coin(3, 5000), coin(4, 900, chain="test"), coin(5, 800, "pending"))
    with ledger.begin() as tx:
        got = tx.reserve("devnet", [90, 600], "r")
    assert [(c.satoshis, c.state, c.run) for c in got] == [(100, "reserved", "r"), (1000, "reserved", "r")]
    assert states(ledger)[3] == ("free", "")


def test_reserving_again_returns_the_same_coins(ledger: Ledger) -> None:
    put(ledger, coin(1, 100), coin(2, 1000), coin(3, 5000))
    with ledger.begin() as tx:
        first = tx.reserve("devnet", [600, 90], "r")
    with ledger.begin() as tx:
        assert tx.reserve("devnet", [600, 90], "r") == first
        assert [c.satoshis for c in tx.reserve("devnet", [600], "other")] == [5000]


def test_too_little_money_is_refused_with_the_sums_and_marks_nothing(ledger: Ledger) -> None:
    put(ledger, coin(1, 100), coin(2, 1000))
    with ledger.begin() as tx, pytest.raises(Refused) as refusal:
        tx.reserve("devnet", [50, 2000], "r")
    assert refusal.value.code == "insufficient-funds"
    assert "2000" in refusal.value.message and "1100 satoshis are free in 2 coins" in refusal.value.message
    assert "950" not in refusal.value.message and refusal.value.hint and "2000 satoshis" in refusal.value.hint
    assert {state for state, _ in states(ledger).values()} == {"free"}


def test_no_coin_is_spent_twice(ledger: Ledger) -> None:
    put(ledger, coin(1, 100), coin(2, 100))
    with ledger.begin() as tx:
        (mine,) = tx.reserve("devnet", [50], "r")
        tx.spend([mine.outpoint], "r")
        tx.spend([mine.outpoint], "r")
        (other,) = (c for c in tx.coins() if c.outpoint != mine.outpoint)
        for outpoint, run in ((mine.outpoint, "s"), (other.outpoint, "r"), (Outpoint("f" * 64, 0), "r")):
            with pytest.raises(Invariant):
                tx.spend([outpoint], run)
        for state in ("free", "pending", "reserved"):
            with pytest.raises(Invariant, match="it is spent by r"):
                tx.put_coin(replace(mine, state=state))
        assert [c.outpoint for c in tx.reserve("devnet", [50], "s")] == [other.outpoint]


def test_an_output_never_changes_and_a_reserved_coin_is_not_freed_by_writing_it(ledger: Ledger) -> None:
    put(ledger, coin(1, 100), coin(2, 7, "pending"))
    with ledger.begin() as tx:
        for changed in (
            replace(coin(1, 100), satoshis=101),
            replace(coin(1, 100), script=b"x"),
            replace(coin(1, 100), chain="main"),
        ):
            with pytest.raises(Invariant, match="never changes"):
                tx.put_coin(changed)
        tx.put_coin(coin(2, 7))
        tx.reserve("devnet", [50], "r")
        with pytest.raises(Invariant, match="it is reserved by r"):
            tx.put_coin(coin(1, 100))
    assert states(ledger) == {1: ("reserved", "r"), 2: ("free", "")}


def test_a_coin_inside_signed_bytes_is_not_offered_to_its_run_again(ledger: Ledger) -> None:
    put(ledger, coin(1, 100), coin(2, 200))
    with ledger.begin() as tx:
        (first,) = tx.reserve("devnet", [50], "r")
        tx.put_transaction(spending("a", first, run="r"))
        assert [c.satoshis for c in tx.reserve("devnet", [50], "r")] == [200]
        tx.put_transaction(spending("a", first, run="r", state="rejected"))
        assert [c.satoshis for c in tx.reserve("devnet", [50], "r")] == [100]


def test_coins_are_released_only_while_nothing_that_spends_them_was_sent(ledger: Ledger) -> None:
    put(ledger, coin(1, 100), coin(2, 200))
    with ledger.begin() as tx:
        (never,), (sent,) = tx.reserve("devnet", [50], "r"), tx.reserve("devnet", [150], "s")
        tx.put_transaction(spending("a", never, run="r"))
        tx.put_transaction(spending("b", sent, run="s", state="sent"))
        tx.free("r")
        with pytest.raises(Invariant, match="it was sent"):
            tx.free("s")
    assert states(ledger) == {1: ("free", ""), 2: ("reserved", "s")}


def test_a_refused_transaction_gives_back_its_coins_and_takes_back_its_change(ledger: Ledger) -> None:
    put(ledger, coin(1, 100), coin(2, 200))
    with ledger.begin() as tx:
        good, bad = tx.reserve("devnet", [50, 150], "r")
        tx.put_transaction(spending("a", good, run="r", state="seen"))
        tx.put_transaction(spending("b", bad, run="r"))
        tx.spend([good.outpoint, bad.outpoint], "r")
        for txid in "ab":
            tx.put_coin(Coin(Outpoint(txid * 64, 9), "devnet", 40, b"", LOCK, "pending", "r"))
        tx.put_transaction(spending("b", bad, run="r", state="rejected"))
        tx.unspend("r")
        assert [(c.satoshis, c.state) for c in tx.coins(run="r")] == [(200, "reserved"), (100, "spent"), (40, "pending")]
        assert [c.outpoint.txid for c in tx.coins(state="pending")] == ["a" * 64]


def test_a_run_hands_its_coins_on_only_when_it_has_ended(ledger: Ledger) -> None:
    put(ledger, coin(1, 100))
    with ledger.begin() as tx:
        tx.open_run(Run("r", "k", {}, "1"))
        (held,) = tx.reserve("devnet", [50], "r")
        with pytest.raises(Invariant, match="reserved by r"):
            tx.put_coin(replace(held, run="s"))
        tx.close_run("r", RunState.STALLED)
        tx.put_coin(replace(held, run="s"))
        assert [c.outpoint for c in tx.reserve("devnet", [50], "s")] == [held.outpoint]


def test_two_processes_never_reserve_the_same_coin(reopen: Open) -> None:
    ledgers = [reopen()[0], reopen()[0]]
    put(ledgers[0], *(coin(number, 100) for number in range(1, 21)))
    start, got = threading.Barrier(2), {0: [], 1: []}

    def worker(which: int) -> None:
        start.wait()
        for number in range(10):
            with ledgers[which].begin() as tx:
                got[which] += [c.outpoint for c in tx.reserve("devnet", [60], f"{which}-{number}")]

    threads = [threading.Thread(target=worker, args=(which,)) for which in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got[0]) == len(got[1]) == 10
    assert len({*got[0], *got[1]}) == 20


# --- transactions, books, history, cursors -------------------------------------------------------


def test_a_transaction_keeps_its_bytes_and_what_left_is_never_merely_signed_again(ledger: Ledger) -> None:
    mined = StoredTx("a" * 64, b"raw", "devnet", "mined", b"proof", 7, "hash", "r")
    with ledger.begin() as tx:
        tx.put_transaction(StoredTx("a" * 64, b"raw", "devnet", run="r"))
        tx.put_transaction(StoredTx("b" * 64, b"other", "devnet"))
        tx.put_transaction(mined)
        tx.put_transaction(StoredTx("a" * 64, b"raw", "devnet", run="r"))
        assert tx.transaction("a" * 64) == mined
        reorganised = replace(mined, state="seen", proof=b"", height=0, block="")
        tx.put_transaction(reorganised)
        assert tx.transactions("seen") == [reorganised]
        assert [stored.txid[0] for stored in tx.transactions()] == ["a", "b"]
        assert tx.transaction("c" * 64) is None
        with pytest.raises(Invariant, match="never change"):
            tx.put_transaction(replace(mined, raw=b"changed"))


def test_a_run_is_booked_once(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        tx.book("r", BTC, NOW, 10, 200, -1)
        tx.book("r", BTC, NOW + timedelta(hours=1), 10, 200, -1)
        tx.book("s", None, NOW + timedelta(hours=1), 1, 0, 0)
        assert tx.spent_since(NOW) == 210
        assert tx.spent_since(NOW + timedelta(microseconds=1)) == 1
        tx.book("r", BTC, NOW, 12, 200, -1)
        assert tx.spent_since(NOW) == 212


def test_what_an_open_run_set_aside_counts_until_it_ends(ledger: Ledger) -> None:
    ada = ResourceRef("Identity", "ada")
    with ledger.begin() as tx:
        tx.open_run(Run("a", f"ref/{BTC}", {}, "0", began=NOW, reserved=100))
        tx.open_run(Run("b", f"ref/{ada}", {}, "0", began=NOW, reserved=40))
        tx.open_run(Run("c", "funding/main", {}, "0", began=NOW, reserved=5))
        tx.open_run(Run("d", f"ref/{BTC}", {}, "0", began=NOW))
        assert (tx.reserved(), tx.reserved("Dataset"), tx.reserved("Identity"), tx.reserved("Data")) == (145, 100, 40, 0)
        # What it books comes out of what it set aside; more than that owes nobody anything.
        tx.book("a", BTC, NOW, 10, 20, 0)
        tx.book("b", ada, NOW, 50, 0, 0)
        tx.book("c", None, NOW - timedelta(days=1), 1, 0, 0)
        assert (tx.reserved(), tx.booked("a"), tx.booked("none")) == (70 + 4, 30, 0)
        assert [(one.run, one.ref, one.satoshis) for one in tx.bookings(NOW)] == [("a", BTC, 30), ("b", ada, 50)]
        assert (tx.spent_since(NOW, "Dataset"), tx.spent_since(NOW, "Identity"), tx.spent_since(NOW)) == (30, 50, 80)
    recorded = ledger.read(NOW)
    assert (recorded.spent_today, recorded.spent_kinds, recorded.reserved) == (80, {"Dataset": 30, "Identity": 50}, {BTC: 70})
    with ledger.begin() as tx:
        tx.close_run("a", RunState.STALLED, "enough")
        assert tx.reserved() == 4


def test_history_is_told_newest_first(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        for number in range(3):
            tx.note(BTC if number else None, NOW, "change.applied", {"number": number})
        assert [entry["detail"]["number"] for entry in tx.history()] == [2, 1, 0]
        (entry,) = tx.history(BTC, limit=1)
        assert {key: entry[key] for key in ("ref", "at", "event")} == {
            "ref": "Dataset/btc", "at": "2026-01-02T03:04:05Z", "event": "change.applied",
        }  # fmt: skip
        assert tx.history(ResourceRef("Dataset", "none")) == []


def test_a_cursor_holds_any_json(ledger: Ledger) -> None:
    with ledger.begin() as tx:
        assert tx.get("head") is None
        tx.put("head", {"at": [1, "zwei", None, True]})
        tx.put("other", 2)
        tx.put("other", 3)
    with ledger.begin() as tx:
        assert (tx.get("head"), tx.get("other")) == ({"at": [1, "zwei", None, True]}, 3)


# --- a crash -------------------------------------------------------------------------------------

CHILD = """
import json, sys
from tests_ledger import NOW, coin, record, spending
from reconciler.adapters.sql.ledger import open_ledger
from reconciler.model.intent import Intent, IntentState, Run
ledger, queue = open_ledger(sys.argv[1])
stop = int(sys.argv[2])
def here(number):
    if number == stop:
        print("here", flush=True)
        sys.stdin.read()
with ledger.begin() as tx:
    tx.open_run(Run("r", "ref/Dataset/btc", {}, "1"))
    here(0)
    tx.open_intent(Intent("r", 0, "Sign", "f", IntentState.OPEN))
    (held,) = tx.reserve("devnet", [50], "r")
    here(1)
    tx.put_transaction(spending("a", held, run="r"))
    tx.spend([held.outpoint], "r")
    here(2)
    tx.put_record(record())
    tx.advance()
    here(3)
here(4)
"""


@pytest.mark.parametrize("point", range(5))
def test_a_process_killed_between_statements_leaves_all_of_a_commit_or_none(point: int, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger, _ = open_ledger(path)
    put(ledger, coin(1, 100))
    (tmp_path / "tests_ledger.py").write_text(Path(__file__).read_text())
    command = [sys.executable, "-c", CHILD, str(path), str(point)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
    )
    assert child.stdout is not None and child.stdin is not None
    assert child.stdout.readline() == b"here\n"
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdin.close()
    child.stdout.close()
    committed = point == 4
    state = ledger.read(NOW)
    assert (state.serial, set(state.records), set(state.frozen)) == ((1, {BTC}, {BTC}) if committed else (0, set(), set()))
    assert states(ledger) == {1: ("spent", "r") if committed else ("free", "")}
    with ledger.begin() as tx:
        assert len(tx.intents("r")) == len(tx.transactions()) == int(committed)
        tx.put("still", "writable")
    ledger.close()


def test_what_is_stored_is_json_that_other_tools_read(ledger: Ledger, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    import sqlite3

    with ledger.begin() as tx:
        tx.put_record(record())
    question = "SELECT document FROM records WHERE ref = 'Dataset/btc'"
    if "postgresql" in request.node.name:
        document = postgres.server().ask(tmp_path, question)
    else:
        with sqlite3.connect(tmp_path / "ledger.db") as other:
            (document,) = other.execute(question).fetchone()
        other.close()
    assert json.loads(document)["body"]["spec"]["title"] == "Kurse für später"
