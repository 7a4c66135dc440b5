"""``relaunch key``: a new service key, shown once, and the line that lets it in.

It needs nothing that the service needs, so that a key can be made on any machine.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.cli.options import JsonOption
from orchestrator.service.access.callers import Scope
from orchestrator.service.access.service_keys import new_key


def key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="read: look on. start: begin, abort and enter as well. admin: everything."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Make a service key. It is shown once; the service keeps only its hash."""
    made, kept = new_key(name, scope or [Scope.START])
    if as_json:
        print(json.dumps({"key": made, "entry": kept.entry}))
        return 0
    print("The key, for whoever calls the service. It is shown only now:")
    print(f"  {made}")
    print("Its entry in the service's settings, in the list service.keys. It is no secret:")
    print(f'  "{kept.entry}"')
    print("To replace a key, add the new one's entry, move the callers over, drop the old entry.")
    return 0
