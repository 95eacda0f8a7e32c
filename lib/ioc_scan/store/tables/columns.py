"""How every column of a kind is made, and the names of keys and indexes."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, MetaData

from ..types import Count, SafeJson, SafeText, UtcTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def key_column(name: str) -> Column[str]:
    return Column(name, SafeText, primary_key=True)


def text_column(name: str, null: bool = True) -> Column[str]:
    return Column(name, SafeText, nullable=null)


def time_column(name: str, null: bool = True) -> Column:
    return Column(name, UtcTime, nullable=null)


def json_column(name: str, null: bool = True) -> Column:
    return Column(name, SafeJson, nullable=null)


def count_column(name: str, null: bool = False) -> Column[int]:
    return Column(name, Count, nullable=null, default=None if null else 0)


def task_key_column(primary: bool = True) -> Column[str]:
    return Column("task_id", SafeText, ForeignKey("tasks.task_id"), primary_key=primary, nullable=False)
