"""``scan``: scan folders of this machine with IOC files, here and now. Nothing is changed on the way."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from ioc_scan.errors import InputError
from ioc_scan.openioc.plan import compile_plan
from ioc_scan.scanner.errors import ScannerError
from ioc_scan.scanner.localscan import scan_here
from ioc_scan.scanner.plan import load_plan
from ioc_scan.scanner.protocol import SCOPES

_MAX_IOC_BYTES = 64 * 1024 * 1024
_BAR_WIDTH = 30
_MAX_VALUE_CHARS = 80
_MAX_ITEM_CHARS = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ioc", action="append", required=True, metavar="FILE", help="an IOC file; repeatable"
    )
    parser.add_argument(
        "--root", action="append", default=[], metavar="DIR", help="a folder to scan; repeatable"
    )
    parser.add_argument(
        "--scope", choices=SCOPES, help="what to scan if no --root is given (default: critical)"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATH", help="a folder left out; repeatable"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="worker processes")
    parser.add_argument("--cpu-percent", type=int, default=100, help="processor budget, of one processor")
    parser.add_argument(
        "--max-hash-bytes", type=int, default=None, help="larger files are not hashed, and reported"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines: each match, then a summary")


def run(args: argparse.Namespace) -> int:
    if args.root and args.scope not in (None, "custom"):
        raise InputError(
            "bad_parameters", "--root and --scope cannot both choose the folders", "give one of them"
        )
    if not 1 <= args.threads <= 64 or not 1 <= args.cpu_percent <= 100:
        raise InputError("bad_parameters", "--threads is 1 to 64, --cpu-percent 1 to 100")
    settings: dict[str, Any] = {
        "scope": "custom" if args.root else args.scope or "critical",
        "roots": [str(Path(root).absolute()) for root in args.root],
        "excludes": [str(Path(path).absolute()) for path in args.exclude],
        "threads": args.threads,
        "cpu_percent": args.cpu_percent,
        "max_hash_bytes": args.max_hash_bytes,
    }
    if settings["scope"] == "custom" and not args.root:
        raise InputError("bad_parameters", "--scope custom needs --root")
    plan = load_plan(compile_plan([(read_ioc_file(name), "hunt") for name in args.ioc]))
    bar = _Bar() if sys.stderr.isatty() else None
    show = _print_json if args.json else _print_match
    try:
        summary = scan_here(plan, settings, _above(bar, show), None if bar is None else bar.show)
    except ScannerError as error:
        raise InputError(error.code, error.message, error.hint) from None
    except KeyboardInterrupt:
        raise InputError("interrupted", "the scan was interrupted: it has not seen everything") from None
    finally:
        if bar is not None:
            bar.clear()
    if args.json:
        _print_json(summary)
    else:
        _print_summary(summary)
    return 0


def read_ioc_file(name: str) -> bytes:
    """The content of an IOC file given on the command line. Raises InputError."""
    try:
        with Path(name).open("rb") as stream:
            content = stream.read(_MAX_IOC_BYTES + 1)
    except OSError as error:
        raise InputError("ioc_unreadable", f"{name}: {error.strerror}") from None
    if len(content) > _MAX_IOC_BYTES:
        raise InputError("ioc_too_large", f"{name} is larger than {_MAX_IOC_BYTES // 2**20} MiB")
    return content


def _print_json(line: dict[str, Any]) -> None:
    print(json.dumps(line, ensure_ascii=True), flush=True)


def _print_match(line: dict[str, Any]) -> None:
    what = line["path"] if line["document"] == "FileItem" else _summed_up(line["item"])
    print(f"MATCH  {line['document']}  {what}")
    print(f"       {line['ioc_name'] or line['ioc'][:16]}  proven by {', '.join(line['proof'])}", flush=True)


def _summed_up(item: dict[str, Any]) -> str:
    """An item that is no file, on one line; of several spellings of a value the first."""
    parts = []
    for name, value in item.items():
        first = (value[0] if value else None) if isinstance(value, list) else value
        if first not in (None, "", []):
            parts.append(f"{name.rpartition('/')[2]}={str(first)[:_MAX_VALUE_CHARS]}")
    return "  ".join(parts)[:_MAX_ITEM_CHARS]


def _print_summary(summary: dict[str, Any]) -> None:
    print(
        f"{summary['matches']} matches in {summary['files']} files; "
        f"{summary['bytes_hashed'] / 1e6:.1f} MB hashed, {summary['seconds']:.2f} s"
    )
    for entry in summary["not_evaluated"]:
        print(f"not evaluated: {entry['what']}: {entry['reason']}")
    for entry in summary["skipped"]:
        print(f"not looked at: {entry['count']} x {entry['reason'].replace('_', ' ')}")


class _Bar:
    """One line on a terminal, rewritten in place."""

    def show(self, share: float, files: int, matches: int) -> None:
        done = int(share * _BAR_WIDTH)
        bar = "#" * done + "." * (_BAR_WIDTH - done)
        sys.stderr.write(f"\r[{bar}] {share:4.0%}  {files} files  {matches} matches\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _above(bar: _Bar | None, show: Any) -> Any:
    """Print lines without leaving pieces of the bar between them."""
    if bar is None:
        return show

    def shown(line: dict[str, Any]) -> None:
        bar.clear()
        show(line)

    return shown
