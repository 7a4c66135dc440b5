"""The platform on a port, with a class on it, in a process of its own; ends with its input.

``python -m tests.benchmarks.batches.server LEARNERS RATE TEARDOWN``; says where it is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.sandbox.server import SandboxServer
from tests.benchmarks.batches import school


@contextmanager
def served(learners: int, rate: int, teardown: str) -> Iterator[str]:
    """The platform's base URL while it is there."""
    arguments = [str(learners), str(rate), teardown]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.batches.server", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def main(learners: int, rate: int, teardown: str) -> None:
    """Serve until nobody wants it any more."""
    with SandboxServer(school.platform(learners, rate=rate, teardown=teardown)) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
