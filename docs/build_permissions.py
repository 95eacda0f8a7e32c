"""Write docs/rbac/roles/*.yaml and the table of docs/permissions.md: `.venv/bin/python docs/build_permissions.py`.

One list says which right an action takes; the roles of ioc_scan.service.rights say who has it. A test compares
both with the files.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from ioc_scan.service.rights import RIGHTS, ROLES

DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- table: written by docs/build_permissions.py -->", "<!-- end of table -->"
#: The right an action takes: looking and stopping take none; upkeep is for rules and administrators.
LOOK, UPKEEP = "look", "upkeep"
ACTIONS = {
    "await_results": LOOK,
    "check_setup": LOOK,
    "explain_detection": LOOK,
    "get_coverage": LOOK,
    "get_results": LOOK,
    "get_task": LOOK,
    "health": LOOK,
    "kill_switch": LOOK,
    "list_approvals": LOOK,
    "list_detections": LOOK,
    "list_devices": LOOK,
    "list_events": LOOK,
    "list_quarantine": LOOK,
    "list_tasks": LOOK,
    "render_report": LOOK,
    "verify_audit": LOOK,
    "fetch_detection": "take_in",
    "submit_detection": "take_in",
    "generate_ioc": "take_in",
    "create_task": "create",
    "start_task": "start",
    "scan_critical_areas": "follow",
    "respond": "follow",
    "respond_to_detection": "follow",
    "respond_to_matches": "follow",
    "respond_to_submission": "follow",
    "pause_task": "steer",
    "resume_task": "steer",
    "configure_task": "steer",
    "export_iocs": "export",
    "export_audit": "export",
    "cancel_task": "end",
    "delete_task": "end",
    "reject_matches": "respond",
    "reopen_approvals": "respond",
    "restore_object": "restore",
    "learn_known_good": "learn",
    "learn_ksc_template": "raise",
    "collect_results": UPKEEP,
    "confirm_dispatch": UPKEEP,
    "process_results": UPKEEP,
    "prune": UPKEEP,
    "prune_expired": UPKEEP,
}
NOTES = {
    "kill_switch": "stop and show: everybody; go: administrator",
    "start_task": "with `widen=true`: responder, and a second one with `four_eyes`",
    "respond": "to approve: responder; only to try it dry or to follow the policy: analyst",
    "configure_task": "to raise anything: administrator",
    "learn_known_good": "rules: only folders of guard.golden_images",
}
DESCRIPTIONS = {
    "viewer": "ioc_scan - look at everything, stop all responses, change nothing.",
    "machine": "ioc_scan - take detections in, create and start tasks, and nothing else; not for people.",
    "analyst": "ioc_scan - start, pause and configure tasks, try responses dry, export.",
    "responder": "ioc_scan - approve and reject responses, restore, end tasks.",
    "administrator": "ioc_scan - everything.",
}
ORDER = ("viewer", "machine", "analyst", "responder", "administrator")


def may_run(role: str, action: str) -> bool:
    """Whether StackStorm should let the role run the action; the use case decides again."""
    right = ACTIONS[action]
    if right == LOOK:
        return role != "machine"
    return role == "administrator" if right == UPKEEP else right in ROLES[role]


def role_file(role: str) -> str:
    grants: list[dict[str, object]] = []
    if role == "administrator":
        grants.append(
            {"resource_uid": "pack:ioc_scan", "permission_types": ["pack_all", "action_all", "rule_all"]}
        )
        # Running the timers' workflows by hand sends their triggers, as the rules' user does.
        grants.append({"resource_uid": "webhook:st2", "permission_types": ["webhook_send"]})
    else:
        if role != "machine":
            views = ["pack_view", "action_view", "action_alias_view", "rule_view", "sensor_type_view"]
            grants.append({"resource_uid": "pack:ioc_scan", "permission_types": views})
        for action in sorted(name for name in ACTIONS if may_run(role, name)):
            kinds = ["action_execute"] if role != "machine" else ["action_view", "action_execute"]
            grants.append({"resource_uid": f"action:ioc_scan:{action}", "permission_types": kinds})
    if role != "machine":
        lists = ["pack_list", "action_list", "execution_list", "rule_list", "runner_type_list", "trace_list"]
        grants.append(
            {"permission_types": [*lists, "action_alias_list", "action_alias_match", "action_alias_help"]}
        )
    content = {
        "name": f"ioc_scan_{role}",
        "description": DESCRIPTIONS[role],
        "enabled": True,
        "permission_grants": grants,
    }
    return "---\n# Written by docs/build_permissions.py.\n" + yaml.safe_dump(
        content, sort_keys=False, width=110
    )


def table() -> str:
    lines = [
        "| action | right | " + " | ".join(ORDER) + " | note |",
        "|---|---|" + "---|" * (len(ORDER) + 1),
    ]
    for action, right in ACTIONS.items():
        marks = " | ".join("yes" if may_run(role, action) else "-" for role in ORDER)
        lines.append(f"| `{action}` | {right} | {marks} | {NOTES.get(action, '')} |")
    lines += ["", "| right | what it allows |", "|---|---|", "| look | see everything, stop all responses |"]
    lines += [f"| {right} | {text} |" for right, text in RIGHTS.items()]
    lines.append("| upkeep | what timers do |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its table renewed."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    roles = DOCS / "rbac" / "roles"
    roles.mkdir(parents=True, exist_ok=True)
    for role in ORDER:
        (roles / f"ioc_scan_{role}.yaml").write_text(role_file(role), encoding="utf-8")
    path = DOCS / "permissions.md"
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
