"""The first tables.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _tables()
    if op.get_bind().dialect.name == "postgresql":
        _append_only_postgresql()
    else:
        _append_only_sqlite()


def _tables() -> None:
    op.create_table(
        "acted_files",
        sa.Column("match_id", sa.Text(), nullable=False),
        sa.Column("response_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("source_name", sa.Text(), nullable=False),
        sa.Column("object_sha256", sa.Text(), nullable=True),
        sa.Column("manager", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("claimed_at", TIME, nullable=False),
        sa.Column("counts", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("match_id", name="pk_acted_files"),
    )
    op.create_index("ix_acted_files_claimed_at", "acted_files", ["claimed_at"])
    op.create_index("ix_acted_files_manager_device_id", "acted_files", ["manager", "device_id"])
    op.create_index("ix_acted_files_object_sha256", "acted_files", ["object_sha256"])
    op.create_index("ix_acted_files_source_name_claimed_at", "acted_files", ["source_name", "claimed_at"])
    op.create_index("ix_acted_files_task_id", "acted_files", ["task_id"])
    op.create_table(
        "approvals",
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("match_ids", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("decided_at", TIME, nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("chat_user", sa.Text(), nullable=True),
        sa.Column("ioc_digest", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("approval_id", name="pk_approvals"),
    )
    op.create_index("ix_approvals_state_expires_at", "approvals", ["state", "expires_at"])
    op.create_index("ix_approvals_task_id_state", "approvals", ["task_id", "state"])
    op.create_table(
        "detection_revisions",
        sa.Column("detection_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_digest", sa.Text(), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("detection_id", "revision", name="pk_detection_revisions"),
    )
    op.create_table(
        "detections",
        sa.Column("detection_id", sa.Text(), nullable=False),
        sa.Column("source_name", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("object_sha256", sa.Text(), nullable=True),
        sa.Column("verdict_result", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("families", sa.Text(), nullable=False),
        sa.Column("detected_at", TIME, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("content_digest", sa.Text(), nullable=False),
        sa.Column("degraded", sa.Boolean(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("policy_name", sa.Text(), nullable=True),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("detection_id", name="pk_detections"),
    )
    op.create_index("ix_detections_decision_received_at", "detections", ["decision", "received_at"])
    op.create_index("ix_detections_object_sha256", "detections", ["object_sha256"])
    op.create_index("ix_detections_received_at", "detections", ["received_at"])
    op.create_table(
        "event_anchors",
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_event_anchors"),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("detection_id", sa.Text(), nullable=True),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("manager", sa.Text(), nullable=True),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_events"),
    )
    op.create_index("ix_events_at", "events", ["at"])
    op.create_index("ix_events_detection_id_event_id", "events", ["detection_id", "event_id"])
    op.create_index("ix_events_task_id_event_id", "events", ["task_id", "event_id"])
    op.create_index("ix_events_type_event_id", "events", ["type", "event_id"])
    op.create_table(
        "exemptions",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_exemptions"),
    )
    op.create_table(
        "fetches",
        sa.Column("detection_id", sa.Text(), nullable=False),
        sa.Column("source_name", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("next_try_at", TIME, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("detection_id", name="pk_fetches"),
    )
    op.create_index("ix_fetches_state_next_try_at", "fetches", ["state", "next_try_at"])
    op.create_table(
        "flags",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_flags"),
    )
    op.create_table(
        "ioc_files",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("ioc_id", sa.Text(), nullable=False),
        sa.Column("detection_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_ioc_files"),
    )
    op.create_index("ix_ioc_files_detection_id", "ioc_files", ["detection_id"])
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("run", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("manager", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("not_after", TIME, nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("response_id", sa.Text(), nullable=True),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_response_id", "jobs", ["response_id"])
    op.create_index("ix_jobs_state_kind", "jobs", ["state", "kind"])
    op.create_index("ix_jobs_task_id", "jobs", ["task_id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "outbox",
        sa.Column("outbox_id", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("trace_tag", sa.Text(), nullable=True),
        sa.Column("dedupe_key", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("injected_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("outbox_id", name="pk_outbox"),
        sa.UniqueConstraint("dedupe_key", name="uq_outbox_dedupe_key"),
    )
    op.create_index("ix_outbox_injected_at_outbox_id", "outbox", ["injected_at", "outbox_id"])
    op.create_table(
        "plans",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_plans"),
    )
    op.create_table(
        "quarantine",
        sa.Column("manager", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("quarantine_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("match_id", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("path_b64", sa.Text(), nullable=False),
        sa.Column("quarantined_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("restored_at", TIME, nullable=True),
        sa.Column("restored_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("manager", "device_id", "quarantine_id", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_quarantine_id", "quarantine", ["quarantine_id"])
    op.create_index("ix_quarantine_sha256", "quarantine", ["sha256"])
    op.create_index("ix_quarantine_state_expires_at", "quarantine", ["state", "expires_at"])
    op.create_table(
        "responses",
        sa.Column("response_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("response_id", name="pk_responses"),
    )
    op.create_index("ix_responses_state", "responses", ["state"])
    op.create_index("ix_responses_task_id", "responses", ["task_id"])
    op.create_table(
        "task_summaries",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("object_sha256", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("coverage", sa.Text(), nullable=False),
        sa.Column("matches", sa.BigInteger(), nullable=False),
        sa.Column("actions", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_task_summaries"),
    )
    op.create_index("ix_task_summaries_ended_at", "task_summaries", ["ended_at"])
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("object_sha256", sa.Text(), nullable=True),
        sa.Column("live_object", sa.Text(), nullable=True),
        sa.Column("detection_id", sa.Text(), nullable=False),
        sa.Column("policy_name", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("first_start_at", TIME, nullable=True),
        sa.Column("last_start_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("plan_digest", sa.Text(), nullable=True),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("detections_count", sa.Integer(), nullable=False),
        sa.Column("coverage", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", name="pk_tasks"),
        sa.UniqueConstraint("live_object", name="uq_tasks_live_object"),
    )
    op.create_index("ix_tasks_created_at", "tasks", ["created_at"])
    op.create_index("ix_tasks_object_sha256", "tasks", ["object_sha256"])
    op.create_index("ix_tasks_state_created_at", "tasks", ["state", "created_at"])
    op.create_table(
        "matches",
        sa.Column("match_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("manager", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("item_key", sa.Text(), nullable=False),
        sa.Column("ioc_digest", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("path_b64", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("st_dev", sa.BigInteger(), nullable=True),
        sa.Column("st_ino", sa.BigInteger(), nullable=True),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("found_at", TIME, nullable=False),
        sa.Column("response_state", sa.Text(), nullable=False),
        sa.Column("response_id", sa.Text(), nullable=True),
        sa.Column("response_code", sa.Text(), nullable=True),
        sa.Column("response_message", sa.Text(), nullable=True),
        sa.Column("quarantine_id", sa.Text(), nullable=True),
        sa.Column("claimed_at", TIME, nullable=True),
        sa.Column("responded_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("match_id", name="pk_matches"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_matches_task_id_tasks"),
        sa.UniqueConstraint(
            "task_id", "run", "manager", "device_id", "item_key", "ioc_digest", name="uq_matches_item"
        ),
    )
    op.create_index("ix_matches_found_at", "matches", ["found_at"])
    op.create_index("ix_matches_response_id", "matches", ["response_id"])
    op.create_index(
        "ix_matches_response_state_tier_task_id", "matches", ["response_state", "tier", "task_id"]
    )
    op.create_index("ix_matches_sha256", "matches", ["sha256"])
    op.create_index("ix_matches_task_id_found_at", "matches", ["task_id", "found_at"])
    op.create_index(
        "ix_matches_task_id_tier_response_state", "matches", ["task_id", "tier", "response_state"]
    )
    op.create_table(
        "task_detections",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("detection_id", sa.Text(), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "detection_id", name="pk_task_detections"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_task_detections_task_id_tasks"),
    )
    op.create_table(
        "task_devices",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("manager", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("files_seen", sa.BigInteger(), nullable=False),
        sa.Column("bytes_hashed", sa.BigInteger(), nullable=False),
        sa.Column("matches", sa.BigInteger(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("not_evaluated", sa.Text(), nullable=True),
        sa.Column("skipped", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("reached", sa.Boolean(), nullable=False),
        sa.Column("ever_seen", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "manager", "device_id", name="pk_task_devices"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_task_devices_task_id_tasks"),
    )
    op.create_index(
        "ix_task_devices_coverage",
        "task_devices",
        ["task_id", "outcome", "state", "reached", "ever_seen", "matches"],
    )
    op.create_table(
        "task_groups",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("manager", sa.Text(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("response_mode", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "manager", "group", name="pk_task_groups"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_task_groups_task_id_tasks"),
    )
    op.create_table(
        "task_iocs",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "tier", name="pk_task_iocs"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_task_iocs_task_id_tasks"),
    )
    op.create_table(
        "task_runs",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("coverage", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "run", name="pk_task_runs"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.task_id"], name="fk_task_runs_task_id_tasks"),
    )
    op.create_table(
        "withdrawals",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("pending", sa.Text(), nullable=False),
        sa.Column("confirmed", sa.Integer(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_withdrawals"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_withdrawals_job_id_jobs"),
    )


# Events are never changed, and removed only up to an anchor, which keeps the chain of digests whole.
def _append_only_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
    for table in ("events", "event_anchors"):
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
    op.execute(f"CREATE TRIGGER event_anchors_no_delete BEFORE DELETE ON event_anchors {refuse}")
    op.execute(
        "CREATE TRIGGER events_no_delete BEFORE DELETE ON events "  # noqa: S608 - constants
        f"WHEN OLD.event_id > coalesce((SELECT max(event_id) FROM event_anchors), 0) {refuse}"
    )


def _append_only_postgresql() -> None:
    op.execute(
        """
        CREATE FUNCTION ioc_scan_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'events' THEN
                IF OLD.event_id <= coalesce((SELECT max(event_id) FROM event_anchors), 0) THEN
                    RETURN OLD;
                END IF;
            END IF;
            RAISE EXCEPTION 'events are append-only';
        END $$
        """
    )
    for table in ("events", "event_anchors"):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION ioc_scan_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ioc_scan_append_only()"
        )
