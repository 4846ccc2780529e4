"""An idle worker sleeps, whatever others left in the queue."""

from datetime import timedelta
from pathlib import Path

from reconciler.adapters.sql.ledger import open_ledger
from reconciler.devnet.clock import VirtualClock


def test_the_expired_lease_of_a_dead_process_on_a_resource_is_not_due_to_a_worker_that_cannot_claim_it(tmp_path: Path) -> None:
    clock = VirtualClock()
    ledger, queue = open_ledger(tmp_path / "ledger.db", clock)
    try:
        assert queue.take("ref/Dataset/rates", "dead", clock.now()) is not None
        clock.advance(3600)
        queue.put("plan", clock.now() + timedelta(seconds=30))
        assert queue.claim("worker", clock.now(), ("look/", "run/", "confirm", "plan")) is None
        due = queue.next_due(("look/", "run/", "confirm", "plan"))
        assert due == clock.now() + timedelta(seconds=30)
        assert queue.next_due() < clock.now()
    finally:
        ledger.close()
