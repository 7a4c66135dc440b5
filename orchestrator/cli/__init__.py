"""The command line. ``main`` imports the rest, so that a missing extra is told in one sentence."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run ``relaunch`` with the process's arguments, and exit."""
    try:
        from orchestrator.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("orchestrator"):
            raise
        print(
            f"relaunch: the command line needs {error.name}, which is not installed. "
            "Install it with: pip install 'lab-relaunch[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
