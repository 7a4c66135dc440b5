"""Commands that run meanwhile: a test waits for what they say, and then does something to them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.sandbox import Sandbox
from tests.cli.test_cli import relaunch

#: Looks at once and often, so that no test waits for a teardown that is over.
IMPATIENT = {"RELAUNCH_SCHEDULE__TEARDOWN": "fixed:0.3"}


def durable(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment, with a store of the test's own."""
    return env | IMPATIENT | {"RELAUNCH_STORE__URL": str(tmp_path / "relaunch.db")}


@contextmanager
def running(env: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on while the test does; whatever happens, it is gone at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_command(user: str = "ann", lab: int = 1002, *arguments: str) -> tuple[str, ...]:
    """The arguments of a relaunch."""
    return ("run", "--json", "--user", user, "--lab", str(lab), *arguments)


def await_line(process: subprocess.Popen[str], mark: str, *, out: bool = False) -> str:
    """Read what it says, up to a line with the mark in it."""
    stream = process.stdout if out else process.stderr
    assert stream is not None
    said = ""
    for line in stream:
        said += line
        if mark in line:
            return line
    raise AssertionError(f"it ended without a word of {mark!r}: {said}")


def await_requests(sandbox: Sandbox, operation: str, times: int) -> None:
    """Wait until so many calls of an operation have come; the sandbox's thread needs its turns."""
    while sandbox.ledger.count(operation) < times:
        time.sleep(0.005)


def end_of(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Wait for its end: the exit code, and the JSON object on stdout."""
    out, err = process.communicate(timeout=25)
    assert "Traceback" not in err
    return process.returncode, json.loads(out)


def tear_down(sandbox: Sandbox, instance_id: int) -> None:
    """Let a teardown that would never end be over now."""
    with sandbox.lock:
        sandbox.world.instances[instance_id].changes_at = sandbox.world.now()


def told(env: dict[str, str], *arguments: str) -> Any:
    """Run a command with ``--json`` to its end, which must be a good one."""
    done = relaunch(env, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unfinished(env: dict[str, str]) -> list[dict[str, Any]]:
    """The unfinished relaunches of the store."""
    found: list[dict[str, Any]] = told(env, "runs", "list", "--unfinished")["relaunches"]
    return found
