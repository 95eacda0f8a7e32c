"""Subcommands of ``python -m ioc_scan``: one module each with ``add_arguments(parser)`` and ``run(args)``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from ioc_scan.errors import IocScanError

#: name -> one line of help; the module is ``ioc_scan.cli.<name with _>`` and loads only when asked for
COMMANDS = {
    "triage": "a sandbox report: its verdict, and every indicator with tier and reason",
    "check": "validate and lint IOC files",
    "convert": "convert an IOC file between OpenIOC 1.0 and 1.1",
    "explain": "show the logic of an IOC file as a person reads it",
    "scan": "scan folders of this machine with IOC files",
    "scan-critical-areas": "look at processes, kernel, boot sectors and autostart objects of this machine",
    "check-config": "is this configuration usable? for when no action starts",
    "build-scanner": "write the scanner for devices as one file, or with Python for Windows",
}


def main(argv: list[str]) -> int:
    """Run one subcommand. Exit status: 0 fine, 1 the command's own 'no', 2 wrong usage or refused input."""
    parser = argparse.ArgumentParser(prog="python -m ioc_scan", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    name = next((argument for argument in argv if not argument.startswith("-")), None)
    for command, text in COMMANDS.items():
        child = subparsers.add_parser(command, help=text, description=text)
        if command == name:
            module = importlib.import_module("ioc_scan.cli." + command.replace("-", "_"))
            module.add_arguments(child)
            child.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except IocScanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader (head, less) has gone; point stdout at nothing so that the interpreter's flush is quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
