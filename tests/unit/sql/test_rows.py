"""The reader of records in bulk reads exactly what the codec writes."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters.sql import rows
from reconciler.model.codec import decode
from reconciler.model.record import Record
from reconciler.model.ref import Position, ResourceRef
from reconciler.model.status import Condition, Status, Truth

TEXT = st.text(max_size=12)
NAME = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
REF = st.builds(ResourceRef, st.sampled_from(("Dataset", "Identity")), NAME)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
GENESIS = datetime(2009, 1, 3, 18, 15, 5, tzinfo=UTC)
MOMENT = st.integers(0, 3 * 10**15).map(lambda micros: GENESIS + timedelta(microseconds=micros))
CONDITION = st.builds(Condition, TEXT, st.sampled_from(Truth), TEXT, TEXT, st.integers(0, 9), MOMENT)
STATUS = st.builds(Status, st.integers(0, 9), st.lists(CONDITION, max_size=3).map(tuple), st.integers(), st.integers(), OBJECT)
AT = st.none() | st.builds(Position, TEXT, st.integers(1, 9), st.integers(1, 9), TEXT)
RECORD = st.builds(
    Record, REF, TEXT, st.integers(0, 9), OBJECT, OBJECT, st.lists(REF, max_size=2).map(tuple), STATUS,
    st.booleans(), st.booleans(), TEXT, AT,
)  # fmt: skip


@given(record=RECORD)
@settings(max_examples=150, deadline=None)
def test_a_record_reads_back_as_itself_by_both_readers(record: Record) -> None:
    stored = rows.text(record)
    assert rows.record(stored) == record
    assert decode(Record, rows.value(stored)) == record


@given(records=st.lists(RECORD, max_size=3))
@settings(max_examples=30, deadline=None)
def test_many_records_read_as_each_alone(records: list[Record]) -> None:
    stored = [rows.text(record) for record in records] * 400
    assert list(rows.records(stored)) == records * 400
