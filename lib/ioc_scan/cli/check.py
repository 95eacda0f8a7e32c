"""``check FILE...``: is each IOC file usable, and what is to be said of it? Exit 0 all ok, 1 not, 2 usage."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ioc_scan.openioc.check import CheckResult, check_files
from ioc_scan.openioc.terms import PROFILES, SYSTEMS
from ioc_scan.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="an IOC file; - reads standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object per file and line")
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default="generic",
        help="whose terms and rules count (default: generic)",
    )
    parser.add_argument(
        "--system",
        action="append",
        choices=SYSTEMS,
        help="where the files are to be used; may be repeated (default: all)",
    )


def run(args: argparse.Namespace) -> int:
    results = check_files(args.files, profile=args.profile, systems=tuple(args.system or SYSTEMS))
    for result in results:
        if args.json:
            print(json.dumps(result.as_dict(), ensure_ascii=True))
        else:
            _show(result)
    if not args.json and len(results) > 1:
        bad = sum(not result.ok for result in results)
        print(f"{len(results)} files, {bad} with errors")
    return 0 if all(result.ok for result in results) else 1


def _show(result: CheckResult) -> None:
    name = printable(Path(result.file).name if result.file != "-" else "standard input", 100)
    what = (
        f"OpenIOC {result.version}, {result.indicator_items} indicator items"
        if result.version
        else "not read"
    )
    extra = ", actionable" if result.actionable else ""
    print(f"{'ok   ' if result.ok else 'ERROR'} {name}: {what}{extra}")
    for entry in result.problems:
        where = f"line {entry.line}" if entry.line else "file"
        hint = f" ({entry.hint})" if entry.hint else ""
        print(f"      {entry.severity:7} {where:>9}  {entry.code}: {entry.message}{hint}")
    sys.stdout.flush()
