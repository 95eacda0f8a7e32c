"""The head of the audit trail leaves this machine at each destructive step: by trigger and by syslog.

Whoever rewrites or cuts the trail in the store cannot change what a trigger's receiver and a syslog server
have been told; ``verify_audit`` compares the two.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from ioc_scan.service.context import Context
from ioc_scan.store.transaction import Transaction

TRIGGER = "ioc_scan.audit_head"
#: <facility authpriv, severity notice>
_PRIORITY = 10 * 8 + 5


@dataclass(frozen=True)
class Head:
    """The last event of the trail when something destructive was about to happen."""

    step: str
    event_id: int
    digest: str
    task_id: str | None = None

    def __str__(self) -> str:
        about = f" task_id={self.task_id}" if self.task_id else ""
        return f"audit_head={self.event_id}:{self.digest} step={self.step}{about}"


def seal(tx: Transaction, step: str, *, task_id: str | None = None, detection_id: str | None = None) -> Head:
    """Note the head in the outbox, after the event of the step. Send the result once the transaction is done."""
    event_id, digest = tx.events.head()
    payload = {"step": step, "event_id": event_id, "digest": digest}
    if task_id is not None:
        payload["task_id"] = task_id
    if detection_id is not None:
        payload["detection_id"] = detection_id
    tx.outbox.add(TRIGGER, payload, dedupe_key=f"audit_head:{event_id}", now=tx.now(), trace_tag=detection_id)
    return Head(step, event_id, digest, task_id)


def send(context: Context, head: Head) -> bool:
    """To syslog, if it is asked for and there. What fails here stops nothing; check_setup tells of it."""
    settings = context.config["audit"]
    return bool(settings["syslog"]) and _to_syslog(settings["syslog_address"], f"ioc_scan: {head}")


def try_syslog(address: str) -> bool:
    """Whether a message can be sent there; it says so itself."""
    return _to_syslog(address, "ioc_scan: check_setup looks whether syslog can be reached")


def _to_syslog(address: str, text: str) -> bool:
    message = f"<{_PRIORITY}>{text}".encode("ascii", "replace")
    try:
        if address.startswith("/"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix:
                unix.settimeout(1)
                unix.sendto(message, address)
        else:
            host, _, port = address.rpartition(":")
            where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
            with socket.socket(where[0], socket.SOCK_DGRAM) as udp:
                udp.sendto(message, where[4])
    except (OSError, ValueError):
        return False
    return True
