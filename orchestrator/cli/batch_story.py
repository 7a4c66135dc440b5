"""Batches of a store as an operator looks at them: a table of all, and all about one.

What is told is named here, field by field; never a way into a lab, nor launch parameters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.batch.outcomes import outcome_of_stored, plain_batch, plain_outcome
from orchestrator.cli.batch_words import (
    Account,
    bad_lines,
    counted,
    ended_words,
    next_lines,
    state_words,
)
from orchestrator.cli.durations import roughly
from orchestrator.durable.batches import Batch, Counts

_ORIGINS = {"command": "the command line", "service": "the service", "library": "a program"}


def print_table(found: Sequence[tuple[Batch, Counts]], now: float) -> None:
    """Print a table, newest first."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE)
    # Whoever copies an id must find all of it, however narrow the terminal is.
    table.add_column("batch", min_width=15, overflow="fold")
    table.add_column("state", overflow="fold")
    table.add_column("begun", overflow="fold")
    for head in ("learners", "done", "failed"):
        table.add_column(head, justify="right")
    table.add_column("what", overflow="fold")
    for batch, counts in found:
        reason = f" ({batch.reason})" if batch.reason else ""
        table.add_row(
            batch.batch_id,
            f"{batch.state.value}{reason}",
            f"{roughly(now - batch.created_at)} ago",
            f"{batch.total:,}",
            f"{counts.ok:,}",
            f"{counts.not_ok:,}",
            Text(asked_for(batch)),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def row(batch: Batch, counts: Counts) -> dict[str, Any]:
    """The values of one line."""
    return {
        **plain_batch(batch),
        "waiting": counts.waiting,
        "in_flight": counts.in_flight,
        "ok": counts.ok,
        "not_ok": counts.not_ok,
        "ended": dict(counts.ended),
        "api_calls": counts.api_calls,
    }


def told(account: Account) -> dict[str, Any]:
    """All about one as plain values."""
    batch_id = account.batch.batch_id
    return {
        **row(account.batch, account.counts),
        "note": account.batch.note,
        "carried_out": account.is_held,
        "without_success": [
            plain_outcome(outcome_of_stored(batch_id, stored)) for stored in account.bad
        ],
    }


def story(account: Account, *, most: int | None) -> str:
    """All about one for people; ``most`` learners without success are named."""
    return "\n".join(_lines(account, most))


def asked_for(batch: Batch) -> str:
    """What is to be done, and to whom, in a few words."""
    saved = batch.policy.displace == "save"
    if batch.policy.launch:
        what = "relaunch, saving the old labs" if saved else "relaunch"
    else:
        what = "save and launch nothing" if saved else "free the slots"
    return what if batch.selection is None else f"{what}: {batch.selection}"


def _lines(account: Account, most: int | None) -> Iterator[str]:
    batch, counts, at = account.batch, account.counts, account.at
    yield f"Batch {batch.batch_id} {state_words(account)}."
    yield f"  asked for {asked_for(batch)}, by {_ORIGINS[batch.origin]}"
    if batch.note:
        yield f"  note      {batch.note}"
    yield f"  begun     {_moment(batch.created_at, at)}"
    if batch.started_at != batch.created_at:
        yield f"  resumed   {_moment(batch.started_at, at)}"
    if batch.ended_at is not None:
        yield f"  ended     {_moment(batch.ended_at, at)}"
    standing = {
        **ended_words(counts.ended), "in flight": counts.in_flight, "not begun": counts.waiting
    }  # fmt: skip
    how = counted({word: count for word, count in standing.items() if count})
    yield f"  learners  {batch.total:,}: {how}"
    yield f"  calls     {counts.api_calls:,}"
    yield from bad_lines(account, most=most)
    yield from next_lines(account)


def _moment(at: float, now: float) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
    return f"{when} ({roughly(now - at)} ago)"
