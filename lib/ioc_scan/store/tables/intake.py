"""Detections, the fetching of their reports, and what is generated from them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Index, Integer, LargeBinary, Table

from .columns import count_column, json_column, key_column, metadata, text_column, time_column

# A sandbox verdict on one object, in its newest revision.
detections = Table(
    "detections",
    metadata,
    key_column("detection_id"),
    text_column("source_name", null=False),
    text_column("product", null=False),
    text_column("instance", null=False),
    text_column("report_id", null=False),
    text_column("object_sha256"),
    text_column("verdict_result", null=False),
    Column("score", Float),
    json_column("families", null=False),
    time_column("detected_at", null=False),
    time_column("received_at", null=False),
    Column("revision", Integer, nullable=False),
    text_column("content_digest", null=False),
    Column("degraded", Boolean, nullable=False),
    json_column("document", null=False),
    text_column("decision"),
    text_column("policy_name"),
    text_column("task_id"),
    text_column("reason"),
    Index(None, "received_at"),
    Index(None, "decision", "received_at"),
    Index(None, "object_sha256"),
)


# A revision of a detection that a newer one has replaced.
detection_revisions = Table(
    "detection_revisions",
    metadata,
    key_column("detection_id"),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    text_column("content_digest", null=False),
    time_column("received_at", null=False),
    json_column("document", null=False),
)


# A report that was announced or listed, and how far its fetching came.
fetches = Table(
    "fetches",
    metadata,
    key_column("detection_id"),
    text_column("source_name", null=False),
    text_column("report_id", null=False),
    Column("attempts", Integer, nullable=False),
    text_column("code"),
    text_column("message"),
    time_column("next_try_at"),
    text_column("state", null=False),
    time_column("updated_at", null=False),
    Index(None, "state", "next_try_at"),
)


# A generated OpenIOC file, immutable.
ioc_files = Table(
    "ioc_files",
    metadata,
    key_column("digest"),
    text_column("ioc_id", null=False),
    text_column("detection_id", null=False),
    text_column("tier", null=False),
    text_column("version", null=False),
    Column("content", LargeBinary, nullable=False),
    count_column("item_count"),
    time_column("created_at", null=False),
    Index(None, "detection_id"),
)


# A compiled scan plan, immutable.
plans = Table(
    "plans",
    metadata,
    key_column("digest"),
    Column("content", LargeBinary, nullable=False),
    time_column("created_at", null=False),
)
