"""The store: one SQL database (SQLite or PostgreSQL) that holds everything the pack knows.

``Store.open(url)``, then ``with store.transaction() as tx:`` and the namespaces of ``tx``
(``tx.tasks``, ``tx.matches`` ...), one module each. Rows are plain dicts with the column names of tables.py.
"""

from __future__ import annotations

from .event_types import ALL_EVENT_TYPES, EventType
from .store import Store
from .transaction import Transaction

__all__ = ["ALL_EVENT_TYPES", "EventType", "Store", "Transaction"]
