"""``explain FILE``: the logic of an IOC file as a person reads it. Exit 0 shown, 1 not readable, 2 usage."""

from __future__ import annotations

import argparse
import sys

from ioc_scan.errors import InputError
from ioc_scan.openioc.check import read_file
from ioc_scan.openioc.explain import explain
from ioc_scan.openioc.reader import read_ioc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="an IOC file; - reads standard input")


def run(args: argparse.Namespace) -> int:
    try:
        lines = explain(read_ioc(read_file(args.file)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    encoding = sys.stdout.encoding or "ascii"
    for line in lines:
        print(line.encode(encoding, "replace").decode(encoding))
    return 0
