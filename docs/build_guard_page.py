"""Writes docs/guard.md from the code and real reports: ``python docs/build_guard_page.py FOLDER... > docs/guard.md``.

A FOLDER holds CAPE reports or VMRay summaries, plain or gzip, or one analysis of Cuckoo 3 (``analysis.json`` and
``post.json``). The CAPE reports of mandiant/capa-testfiles (Apache-2.0) are on the page as it is.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from ioc_scan.detection.cuckoo3 import POST_WANTED, Cuckoo3Analysis
from ioc_scan.detection.guard import Triage, classify
from ioc_scan.detection.guard_reasons import REASONS, TIERS
from ioc_scan.detection.normalize import finished, normalize_report
from ioc_scan.detection.reading import ReportReader
from ioc_scan.detection.selection import Selection
from ioc_scan.text import printable

HEAD = """\
# The guard: what may be touched

Made by `python docs/build_guard_page.py FOLDER... > docs/guard.md`; change the code, not this page.

A sandbox report names hundreds of files, addresses and keys. Most of them are harmless: copies of Windows
programs, updaters that ran at the same time, the victim's own documents. The guard puts every indicator into
exactly one tier and says why.

* **Actionable**: whole objects, known by SHA-256. Only these can lead to a response, and each device judges
  again before it acts.
* **Hunt**: looked for and reported, never acted on.
* **Suppressed**: neither, with the reason.

When in doubt, the lower tier. `python -m ioc_scan triage REPORT` shows a report this way; add `--all` to see
every suppressed indicator.

## Real reports

Default settings, source trusted for its target.
"""

SETTINGS = """
## What you can set

| setting (section `guard`) | effect |
|---|---|
| `threshold_score` | the score from which a verdict counts, 0 to 100; CAPE's 7.0 is 70 |
| `strict` | nothing is actionable unless the score and a family name agree |
| `hunt` | `false` leaves the second tier out |
| `known_good_file` | SHA-256, one a line: such a target is only hunted, with the alert `known_good_conflict` |
| `allowed_domains_file`, `denied_domains_file` | names never hunted; names always hunted (they win) |
| `allowed_paths_file` | beginnings of paths below which files are not hunted |
| `denied_paths_file` | beginnings of paths below which every file is hunted, programs or not |
| `owners_file` | your own publishers: what carries a certificate in their name is never acted on |
| `sandbox_networks` | networks of the sandbox itself |
| `hash_lookup_url` | asks a hashlookup service (CIRCL's or yours) for known software; it learns the digests |
| `warning_lists` | also leave out names on chosen MISP warning lists; cloud, VPN and dynamic-DNS lists only annotate |

A source's `trust` sets how far its word goes: `hunt` (report only), `target` (its target may become
actionable), `artefacts` (what it marks malicious itself, too).

An answer of the hash look-up counts for a day, its silence (`known_good_unchecked`) for half an hour, so that all
steps of a workflow see the same tiers.

## What your clean image holds

`learn_known_good` hashes every file of a clean image into the list `known_good.list` in the store's folder. A
target found there is only hunted, with the alert `known_good_conflict`; a dropped file found there is left out.

```
st2 run ioc_scan.learn_known_good folder=/mnt/image origin=windows-11-24h2 days=180
st2 run ioc_scan.learn_known_good device_id=ws00
```

* `folder` lies on the machine that runs actions: mount the disk or the image there, read-only.
* `device_id` names a device of a manager of type `local`, whose files lie on that machine, too. Files of devices
  behind other managers are not fetched: give the folder of their mounted image.
* Each digest carries its origin and an expiry (`days`, a year if left out); after that it counts no more. Learn
  again after each update of the image. A million digests take 38 MB, and a look-up some microseconds.
* Only a person may learn; who did is in the audit trail (`known_good_learned`).
"""


def main(folders: list[Path]) -> None:
    print(HEAD)
    print("| source | report | verdict | target | actionable | hunt | suppressed |")
    print("|---|---|---|---|---|---|---|")
    for folder in folders:
        for name, detection in detections(folder):
            print(row(name, detection, classify(detection)))
    print("\n## Every reason\n\n| tier | reason | meaning |\n|---|---|---|")
    for tier in TIERS:
        for code, (of_tier, words) in REASONS.items():
            if of_tier == tier:
                print(f"| {tier} | `{code}` | {words} |")
    print(SETTINGS, end="")


def detections(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if (folder / "analysis.json").exists():
        analysis = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
        form = Cuckoo3Analysis(analysis)
        with (folder / "post.json").open("rb") as post:
            form.add_post(Selection(ReportReader(post), POST_WANTED))
        yield analysis["id"], finished("cuckoo3", "lab", analysis["id"], form.normal_form(), None)
        return
    for path in sorted(folder.glob("*.json*")):
        yield path.name[:8], normalize_report(path, instance="lab")


def row(name: str, detection: dict[str, Any], triage: Triage) -> str:
    verdict = triage.verdict
    families = f", {', '.join(verdict['families'])}" if verdict.get("families") else ""
    kind = detection["target"].get("file_type", "").split(",")[0]
    score = f" {verdict['score']:g}" if "score" in verdict else ""
    said = f"{verdict['result']}{score}{families}"
    cells = [
        detection["source"]["product"],
        f"`{name}`",
        said,
        kind,
        *(tier(entries) for entries in (triage.actionable, triage.hunt, triage.suppressed)),
    ]
    return "| " + " | ".join(printable(cell, 400).replace("|", "\\|") for cell in cells) + " |"


def tier(entries: list[dict[str, Any]]) -> str:
    """``total: count reason, count reason``."""
    counts = Counter(entry["reason"].partition(":")[0] for entry in entries)
    parts = ", ".join(
        f"{count} {code}" for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"**{len(entries)}**: {parts}" if entries else "0"


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
