"""Measures the scanner against named peers on the same tree, in the same run: ``make bench``.

Each row: pairs of runs, ours and the peer's in turn, and the median of the ratios. A row counts only if both
found exactly the planted files. Processor time is that of the whole process tree. Writes ``bench/results.md``.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.limits import Limits
from bench.peers import Peers
from bench.plans import Objects, names_plan, objects_plan
from bench.tree import build_tree

FOLDER = Path(os.environ.get("IOC_SCAN_BENCH") or Path(tempfile.gettempdir()) / "ioc_scan_bench")
REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results.md")
_PLANTED = re.compile(rb"evil_plant_\d\d_x\.exe")


@dataclass
class Row:
    """One comparison. ``expected``: the planted names both must find; ``limit``: the ratio to stay below."""

    work: str
    peer_name: str
    ours: list[str]
    peer: list[str] | None
    expected: frozenset[str]
    limit: float
    wall: bool = False
    cold: bool = False
    peer_expected: frozenset[str] | None = None


@dataclass
class Run:
    cpu: float
    wall: float
    found: frozenset[str]


def measure(command: Sequence[str], cold: bool = False) -> Run:
    """Run once. Raises RuntimeError if the command cannot be started."""
    if cold:
        subprocess.run(["sync"], check=True)
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = frozenset(name.decode() for name in _PLANTED.findall(answer.stdout))
    return Run(cpu, wall, found)


# ------------------------------------------------------------------------------------------------- rows


class Ours:
    """The scanner as it is installed on a device: its modules with their bytecode, and a plan."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self._folder = folder
        self._tree = tree
        package = folder / "ours" / "ioc_scan_scanner"
        shutil.rmtree(package.parent, ignore_errors=True)
        shutil.copytree(REPOSITORY / "lib" / "ioc_scan" / "scanner", package)
        compileall.compile_dir(package, quiet=1)
        code = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n"
        code += "from ioc_scan_scanner.__main__ import main; sys.exit(main(sys.argv[1:]))\n"
        self._start = folder / "ours" / "start.py"
        self._start.write_text(code)

    def command(self, name: str, plan: bytes, workers: int = 2, tree: Path | None = None) -> list[str]:
        path = self._folder / f"plan-{name}.json"
        path.write_bytes(plan)
        start = [sys.executable, "-I", "-S", str(self._start), "scan"]
        return [*start, "--plan", str(path), "--root", str(tree or self._tree), "--threads", str(workers)]


def make_rows(folder: Path, tree: Path, planted: list[dict[str, Any]], peers: Peers) -> list[Row]:
    chance = random.Random(1)
    known: Objects = [(entry["size"], entry["sha256"]) for entry in planted]

    def objects(count: int) -> Objects:
        more = [(int(20_000 * 300 ** chance.random()), chance.randbytes(32).hex()) for _ in range(count)]
        return (known + more)[:count]

    def digest_file(name: str, entries: Objects) -> Path:
        path = folder / name
        path.write_text("".join(f"{digest}\n" for _, digest in entries))
        (folder / ("named-" + name)).write_text("".join(f"{digest}  x\n" for _, digest in entries))
        return path

    def known_file(entries: Objects) -> Path:
        path = folder / "known-100k.txt"
        head = "%%%% HASHDEEP-1.0\n%%%% size,sha256,filename\n"
        path.write_text(head + "".join(f"{size},{digest},x\n" for size, digest in entries))
        return path

    ours = Ours(folder, tree)
    every = frozenset(entry["name"] for entry in planted)
    hundred, many, huge = objects(100), objects(10_000), objects(100_000)
    hashes = ours.command("hash-100", objects_plan(hundred, False))
    sized = ours.command("size-100", objects_plan(hundred, True))
    digests = digest_file("digests-100.txt", hundred)
    first = frozenset([planted[0]["name"]])
    all_names = [entry["name"] for entry in planted] + [f"mal{number:07d}.exe" for number in range(76)]
    one = ours.command("size-1", objects_plan(hundred[:1], True))
    sizes = sorted({size for size, _ in hundred})
    return [
        Row(
            "sha256 of everything, 100",
            "sha256deep -j2",
            hashes,
            peers.sha256deep(tree, folder / "named-digests-100.txt"),
            every,
            0.28,
        ),
        Row(
            "sha256 of everything, 100k",
            "hashdeep -j2",
            ours.command("hash-100k", objects_plan(huge, False)),
            peers.hashdeep(tree, known_file(huge)),
            every,
            0.28,
        ),
        Row("sha256 of everything, 100", "yara-x", hashes, peers.yara_x(tree, hundred, False), every, 0.50),
        Row(
            "sha256 of everything, 100",
            "find, xargs -P2, openssl",
            hashes,
            peers.openssl(tree, digests),
            every,
            0.75,
        ),
        Row("size + sha256, 100", "yara-x", sized, peers.yara_x(tree, hundred, True), every, 0.20),
        Row("size + sha256, 100", "yara-x", sized, peers.yara_x(tree, hundred, True), every, 0.12, wall=True),
        Row(
            "size + sha256, 10k",
            "yara-x",
            ours.command("size-10k", objects_plan(many, True)),
            peers.yara_x(tree, many, True),
            every,
            0.03,
        ),
        Row("size + sha256, 100", "find with 100 -size", sized, peers.find_sizes(tree, sizes), every, 0.67),
        Row(
            "one size + sha256", "find -size", one, peers.find_sizes(tree, sizes=[hundred[0][0]]), first, 1.2
        ),
        Row(
            "100 names",
            "find -name with one",
            ours.command("names-100", names_plan(all_names)),
            peers.find_name(tree, planted[0]["name"]),
            every,
            1.3,
            peer_expected=first,
        ),
        Row(
            "cold cache, everything",
            "sha256deep -j2",
            ours.command("hash-100", objects_plan(hundred, False), workers=8),
            peers.sha256deep(tree, folder / "named-digests-100.txt"),
            every,
            0.35,
            wall=True,
            cold=True,
        ),
    ]


# ---------------------------------------------------------------------------------------------- reporting


def compare(row: Row, pairs: int) -> list[str]:
    """The cells of one row of the table. Runs alternate, so that what else the machine does hits both."""
    kind = "wall" if row.wall else "CPU"
    if row.peer is None:
        return [row.work, row.peer_name, kind, "-", "-", "-", f"<= {row.limit}", "not installed"]
    if row.cold and os.geteuid() != 0:
        return [row.work, row.peer_name, kind, "-", "-", "-", f"<= {row.limit}", "needs root"]
    ours, theirs = [], []
    for _ in range(pairs):
        ours.append(measure(row.ours, row.cold))
        theirs.append(measure(row.peer, row.cold))
    value: Callable[[Run], float] = (lambda run: run.wall) if row.wall else (lambda run: run.cpu)
    ratio = statistics.median(value(one) / value(other) for one, other in zip(ours, theirs, strict=True))
    right = all(run.found == row.expected for run in ours)
    wanted = row.expected if row.peer_expected is None else row.peer_expected
    peer_right = all(
        run.found >= wanted if row.work.startswith("one") else run.found == wanted for run in theirs
    )
    verdict = "met" if ratio <= row.limit else "MISSED"
    if not right or not peer_right:
        verdict = "VOID: " + ("we" if not right else "the peer") + " did not find what was planted"
    return [
        row.work,
        row.peer_name,
        kind,
        f"{statistics.median(map(value, ours)):.3f} s",
        f"{statistics.median(map(value, theirs)):.3f} s",
        f"{ratio:.3f}",
        f"<= {row.limit}",
        verdict,
    ]


#: Of two processors shared with other work; said here because a table of figures does not say why.
NOTES = """
## Where an aim is missed, and why
- *find with 100 -size*: find itself takes 0.155 s for one size, a C program that does nothing but list and lstat this
  tree 0.125 s. The aim is 0.16 s: less than find's walk and a start of Python (0.009 s) together. Spent now: find 0.17,
  start and plan 0.024, hashing 5 MB, looking at 24 matches and sharing out the tree 0.015, two finds instead of one
  0.01 (they halve the time one waits). Tried: 100 tests in a row, 0.238; as a tree of tests, 0.175; our own walk with
  `DirEntry.stat`, 0.25; with `statx` by ctypes, 0.23, as the call costs what making a `stat_result` does.
- *sha256 of everything, yara-x*: of 2.45 s, 58 % are SHA-256 in OpenSSL (1.48 GB/s), 12 % the kernel's copying, 15 %
  its listing, opening and closing, 14 % Python, 1 % the rest (perf). A bare loop of scandir, open, readv, sha256,
  close, which knows no plan, takes 2.33 s: 0.50 is what would be left without ours. Tried: buffers of 64 to 512 KiB,
  1 %; copies of one hash object instead of new ones, slower; OpenSSL's alternative built into Python, slower. Mapped
  files would save the copying, but a file that is cut short meanwhile would end the process.

## Where the time goes
- Start of a scan: 0.022 s, of which Python 0.009, OpenSSL 0.003. It was 0.045: `typing`, `re`, `enum`, `datetime`,
  `json` and collectors of other documents are now loaded only by those who need them.
- *one size*: find 0.15, of which 0.005 for counting all files; start, plan and one match 0.03. At its aim: 1.19 to 1.22
  from run to run. One find instead of two would be at 1.1 and take a fifth longer.
- *100 names*: 0.097 s of walk, 0.089 s of which are `scandir`, `is_file`, `casefold` and a look into a set. Sets of a
  folder's names, and lists instead of loops, are slower by 3 to 9 %. Workers cost 0.015 s, so a short walk has none.
- *everything hashed*: a loop of its own saves 10 %, and pays for the second read that only finds the end of a file.
- Wall times suffer most from what else the machine does: look at the load in the first line.
"""

HEADINGS = ["work", "peer", "of", "ours", "peer's", "ours / peer", "aim", ""]


LIMIT_HEADINGS = ["what", "measured", "aim", ""]


def table(rows: list[list[str]], headings: list[str] = HEADINGS) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def write_results(
    rows: list[list[str]], limits: list[list[str]], tree: dict[str, Any], peers: Peers, pairs: int
) -> None:
    versions = ", ".join(f"{name} ({text})" for name, text in peers.versions().items())
    RESULTS.write_text(
        "# The scanner against its peers\n\n"
        f"{time.strftime('%Y-%m-%d')}, {platform.platform()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the end. "
        f"{tree['files']} files, {tree['bytes'] / 1e9:.2f} GB, warm cache unless said; medians of {pairs} pairs.\n\n"
        f"Peers: {versions}.\n\n"
        "Ours is `scan` of the device's scanner with compiled plans and bytecode; the one-file scanner adds the "
        "time Python takes to compile it on each start. Rules of yara-x are compiled beforehand too.\n\n"
        + table(rows)
        + "\n"
        + table(limits, LIMIT_HEADINGS)
        + NOTES
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose work or peer contains this")
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    print("building the tree ...", flush=True)
    tree = build_tree(FOLDER / "tree")
    peers = Peers(FOLDER)
    planted = tree["planted"]
    assert isinstance(planted, list)
    rows = make_rows(FOLDER, FOLDER / "tree", planted, peers)
    done = []
    for row in rows:
        if args.only in row.work or args.only in row.peer_name:
            if row.peer is not None and not row.cold:
                measure(row.ours)  # warms the cache
            done.append(compare(row, args.pairs))
            print("  ".join(done[-1]), flush=True)
    if not args.only:
        limits = Limits(FOLDER, FOLDER / "ours", FOLDER / "tree", FOLDER / "plan-hash-100k.json").rows()
        write_results(done, limits, tree, peers, args.pairs)
        print(f"written: {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
