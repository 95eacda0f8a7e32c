"""``build-scanner``: the device side as one file."""

from __future__ import annotations

import argparse

from ioc_scan.scanner_build import build_zipapp


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT.pyz", help="the file to write")


def run(args: argparse.Namespace) -> int:
    digest = build_zipapp(args.out)
    print(f"{digest}  {args.out}")
    return 0
