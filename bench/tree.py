"""Builds the tree that the scanner's benchmark runs on, and the objects planted in it: the same every time.

At least 75,000 files and 2 GB, in the shape of a workstation: many small files, few large ones, folders of
uneven size, some of them deep.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

FILES = 78_000
PLANTED = 24
_SEED = 20_240_601
_STEMS = (
    "index", "setup", "readme", "data", "module", "config", "test", "report", "image", "cache", "log", "notes",
    "base", "util", "view", "main",
)  # fmt: skip
_ENDINGS = (
    "py", "js", "txt", "json", "png", "so", "dll", "html", "xml", "md", "pyc", "css", "h", "c", "dat", "db",
)  # fmt: skip


def _folders(chance: random.Random, count: int) -> list[str]:
    """Folder paths, each below one that came before; most at depth 3 to 8."""
    folders = ["."]
    while len(folders) < count:
        parent = chance.choice(folders[-400:] if chance.random() < 0.7 else folders)
        if parent.count("/") < 12:
            folders.append(f"{parent}/{chance.choice(_STEMS)}{len(folders)}")
    return folders


def build_tree(folder: Path) -> dict[str, object]:
    """Build the tree below ``folder`` unless it is there; what was planted: name, size and hashes of each."""
    note = folder.parent / (folder.name + ".json")
    if note.exists():
        return dict(json.loads(note.read_text()))
    chance = random.Random(_SEED)
    pool = chance.randbytes(64 * 2**20)
    folders = _folders(chance, 7_900)
    for path in folders:
        (folder / path).mkdir(parents=True, exist_ok=True)
    total = 0
    for number in range(FILES):
        size = min(int(chance.lognormvariate(8.7, 1.75)), 60 * 2**20)
        start = chance.randrange(len(pool) - min(size, 2**20))
        content = pool[start : start + size]
        name = f"{chance.choice(_STEMS)}{number}.{chance.choice(_ENDINGS)}"
        # The number makes each file another one, whatever piece of the pool it got.
        (folder / chance.choice(folders) / name).write_bytes(content + b"%d" % number)
        total += len(content)
    planted = []
    for number in range(PLANTED):
        content = chance.randbytes(int(20_000 * 1.3 ** (number % 16)) + number)
        path = f"{chance.choice(folders)}/evil_plant_{number:02d}_x.exe"
        (folder / path).write_bytes(content)
        planted.append(
            {
                "path": path,
                "name": path.rpartition("/")[2],
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
        total += len(content)
    answer = {"files": FILES + PLANTED, "bytes": total, "planted": planted}
    note.write_text(json.dumps(answer))
    return answer
