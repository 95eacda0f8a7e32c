"""The record of events, and what keeps the machinery honest."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table

from ..types import SafeText
from .columns import json_column, key_column, metadata, text_column, time_column

# A decision or action; append-only, each row bound to the one before by its digest.
events = Table(
    "events",
    metadata,
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    time_column("at", null=False),
    text_column("type", null=False),
    text_column("detection_id"),
    text_column("task_id"),
    text_column("manager"),
    text_column("device_id"),
    text_column("actor"),
    json_column("data", null=False),
    text_column("digest", null=False),
    Index(None, "task_id", "event_id"),
    Index(None, "detection_id", "event_id"),
    Index(None, "type", "event_id"),
    Index(None, "at"),
)


# Where the chain of events begins after its oldest part was exported and trimmed.
event_anchors = Table(
    "event_anchors",
    metadata,
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    text_column("digest", null=False),
    time_column("at", null=False),
    text_column("actor", null=False),
)


# A trigger to be injected into StackStorm, at least once.
outbox = Table(
    "outbox",
    metadata,
    Column("outbox_id", Integer, primary_key=True),
    text_column("trigger", null=False),
    json_column("payload", null=False),
    text_column("trace_tag"),
    Column("dedupe_key", SafeText, nullable=False, unique=True),
    time_column("created_at", null=False),
    time_column("injected_at"),
    Index(None, "injected_at", "outbox_id"),
)


# A promise that only its holder does a named piece of work until it expires.
leases = Table(
    "leases",
    metadata,
    key_column("name"),
    text_column("holder", null=False),
    time_column("expires_at", null=False),
)


# A small named value of the whole installation: kill switch, source cursors.
flags = Table(
    "flags",
    metadata,
    key_column("name"),
    json_column("value"),
    time_column("updated_at", null=False),
    text_column("updated_by"),
)
