"""``make demo``: the main job done for real on three devices, from a sandbox report to the last prune."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ioc_scan.detection.guard import classify
from ioc_scan.detection.normalize import normalize_report
from ioc_scan.errors import IocScanError
from ioc_scan.reports import tables
from ioc_scan.reports.tables import Column
from ioc_scan.service.context import ALLOW_TEMPORARY_VARIABLE

from standalone import demo_ksc, demo_salt, demo_ssh, demo_stage
from standalone.display import LivePrinter
from standalone.engine import Engine

CHECKOUT = Path(__file__).resolve().parent.parent
EIGHT_DAYS = 8 * 24 * 3600
WORKFLOW = "ioc_scan.respond_to_detection"
PATIENCE_SECONDS = 180
USER = "demo-operator"


@contextlib.contextmanager
def _folders(stage: demo_stage.Stage) -> Iterator[list[dict[str, Any]]]:
    yield []


#: What makes the three devices of the stage reachable, and gives the device managers that do so.
FLEETS: dict[str, Callable[[demo_stage.Stage], AbstractContextManager[list[dict[str, Any]]]]] = {
    "local": _folders,
    "ssh": demo_ssh.devices,
    "salt": demo_salt.devices,
    "ksc": demo_ksc.devices,
}


class Failed(Exception):
    """A promise of the demo that was not kept."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 only if every promise was seen to hold."""
    parser = argparse.ArgumentParser(prog="python -m standalone demo", description=__doc__)
    parser.add_argument("--report", type=Path, help="a sandbox report of your own (JSON, may be gzip)")
    parser.add_argument(
        "--fleet", choices=sorted(FLEETS), default="local", help="how the devices are reached"
    )
    options = parser.parse_args(argv)
    os.environ[ALLOW_TEMPORARY_VARIABLE] = "1"
    folder = Path(tempfile.mkdtemp(prefix="ioc_scan-demo-"))
    started = time.monotonic()
    try:
        stage = demo_stage.build(folder)
        with FLEETS[options.fleet](stage) as managers:
            stage = replace(stage, managers=managers)
            checks = _real_report(stage, options.report) if options.report else _whole_way(stage)
    except Failed as failure:
        print(f"\nFAILED: {failure}\nEverything is left in {folder}", file=sys.stderr)
        return 1
    except IocScanError as error:
        print(f"\nFAILED: {error}\nEverything is left in {folder}", file=sys.stderr)
        return 1
    print("\n" + tables.render(checks, [Column("what", "what happened"), Column("seen", "seen", fixed=True)]))
    print(f"\n{len(checks)} of {len(checks)} in {time.monotonic() - started:.0f} s.")
    _next_steps(stage, options.report)
    return 0


def _whole_way(stage: demo_stage.Stage) -> list[dict[str, str]]:
    checks: list[dict[str, str]] = []
    original = hashlib.sha256(stage.decoy.read_bytes()).hexdigest()
    _title("1  A sandbox report is dropped into the watched folder; sensor, rule and workflow do the rest")
    with _engine(stage, "auto") as engine:
        execution = _detect(engine, stage, None)
        output = _output(execution)
        task_id = output["task_id"]
        _promise(checks, "detection became a task", task_id is not None and output["decision"] == "task")

        _title("2  What the devices found, and what was done about it")
        results = _run(engine, "get_results", task_id=task_id, tier="actionable")
        print(results["table"])
        rows = results["rows"]
        _promise(
            checks,
            "two matches on three devices",
            sorted(row["device_id"] for row in rows) == ["ws01", "ws02"],
        )
        quarantined = [row for row in rows if row["response_state"] == "quarantined"]
        gone = not any(stage.planted(device).exists() for device in demo_stage.PLANTED)
        native = any(manager["type"] == "ksc" for manager in stage.managers)
        how = "as the server's events say" if native else "copies verified"
        _promise(checks, f"both quarantined, {how}", len(quarantined) == 2 and gone)
        untouched = hashlib.sha256(stage.decoy.read_bytes()).hexdigest() == original
        _promise(checks, "decoy of equal size untouched", untouched)

        if native:
            _title("3  The objects lie in Kaspersky's own quarantine and are restored from its console")
            kept = _run(engine, "list_quarantine")["rows"]
            _promise(checks, "no quarantine of ours was claimed", kept == [])
        else:
            _restore(engine, stage, checks)

        report = Path(_run(engine, "render_report", task_id=task_id)["path"])
        page = report.read_text(encoding="utf-8")
        _promise(
            checks,
            "report written, no template evaluated",
            "7*7" in page and "invoice_49" not in page,
        )
        _keep(report)
        print("\n" + _run(engine, "list_tasks")["table"])

    _title("4  Eight days later: the task has ended, on every device")
    with _engine(stage, "auto", EIGHT_DAYS) as engine:
        pruned = _run(engine, "prune")
        coverage = _run(engine, "get_task", task_id=task_id)["coverage"]
        withdrawn = coverage["by_state"].get("withdrawn", 0)
        print(
            f"{len(pruned['expired'])} task expired, withdrawn on {withdrawn} of {coverage['targeted']} devices, "
            f"{pruned['results_deleted']} results past their term deleted; a summary stays."
        )
        left = [path for device in demo_stage.DEVICES for path in _jobs(stage, device)]
        _promise(
            checks, "task expired and gone from every device", pruned["expired"] == [task_id] and not left
        )
    return checks


def _restore(engine: Engine, stage: demo_stage.Stage, checks: list[dict[str, str]]) -> None:
    _title("3  A quarantined object is restored, and exempt from then on")
    held = next(row for row in _run(engine, "list_quarantine")["rows"] if row["device_id"] == "ws01")
    restored = _run(engine, "restore_object", device_id="ws01", quarantine_id=held["quarantine_id"])
    print(restored["message"])
    back = stage.planted("ws01")
    same = back.exists() and hashlib.sha256(back.read_bytes()).hexdigest() == stage.sample_sha256
    _promise(checks, "restored, byte for byte", restored["state"] == "restored" and same)


def _real_report(stage: demo_stage.Stage, report: Path) -> list[dict[str, str]]:
    if not report.is_file():
        raise Failed(f"{report} is not a file")
    checks: list[dict[str, str]] = []
    _title("1  What the report says, and what may be done about it")
    triage = classify(normalize_report(report, instance="demo"))
    for tier in ("actionable", "hunt", "suppressed"):
        entries = getattr(triage, tier)
        print(f"\n{tier}: {len(entries)}")
        rows = [{"type": e["type"], "what": _name(e), "reason": e["reason"]} for e in entries]
        print(_shortened(rows))
    _title("2  The same report through sensor, rule and workflow")
    with _engine(stage, "auto") as engine:
        if triage.starts_task:
            output = _output(_detect(engine, stage, report))
            task = _run(engine, "get_task", task_id=output["task_id"])
            print(task["table"])
            _promise(checks, "detection became a task", output["decision"] in ("task", "hunt_only"))
            coverage = task["coverage"]
            _promise(checks, "all devices answered", coverage["answered"] == coverage["targeted"] == 3)
            _keep(Path(output["report"]))
        else:
            demo_stage.drop_report(stage, report)
            engine.start_sensors()
            time.sleep(8)
            engine.wait_idle(10)
            print(f"The sensor looked at the report and started nothing: {triage.reason}.")
            started = [row for row in engine.executions() if row["action"] == WORKFLOW]
            _promise(checks, f"nothing started ({triage.reason})", not started)
    return checks


@contextlib.contextmanager
def _engine(stage: demo_stage.Stage, mode: str, ahead_seconds: int | None = None) -> Iterator[Engine]:
    printer = LivePrinter(sys.stdout)
    engine = Engine(
        CHECKOUT,
        stage.config(mode),
        stage.folder / "state",
        clock_ahead_seconds=ahead_seconds,
        poll_interval_seconds=2,
        log=printer.log,
    )
    # What the rule started is shown live; the demo's own questions are not.
    engine.on_execution(lambda row: printer.execution(row) if row["context"].get("user") != USER else None)
    with engine:
        yield engine


def _detect(engine: Engine, stage: demo_stage.Stage, report: Path | None) -> dict[str, Any]:
    """Drop the report, start the sensor, and wait for the workflow that the rule starts."""
    demo_stage.drop_report(stage, report)
    engine.start_sensors()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = [row for row in engine.executions() if row["action"] == WORKFLOW]
        if found and found[0]["status"] in ("succeeded", "failed", "timeout", "canceled"):
            engine.wait_idle(30)
            return found[0]
        time.sleep(0.2)
    raise Failed(f"the detection was not dealt with within {PATIENCE_SECONDS} seconds")


def _output(execution: dict[str, Any]) -> dict[str, Any]:
    output = (execution["result"] or {}).get("output") or {}
    if execution["status"] != "succeeded":
        raise Failed(f"the workflow {execution['status']}: {output.get('error') or execution['result']}")
    return dict(output)


def _run(engine: Engine, action: str, **parameters: Any) -> dict[str, Any]:
    execution = engine.run_action(f"ioc_scan.{action}", parameters, USER)
    if execution["status"] != "succeeded":
        raise Failed(f"ioc_scan.{action}: {execution['result']}")
    return dict(execution["result"]["result"])


def _jobs(stage: demo_stage.Stage, device: str) -> list[Path]:
    """Job folders a device still holds."""
    return [path for path in (stage.folder / "spool" / device / "jobs").glob("*") if path.is_dir()]


def _keep(report: Path) -> None:
    """A copy where a person finds it again."""
    kept = CHECKOUT / ".demo"
    kept.mkdir(exist_ok=True)
    shutil.copyfile(report, kept / "report.html")


def _promise(checks: list[dict[str, str]], what: str, kept: bool) -> None:
    if not kept:
        raise Failed(f"not so: {what}")
    checks.append({"what": what, "seen": "yes"})


def _title(text: str) -> None:
    print(f"\n== {text}\n", flush=True)


def _name(entry: dict[str, Any]) -> str:
    return str(
        entry.get("path") or entry.get("value") or entry.get("hashes", {}).get("SHA-256") or entry.get("name")
    )


def _shortened(rows: list[dict[str, str]], most: int = 12) -> str:
    columns = [
        Column("type", "type", fixed=True),
        Column("what", "indicator", keep="end"),
        Column("reason", "reason"),
    ]
    more = f"\n... and {len(rows) - most} more" if len(rows) > most else ""
    return tables.render(rows[:most], columns, empty="-") + more


def _next_steps(stage: demo_stage.Stage, report: Path | None) -> None:
    kept = CHECKOUT / ".demo" / "report.html"
    steps = [f"Look at the report:       {kept}"] if kept.exists() else []
    steps += [
        "Try your own report:      make demo REPORT=path/to/report.json.gz",
        "See every tier:           .venv/bin/python -m ioc_scan triage path/to/report.json.gz",
        "Run the tests:            make test",
        "Install on StackStorm:    docs/install.md",
        f"Everything of this demo:  {stage.folder} (remove it when you are done)",
    ]
    print("\nNext:\n  " + "\n  ".join(steps))
