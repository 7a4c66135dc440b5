"""Stands in until the real one is here."""

from __future__ import annotations

import sys
from typing import Any

from orchestrator.batch.planning import Plan


def show_plan(plan: Plan) -> None:
    """Show it."""
    print(len(plan.rows), file=sys.stderr)


def plain_plan(plan: Plan) -> dict[str, Any]:
    """As plain values."""
    return {"rows": len(plan.rows)}
