"""Relaunches kept in PostgreSQL (extra ``fleet``). :mod:`.store` is the file to read first."""

from orchestrator.durable.postgres.store import PostgresRunStore

__all__ = ["PostgresRunStore"]
