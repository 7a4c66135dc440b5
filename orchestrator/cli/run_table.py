"""The relaunches of a store, one line each: as a table, and as plain values for scripts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from orchestrator.cli.durations import roughly
from orchestrator.durable.store import StoredRun
from orchestrator.sentences import progress_sentence


def print_table(found: Sequence[StoredRun], now: float) -> None:
    """Print a table, newest first."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE)
    # Whoever copies an id must find all of it, however narrow the terminal is.
    table.add_column("relaunch", min_width=32, overflow="fold")
    for head in ("user", "lab", "state", "age", "what it waits for"):
        table.add_column(head, overflow="fold")
    for stored in found:
        run = stored.run
        table.add_row(
            run.relaunch_id,
            run.user_id,
            str(run.lab_profile_id),
            run.state.value,
            roughly(now - run.created_at),
            waits_for(stored),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def waits_for(stored: StoredRun) -> str:
    """What it waits for or is about to do, or the reason that it ended with."""
    if stored.finished_at is not None:
        return stored.run.reason or ""
    if stored.signals.abort_requested:
        return "Asked to abort."
    return progress_sentence(stored.run)


def row(stored: StoredRun) -> dict[str, Any]:
    """The values of one line."""
    run = stored.run
    return {
        "relaunch_id": run.relaunch_id,
        "user_id": run.user_id,
        "lab_profile_id": run.lab_profile_id,
        "state": run.state.value,
        "reason": run.reason,
        "waits_for": waits_for(stored) if stored.finished_at is None else None,
        "created_at": run.created_at,
        "updated_at": stored.updated_at,
        "due_at": stored.due_at,
        "finished_at": stored.finished_at,
        "owner": stored.owner,
        "lab_instance_id": run.new_instance_id,
        "cancelled_instance_ids": list(run.cancelled),
        "saved_instance_ids": list(run.saved_by_us),
        "api_calls": stored.api_calls,
    }
