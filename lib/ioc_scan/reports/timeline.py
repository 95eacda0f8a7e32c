"""The time line: what happened, in sentences; runs of the same kind are told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .filters import number, words

MAX_ENTRIES = 120

#: Event type -> (one of them, several of them, tone). What is not here is in the audit trail only.
_SENTENCES: dict[str, tuple[str, str, str]] = {
    "detection_received": ("The sandbox's verdict arrived.", "{n} verdicts arrived.", ""),
    "detection_revised": (
        "The same detection came again with other content.",
        "{n} revisions arrived.",
        "bad",
    ),
    "ioc_generated": ("An IOC file was generated.", "{n} IOC files were generated.", ""),
    "task_created": ("The scan task was created.", "{n} tasks were created.", ""),
    "task_redetected": ("The object was detected again.", "The object was detected {n} more times.", ""),
    "task_started": ("The task was started.", "The task was started {n} times.", ""),
    "task_paused": ("The task was paused.", "The task was paused {n} times.", ""),
    "task_resumed": ("The task went on.", "The task went on {n} times.", ""),
    "task_completed": ("Every device that can answer has answered.", "The task completed {n} times.", "good"),
    "task_expired": ("The task reached the end of its lifetime.", "The task expired.", ""),
    "task_rotated": ("The task was ended to make room for newer ones.", "The task was rotated.", "bad"),
    "task_cancelled": ("The task was cancelled.", "The task was cancelled.", ""),
    "task_deleted": ("The task was deleted.", "The task was deleted.", ""),
    "device_delivered": ("A device took the task.", "{n} devices took the task.", ""),
    "device_done": ("A device finished its scan.", "{n} devices finished their scans.", "good"),
    "device_failed": ("A device's scan failed.", "{n} devices' scans failed.", "bad"),
    "device_held": ("A device's answers were put aside.", "{n} devices' answers were put aside.", "bad"),
    "match_found": ("A match was reported.", "{n} matches were reported.", "match"),
    "approval_opened": ("People were asked for approval.", "Approval was asked for {n} times.", ""),
    "approval_approved": ("The response was approved.", "{n} responses were approved.", "good"),
    "approval_rejected": ("The response was rejected.", "{n} responses were rejected.", "bad"),
    "approval_expired": ("Nobody decided in time.", "{n} questions were not decided in time.", "bad"),
    "response_requested": ("A response was asked for.", "{n} responses were asked for.", ""),
    "response_refused": ("A response was refused.", "{n} responses were refused.", "bad"),
    "object_quarantined": ("A file was moved to quarantine.", "{n} files were moved to quarantine.", "good"),
    "object_would_quarantine": (
        "Dry run: a file would have been moved.",
        "Dry run: {n} files would have.",
        "",
    ),
    "object_refused": ("A device refused to act on a file.", "Devices refused to act on {n} files.", "bad"),
    "object_missing": ("A file was gone already.", "{n} files were gone already.", ""),
    "object_changed": ("A file had changed and was left alone.", "{n} files had changed.", "bad"),
    "object_failed": ("Acting on a file failed; it was left in place.", "Acting on {n} files failed.", "bad"),
    "process_terminated": ("A process that ran the file was ended.", "{n} processes were ended.", ""),
    "object_restored": ("A quarantined file was put back.", "{n} quarantined files were put back.", ""),
    "restore_failed": ("A file could not be put back.", "{n} files could not be put back.", "bad"),
    "exemption_added": ("The hash was exempted from responses.", "{n} hashes were exempted.", ""),
    "kill_switch_on": ("All responses were stopped.", "All responses were stopped.", "bad"),
    "kill_switch_off": ("Responses were allowed again.", "Responses were allowed again.", ""),
    "limit_reached": ("A blast limit was reached.", "Blast limits were reached {n} times.", "bad"),
    "canary_stopped": ("The canary devices stopped the widening.", "The canary devices stopped it.", "bad"),
    "job_withdrawn": ("A job was taken back from the devices.", "{n} jobs were taken back.", ""),
    "alert_raised": ("An alert was raised.", "{n} alerts were raised.", "bad"),
}


def sentences(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Events, oldest first -> ``[{at, sentence, detail, tone}]``; the newest where there are too many."""
    entries: list[dict[str, Any]] = []
    run: list[Mapping[str, Any]] = []
    for event in events:
        if event.get("type") not in _SENTENCES:
            continue
        if run and run[-1].get("type") != event["type"]:
            entries.append(_entry(run))
            run = []
        run.append(event)
    if run:
        entries.append(_entry(run))
    return entries[-MAX_ENTRIES:]


def _entry(run: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    one, several, tone = _SENTENCES[str(run[0]["type"])]
    names = list(dict.fromkeys(str(event["device_id"]) for event in run if event.get("device_id")))
    actors = list(dict.fromkeys(str(event["actor"]) for event in run if event.get("actor")))
    detail = ", ".join(names[:5]) + (f" and {number(len(names) - 5)} more" if len(names) > 5 else "")
    if actors and not names:
        detail = "by " + ", ".join(actors[:3])
    return {
        "at": run[0].get("at"),
        "sentence": one if len(run) == 1 else several.format(n=number(len(run))),
        "detail": detail or words(run[0].get("reason") or ""),
        "tone": tone,
    }
