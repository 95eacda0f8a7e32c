"""``scan-critical-areas``: look at what runs, the kernel, boot sectors and autostart objects of this machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ioc_scan.errors import InputError
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.scanner.critical import Context
from ioc_scan.scanner.critical.job import look
from ioc_scan.scanner.errors import ScannerError
from ioc_scan.scanner.evaluate import Evaluator
from ioc_scan.scanner.plan import load_plan
from ioc_scan.scanner.system import system_name

from .scan import read_ioc_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ioc", action="append", default=[], metavar="FILE", help="an IOC file to match; repeatable"
    )
    parser.add_argument(
        "--baseline",
        metavar="FILE",
        help="keeps what boot sectors look like; without it they are not compared with anything",
    )
    parser.add_argument(
        "--accept-boot-sectors", action="store_true", help="what boot sectors look like now is right"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines: one for each area, then a summary")


def run(args: argparse.Namespace) -> int:
    if args.accept_boot_sectors and not args.baseline:
        raise InputError("bad_parameters", "--accept-boot-sectors needs --baseline FILE")
    evaluator = None
    names: dict[str, str] = {}
    if args.ioc:
        plan = load_plan(compile_plan([(read_ioc_file(name), "hunt") for name in args.ioc]))
        names = {ioc.digest: ioc.name for ioc in plan.iocs}
        evaluator = Evaluator(plan, system_name())
    context = Context(
        evaluator=evaluator,
        baseline=str(Path(args.baseline).absolute()) if args.baseline else None,
        accept_boot_sectors=args.accept_boot_sectors,
    )
    try:
        summary = look(context, _print_json if args.json else lambda line: _print_area(line, names))
    except ScannerError as error:
        raise InputError(error.code, error.message, error.hint) from None
    if args.json:
        _print_json(summary)
    else:
        _print_summary(summary)
    return 0


def _print_json(line: dict[str, Any]) -> None:
    print(json.dumps(line, ensure_ascii=True), flush=True)


def _print_area(line: dict[str, Any], names: dict[str, str]) -> None:
    title = line["area"].replace("_", " ")
    print(f"{title}: {line['state']}, {line['looked_at']} looked at, {line['seconds']:.2f} s")
    if line["reason"]:
        print(f"  {line['reason']}")
    for finding in line["findings"]:
        who = f" (process {finding['pid']})" if "pid" in finding else ""
        print(f"  {finding['severity'].upper():10} {finding['what']}{who}")
        print(f"             {finding['detail']}")
        if "ioc" in finding:
            name = names.get(finding["ioc"], "") or finding["ioc"][:16]
            print(f"             {name}, proven by {', '.join(finding['proof'])}", flush=True)
    hidden = sum(line["counts"].values()) - len(line["findings"])
    if hidden:
        print(f"  and {hidden} more findings")


def _print_summary(summary: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {severity}" for severity, count in summary["findings"].items())
    print(f"{len(summary['areas'])} areas: {counts}; {summary['seconds']:.2f} s")
