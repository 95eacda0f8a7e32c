"""All kinds of events the store records. Each has one meaning, written here; others are refused.

A value is stable once released: reports, playbooks and the audit chain hold it.
"""

from __future__ import annotations

from enum import Enum


class EventType(str, Enum):
    """What happened. ``EventType.TASK_CREATED.meaning`` is the sentence a person reads."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> EventType:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # Intake
    DETECTION_RECEIVED = ("detection_received", "A sandbox verdict was taken in for the first time.")
    DETECTION_REVISED = ("detection_revised", "A known detection came again with other content.")
    DETECTION_DECIDED = ("detection_decided", "It was decided what a detection leads to, and why.")
    DETECTION_REFUSED = ("detection_refused", "A detection was not taken: another source owns its id.")
    FETCH_FAILED = ("fetch_failed", "A report could not be fetched or read; it will be tried again.")
    FETCH_GIVEN_UP = ("fetch_given_up", "A report could not be fetched after all tries.")
    DETECTION_RECOVERED = (
        "detection_recovered",
        "A detection that the sensor or a rule missed was taken up later.",
    )
    SOURCE_UNREACHABLE = ("source_unreachable", "A source could not be asked for new reports.")
    SOURCE_RECOVERED = ("source_recovered", "A source answers again.")
    TRUST_CEILING_APPLIED = (
        "trust_ceiling_applied",
        "The source's trust or ceiling lowered a tier or a response mode.",
    )
    INDICATOR_SUPPRESSED = (
        "indicator_suppressed",
        "Indicators were left out of the IOC files, with the reasons.",
    )

    # IOC files and tasks
    IOC_GENERATED = ("ioc_generated", "An OpenIOC file was generated from a detection.")
    TEMPLATE_LEARNED = (
        "template_learned",
        "The template tasks of Kaspersky Security Center were learned, or learned anew.",
    )
    KNOWN_GOOD_LEARNED = (
        "known_good_learned",
        "The digests of a clean image were added to the known-good list.",
    )
    IOC_EXPORTED = ("ioc_exported", "IOC files were exported.")
    TASK_CREATED = ("task_created", "A group IOC scan task was created.")
    TASK_REDETECTED = ("task_redetected", "The object of a live task was detected again.")
    TASK_CONFIGURED = ("task_configured", "Settings of a task were changed.")
    TASK_STARTED = ("task_started", "A task was started: a new run began.")
    TASK_PAUSED = ("task_paused", "A task was paused on its devices.")
    TASK_RESUMED = ("task_resumed", "A paused task went on.")
    TASK_COMPLETED = ("task_completed", "Every device of the run has answered or can answer no more.")
    TASK_EXPIRED = ("task_expired", "A task reached the end of its lifetime.")
    TASK_ROTATED = ("task_rotated", "A task was ended because its device manager holds too many.")
    TASK_CANCELLED = ("task_cancelled", "A person cancelled a task.")
    TASK_DELETED = ("task_deleted", "A person deleted a task.")
    TASK_START_REFUSED = ("task_start_refused", "A task was not started, with the reason.")

    # Delivery and devices
    JOB_PUBLISHED = ("job_published", "A job was handed to a device manager.")
    JOB_DELIVERY_FAILED = (
        "job_delivery_failed",
        "A job could not be handed to some devices; it will be tried again.",
    )
    JOB_WITHDRAWN = (
        "job_withdrawn",
        "A job was taken back; the data says from how many devices of how many.",
    )
    WITHDRAWAL_COMPLETED = ("withdrawal_completed", "The last device confirmed that a job is gone.")
    DEVICE_DELIVERED = ("device_delivered", "A device took the task.")
    DEVICE_WAITING_IDLE = ("device_waiting_idle", "A device waits until nobody uses it.")
    DEVICE_STARTED = ("device_started", "A device began to scan.")
    DEVICE_PAUSED = ("device_paused", "A device paused its scan.")
    DEVICE_RESUMED = ("device_resumed", "A device went on with its scan.")
    DEVICE_DONE = ("device_done", "A device finished its scan.")
    DEVICE_FAILED = ("device_failed", "A device's scan failed, with the reason.")
    DEVICE_CANCELLED = ("device_cancelled", "A device stopped its scan when told to.")
    DEVICE_EXPIRED = ("device_expired", "A device did not finish within the task's lifetime.")
    DEVICE_WITHDRAWN = ("device_withdrawn", "A device confirmed that it no longer holds the task.")
    DEVICE_EXCLUDED = ("device_excluded", "A device was left out or capped by the policy or its tags.")
    DEVICE_HELD = ("device_held", "A device's answers were put aside: it flooded, replayed or lied.")
    RESULT_REJECTED = (
        "result_rejected",
        "A result was not taken: late, foreign, oversized or not of the plan.",
    )
    MANAGER_UNREACHABLE = ("manager_unreachable", "A device manager could not be asked.")
    MANAGER_RECOVERED = ("manager_recovered", "A device manager answers again.")

    # Matches, approvals, responses
    MATCH_FOUND = ("match_found", "A device reported an item that satisfies an IOC file.")
    APPROVAL_OPENED = ("approval_opened", "People were asked whether matches may be responded to.")
    APPROVAL_SECONDED = ("approval_seconded", "A person allowed the response; a second one has to agree.")
    APPROVAL_APPROVED = ("approval_approved", "A person allowed the response.")
    APPROVAL_REJECTED = ("approval_rejected", "A person refused the response.")
    APPROVAL_EXPIRED = ("approval_expired", "Nobody decided in time: nothing runs.")
    APPROVAL_REOPENED = ("approval_reopened", "An expired or rejected question was put again.")
    RESPONSE_REQUESTED = ("response_requested", "A response to matches was asked for, with mode and actor.")
    RESPONSE_CLAIMED = ("response_claimed", "A response took its matches, so that no other acts on them.")
    RESPONSE_REFUSED = (
        "response_refused",
        "A response did not run: a safety rule, state or right forbids it.",
    )
    RESPONSE_DONE = ("response_done", "A response ended, with the outcome of each object.")
    RESPONSE_FAILED = ("response_failed", "A response ended without an answer from its devices.")
    CLAIM_RELEASED = ("claim_released", "Matches of a response that never answered were set free again.")
    OBJECT_QUARANTINED = ("object_quarantined", "A device moved an object to quarantine.")
    OBJECT_WOULD_QUARANTINE = (
        "object_would_quarantine",
        "Dry run: a device would have moved an object to quarantine.",
    )
    OBJECT_REFUSED = ("object_refused", "A device refused to act on an object, with the reason.")
    OBJECT_MISSING = ("object_missing", "The object was gone when the device came to act.")
    OBJECT_CHANGED = (
        "object_changed",
        "The object had changed when the device came to act; it was left alone.",
    )
    OBJECT_FAILED = ("object_failed", "Acting on an object failed on its device; it was left in place.")
    PROCESS_TERMINATED = ("process_terminated", "A device ended a process that ran the object.")
    CRITICAL_AREAS_SCAN_REQUESTED = (
        "critical_areas_scan_requested",
        "A scan of critical areas was asked for.",
    )
    CRITICAL_AREA_REPORTED = (
        "critical_area_reported",
        "A device scanned a critical area, or said why not; the data holds what it found.",
    )
    RESTORE_REQUESTED = ("restore_requested", "A person asked for a quarantined object back.")
    OBJECT_RESTORED = ("object_restored", "A device put a quarantined object back.")
    RESTORE_FAILED = ("restore_failed", "A quarantined object could not be put back.")
    EXEMPTION_ADDED = ("exemption_added", "A hash was exempted from all responses.")
    EXEMPTION_REMOVED = ("exemption_removed", "An exemption was taken back.")
    QUARANTINE_EXPIRED = ("quarantine_expired", "An object's time in quarantine is over.")
    QUARANTINE_DELETED = ("quarantine_deleted", "A quarantined object was deleted for good.")

    # Limits and safety
    KILL_SWITCH_ON = ("kill_switch_on", "All responses were stopped.")
    KILL_SWITCH_OFF = ("kill_switch_off", "Responses were allowed again.")
    LIMIT_REACHED = ("limit_reached", "A blast limit was reached: what goes past it is asked for.")
    CANARY_WAITING = (
        "canary_waiting",
        "A run went to its canary devices first; the rest, and responses, wait for them.",
    )
    CANARY_PASSED = ("canary_passed", "The canary devices answered as hoped; the rest follows.")
    CANARY_STOPPED = (
        "canary_stopped",
        "The canary devices showed too many matches or failures; widening stopped.",
    )
    ALERT_RAISED = ("alert_raised", "Something needs a person's eye; the data says what.")

    # Upkeep and rights
    RESULTS_PRUNED = ("results_pruned", "Results past their time were deleted.")
    TASK_PRUNED = ("task_pruned", "A task's rows were deleted; its summary stays.")
    PRUNE_DONE = ("prune_done", "A prune run ended, with what it expired, rotated and deleted.")
    RESULTS_EXPORTED = ("results_exported", "Results or a report were rendered or exported.")
    CONFIG_REFUSED = ("config_refused", "The configuration was refused.")
    RIGHT_REFUSED = ("right_refused", "An account asked for something it has no right to.")
    STOP_REQUESTED = ("stop_requested", "The STOP file was found in the store's folder.")
    STORE_MIGRATED = ("store_migrated", "The store was brought to a newer schema.")
    AUDIT_EXPORTED = ("audit_exported", "Events were exported.")
    AUDIT_TRIMMED = ("audit_trimmed", "The oldest exported events were removed; an anchor keeps the chain.")


_BY_VALUE: dict[str, EventType] = {item.value: item for item in EventType}
ALL_EVENT_TYPES: frozenset[str] = frozenset(_BY_VALUE)


def event_type(value: str) -> EventType:
    """The event type of that name. Raises ValueError for a word that is none."""
    try:
        return _BY_VALUE[value]
    except KeyError:
        raise ValueError(f"unknown event type {value!r}") from None
