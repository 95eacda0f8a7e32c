"""Compiles IOC files to the plan a device runs (its form: ``scanner/plan.py``).

Each IOC file becomes branches joined by OR. A branch says one thing of one item, or joins what is said of
several documents on the host. Where an AND mixes documents below nested ORs, it is distributed, so that
everything said of one document stays bound to one item; that is bounded by ``MAX_BRANCHES``.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ioc_scan.errors import InputError
from ioc_scan.openioc.branches import BranchCompiler
from ioc_scan.openioc.model import Ioc
from ioc_scan.openioc.plan_builder import PlanBuilder
from ioc_scan.openioc.reader import read_ioc
from ioc_scan.openioc.secure_xml import MAX_FILE_BYTES
from ioc_scan.scanner.plan import BINDINGS, TIERS

Content = bytes | Path | BinaryIO


def compile_plan(
    files: Sequence[tuple[Content, str]], *, binding: str = "item", max_bytes: int = MAX_FILE_BYTES
) -> bytes:
    """One plan for all IOC files of a task: canonical ASCII JSON, the same for the same files.

    ``files``: content and tier ("actionable", "hunt"). A path or a binary stream is read in pieces, so that a
    very large file (``max_bytes`` raised) never lies in memory as a whole.
    ``binding``: "item" (an AND binds what it says of one document to one item) or "host" (each indicator item
    may hold on another item, as some other tools read it).
    Raises InputError: what the reader refuses, ``too_many_branches``, ``plan_too_large``.
    """
    if binding not in BINDINGS:
        raise InputError("unknown_binding", "binding is neither item nor host", "")
    builder = PlanBuilder(binding)
    for content, tier in files:
        if tier not in TIERS:
            raise InputError("unknown_tier", "a tier is neither actionable nor hunt", "")
        if isinstance(content, bytes) and len(content) <= MAX_FILE_BYTES:
            _add_document(builder, content, tier, max_bytes)
        else:
            _add_stream(builder, content, tier, max_bytes)
    return builder.to_bytes()


def _add_document(builder: PlanBuilder, data: bytes, tier: str, max_bytes: int) -> None:
    ioc = read_ioc(data, max_bytes=max_bytes)
    compiler = BranchCompiler(builder, builder.add_ioc(hashlib.sha256(data).hexdigest(), ioc, tier))
    for root in ioc.roots:
        compiler.add(root)


def _add_stream(builder: PlanBuilder, content: Content, tier: str, max_bytes: int) -> None:
    from ioc_scan.openioc.bulk import read_stream  # only for files beyond the usual cap

    if isinstance(content, Path):
        with content.open("rb") as stream:
            read_stream(builder, stream, tier, max_bytes)
    else:
        read_stream(builder, io.BytesIO(content) if isinstance(content, bytes) else content, tier, max_bytes)


def plan_digest(plan: bytes) -> str:
    """What names a plan everywhere: the SHA-256 of its bytes."""
    return hashlib.sha256(plan).hexdigest()


def compile_document(ioc: Ioc, tier: str = "hunt", *, binding: str = "item") -> bytes:
    """The plan of a document in memory, for evaluating it here; its digest is that of no file."""
    builder = PlanBuilder(binding)
    compiler = BranchCompiler(
        builder, builder.add_ioc(hashlib.sha256(json.dumps(ioc.id).encode()).hexdigest(), ioc, tier)
    )
    for root in ioc.roots:
        compiler.add(root)
    return builder.to_bytes()
