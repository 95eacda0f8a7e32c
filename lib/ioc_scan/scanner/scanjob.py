"""One scan job inside a walk: its evaluator, its results, its place."""

from __future__ import annotations

from . import TYPE_CHECKING
from .errors import ScannerError
from .evaluate import Evaluator
from .fileitem import OFFLINE, candidate_item, file_key, item_key, match_line, shown_item
from .names import encode_path, printable
from .plan import PlanError
from .walk import frames_from_json, frames_to_json

if TYPE_CHECKING:
    from typing import Any, Protocol

    from .folderscan import Tally
    from .jobfolder import JobFolder
    from .plan import Plan
    from .walk import Frame

    class Results(Protocol):
        """Where match lines go."""

        known: set[str]
        matches: int

        def append(self, line: dict[str, Any], durable: bool = False) -> None: ...

    class Output(Protocol):
        """What a scan writes to: a job folder, or a screen."""

        status: dict[str, Any]

        @property
        def results(self) -> Results: ...

        def name_skip(self, path: str, reason: str) -> None: ...


CHECKPOINT_VERSION = 2
#: Matches a job lists; an IOC file that matches everything must not fill the disk. More are only counted.
MAX_MATCHES = 100_000
#: Matches of one document that are listed for one IOC file; "any process" tells nothing more.
MAX_DOCUMENT_MATCHES = 1000
#: Shown of a text of an item; it was judged whole. A device manager takes no longer lines.
MAX_SHOWN_CHARS = 8000


class Judge:
    """Feeds what a walk finds to one plan, and writes what that proves."""

    def __init__(self, output: Output, plan: Plan, system: str) -> None:
        self.output = output
        self.evaluator = Evaluator(plan, system)
        self._names = {ioc.digest: printable(ioc.name) for ioc in plan.iocs}
        #: Counters of finished batches only: they go with the stored place.
        self._files = 0
        self._bytes = 0
        self._skipped: dict[str, int] = {}
        #: Documents other than files that were collected already -> what of them could not be told.
        self.collected: dict[str, list[list[str]]] = {}
        self._listed: dict[str, int] = {}

    def take(self, tally: Tally) -> None:
        """Judge what one batch of folders gave. Raises OSError (disk full), WithdrawnError."""
        self._files += tally.files
        self._bytes += tally.hashed_bytes
        for reason, count in tally.skipped.items():
            self._skipped[reason] = self._skipped.get(reason, 0) + count
        for path, reason in tally.skips:
            self.output.name_skip(printable(path), reason)
        for candidate in tally.candidates:
            item = candidate_item(candidate)
            for hit in self.evaluator.feed("FileItem", item):
                self._report(hit.ioc_digest, hit.tier, hit.item_ids, match_line(candidate, item))
        self._show()

    def take_item(self, document: str, item: dict[str, Any]) -> None:
        """Judge one item that is no file."""
        for hit in self.evaluator.feed(document, item):
            key = f"{document} {hit.ioc_digest}"
            self._listed[key] = self._listed.get(key, 0) + 1
            if self._listed[key] <= MAX_DOCUMENT_MATCHES:
                self._report(hit.ioc_digest, hit.tier, hit.item_ids, _other_line(document, item))
            else:
                reason = (
                    f"more than {MAX_DOCUMENT_MATCHES} items match one IOC file, the others are not listed"
                )
                self.evaluator.unavailable(document, reason)

    def note_collected(self, document: str, gaps: list[list[str]]) -> None:
        """A document was collected, and will not be again; ``gaps``: (document or term, reason)."""
        self.collected[document] = gaps
        for what, reason in gaps:
            self.evaluator.unavailable(what, reason)

    def finish(self) -> None:
        """Join across documents, and write the summary. Raises OSError, WithdrawnError."""
        elsewhere = self._skipped.get(OFFLINE)
        if elsewhere:
            reason = f"{elsewhere} files or folders lie elsewhere (cloud, archive) and were not opened"
            self.evaluator.unavailable("FileItem", reason)
        finish = self.evaluator.finish()
        for match in finish.matches:
            for document, item, item_ids in match.parts:
                line = _other_line(document, dict(item))
                line["binding"] = "host"
                self._report(match.ioc_digest, match.tier, item_ids, line)
        status = self.output.status
        status["not_evaluated"] = [{"what": what, "reason": reason} for what, reason in finish.not_evaluated]
        status["outcomes"] = finish.outcomes
        status["progress"] = 1.0
        self._show()
        self.output.results.append(
            {
                "type": "summary",
                "files": self._files,
                "bytes_hashed": self._bytes,
                "matches": status["matches"],
                "not_evaluated": status["not_evaluated"],
                "skipped": self._skipped,
                "outcomes": finish.outcomes,
            },
            durable=True,
        )

    def _report(self, digest: str, tier: str, item_ids: Any, line: dict[str, Any]) -> None:
        key = f"{digest} {line['item_key']}"
        results = self.output.results
        if key in results.known:
            return
        if results.matches >= MAX_MATCHES:
            status = self.output.status
            status["matches_not_listed"] = status.get("matches_not_listed", 0) + 1
            return
        line.update(type="match", ioc=digest, ioc_name=self._names.get(digest, ""), tier=tier)
        line["proof"] = list(item_ids)
        results.append(line)
        self.output.status["matches"] = results.matches

    def _show(self) -> None:
        status = self.output.status
        status["files_seen"] = self._files
        status["bytes_hashed"] = self._bytes
        status["skipped"] = dict(self._skipped)
        status["matches"] = self.output.results.matches


class ScanJob(Judge):
    """A judge that writes to a job folder, and can store and take up its place."""

    def __init__(self, folder: JobFolder, plan: Plan, system: str) -> None:
        super().__init__(folder, plan, system)
        self.folder = folder

    def restore(self) -> list[Frame] | None:
        """Take up the stored place of a broken-off run; None: start at the beginning."""
        checkpoint = self.folder.read_checkpoint()
        if checkpoint is None or checkpoint.get("version") != CHECKPOINT_VERSION:
            return None
        try:
            if checkpoint["plan_digest"] != self.folder.job["plan_digest"]:
                return None
            frames = frames_from_json(checkpoint["frames"])
            self.evaluator.restore_state(checkpoint["evaluator"])
            self._files, self._bytes = int(checkpoint["files"]), int(checkpoint["bytes"])
            self._skipped = {str(key): int(value) for key, value in checkpoint["skipped"].items()}
            for document, gaps in checkpoint["collected"].items():
                self.note_collected(str(document), [[str(what), str(reason)] for what, reason in gaps])
        except (KeyError, TypeError, ValueError, AttributeError, PlanError):
            raise ScannerError(
                "bad_checkpoint", "the stored place of the scan cannot be used", "start the task again"
            ) from None
        self._show()
        return frames

    def store(self, frames: list[Frame]) -> None:
        """Store the place. Raises WithdrawnError, OSError."""
        self.folder.write_checkpoint(
            {
                "version": CHECKPOINT_VERSION,
                "plan_digest": self.folder.job["plan_digest"],
                "frames": frames_to_json(frames),
                "evaluator": self.evaluator.save_state(),
                "files": self._files,
                "bytes": self._bytes,
                "skipped": self._skipped,
                "collected": self.collected,
            }
        )


def _other_line(document: str, item: dict[str, Any]) -> dict[str, Any]:
    """A match line of an item that is no file, or of a file that counts together with other items.

    Neither can be acted on: there is no device and inode, and its tier is "hunt".
    """
    from .documents.base import IDENTITY  # most scans are about files alone
    from .protocol import dump_json

    path = item.get("FullPath")
    if document == "FileItem" and isinstance(path, str):
        key, raw_path = file_key(path, item.get("INode")), encode_path(path)
    else:
        identity = item.get(IDENTITY)
        shown_identity = identity if isinstance(identity, str) else dump_json(item).decode("ascii")
        key, raw_path = item_key(document, shown_identity.encode("utf-8", "backslashreplace")), None
        path = item.get("path")
    shown = shown_item({name: _cut(value) for name, value in item.items() if name != IDENTITY})
    place = path[0] if isinstance(path, list) and path else path
    return {
        "document": document,
        "item": shown,
        "item_key": key,
        "path": printable(place)[:MAX_SHOWN_CHARS] if isinstance(place, str) else "",
        "path_b64": raw_path,
        "sha256": item.get("Sha256sum"),
        "size": item.get("SizeInBytes"),
        "device": None,
        "inode": None,
    }


def _cut(value: Any) -> Any:
    return value[:MAX_SHOWN_CHARS] if isinstance(value, str) else value
