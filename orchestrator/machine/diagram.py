"""The table as a Mermaid diagram, for the README; a test holds the two together.

``python -m orchestrator.machine.diagram`` prints it. Left out, because they would hide the rest:
aborting and a rejected key, possible in every state, and the deadline.
"""

from __future__ import annotations

from orchestrator.machine.table import TABLE
from orchestrator.machine.vocabulary import AbortRequested, KeyRefused, State


def mermaid() -> str:
    """The state diagram, one arrow for each pair of states, labelled with its events."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.NEW}"]
    for state, rows in TABLE.items():
        arrows: dict[State, list[str]] = {}
        for event, row in rows.items():
            if event in (AbortRequested, KeyRefused):
                continue
            for target in row.to:
                arrows.setdefault(target, []).append(event.__name__)
        for target, events in arrows.items():
            lines.append(f"    {state} --> {target}: {', '.join(events)}")
        if not rows:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)


if __name__ == "__main__":
    print(mermaid())
