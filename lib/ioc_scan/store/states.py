"""The words for states, and which of them are ends."""

from __future__ import annotations

LIVE_STATES = frozenset({"created", "running", "completed"})
END_STATES = frozenset({"expired", "rotated", "cancelled", "deleted"})
TASK_STATES = LIVE_STATES | END_STATES

DEVICE_OUTCOMES = frozenset({"done", "failed", "cancelled", "expired"})
DEVICE_STATES = (
    frozenset({"pending", "delivered", "waiting_idle", "running", "paused", "withdrawn"}) | DEVICE_OUTCOMES
)

#: A device that is or was in one of these has taken the task.
SIGNS_OF_LIFE = frozenset({"delivered", "waiting_idle", "running", "paused", "done"})

JOB_STATES = frozenset({"open", "closed", "withdrawing", "withdrawn"})

#: Matches somebody or something may still act on.
UNACTED_RESPONSE_STATES = frozenset({"none", "awaiting_approval", "claimed"})
RESPONSE_STATES = UNACTED_RESPONSE_STATES | frozenset(
    {
        "quarantined",
        "would_quarantine",
        "refused",
        "missing",
        "changed",
        "failed",
        "rejected",
        "reported",
        "restored",
    }
)
#: The file was, or may have been, touched: what the blast limits count.
COUNTED_RESPONSE_STATES = frozenset({"claimed", "quarantined", "failed", "restored"})

QUARANTINE_STATES = frozenset({"quarantined", "restored", "deleted", "expired"})
