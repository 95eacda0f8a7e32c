"""Every table of the store. The first words of each comment say what one row is."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
)

from .types import Count, SafeJson, SafeText, Unsigned64, UtcTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _key(name: str) -> Column[str]:
    return Column(name, SafeText, primary_key=True)


def _text(name: str, null: bool = True) -> Column[str]:
    return Column(name, SafeText, nullable=null)


def _time(name: str, null: bool = True) -> Column:
    return Column(name, UtcTime, nullable=null)


def _json(name: str, null: bool = True) -> Column:
    return Column(name, SafeJson, nullable=null)


def _count(name: str, null: bool = False) -> Column[int]:
    return Column(name, Count, nullable=null, default=None if null else 0)


def _task_key(primary: bool = True) -> Column[str]:
    return Column("task_id", SafeText, ForeignKey("tasks.task_id"), primary_key=primary, nullable=False)


# A sandbox verdict on one object, in its newest revision.
detections = Table(
    "detections",
    metadata,
    _key("detection_id"),
    _text("source_name", null=False),
    _text("product", null=False),
    _text("instance", null=False),
    _text("report_id", null=False),
    _text("object_sha256"),
    _text("verdict_result", null=False),
    Column("score", Float),
    _json("families", null=False),
    _time("detected_at", null=False),
    _time("received_at", null=False),
    Column("revision", Integer, nullable=False),
    _text("content_digest", null=False),
    Column("degraded", Boolean, nullable=False),
    _json("document", null=False),
    _text("decision"),
    _text("policy_name"),
    _text("task_id"),
    _text("reason"),
    Index(None, "received_at"),
    Index(None, "object_sha256"),
)

# A revision of a detection that a newer one has replaced.
detection_revisions = Table(
    "detection_revisions",
    metadata,
    _key("detection_id"),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    _text("content_digest", null=False),
    _time("received_at", null=False),
    _json("document", null=False),
)

# A report that was announced or listed, and how far its fetching came.
fetches = Table(
    "fetches",
    metadata,
    _key("detection_id"),
    _text("source_name", null=False),
    _text("report_id", null=False),
    Column("attempts", Integer, nullable=False),
    _text("code"),
    _text("message"),
    _time("next_try_at"),
    _text("state", null=False),
    _time("updated_at", null=False),
    Index(None, "state", "next_try_at"),
)

# A generated OpenIOC file, immutable.
ioc_files = Table(
    "ioc_files",
    metadata,
    _key("digest"),
    _text("ioc_id", null=False),
    _text("detection_id", null=False),
    _text("tier", null=False),
    _text("version", null=False),
    Column("content", LargeBinary, nullable=False),
    _count("item_count"),
    _time("created_at", null=False),
    Index(None, "detection_id"),
)

# A compiled scan plan, immutable.
plans = Table(
    "plans",
    metadata,
    _key("digest"),
    Column("content", LargeBinary, nullable=False),
    _time("created_at", null=False),
)

# A group IOC scan task. live_object is unique: at most one live task per object, whoever creates it.
tasks = Table(
    "tasks",
    metadata,
    _key("task_id"),
    _text("name", null=False),
    _text("object_sha256"),
    Column("live_object", SafeText, unique=True),
    _text("detection_id", null=False),
    _text("policy_name"),
    _text("profile", null=False),
    _text("state", null=False),
    _text("end_reason"),
    Column("run", Integer, nullable=False),
    _time("created_at", null=False),
    _time("first_start_at"),
    _time("last_start_at"),
    _time("ended_at"),
    _text("plan_digest"),
    _json("settings", null=False),
    Column("detections_count", Integer, nullable=False),
    _json("coverage"),
    Index(None, "state", "created_at"),
    Index(None, "object_sha256"),
    Index(None, "created_at"),
)

# A detection that a task answers.
task_detections = Table(
    "task_detections",
    metadata,
    _task_key(),
    _key("detection_id"),
    _time("added_at", null=False),
)

# An IOC file that a task carries (one per tier).
task_iocs = Table(
    "task_iocs",
    metadata,
    _task_key(),
    _key("tier"),
    _text("digest", null=False),
)

# A group that a task aims at.
task_groups = Table(
    "task_groups",
    metadata,
    _task_key(),
    _key("manager"),
    _key("group"),
    _text("response_mode", null=False),
)

# An earlier run of a task, as its coverage was when the next one began.
task_runs = Table(
    "task_runs",
    metadata,
    _task_key(),
    Column("run", Integer, primary_key=True, autoincrement=False),
    _time("ended_at", null=False),
    _json("coverage", null=False),
)

# A device that a task aims at, in the task's newest run.
task_devices = Table(
    "task_devices",
    metadata,
    _task_key(),
    _key("manager"),
    _key("device_id"),
    _text("group", null=False),
    Column("run", Integer, nullable=False),
    _text("state", null=False),
    _text("outcome"),
    _json("tags"),
    _text("job_id"),
    _count("files_seen"),
    _count("bytes_hashed"),
    _count("matches"),
    Column("progress", Float),
    _json("not_evaluated"),
    _json("skipped"),
    _text("error_code"),
    _text("error_message"),
    _time("updated_at", null=False),
    _time("finished_at"),
    Column("reached", Boolean, nullable=False),
    Column("ever_seen", Boolean, nullable=False),
    Index(None, "manager", "device_id"),
)

# A job handed to a device manager: scan, respond, restore, purge.
jobs = Table(
    "jobs",
    metadata,
    _key("job_id"),
    _text("task_id"),
    Column("run", Integer),
    _text("kind", null=False),
    _text("manager", null=False),
    _time("created_at", null=False),
    _time("not_before", null=False),
    _time("not_after", null=False),
    _json("cursor"),
    _text("state", null=False),
    _json("spec", null=False),
    _text("response_id"),
    _time("updated_at", null=False),
    Index(None, "state", "kind"),
    Index(None, "task_id"),
    Index(None, "response_id"),
)

# A job that is being taken back, with the devices that have not confirmed yet.
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("job_id", SafeText, ForeignKey("jobs.job_id"), primary_key=True),
    _json("pending", null=False),
    Column("confirmed", Integer, nullable=False),
    _time("requested_at", null=False),
    _time("updated_at", null=False),
)

# An item on a device that satisfies an IOC file, found in one run. Delivered often, stored once.
matches = Table(
    "matches",
    metadata,
    _key("match_id"),
    _task_key(primary=False),
    Column("run", Integer, nullable=False),
    _text("manager", null=False),
    _text("device_id", null=False),
    _text("group", null=False),
    _text("item_key", null=False),
    _text("ioc_digest", null=False),
    _text("tier", null=False),
    _text("document", null=False),
    _text("path"),
    _text("path_b64"),
    _text("sha256"),
    _count("size", null=True),
    Column("st_dev", Unsigned64),
    Column("st_ino", Unsigned64),
    _json("item", null=False),
    _json("proof", null=False),
    _time("found_at", null=False),
    _text("response_state", null=False),
    _text("response_id"),
    _text("response_code"),
    _text("response_message"),
    _text("quarantine_id"),
    _time("claimed_at"),
    _time("responded_at"),
    UniqueConstraint(
        "task_id", "run", "manager", "device_id", "item_key", "ioc_digest", name="uq_matches_item"
    ),
    Index(None, "task_id", "response_state"),
    Index(None, "task_id", "found_at"),
    Index(None, "found_at"),
    Index(None, "response_id"),
    Index(None, "sha256"),
)

# A question put to people: may these matches be responded to?
approvals = Table(
    "approvals",
    metadata,
    _key("approval_id"),
    _text("task_id", null=False),
    _json("match_ids", null=False),
    _text("state", null=False),
    _time("requested_at", null=False),
    _time("expires_at", null=False),
    _time("decided_at"),
    _text("decided_by"),
    _text("chat_user"),
    _text("ioc_digest"),
    _text("reason"),
    Index(None, "task_id", "state"),
    Index(None, "state", "expires_at"),
)

# A round of response actions.
responses = Table(
    "responses",
    metadata,
    _key("response_id"),
    _text("task_id", null=False),
    Column("dry_run", Boolean, nullable=False),
    _text("state", null=False),
    _text("actor", null=False),
    _time("requested_at", null=False),
    _time("finished_at"),
    _json("counts", null=False),
    Index(None, "task_id"),
    Index(None, "state"),
)

# A file that a response claimed, counted against the blast limits. Outlives the task's rows.
acted_files = Table(
    "acted_files",
    metadata,
    _key("match_id"),
    _text("response_id", null=False),
    _text("task_id", null=False),
    _text("source_name", null=False),
    _text("object_sha256"),
    _text("manager", null=False),
    _text("device_id", null=False),
    _time("claimed_at", null=False),
    Column("counts", Boolean, nullable=False),
    Index(None, "claimed_at"),
    Index(None, "task_id"),
    Index(None, "object_sha256"),
)

# An object in quarantine on a device.
quarantine = Table(
    "quarantine",
    metadata,
    _key("manager"),
    _key("device_id"),
    _key("quarantine_id"),
    _text("task_id"),
    _text("match_id"),
    _text("sha256", null=False),
    _count("size"),
    _text("path", null=False),
    _text("path_b64", null=False),
    _time("quarantined_at", null=False),
    _time("expires_at", null=False),
    _text("state", null=False),
    _time("restored_at"),
    _text("restored_by"),
    Index(None, "state", "expires_at"),
    Index(None, "sha256"),
    Index(None, "quarantine_id"),
)

# A SHA-256 that no response may touch again (it was restored).
exemptions = Table(
    "exemptions",
    metadata,
    _key("sha256"),
    _time("created_at", null=False),
    _text("created_by", null=False),
    _text("reason", null=False),
)

# A decision or action; append-only, each row bound to the one before by its digest.
events = Table(
    "events",
    metadata,
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    _time("at", null=False),
    _text("type", null=False),
    _text("detection_id"),
    _text("task_id"),
    _text("manager"),
    _text("device_id"),
    _text("actor"),
    _json("data", null=False),
    _text("digest", null=False),
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
    _text("digest", null=False),
    _time("at", null=False),
    _text("actor", null=False),
)

# A trigger to be injected into StackStorm, at least once.
outbox = Table(
    "outbox",
    metadata,
    Column("outbox_id", Integer, primary_key=True),
    _text("trigger", null=False),
    _json("payload", null=False),
    _text("trace_tag"),
    Column("dedupe_key", SafeText, nullable=False, unique=True),
    _time("created_at", null=False),
    _time("injected_at"),
    Index(None, "injected_at", "outbox_id"),
)

# A promise that only its holder does a named piece of work until it expires.
leases = Table(
    "leases",
    metadata,
    _key("name"),
    _text("holder", null=False),
    _time("expires_at", null=False),
)

# A small named value of the whole installation: kill switch, source cursors.
flags = Table(
    "flags",
    metadata,
    _key("name"),
    _json("value"),
    _time("updated_at", null=False),
    _text("updated_by"),
)

# What stays of a task after its rows are gone.
task_summaries = Table(
    "task_summaries",
    metadata,
    _key("task_id"),
    _text("name", null=False),
    _text("object_sha256"),
    _time("created_at", null=False),
    _time("ended_at", null=False),
    _text("state", null=False),
    _text("end_reason"),
    _text("actor"),
    _json("coverage", null=False),
    _count("matches"),
    _json("actions", null=False),
    Index(None, "ended_at"),
)
