"""Matches, and all that is asked, done and undone about them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, Table, UniqueConstraint

from ..types import Unsigned64
from .columns import (
    count_column,
    json_column,
    key_column,
    metadata,
    task_key_column,
    text_column,
    time_column,
)

# An item on a device that satisfies an IOC file, found in one run. Delivered often, stored once.
matches = Table(
    "matches",
    metadata,
    key_column("match_id"),
    task_key_column(primary=False),
    Column("run", Integer, nullable=False),
    text_column("manager", null=False),
    text_column("device_id", null=False),
    text_column("group", null=False),
    text_column("item_key", null=False),
    text_column("ioc_digest", null=False),
    text_column("tier", null=False),
    text_column("document", null=False),
    text_column("path"),
    text_column("path_b64"),
    text_column("sha256"),
    count_column("size", null=True),
    Column("st_dev", Unsigned64),
    Column("st_ino", Unsigned64),
    json_column("item", null=False),
    json_column("proof", null=False),
    time_column("found_at", null=False),
    text_column("response_state", null=False),
    text_column("response_id"),
    text_column("response_code"),
    text_column("response_message"),
    text_column("quarantine_id"),
    time_column("claimed_at"),
    time_column("responded_at"),
    UniqueConstraint(
        "task_id", "run", "manager", "device_id", "item_key", "ioc_digest", name="uq_matches_item"
    ),
    Index(None, "task_id", "tier", "response_state"),
    Index(None, "response_state", "tier", "task_id"),
    Index(None, "task_id", "found_at"),
    Index(None, "found_at"),
    Index(None, "response_id"),
    Index(None, "sha256"),
)


# A question put to people: may these matches be responded to?
approvals = Table(
    "approvals",
    metadata,
    key_column("approval_id"),
    text_column("task_id", null=False),
    json_column("match_ids", null=False),
    text_column("state", null=False),
    time_column("requested_at", null=False),
    time_column("expires_at", null=False),
    time_column("decided_at"),
    text_column("decided_by"),
    text_column("chat_user"),
    text_column("ioc_digest"),
    text_column("reason"),
    Index(None, "task_id", "state"),
    Index(None, "state", "expires_at"),
)


# A round of response actions.
responses = Table(
    "responses",
    metadata,
    key_column("response_id"),
    text_column("task_id", null=False),
    Column("dry_run", Boolean, nullable=False),
    text_column("state", null=False),
    text_column("actor", null=False),
    time_column("requested_at", null=False),
    time_column("finished_at"),
    json_column("counts", null=False),
    Index(None, "task_id"),
    Index(None, "state"),
)


# A file that a response claimed, counted against the blast limits. Outlives the task's rows.
acted_files = Table(
    "acted_files",
    metadata,
    key_column("match_id"),
    text_column("response_id", null=False),
    text_column("task_id", null=False),
    text_column("source_name", null=False),
    text_column("object_sha256"),
    text_column("manager", null=False),
    text_column("device_id", null=False),
    time_column("claimed_at", null=False),
    Column("counts", Boolean, nullable=False),
    Index(None, "claimed_at"),
    Index(None, "task_id"),
    Index(None, "object_sha256"),
    Index(None, "source_name", "claimed_at"),
    Index(None, "manager", "device_id"),
)


# An object in quarantine on a device.
quarantine = Table(
    "quarantine",
    metadata,
    key_column("manager"),
    key_column("device_id"),
    key_column("quarantine_id"),
    text_column("task_id"),
    text_column("match_id"),
    text_column("sha256", null=False),
    count_column("size"),
    text_column("path", null=False),
    text_column("path_b64", null=False),
    time_column("quarantined_at", null=False),
    time_column("expires_at", null=False),
    text_column("state", null=False),
    time_column("restored_at"),
    text_column("restored_by"),
    Index(None, "state", "expires_at"),
    Index(None, "sha256"),
    Index(None, "quarantine_id"),
)


# A SHA-256 that no response may touch again (it was restored).
exemptions = Table(
    "exemptions",
    metadata,
    key_column("sha256"),
    time_column("created_at", null=False),
    text_column("created_by", null=False),
    text_column("reason", null=False),
)
