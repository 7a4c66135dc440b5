"""As many connections as the system allows: tried in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="there is no such limit on this system")

_TRY = """
import resource, sys
from orchestrator.service.descriptors import most_streams
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(most_streams(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def _tried(soft: int, hard: int, wanted: int) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", _TRY, str(soft), str(hard), str(wanted)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


def test_the_soft_limit_becomes_the_hard_one() -> None:
    assert _tried(200, 900, 500) == [500, 900, 900]


def test_no_more_streams_are_let_in_than_there_can_be() -> None:
    assert _tried(900, 900, 10_000) == [900 - 256, 900, 900]
    assert _tried(200, 200, 10_000) == [1, 200, 200]
