"""``relaunch serve`` as a user has it: started, stopped, killed, and started where it cannot be."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.service.access.callers import Scope
from orchestrator.service.access.service_keys import new_key
from tests.cli.processes import (
    await_line,
    await_requests,
    durable,
    running,
    tear_down,
    unfinished,
)
from tests.cli.test_cli import relaunch, serving
from tests.service.signing import SECRET
from tests.service.world import NEW, OLD, bearer, events_in, learner

KEY, _KEPT = new_key("lms", [Scope.START])
Events = list[tuple[str, int, dict[str, Any]]]


def _environment(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return durable(env, tmp_path) | {
        "RELAUNCH_SERVICE__KEYS": _KEPT.entry,
        "RELAUNCH_TOKENS__SECRET": SECRET,
    }


@contextmanager
def _served(env: dict[str, str], port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, running, and its URL."""
    with running(env, "serve", "--port", str(port)) as process:
        line = await_line(process, "Service of", out=True)
        yield process, line.partition(" at ")[2].partition(";")[0]


@dataclass
class _Page:
    """A course page that follows a relaunch, and comes again as often as it takes."""

    relaunch_id: str
    url: str
    headers: dict[str, str]
    events: Events = field(default_factory=list)
    streams: int = 0

    def __post_init__(self) -> None:
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1][0] == "outcome"

    def _follow(self) -> None:
        while not self.has_ended:
            last = {"Last-Event-ID": str(self.events[-1][1])} if self.events else {}
            try:
                self._read(self.headers | last)
            except httpx.TransportError:
                continue  # it is away

    def _read(self, headers: dict[str, str]) -> None:
        place = f"{self.url}/relaunches/{self.relaunch_id}/events"
        with httpx.stream("GET", place, headers=headers, timeout=20) as stream:
            assert stream.status_code == 200
            self.streams += 1
            text = ""
            for piece in stream.iter_text():
                text += piece
                whole, sep, text = text.rpartition("\n\n")
                with self.changed:
                    self.events += events_in(whole + sep)
                    self.changed.notify_all()

    def until(self, phase: str) -> None:
        """Wait until it has been told of this phase."""
        with self.changed:
            assert self.changed.wait_for(
                lambda: any(data["phase"] == phase for _, _, data in self.events), timeout=20
            )


def _begin(url: str, user: str = "ann") -> str:
    asked = {"user_id": user, "lab_profile_id": NEW}
    made = httpx.post(f"{url}/relaunches", json=asked, headers=bearer(KEY))
    assert made.status_code == 202, made.text
    relaunch_id: str = made.json()["relaunch_id"]
    return relaunch_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_hands_over(number: signal.Signals, tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        sandbox.world.give("ann", OLD)
        env = _environment(env, tmp_path)
        with _served(env) as (process, url):
            relaunch_id = _begin(url)
            place = f"{url}/relaunches/{relaunch_id}/events"
            with httpx.stream("GET", place, headers=learner("ann"), timeout=20) as stream:
                pieces = stream.iter_text()
                text = next(pieces)
                while "tearing_down" not in text:
                    text += next(pieces)
                process.send_signal(number)
                text += "".join(pieces)
            out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        assert "Stopping" in out
        assert out.endswith("Stopped.\n")
        assert "Traceback" not in err
        told = events_in(text)
        assert {name for name, _, _ in told} == {"progress"}
        (left,) = unfinished(env)
        assert left["relaunch_id"] == relaunch_id


def test_killed_and_started_again_nobody_misses_anything(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        old = sandbox.world.give("ann", OLD)
        env = _environment(env, tmp_path)
        with _served(env) as (process, url):
            relaunch_id = _begin(url)
            page = _Page(relaunch_id, url, learner("ann"))
            page.until("tearing_down")
            process.kill()
            process.wait()
        seen = len(page.events)
        with _served(env, httpx.URL(url).port or 0) as (process, again):
            assert again == url
            asked = {"lab_profile_id": NEW}
            joined = httpx.post(f"{url}/relaunches", json=asked, headers=learner("ann"))
            assert (joined.status_code, joined.json()["relaunch_id"]) == (200, relaunch_id)
            tear_down(sandbox, old.instance_id)
            page.thread.join(25)
            assert page.has_ended
        numbers = [number for _, number, _ in page.events]
        assert numbers == list(range(1, len(numbers) + 1))
        assert page.events[-1][2]["outcome"] == "launched"
        assert page.streams > 1
        assert len(page.events) > seen
        assert len(sandbox.ledger.launches("ann")) == 1
        assert sandbox.ledger.count("cancel") == 1


def test_two_on_one_store(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        old = sandbox.world.give("ann", OLD)
        env = _environment(env, tmp_path)
        with _served(env) as (_, one), _served(env) as (process, other):
            relaunch_id = _begin(one)
            page = _Page(relaunch_id, other, learner("ann"))
            page.until("tearing_down")
            asked = {"lab_profile_id": NEW}
            joined = httpx.post(f"{other}/relaunches", json=asked, headers=learner("ann"))
            assert joined.json()["relaunch_id"] == relaunch_id
            tear_down(sandbox, old.instance_id)
            page.thread.join(20)
            assert page.events[-1][2]["outcome"] == "launched"
            assert process.poll() is None


def test_an_answer_that_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    with serving(teardown="fixed:0.3", faults="launch:delay=1") as (sandbox, env):
        env = _environment(env, tmp_path)
        with _served(env) as (process, url):
            _begin(url)
            await_requests(sandbox, "launch", 1)
            process.terminate()
            _, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        assert len(sandbox.ledger.launches("ann")) == 1
        # Whoever goes on finds the answer stored, or looks before it launches.
        with _served(env) as (_, url):
            listed = httpx.get(f"{url}/relaunches?user_id=ann", headers=bearer(KEY)).json()
            (found,) = listed["relaunches"]
            page = _Page(found["relaunch_id"], url, bearer(KEY))
            page.thread.join(20)
            assert page.events[-1][2]["outcome"] == "launched"
        assert len(sandbox.ledger.launches("ann")) == 1


def test_without_keys_and_tokens_it_lets_nobody_in(tmp_path: Path) -> None:
    with serving() as (_, env), _served(durable(env, tmp_path)) as (_, url):
        for headers in ({}, bearer(KEY), learner("ann")):
            answer = httpx.get(f"{url}/relaunches", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert httpx.get(f"{url}/healthz").json() == {"alive": True}


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with serving() as (_, env), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = relaunch(_environment(env, tmp_path), "serve", "--port", port)
        assert done.returncode == 2
        said = " ".join(done.stderr.replace("│", " ").split())
        assert f"cannot listen on 127.0.0.1:{port}" in said
        assert "Nothing was started" in said
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "relaunch.db").exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RELAUNCH_SERVICE__KEYS", "lrk_the_key_itself", "service.keys: entry 1"),
        ("RELAUNCH_TOKENS__SECRET", "short-and-secret", "tokens.secret"),
        ("RELAUNCH_SERVICE__PORT", "99999", "service.port"),
        ("RELAUNCH_SERVICE__NONSENSE", "1", "NONSENSE"),
        ("RELAUNCH_TOKENS__JWKS", "/nowhere/keys.json", "keys"),
        ("RELAUNCH_STORE__URL", "none", "store"),
    ],
)
def test_a_setting_that_is_wrong_is_named(name: str, value: str, said: str, tmp_path: Path) -> None:
    with serving() as (sandbox, env):
        env = _environment(env, tmp_path) | {"RELAUNCH_SERVICE__PORT": "0"} | {name: value}
        done = relaunch(env, "serve")
        assert done.returncode not in (0, 1), done.stdout
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert "the_key_itself" not in done.stderr
        assert "short-and-secret" not in done.stderr
        assert sandbox.ledger.requests == []
