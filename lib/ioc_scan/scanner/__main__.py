"""``python3 scanner.pyz``: the scanner of ioc_scan on a device.

run --spool DIR [--once]   run all due jobs of a spool (see protocol.py); exit status 0 also if jobs failed:
                           each job's status.json says so
visit --spool DIR          one visit of a device manager, over stdin and stdout (see visit.py)
scan --plan FILE --root DIR [--threads N]
                           scan folders with a compiled plan, here and now; JSON lines
version                    this scanner's version and digest, as JSON
"""

from __future__ import annotations

import os
import sys

from . import TYPE_CHECKING, __version__
from .errors import ScannerError
from .jsontext import dumps

if TYPE_CHECKING:
    from typing import Callable, Dict, List

    Arguments = Dict[str, List[str]]


def own_file() -> str | None:
    """The zipapp this runs from, or is unpacked beside (as over SSH); None for a source tree."""
    archive = getattr(globals().get("__loader__"), "archive", None)
    if isinstance(archive, str):
        return archive
    beside = _folder() + ".pyz"
    return beside if os.path.isfile(beside) else None


def _folder() -> str:
    """Where this package lies: a folder, unless it runs from a zipapp."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def own_digest() -> str | None:
    """SHA-256 of the zipapp this runs from."""
    path = own_file()
    if path is None:
        return None
    import hashlib

    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def _run(arguments: Arguments) -> int:
    from .clock import system_clock
    from .runner import Runner
    from .spool import Spool

    try:
        with Spool(arguments["spool"][0]) as spool:
            Runner(spool, system_clock, own_digest(), bool(arguments["once"]), polite=True).run()
    except ScannerError as error:
        if error.code == "already_running":  # that runner takes up new jobs too
            return 0
        raise
    return 0


def _visit(arguments: Arguments) -> int:
    from .visit import runner_command, serve

    path = own_file()
    if path is None:
        raise ScannerError("no_zipapp", "visit needs the scanner as one file", "build it with build-scanner")
    place = _folder() if os.path.isdir(_folder()) else path
    return serve(arguments["spool"][0], sys.stdin.buffer, sys.stdout.buffer, runner_command(place))


def _threads(arguments: Arguments) -> int:
    text = (arguments["threads"] or ["2"])[0]
    if not text.isdigit() or not 0 < int(text) <= 64:
        raise ScannerError("bad_usage", "--threads is a number from 1 to 64")
    return int(text)


def _scan(arguments: Arguments) -> int:
    from .localscan import scan_here
    from .plan import MAX_PLAN_BYTES, load_plan

    with open(arguments["plan"][0], "rb") as stream:
        plan = load_plan(stream.read(MAX_PLAN_BYTES + 1))
    settings = {"scope": "custom", "roots": arguments["root"], "threads": _threads(arguments)}
    summary = scan_here(plan, settings, lambda line: print(dumps(line)))
    print(dumps(summary))
    return 0


def _version(_: Arguments) -> int:
    answer = {"version": __version__, "digest": own_digest(), "python": sys.version.split()[0]}
    print(dumps(answer))
    return 0


#: command -> (what it does, its options); an option ends in "!" if it must be given, in "*" if repeatable
_COMMANDS: dict[str, tuple[Callable[[Arguments], int], tuple[str, ...]]] = {
    "run": (_run, ("spool!", "once")),
    "visit": (_visit, ("spool!",)),
    "scan": (_scan, ("plan!", "root!*", "threads")),
    "version": (_version, ()),
}
_FLAGS = ("once",)


def _parse(options: tuple[str, ...], words: list[str]) -> Arguments:
    """A few options need no argparse, whose import takes longer than the scan of a small tree."""
    arguments: Arguments = {option.rstrip("!*"): [] for option in options}
    while words:
        name, equals, value = words.pop(0).partition("=")
        name = name[2:] if name.startswith("--") else ""
        if name not in arguments or (name in _FLAGS and equals):
            raise ScannerError("bad_usage", "unknown option", "see --help")
        if name not in _FLAGS and not equals:
            if not words:
                raise ScannerError("bad_usage", f"--{name} needs a value")
            value = words.pop(0)
        arguments[name].append(value)
    for option in options:
        given = len(arguments[option.rstrip("!*")])
        if (not given and "!" in option) or (given > 1 and "*" not in option):
            raise ScannerError("bad_usage", f"--{option.rstrip('!*')} must be given once")
    return arguments


def main(argv: list[str]) -> int:
    """Exit status: 0 fine, 2 refused or wrong usage."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv else 2
    try:
        if argv[0] not in _COMMANDS:
            raise ScannerError("bad_usage", "unknown command", "see --help")
        handle, options = _COMMANDS[argv[0]]
        return handle(_parse(options, list(argv[1:])))
    except ScannerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        from .oserrors import code_of

        print(f"error: {code_of(error)}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
