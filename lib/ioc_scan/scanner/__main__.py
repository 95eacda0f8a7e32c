"""``python3 scanner.pyz``: the scanner of ioc_scan on a device.

run --spool DIR [--once]   run all due jobs of a spool (see protocol.py); exit status 0 also if jobs failed:
                           each job's status.json says so
visit --spool DIR          one visit of a device manager, over stdin and stdout (see visit.py)
version                    this scanner's version and digest, as JSON
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys

from . import __version__
from .clock import system_clock
from .errors import ScannerError


def own_file() -> str | None:
    """The zipapp this runs from, or None for a source tree."""
    archive = getattr(globals().get("__loader__"), "archive", None)
    return archive if isinstance(archive, str) else None


def own_digest() -> str | None:
    """SHA-256 of the zipapp this runs from."""
    path = own_file()
    if path is None:
        return None
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def _run(arguments: argparse.Namespace) -> int:
    from .runner import Runner
    from .spool import Spool

    try:
        with Spool(arguments.spool) as spool:
            Runner(spool, system_clock, own_digest(), arguments.once).run()
    except ScannerError as error:
        if error.code == "already_running":  # that runner takes up new jobs too
            return 0
        raise
    return 0


def _visit(arguments: argparse.Namespace) -> int:
    from .visit import runner_command, serve

    path = own_file()
    if path is None:
        raise ScannerError("no_zipapp", "visit needs the scanner as one file", "build it with build-scanner")
    return serve(arguments.spool, sys.stdin.buffer, sys.stdout.buffer, runner_command(path))


def _version(_: argparse.Namespace) -> int:
    answer = {"version": __version__, "digest": own_digest(), "python": platform.python_version()}
    print(json.dumps(answer))
    return 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scanner.pyz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--spool", required=True)
    run.add_argument("--once", action="store_true")
    run.set_defaults(handle=_run)
    visit = commands.add_parser("visit")
    visit.add_argument("--spool", required=True)
    visit.set_defaults(handle=_visit)
    commands.add_parser("version").set_defaults(handle=_version)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.handle(arguments))
    except ScannerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: os_error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
