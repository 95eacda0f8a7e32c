"""``convert --to 1.0|1.1 IN OUT``: an IOC file in the other version. Exit 0 done, 1 not possible, 2 usage."""

from __future__ import annotations

import argparse
import sys

from ioc_scan.errors import InputError
from ioc_scan.openioc.check import read_file, write_file
from ioc_scan.openioc.convert import convert
from ioc_scan.openioc.model import VERSIONS
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.writer import write_ioc


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, choices=VERSIONS, help="the version wanted")
    parser.add_argument(
        "--drop-parameters", action="store_true", help="to 1.0: leave out parameters that are not comments"
    )
    parser.add_argument("source", metavar="IN", help="the IOC file; - reads standard input")
    parser.add_argument("target", metavar="OUT", help="where to write; - writes standard output")


def run(args: argparse.Namespace) -> int:
    try:
        conversion = convert(read_ioc(read_file(args.source)), args.to, drop_parameters=args.drop_parameters)
        content = write_ioc(conversion.ioc)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for note in conversion.notes:
        print(f"note: line {note.line}: {note.code}: {note.message}", file=sys.stderr)
    write_file(args.target, content)
    return 0
