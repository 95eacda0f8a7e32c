"""What every namespace of a transaction shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, Table, Text, any_, cast
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from .transaction import Transaction

Row = dict[str, Any]
# Named, because the namespaces have methods called ``list``.
Rows = list[Row]
Names = list[str]

#: Keys per IN list: databases limit the parameters of one statement.
CHUNK = 500


def chunks(values: Sequence[Any], size: int = CHUNK) -> Iterator[Sequence[Any]]:
    """The values in pieces a statement can take."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


class Namespace:
    """A group of small methods on one open transaction. Rows are plain dicts; times are aware, in UTC."""

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction
        self._connection = transaction.connection

    def _one(self, query: Select[Any]) -> Row | None:
        found = self._connection.execute(query).mappings().first()
        return dict(found) if found is not None else None

    def _all(self, query: Select[Any]) -> Rows:
        return [dict(row) for row in self._connection.execute(query).mappings()]

    def _among(self, column: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
        """``column IN values``; as one array where the database takes one, which is much quicker to prepare."""
        if self._connection.dialect.name == "postgresql":
            return column == any_(cast(list(values), postgresql.ARRAY(Text)))
        return column.in_(values)

    @contextmanager
    def _planned_by_values(self) -> Iterator[None]:
        """Let PostgreSQL plan each look-up by its values.

        The generic plan of a prepared statement compares each row of a task with each of many values in turn
        as long as the table has no statistics, which a task just created never has: 150 ms instead of 5.
        """
        if self._connection.dialect.name != "postgresql":
            yield
            return
        self._connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")
        yield
        self._connection.exec_driver_sql("SET LOCAL plan_cache_mode = auto")

    def _insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update`` on both databases."""
        if self._connection.dialect.name == "postgresql":
            return postgresql.insert(table)
        return sqlite.insert(table)
