# ruff: noqa: E501  (rows of tables)
"""The generated pages of docs/: ``python -m ioc_scan.openioc.pages docs`` writes them, a test compares them."""

from __future__ import annotations

import sys
from pathlib import Path

from ioc_scan.openioc.problem_codes import ERRORS, REFUSALS, WARNINGS
from ioc_scan.openioc.terms import Term, all_terms

_TERMS_HEAD = """# OpenIOC terms

Generated from `lib/ioc_scan/openioc/terms.tsv`; do not edit.

A term is what an indicator item compares. *Linux*, *Windows*, *macOS* name the collector of the scanner that fills it
in there; without one an item on it is **not evaluated**, and results say so: it never counts as clean. *Kaspersky*:
the term is among those Kaspersky's IOC Scan results show (`check --profile kaspersky` warns about the others).
*many*: one item may hold several values; any of them may match, and a negated item holds only if none does.

How values are compared:

| type | is | more |
|---|---|---|
| string | equal, case does not matter unless `preserve-case` | contains, starts-with, ends-with, matches (RE2) |
| int, float | equal, or within `[A TO B]` | greater-than, less-than |
| date | within the second, minute or day that is written; UTC if no zone is given; `[A TO B]` | greater-than, less-than |
| duration | seconds, `PT1H30M`, `1.02:03:04`; `[A TO B]` | greater-than, less-than |
| ip | the address, in any spelling; IPv4 inside IPv6 is IPv4; `[A TO B]` | as text: contains, starts-with, ends-with, matches |
| md5, sha1, sha256 | hex digits, in any case | as text: contains, starts-with, ends-with, matches |
| bool | true, false, 1, 0, yes, no | |

`FileItem/FullPath` is the whole path, `FilePath` its folder without a separator at the end, `FileExtension` what
follows the last dot of the name. `Permissions` is the mode as a whole number: 0644 is 420. `RegistryItem/Path` is hive, key and value name; hives may be written short (HKLM).
"""

_PROBLEMS_HEAD = """# What `check` says of an IOC file

Generated from `lib/ioc_scan/openioc/problem_codes.py`; do not edit.

Codes are stable. A file with an error is not ok (exit status 1); warnings are harmless deviations or advice.
"""


def terms_page() -> str:
    """docs/terms.md"""
    lines = [_TERMS_HEAD]
    documents: dict[str, list[Term]] = {}
    for term in all_terms().values():
        documents.setdefault(term.document, []).append(term)
    for document, terms in sorted(documents.items()):
        lines.append(f"## {document}\n")
        lines.append("| term | type | Linux | Windows | macOS | Kaspersky |")
        lines.append("|---|---|---|---|---|---|")
        lines.extend(_row(term) for term in terms)
        lines.append("")
    return "\n".join(lines)


def _row(term: Term) -> str:
    kind = f"{term.type}, many" if term.many else term.type
    where = " | ".join(term.collectors.get(system, "") for system in ("linux", "windows", "macos"))
    return f"| {term.field} | {kind} | {where} | {'yes' if term.kaspersky else ''} |"


def problems_page() -> str:
    """docs/openioc_problems.md"""
    lines = [_PROBLEMS_HEAD]
    for title, codes in (
        ("Refused: the file is not read any further (error)", REFUSALS),
        ("Errors", ERRORS),
        ("Warnings", WARNINGS),
    ):
        lines.append(f"## {title}\n\n| code | meaning |\n|---|---|")
        lines.extend(f"| `{code}` | {meaning} |" for code, meaning in sorted(codes.items()))
        lines.append("")
    return "\n".join(lines)


def write_pages(folder: Path) -> None:
    (folder / "terms.md").write_text(terms_page(), "utf-8")
    (folder / "openioc_problems.md").write_text(problems_page(), "utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
