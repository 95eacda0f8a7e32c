"""Items of a device that are not files; collected only if a plan names their document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    from .scanjob import Judge


def collect_documents(jobs: Sequence[Judge]) -> None:
    """Feed all documents but files to the jobs that name them; what cannot be collected is said."""
    for job in jobs:
        for document in sorted(job.evaluator.documents - {"FileItem"}):
            job.evaluator.unavailable(document, "this scanner has no collector for it")
