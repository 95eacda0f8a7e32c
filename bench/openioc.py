"""The OpenIOC benchmark: loading, compiling and evaluating against its bounds, reading and converting against peers.

``python -m bench.openioc [--peers FOLDER] [--files FOLDER] [--out FILE]`` prints the table and writes it. Each measure
runs in a process of its own; figures are medians of paired runs. CPU seconds, not wall time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
GROUPS = 100_000
RUNS = 5
PAIRS = 9
FILES_FED = 20_000

# ------------------------------------------------------------------------------------------------ what is measured


def write_groups(path: Path, count: int) -> None:
    """An OpenIOC 1.0 file of AND(size, sha256) groups, 530 bytes each."""
    dice = random.Random(7)
    with path.open("w", encoding="ascii") as out:
        out.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<ioc xmlns="http://schemas.mandiant.com/2010/ioc" '
            'id="8d4bd7ac-0000-4000-8000-000000000001" last-modified="2026-01-01T00:00:00Z"><short_description>bench'
            "</short_description><authored_date>2026-01-01T00:00:00Z</authored_date><links/><definition>"
            '<Indicator operator="OR" id="root">'
        )
        for _ in range(count):
            ids = [uuid.UUID(int=dice.getrandbits(128)) for _ in range(3)]
            out.write(
                f'<Indicator operator="AND" id="{ids[0]}"><IndicatorItem id="{ids[1]}" condition="is">'
                '<Context document="FileItem" search="FileItem/SizeInBytes" type="mir"/>'
                f'<Content type="int">{dice.randrange(1, 10**7)}</Content></IndicatorItem>'
                f'<IndicatorItem id="{ids[2]}" condition="is">'
                '<Context document="FileItem" search="FileItem/Sha256sum" type="mir"/>'
                f'<Content type="sha256">{dice.getrandbits(256):064x}</Content></IndicatorItem></Indicator>'
            )
        out.write("</Indicator></definition></ioc>")


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compile_groups(folder: Path) -> dict[str, Any]:
    """CPU of loading and compiling the large file, and the peak of the process."""
    from ioc_scan.openioc import bulk  # noqa: F401  loaded before the clock starts
    from ioc_scan.openioc.plan import compile_plan

    begin = time.process_time()
    plan = compile_plan([(folder / "groups.ioc", "actionable")], max_bytes=1 << 30)
    seconds = time.process_time() - begin
    (folder / "plan.json").write_bytes(plan)
    return {"seconds": seconds, "megabytes": _peak_megabytes()}


def load_plan_again(folder: Path) -> dict[str, Any]:
    """What a device pays for a plan it has: reading, checking, indexing."""
    from ioc_scan.scanner.evaluate import Evaluator
    from ioc_scan.scanner.plan import load_plan

    data = (folder / "plan.json").read_bytes()
    begin = time.process_time()
    plan = load_plan(data)
    del data
    judge = Evaluator(plan, "linux")
    seconds = time.process_time() - begin
    assert len(judge.digests) == GROUPS
    return {"seconds": seconds, "megabytes": _peak_megabytes()}


def _evaluator(tree_items: list[tuple[str, str, str]]) -> Any:
    from ioc_scan.openioc.model import Indicator, Ioc, Item
    from ioc_scan.openioc.plan import compile_document
    from ioc_scan.scanner.evaluate import Evaluator
    from ioc_scan.scanner.plan import load_plan

    items = [
        Item(f"i{number}", condition, "FileItem", f"FileItem/{field}", content)
        for number, (field, condition, content) in enumerate(tree_items)
    ]
    return Evaluator(
        load_plan(compile_document(Ioc("1.1", "b", [Indicator("r", "OR", list(items))]))), "linux"
    )


def _fed(judge: Any, items: list[dict[str, Any]], content: bytes = b"") -> float:
    begin = time.process_time()
    for item in items:
        if content:
            hashlib.sha256(content).digest()
        judge.feed("FileItem", item)
    return time.process_time() - begin


def _paired(small: Any, large: Any, items: list[dict[str, Any]], content: bytes = b"") -> dict[str, Any]:
    """Both evaluators over the same items, in turn; seconds are per item. ``content``: hashed for each item."""
    for judge in (small, large):
        _fed(judge, items[:500], content)
    pairs = [(_fed(small, items, content), _fed(large, items, content)) for _ in range(PAIRS)]
    return {
        "small": statistics.median(pair[0] for pair in pairs) / len(items),
        "large": statistics.median(pair[1] for pair in pairs) / len(items),
        "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
    }


def evaluate_hashes(folder: Path) -> dict[str, Any]:
    """Cost per file of 1 against 100,000 hash indicators; one file in a thousand is a hit.

    A file is judged by its digest right after that was made: hashing 4 KB, the smallest usual file, is part of it.
    ``judging``: the same without hashing.
    """
    dice = random.Random(3)
    digests = [f"{dice.getrandbits(256):064x}" for _ in range(GROUPS)]
    items = [
        {
            "FileName": f"f{number}",
            "SizeInBytes": number,
            "Sha256sum": digests[0] if number % 1000 == 0 else f"{dice.getrandbits(256):064x}",
        }
        for number in range(FILES_FED)
    ]
    judges = [
        _evaluator([("Sha256sum", "is", digest) for digest in digests[:count]]) for count in (1, GROUPS)
    ]
    return {**_paired(*judges, items, b"x" * 4096), "judging": _paired(*judges, items)}


def evaluate_needles(folder: Path) -> dict[str, Any]:
    """Cost per file of 100 against 10,000 needles in the path."""
    dice = random.Random(4)
    syllables = [
        "mal",
        "ware",
        "temp",
        "upd",
        "ater",
        "svc",
        "host",
        "win",
        "sys",
        "drv",
        "x64",
        "run",
        "bin",
    ]

    def word() -> str:
        return "".join(dice.choice(syllables) for _ in range(3))

    needles = [f"\\{word()}\\{word()}{dice.randrange(10**4)}.exe" for _ in range(10_000)]
    items = []
    for number in range(FILES_FED // 4):
        name = f"{word()}{number}.exe"
        path = f"C:\\Users\\{word()}\\AppData\\Local\\{word()}\\{word()}\\{name}"
        items.append({"FileName": name, "FullPath": needles[number] if number % 1000 == 0 else path})
    judges = [
        _evaluator([("FullPath", "contains", needle) for needle in needles[:count]])
        for count in (100, 10_000)
    ]
    return _paired(*judges, items)


def own_work(work: str) -> Callable[[Path], object]:
    from ioc_scan.openioc.convert import convert
    from ioc_scan.openioc.plan import compile_plan
    from ioc_scan.openioc.reader import read_ioc
    from ioc_scan.openioc.writer import write_ioc

    return {
        "read": lambda path: read_ioc(path.read_bytes()),
        "convert": lambda path: write_ioc(convert(read_ioc(path.read_bytes()), "1.1").ioc),
        "load": lambda path: compile_plan([(path.read_bytes(), "hunt")]),
    }[work]


def measure_own_work(folder: Path, work: str, names: list[str]) -> dict[str, Any]:
    """The files a peer managed, by us."""
    do = own_work(work)
    paths = [folder / name for name in names]
    for path in paths:
        do(path)
    begin = time.process_time()
    for path in paths:
        do(path)
    return {"seconds": time.process_time() - begin}


# --------------------------------------------------------------------------------------------------------- running

MEASURES = {
    measure.__name__: measure
    for measure in (compile_groups, load_plan_again, evaluate_hashes, evaluate_needles)
}


def _child(*arguments: str) -> dict[str, Any]:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\nfrom bench import openioc\nopenioc.run_child(sys.argv[3:])"
    )
    command = [sys.executable, "-c", code, str(REPOSITORY), str(REPOSITORY / "lib"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def run_child(arguments: list[str]) -> None:
    name, folder, *rest = arguments
    if name in MEASURES:
        print(json.dumps(MEASURES[name](Path(folder))))
    else:
        print(json.dumps(measure_own_work(Path(folder), name, json.loads(rest[0]))))


def _bounds(folder: Path, rows: list[list[str]]) -> bool:
    write_groups(folder / "groups.ioc", GROUPS)
    megabytes = (folder / "groups.ioc").stat().st_size / 1e6
    fine = True

    def row(what: str, value: float, unit: str, bound: float) -> None:
        nonlocal fine
        fine = fine and value <= bound
        rows.append(
            [what, f"{value:.3g} {unit}".strip(), f"≤ {bound:g}", "yes" if value <= bound else "**no**"]
        )

    compiled = [_child("compile_groups", str(folder)) for _ in range(RUNS)]
    what = f"load and compile {GROUPS:,} groups ({megabytes:.0f} MB)"
    row(what, statistics.median(run["seconds"] for run in compiled), "s", 1.5)
    row(f"{what}: peak memory", max(run["megabytes"] for run in compiled), "MB", 80)
    loaded = [_child("load_plan_again", str(folder)) for _ in range(RUNS)]
    row("load that plan on a device", statistics.median(run["seconds"] for run in loaded), "s", 0.3)
    row("load that plan on a device: peak memory", max(run["megabytes"] for run in loaded), "MB", 64)
    hashes, needles = _child("evaluate_hashes", str(folder)), _child("evaluate_needles", str(folder))
    row(f"4 KB file, 1 → {GROUPS:,} hashes ({hashes['large'] * 1e6:.1f} µs)", hashes["ratio"], "×", 1.1)
    judging = hashes["judging"]
    rows.append(
        [
            f"the judging alone ({judging['large'] * 1e6:.1f} µs)",
            f"{judging['ratio']:.3g} ×",
            "",
            "not bounded",
        ]
    )
    row(f"path, 100 → 10,000 needles ({needles['large'] * 1e6:.1f} µs)", needles["ratio"], "×", 2.5)
    return fine


def _against_peers(peers_folder: Path, files: Path, rows: list[list[str]]) -> None:
    from bench.openioc_peers import WORKS, install

    interpreters = install(peers_folder)
    for work, package in WORKS.items():
        own = work.split()[1]
        if package not in interpreters:
            rows.append([work, "not installed", "", "", ""])
            continue
        command = [
            str(interpreters[package]),
            str(Path(__file__).with_name("openioc_peers.py")),
            work,
            str(files),
        ]
        pairs, answer = [], {}
        for _ in range(RUNS):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            answer = json.loads(done.stdout.splitlines()[-1])
            ours = _child(own, str(files), json.dumps(answer["done"]))
            pairs.append((answer["seconds"], ours["seconds"]))
        count = max(1, len(answer["done"]))
        total = count + len(answer["failed"])
        rows.append(
            [
                work,
                f"{count} of {total}",
                f"{statistics.median(pair[0] for pair in pairs) / count * 1e3:.2f} ms",
                f"{statistics.median(pair[1] for pair in pairs) / count * 1e3:.2f} ms",
                f"{statistics.median(pair[1] / pair[0] for pair in pairs):.2f}",
            ]
        )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    shared = REPOSITORY.parent / "shared" / "data" / "openioc" / "dev"
    parser.add_argument(
        "--peers", type=Path, default=REPOSITORY / ".demo" / "bench", help="where peers are installed"
    )
    parser.add_argument("--files", type=Path, default=shared, help="a folder of .ioc files")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("openioc_results.md"))
    args = parser.parse_args()
    sys.path[:0] = [str(REPOSITORY / "lib")]
    bounds: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        fine = _bounds(Path(folder), bounds)
    peers: list[list[str]] = []
    if args.files.is_dir():
        args.peers.mkdir(parents=True, exist_ok=True)
        _against_peers(args.peers, args.files, peers)
    machine = (
        f"{platform.machine()}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    )
    text = "\n\n".join(
        [
            "# OpenIOC benchmark",
            f"`python -m bench.openioc` on {machine}. CPU time, medians of {RUNS} runs ({PAIRS} pairs for ratios).",
            _table(["measure", "value", "bound", "held"], bounds),
            "Peers in the same run, on the public files each of them manages. Ours also checks every bound; "
            "`load` is reading and compiling to a plan, where PyMISP keeps a flat list of attributes.",
            _table(["peer and work", "files", "peer, per file", "ours, per file", "ours / peer"], peers),
        ]
    )
    args.out.write_text(text + "\n", "utf-8")
    print(text)
    return 0 if fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
