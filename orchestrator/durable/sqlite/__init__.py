"""Relaunches kept in one SQLite file. :mod:`.store` is the file to read first."""

from orchestrator.durable.sqlite.store import SQLiteRunStore

__all__ = ["SQLiteRunStore"]
