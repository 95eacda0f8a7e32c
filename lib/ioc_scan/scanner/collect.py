"""Items of a device that are not files: collected once for all jobs, only if a plan names their document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Sequence

from .documents import Item, Request, UnavailableError, module_of
from .system import system_name

if TYPE_CHECKING:
    from .scanjob import Judge

_FOLDER_TREE = "the device is a folder tree: there are files only"

#: Does a piece of work for one job; what fails there ends that job and no other.
Guarded = Callable[[Any, Callable[[Any], None]], None]


def collect_documents(
    jobs: list[Any],
    folder_tree: bool = False,
    guarded: Guarded | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Feed all documents but files to the jobs that name them; what cannot be collected is said.

    ``folder_tree``: the device is a folder of this machine, so this machine's processes are not its own.
    ``jobs`` may lose members while this runs. ``stop`` is asked between items; True from it ends the work and
    is returned: the documents not done are collected anew when the job goes on. Those that are done are
    noted in ``job.collected`` and never collected twice.
    """
    do: Guarded = guarded or (lambda job, work: work(job))
    for document in sorted({name for job in jobs for name in job.evaluator.documents} - {"FileItem"}):
        asking = [
            job for job in jobs if document in job.evaluator.documents and document not in job.collected
        ]
        if not asking:
            continue
        request = Request(_fields(document, asking), system_name())
        answered: set[str] = set()
        try:
            for item in _items(document, request, folder_tree):
                answered.update(field for field, value in item.items() if value is not None)
                for job in asking:
                    if job in jobs:
                        do(job, lambda job: job.take_item(document, item))  # noqa: B023  (called at once)
                if stop():
                    return True
        except UnavailableError as error:
            request.incomplete(error.reason)
        gaps = _gaps(document, request, answered)
        for job in asking:
            job.note_collected(document, gaps)
    return False


def _fields(document: str, jobs: Sequence[Judge]) -> set[str]:
    return {term.field for job in jobs for term in job.evaluator.plan.terms if term.document == document}


def _items(document: str, request: Request, folder_tree: bool) -> Iterator[Item]:
    """The items of a document. Raises UnavailableError, also for what goes wrong while they are read."""
    module = None if folder_tree else module_of(document)
    if module is None:
        raise UnavailableError(_FOLDER_TREE if folder_tree else "this scanner has no collector for it")
    try:
        items: Iterable[Item] = module.collect(request)
        yield from items
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnavailableError(f"it cannot be read completely: {reason}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A form of the system's own lists that was not foreseen must not end the scan of files.
        raise UnavailableError(f"it has an unexpected form ({type(error).__name__})") from None


def _gaps(document: str, request: Request, answered: set[str]) -> list[list[str]]:
    """(document or term, reason). A field that no item has was not looked at: that is not "not there"."""
    gaps = {f"{document}/{field}" if field else document: reason for field, reason in request.gaps.items()}
    supported = module_of(document)
    known = supported.FIELDS.get(request.system, frozenset()) if supported else frozenset()
    if document not in gaps:
        for field in sorted(request.fields & known - answered):
            gaps.setdefault(f"{document}/{field}", "no item of this device says it")
    return [[what, reason] for what, reason in sorted(gaps.items())]
