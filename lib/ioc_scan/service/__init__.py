"""The use cases. Every action, sensor-side catch-up and command line calls one function of these modules.

intake      fetch_detection, submit_detection        tasks     generate_ioc, create_task, start_task, delete_task
collection  await_results, collect_results           responses respond
restores    restore_object                           lifetimes prune
steering    pause_task, resume_task, cancel_task     configuring configure_task
decisions   reject_matches, reopen_approvals, list_approvals
looking     get_coverage, list_detections, explain_detection, health
audit       verify_audit, export_audit
killswitch  kill_switch                              views     list_*, get_*
outputs     export_iocs, render_report               setup     check_setup
templates   learn_ksc_template
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ioc_scan.errors import IocScanError
from ioc_scan.service.chat import chat_lines
from ioc_scan.service.context import Context, open_context
from ioc_scan.text import printable, printable_traceback

__all__ = ["Context", "answer", "open_context"]

LOG = logging.getLogger(__name__)
#: Longest string that leaves in an answer; tables are the longest ones.
MAX_ANSWER_TEXT = 20_000


def answer(
    config: dict[str, Any] | None, use_case: Callable[..., Any], **parameters: Any
) -> tuple[bool, Any]:
    """Run one use case for an action: ``(True, dict)``, or ``(False, {code, message, hint})``.

    StackStorm turns an escaped exception into the string "None", so nothing escapes.
    """
    try:
        with open_context(config) as context:
            return True, _safe(_with_chat(use_case(context, **parameters)))
    except IocScanError as error:
        return False, _safe(_with_chat(error.as_dict()))
    except Exception as error:  # noqa: BLE001  nothing may escape
        LOG.error("unexpected error\n%s", printable_traceback(error))
        message = f"{type(error).__name__}: {error}"
        hint = "This is a defect of the pack: the traceback is in the execution's stderr."
        return False, _safe(_with_chat({"code": "internal_error", "message": message, "hint": hint}))


def _with_chat(result: Any) -> Any:
    """What a chat command prints of an answer in words: tables bring their own (service/chat.py)."""
    if isinstance(result, dict) and "message" in result and "chat" not in result:
        text = "\n".join(str(result[name]) for name in ("message", "hint") if result.get(name))
        return {**result, "chat": chat_lines(text)}
    return result


def _safe(value: Any) -> Any:
    """Names come from malware: no control characters and no template openers leave in an answer."""
    if isinstance(value, str):
        lines = value.split("\n")
        return "\n".join(printable(line, MAX_ANSWER_TEXT) for line in lines)
    if isinstance(value, dict):
        # Names of database columns are a kind of str that StackStorm's JSON refuses: the answer would be one text.
        return {str(key): _safe(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(child) for child in value]
    return value
