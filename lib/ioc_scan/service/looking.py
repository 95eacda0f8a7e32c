"""Looking closer: coverage of a task, detections and why each indicator has its tier, the state of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from ioc_scan.clock import to_iso
from ioc_scan.detection.guard import TIERS
from ioc_scan.errors import NotFoundError
from ioc_scan.reports import tables
from ioc_scan.reports.tables import Column
from ioc_scan.service.chat import CHAT_WIDTH, chat_lines, chat_table, for_chat
from ioc_scan.service.context import STOP_FLAG, Context
from ioc_scan.service.guarding import judge
from ioc_scan.service.intake import stored_detection
from ioc_scan.service.views import TABLE_WIDTH, page, plain
from ioc_scan.store.states import LIVE_STATES
from ioc_scan.store.transaction import Transaction
from ioc_scan.text import printable

#: Triggers that wait longer than this mean that the timer rule process_results does not run.
LATE = timedelta(minutes=15)
BAR_WIDTH = 40
_CHAT_DETECTIONS = (
    ("detection_id", "detection"),
    ("score", "score"),
    ("decision", "decision"),
    ("task_id", "task"),
)
Row = dict[str, Any]

_PARTS = (
    ("matched", "#", "answered with matches"),
    ("clean", "=", "reported clean"),
    ("failed", "!", "failed or refused"),
    ("running", ">", "scanning now"),
    ("waiting_idle", "z", "waiting until idle"),
    ("open", ".", "not answered yet"),
    ("never_seen", "?", "never seen"),
)


def get_coverage(context: Context, task_id: str, limit: int | None = None, offset: int | None = None) -> Row:
    """How many of how many devices have answered, and which have not. Raises NotFoundError ``task_not_found``."""
    with context.store.reading() as tx:
        task = tx.tasks.get(task_id)
        if task is None:
            raise NotFoundError(
                "task_not_found", f"there is no task {printable(task_id, 80)}", "list_tasks shows all."
            )
        coverage = tx.task_devices.coverage(task_id)
        parts = _by_group(tx, task_id)
        devices = tx.task_devices.list(task_id, unfinished_first=True, limit=limit or 50, offset=offset or 0)
    shown = [plain(row) for row in devices]
    columns = [
        Column("device_id", "device", fixed=True),
        "group",
        "state",
        Column("progress", "progress", fixed=True),
        Column("files_seen", "files", fixed=True),
        Column("matches", "matches", fixed=True),
        Column("error_code", "problem"),
    ]
    for row in shown:
        row["progress"] = None if row["progress"] is None else f"{row['progress']:.0%}"
    total = coverage["targeted"]
    picture = "\n".join((_picture(task, coverage), *_group_lines(parts)))
    answer = page(shown, columns, total, f"st2 run ioc_scan.get_results task_id={task_id}", "no devices")
    answer["table"] = f"{picture}\n\n{answer['table']}"
    answer["chat"] = f"{chat_lines(picture)}\n\n{chat_table(shown[:10], columns, total, 'no devices')}"
    return {
        "task_id": task_id,
        "state": task["state"],
        "run": task["run"],
        "coverage": coverage,
        "groups": parts,
        **answer,
    }


def _by_group(tx: Transaction, task_id: str) -> list[Row]:
    """The same numbers for each group of each manager; they add up, as a device counts in one group only."""
    names = ("targeted", "answered", "matched", "clean", "failed", "never_seen")
    found = []
    for row in tx.task_groups.list(task_id):
        counts = tx.task_devices.coverage(task_id, manager=row["manager"], group=row["group"])
        place = {"manager": row["manager"], "group": row["group"], "response_mode": row["response_mode"]}
        found.append(place | {name: counts[name] for name in names})
    return found


def _group_lines(parts: list[Row]) -> list[str]:
    if len(parts) < 2:
        return []
    return [
        f"  {printable(part['manager'], 64)}/{printable(part['group'], 80)} ({part['response_mode']}): "
        f"{part['answered']} of {part['targeted']} answered, {part['matched']} matched"
        for part in parts
    ]


def _picture(task: Row, coverage: Row) -> str:
    """A bar with a sign for each part, every part named, always out of how many."""
    targeted = coverage["targeted"]
    counts = {name: coverage.get(name, 0) for name, _, _ in _PARTS}
    counts["open"] = max(targeted - sum(counts.values()), 0)
    share = coverage["answered"] / targeted if targeted else 0.0
    head = (
        f"{task['task_id']} is {task['state']}, run {task['run']}: "
        f"{coverage['answered']} of {targeted} targeted devices answered ({share:.0%})"
    )
    parts = [(name, sign, words) for name, sign, words in _PARTS if counts[name]]
    widths = {name: max(round(BAR_WIDTH * counts[name] / targeted), 1) for name, _, _ in parts}
    bar = "".join(sign * widths[name] for name, sign, _ in parts)
    legend = "\n".join(f"  {sign} {counts[name]:>6} {words}" for name, sign, words in parts)
    return "\n".join(part for part in (head, f"[{bar}]" if bar else "", legend) if part)


def list_detections(
    context: Context, decision: str | None = None, limit: int | None = None, offset: int | None = None
) -> Row:
    """Detections newest first, each with its verdict, what it led to and why."""
    with context.store.reading() as tx:
        wanted = None if decision in (None, "any") else decision
        found = tx.detections.list(
            limit=10_000 if wanted else limit or 50, offset=0 if wanted else offset or 0
        )
        failing = [row for row in tx.fetches.list(limit=1000) if row["state"] != "fetched"]
    if wanted:
        found = [row for row in found if row["decision"] == (None if wanted == "undecided" else wanted)]
        total = len(found)
        found = found[offset or 0 : (offset or 0) + (limit or 50)]
    else:
        total = (offset or 0) + len(found)
    rows = [plain(row) for row in found]
    columns: list[Column | str] = [
        Column("received_at", "received", fixed=True),
        Column("detection_id", "detection", keep="end"),
        Column("source_name", "source"),
        Column("verdict_result", "verdict", fixed=True),
        Column("score", "score", fixed=True),
        Column("decision", "decision", fixed=True),
        Column("task_id", "task", fixed=True),
    ]
    step = "st2 run ioc_scan.explain_detection detection_id=DETECTION"
    answer = page(rows, columns, total, step, "no detections")
    names = [Column(name, title, fixed=True) for name, title in _CHAT_DETECTIONS]  # ids are copied from chat
    answer["chat"] = chat_table(rows, names, total, "no detections")
    answer["not_fetched"] = [
        {name: row[name] for name in ("detection_id", "source_name", "code", "attempts", "state")}
        for row in failing[:50]
    ]
    if failing:
        note = f"{len(failing)} reports could not be fetched: " + ", ".join(
            sorted({f"{row['source_name']} {row['code']}" for row in failing})
        )
        answer["table"] += f"\n\n{note}"
        answer["chat"] += f"\n\n{for_chat(note, 300)}"
    return answer


def explain_detection(
    context: Context,
    detection_id: str,
    tier: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Row:
    """Every indicator of a stored detection with its tier and the reason, under the present configuration.

    Raises NotFoundError ``detection_unknown``, ``source_unknown``.
    """
    row = stored_detection(context, detection_id)
    triage = judge(context, row["document"], row["source_name"])
    everything = [
        _indicator(entry) for name in TIERS if tier in (None, "any", name) for entry in getattr(triage, name)
    ]
    shown = everything[offset or 0 : (offset or 0) + (limit or 100)]
    columns = [
        Column("tier", "tier", fixed=True),
        "type",
        "role",
        Column("what", "indicator", keep="end"),
        "reason",
    ]
    counts = {name: len(getattr(triage, name)) for name in TIERS}
    pairs = [
        ("detection", detection_id),
        ("verdict", _verdict(row)),
        ("decision", f"{row['decision'] or 'none yet'}: {row['reason'] or triage.reason}"),
        ("task", row["task_id"]),
        ("indicators", ", ".join(f"{number} {name}" for name, number in counts.items())),
        ("left out", ", ".join(f"{n} {code}" for code, n in _codes(triage.suppressed))),
        ("alerts", ", ".join(triage.alerts)),
        (
            "lost on the way",
            ", ".join(f"{n} {code}" for code, n in row["document"].get("losses", {}).items()),
        ),
    ]
    said = [(name, value) for name, value in pairs if value]
    step = (
        f"st2 run ioc_scan.get_task task_id={row['task_id']}"
        if row["task_id"]
        else "st2 run ioc_scan.list_detections"
    )
    answer = page(shown, columns, len(everything), step, "no indicators")
    answer["table"] = f"{tables.render_pairs(said, TABLE_WIDTH)}\n\n{answer['table']}"
    answer["chat"] = (
        f"{chat_lines(tables.render_pairs(said, CHAT_WIDTH))}\n\n"
        f"{chat_table(shown[:12], columns, len(everything), 'no indicators')}"
    )
    return {
        "detection_id": detection_id,
        "decision": row["decision"],
        "task_id": row["task_id"],
        "starts_task": triage.starts_task,
        "counts": counts,
        **answer,
    }


def _verdict(row: Row) -> str:
    score = "" if row["score"] is None else f", score {row['score']:g} of 100"
    families = ", ".join(printable(name, 40) for name in row["families"][:5])
    return f"{row['verdict_result']}{score}" + (f", {families}" if families else "")


def _indicator(entry: Row) -> Row:
    hashes = entry.get("hashes") or {}
    digest = hashes.get("SHA-256") or hashes.get("SHA-1") or hashes.get("MD5")
    what = entry.get("value") or entry.get("path_pattern") or entry.get("path") or entry.get("name") or digest
    return {
        "tier": entry["tier"],
        "type": entry["type"],
        "role": entry["role"],
        "what": what,
        "sha256": hashes.get("SHA-256"),
        "reason": entry["reason"],
    }


def _codes(entries: list[Row]) -> list[tuple[str, int]]:
    return Counter(str(entry["reason"]).split(":", 1)[0] for entry in entries).most_common(8)


def health(context: Context) -> Row:
    """Whether everything goes on as it should, from what the store knows: quick, asks nobody, changes nothing.

    check_setup tries sources and managers themselves.
    """
    with context.store.reading() as tx:
        rows = list(_facts(context, tx))
    if context.stopped_by_file and rows[0]["ok"]:
        rows[0] |= {"ok": False, "message": "stopped by the file STOP"}
    for row in rows:
        row["state"] = "ok" if row["ok"] else "LOOK"
    bad = [row["name"] for row in rows if not row["ok"]]
    columns = [Column("name", "part", fixed=True), Column("state", "", fixed=True), "message"]
    answer = page(rows, columns, len(rows), "st2 run ioc_scan.check_setup", "nothing")
    return {"ok": not bad, "look_at": bad, **answer}


def _facts(context: Context, tx: Transaction) -> Iterator[Row]:
    now = context.clock()
    stopped = bool(tx.flags.get(STOP_FLAG, False))
    yield _fact("responses", not stopped, "stopped by the kill switch" if stopped else "may run")
    counts = tx.tasks.counts()
    live = ", ".join(f"{counts[name]} {name}" for name in sorted(LIVE_STATES) if counts.get(name))
    yield _fact("tasks", True, live or "none alive")
    approvals = tx.approvals.list(state="open", limit=10_000)
    soonest = min((row["expires_at"] for row in approvals), default=None)
    yield _fact(
        "approvals",
        not approvals,
        f"{len(approvals)} wait for a person, the first until {to_iso(soonest)}" if soonest else "none waits",
    )
    for kind, entries in (
        ("source", context.config["sources"]),
        ("manager", context.config["device_managers"]),
    ):
        for entry in entries:
            code = tx.flags.get(f"{kind}_unreachable:{entry['name']}")
            yield _fact(
                f"{kind} {entry['name']}", code is None, "no problem known" if code is None else str(code)
            )
    failing = [row for row in tx.fetches.list(limit=1000) if row["state"] != "fetched"]
    yield _fact("reports", not failing, f"{len(failing)} could not be fetched" if failing else "all fetched")
    yield _outbox(tx, now)
    pending = len(tx.withdrawals.open())
    yield _fact("withdrawals", True, f"{pending} wait for devices that are away" if pending else "none open")


def _outbox(tx: Transaction, now: datetime) -> Row:
    waiting = tx.outbox.due(1)
    late = bool(waiting) and now - waiting[0]["created_at"] > LATE
    text = "none waits" if not waiting else f"the oldest waits since {to_iso(waiting[0]['created_at'])}"
    hint = ": does the rule process_results run?" if late else ""
    return _fact("triggers", not late, text + hint)


def _fact(name: str, ok: bool, message: str) -> Row:
    return {"name": name, "ok": ok, "message": message}
