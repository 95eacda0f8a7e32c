"""Tasks, their devices, the jobs that carry them, and what stays of them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, Table

from ..types import SafeText
from .columns import (
    count_column,
    json_column,
    key_column,
    metadata,
    task_key_column,
    text_column,
    time_column,
)

# A group IOC scan task. live_object is unique: at most one live task per object, whoever creates it.
tasks = Table(
    "tasks",
    metadata,
    key_column("task_id"),
    text_column("name", null=False),
    text_column("object_sha256"),
    Column("live_object", SafeText, unique=True),
    text_column("detection_id", null=False),
    text_column("policy_name"),
    text_column("profile", null=False),
    text_column("state", null=False),
    text_column("end_reason"),
    Column("run", Integer, nullable=False),
    time_column("created_at", null=False),
    time_column("first_start_at"),
    time_column("last_start_at"),
    time_column("ended_at"),
    text_column("plan_digest"),
    json_column("settings", null=False),
    Column("detections_count", Integer, nullable=False),
    json_column("coverage"),
    json_column("match_counts"),
    Index(None, "state", "created_at"),
    Index(None, "object_sha256"),
    Index(None, "created_at"),
)


# A detection that a task answers.
task_detections = Table(
    "task_detections",
    metadata,
    task_key_column(),
    key_column("detection_id"),
    time_column("added_at", null=False),
)


# An IOC file that a task carries (one per tier).
task_iocs = Table(
    "task_iocs",
    metadata,
    task_key_column(),
    key_column("tier"),
    text_column("digest", null=False),
)


# A group that a task aims at.
task_groups = Table(
    "task_groups",
    metadata,
    task_key_column(),
    key_column("manager"),
    key_column("group"),
    text_column("response_mode", null=False),
)


# An earlier run of a task, as its coverage was when the next one began.
task_runs = Table(
    "task_runs",
    metadata,
    task_key_column(),
    Column("run", Integer, primary_key=True, autoincrement=False),
    time_column("ended_at", null=False),
    json_column("coverage", null=False),
)


# A device that a task aims at, in the task's newest run.
task_devices = Table(
    "task_devices",
    metadata,
    task_key_column(),
    key_column("manager"),
    key_column("device_id"),
    text_column("group", null=False),
    Column("run", Integer, nullable=False),
    text_column("state", null=False),
    text_column("outcome"),
    json_column("tags"),
    text_column("job_id"),
    count_column("files_seen"),
    count_column("bytes_hashed"),
    count_column("matches"),
    Column("progress", Float),
    json_column("not_evaluated"),
    json_column("skipped"),
    text_column("error_code"),
    text_column("error_message"),
    time_column("updated_at", null=False),
    time_column("finished_at"),
    Column("reached", Boolean, nullable=False),
    Column("ever_seen", Boolean, nullable=False),
    # Everything the coverage counts, so that counting 10,000 devices reads no rows.
    Index("ix_task_devices_coverage", "task_id", "outcome", "state", "reached", "ever_seen", "matches"),
)


# A job handed to a device manager: scan, respond, restore, purge.
jobs = Table(
    "jobs",
    metadata,
    key_column("job_id"),
    text_column("task_id"),
    Column("run", Integer),
    text_column("kind", null=False),
    text_column("manager", null=False),
    time_column("created_at", null=False),
    time_column("not_before", null=False),
    time_column("not_after", null=False),
    json_column("cursor"),
    text_column("state", null=False),
    json_column("spec", null=False),
    text_column("response_id"),
    time_column("updated_at", null=False),
    Index(None, "state", "kind"),
    Index(None, "task_id"),
    Index(None, "response_id"),
)


# A job that is being taken back, with the devices that have not confirmed yet.
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("job_id", SafeText, ForeignKey("jobs.job_id"), primary_key=True),
    json_column("pending", null=False),
    Column("confirmed", Integer, nullable=False),
    time_column("requested_at", null=False),
    time_column("updated_at", null=False),
)


# What stays of a task after its rows are gone.
task_summaries = Table(
    "task_summaries",
    metadata,
    key_column("task_id"),
    text_column("name", null=False),
    text_column("object_sha256"),
    time_column("created_at", null=False),
    time_column("ended_at", null=False),
    text_column("state", null=False),
    text_column("end_reason"),
    text_column("actor"),
    json_column("coverage", null=False),
    count_column("matches"),
    json_column("actions", null=False),
    Index(None, "ended_at"),
)
