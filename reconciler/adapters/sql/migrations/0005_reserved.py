"""Satoshis that a run has set aside, beside the run: until it ends they count against the budgets, moved or not."""

import json

from sqlalchemy import Connection, text


def up(connection: Connection) -> None:
    """A column that begins at nothing; runs that are open now set aside what their plan allowed them."""
    connection.execute(text("ALTER TABLE runs ADD COLUMN reserved BIGINT NOT NULL DEFAULT 0"))
    found = connection.execute(text("SELECT id, subject FROM runs WHERE state = 'open'")).all()
    for run, stored in found:
        subject = json.loads(stored)
        cost = (subject.get("change") or subject.get("funding") or {}).get("cost") or {}
        satoshis = sum(int(cost.get(part, 0)) for part in ("fees", "payments", "locked"))
        if satoshis > 0:
            connection.execute(text("UPDATE runs SET reserved = :n WHERE id = :run"), {"n": satoshis, "run": run})
