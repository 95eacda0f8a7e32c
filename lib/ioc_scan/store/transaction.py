"""One open transaction and its namespaces."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from ..clock import Clock
from .approvals import Approvals
from .deletion import Deletion
from .detections import Detections
from .events import Events
from .exemptions import Exemptions
from .fetches import Fetches
from .flags import Flags
from .iocs import IocFiles, Plans
from .jobs import Jobs, Withdrawals
from .leases import Leases
from .matches import Matches
from .outbox import Outbox
from .quarantine import Quarantine
from .responses import Responses
from .summaries import TaskSummaries
from .task_devices import TaskDevices
from .tasks import TaskGroups, Tasks


class Transaction:
    """What ``with store.transaction() as tx`` hands out. Valid inside that block only."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        # Tasks of which what is kept beside them must be counted anew before the commit.
        self.coverage_changed: set[str] = set()
        self.counts_changed: set[str] = set()
        # Matches that changed; which tasks those are of is asked once, at the end.
        self.changed_matches: set[str] = set()
        self.detections = Detections(self)
        self.fetches = Fetches(self)
        self.ioc_files = IocFiles(self)
        self.plans = Plans(self)
        self.tasks = Tasks(self)
        self.task_groups = TaskGroups(self)
        self.task_devices = TaskDevices(self)
        self.jobs = Jobs(self)
        self.withdrawals = Withdrawals(self)
        self.matches = Matches(self)
        self.approvals = Approvals(self)
        self.responses = Responses(self)
        self.quarantine = Quarantine(self)
        self.exemptions = Exemptions(self)
        self.events = Events(self)
        self.outbox = Outbox(self)
        self.leases = Leases(self)
        self.flags = Flags(self)
        self.task_summaries = TaskSummaries(self)
        self.deletion = Deletion(self)

    def now(self) -> datetime:
        """The store's clock."""
        return self._clock()

    def finish(self) -> None:
        """Called by the store before it commits."""
        self.task_devices.store_coverage(sorted(self.coverage_changed))
        self.coverage_changed.clear()
        self.counts_changed |= self.matches.tasks_of(sorted(self.changed_matches))
        self.changed_matches.clear()
        self.matches.store_counts(sorted(self.counts_changed))
        self.counts_changed.clear()
