"""``relaunch reset`` at a terminal: the one question, the picture, and what is left of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_reset import LEARNERS, a_class, each_once, only_batch

#: What shows the cursor, and hides it.
SHOW, HIDE = "\x1b[?25h", "\x1b[?25l"


class Terminal:
    """Somebody at a terminal before a command."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        self._fd, other = pty.openpty()
        self.resize(100)
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", "reset", *arguments],
            env=env | {"TERM": "xterm-256color"},
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)

    def resize(self, width: int, height: int = 30) -> None:
        """Make it narrower or wider."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def until(self, mark: str) -> None:
        """Look on until something is said."""
        while mark not in self.said:
            assert self._read(), f"it ended without a word of {mark!r}: {self.said}"

    def types(self, text: str) -> None:
        """Type something."""
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """Look on to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(timeout=10)

    def close(self) -> None:
        """Whatever happens, it is gone."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        with contextlib.suppress(OSError):  # that it was closed on the other side
            data = os.read(self._fd, 65536)
            self.said += data.decode(errors="replace")
            return bool(data)
        return False


@contextlib.contextmanager
def terminal(env: dict[str, str], *arguments: str) -> Iterator[Terminal]:
    """A terminal, closed at the end."""
    opened = Terminal(env, *arguments)
    try:
        yield opened
    finally:
        opened.close()


def test_it_asks_once_and_shows_how_it_goes(tmp_path: Path) -> None:
    with (
        a_class(tmp_path, teardown="fixed:2") as (sandbox, env, file),
        terminal(env, file, "--concurrency", "4") as here,
    ):
        here.until("[y/N]")
        assert sandbox.ledger.cancels() == []
        assert f"Relaunch {len(LEARNERS)} labs of {len(LEARNERS)} learners" in here.said
        here.types("y\n")
        here.until("waiting for a teardown")
        # A terminal that becomes narrow changes nothing.
        here.resize(30, 8)
        here.process.send_signal(signal.SIGWINCH)
        assert here.end() == 0, here.said
        assert each_once(sandbox)
        assert here.said.count("[y/N]") == 1
        assert f"0 of {len(LEARNERS)} learners" in here.said
        last = here.said[here.said.rindex(SHOW) :]
        assert HIDE not in last
        assert (
            f"{len(LEARNERS)} of {len(LEARNERS)} learners have the lab that was asked for" in last
        )
        assert "Traceback" not in here.said


@pytest.mark.parametrize("answer", ["\n", "n\n", "\x03"])
def test_whoever_does_not_say_yes_changes_nothing(tmp_path: Path, answer: str) -> None:
    with a_class(tmp_path) as (sandbox, env, file), terminal(env, file) as here:
        here.until("[y/N]")
        if answer == "\x03":
            here.process.send_signal(signal.SIGINT)
        else:
            here.types(answer)
        assert here.end() == 130
        assert sandbox.ledger.cancels() == []
        assert "Traceback" not in here.said


def test_ctrl_c_twice_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with (
        a_class(tmp_path, teardown="never") as (_, env, file),
        terminal(env, file, "--yes") as here,
    ):
        here.until("waiting for a teardown")
        here.process.send_signal(signal.SIGINT)
        here.until("no new learner is begun")
        here.process.send_signal(signal.SIGINT)
        assert here.end() == 130
        batch_id = only_batch(env)["batch_id"]
        last = here.said[here.said.rindex(SHOW) :]
        assert f"relaunch batch resume {batch_id}" in last
        assert HIDE not in last


def test_what_a_program_reads_is_not_mixed_with_the_picture(tmp_path: Path) -> None:
    with (
        a_class(tmp_path) as (_, env, file),
        terminal(env, file, "--yes", "--json") as here,
    ):
        assert here.end() == 0, here.said
        # Each is one line, however narrow the terminal is.
        told = re.findall(r'\{"batch_id".*?"api_calls": \d+\}', here.said)
        assert sorted(json.loads(one)["user_id"] for one in told) == LEARNERS
