"""The numbers of a task's matches, kept beside the task.

Revision ID: 0002
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("match_counts", sa.Text(), nullable=True))
    connection = op.get_bind()
    counted: dict[str, dict[str, dict[str, int]]] = {}
    kinds = sa.text(
        "SELECT task_id, tier, response_state, count(*) AS number FROM matches"
        " GROUP BY task_id, tier, response_state"
    )
    for row in connection.execute(kinds):
        counted.setdefault(row.task_id, {}).setdefault(row.tier, {})[row.response_state] = row.number
    rows = [
        {"task_id": task_id, "counts": json.dumps(counts, sort_keys=True, separators=(",", ":"))}
        for task_id, counts in counted.items()
    ]
    if rows:
        statement = sa.text("UPDATE tasks SET match_counts = :counts WHERE task_id = :task_id")
        connection.execute(statement, rows)
