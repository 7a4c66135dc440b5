"""What is measured: that it is true, that it is counted once, and that it names nobody."""

from __future__ import annotations

import asyncio
import math
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from orchestrator import LaunchParameters
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import (
    AnswerLost,
    CallRefused,
    PlatformUnavailable,
    PlatformUnreachable,
    StoreUnavailable,
)
from orchestrator.labs import DisplaceAnswer, Displaced, InstanceDetails, Labs, LaunchAnswer
from orchestrator.machine.vocabulary import State
from orchestrator.service import metrics as measuring
from orchestrator.service.metered import MeteredPlatform
from orchestrator.service.metrics import Metrics
from orchestrator.testing import HandsBackDyingInstance, RefusesForGood
from orchestrator.testing.virtual import VirtualClock, run_virtual
from tests.cli.processes import await_line, durable, run_command, running, told
from tests.cli.test_cli import relaunch, serving
from tests.contract.stores import ended, new_run
from tests.service.operating import KEY, Service
from tests.service.signing import claims, signed

GOOD = {"Authorization": f"Bearer {KEY}"}


async def _relaunched(service: Service, user_id: str = "ann", **options: Any) -> Any:
    """The outcome of a relaunch that had to make room."""
    service.platform.add_running(user_id, 1001)
    outcome = await service.relauncher.relaunch(user_id, 1002, **options)
    await service.metrics.settled()
    return outcome


# --- relaunches -----------------------------------------------------------------------------


def test_an_end_is_counted_with_its_times() -> None:
    async def main() -> None:
        service = Service(schedule=20.0)
        async with service.client():
            outcome = await _relaunched(service)
        assert outcome.ok
        assert service.counted("ended_total", "outcome", "reason") == {("launched", "none"): 1}
        # Torn down after 50 s, looked at every 20 s.
        assert service.counted("teardown_seconds_sum", "lab_profile") == {("1001",): 60}
        phases = service.counted("phase_seconds_sum", "phase")
        assert phases["tearing_down",] == 60
        assert sum(phases.values()) == pytest.approx(outcome.waited_seconds)
        assert set(phases) <= {(state.value,) for state in State if not state.is_terminal}
        assert service.value("wait_saved_seconds_total") == 0

    run_virtual(main())


@pytest.mark.parametrize(
    ("hints_at", "saved", "teardown"),
    [((60,), 40, 60), ((20, 60), 60, 60), ((20,), 0, 120), ((), 0, 100), ((60, 60), 40, 60)],
    ids=["in time", "too early, then in time", "too early", "none", "doubled"],
)
def test_what_webhooks_save_is_the_wait_that_was_left(
    hints_at: tuple[float, ...], saved: float, teardown: float
) -> None:
    async def main() -> None:
        service = Service(schedule=100.0)
        async with service.client():
            old = service.platform.add_running("ann", 1001)
            handle = service.relauncher.start("ann", 1002)
            begins = asyncio.get_running_loop().time()
            for at in hints_at:
                await asyncio.sleep(begins + at - asyncio.get_running_loop().time())
                await service.relauncher.announce(old)
            assert (await handle).ok
            await service.metrics.settled()
        assert service.value("wait_saved_seconds_total") == pytest.approx(saved)
        assert service.counted("teardown_seconds_sum", "lab_profile") == {("1001",): teardown}

    run_virtual(main())


def test_a_lab_that_was_dying_when_it_was_handed_back_ends_no_teardown() -> None:
    async def main() -> None:
        clock = VirtualClock()
        platform = HandsBackDyingInstance(clock.now, teardown_seconds=50)
        service = Service(platform, schedule=20.0)
        async with service.client():
            platform.add_running("ann", 1002)
            assert (await service.relauncher.relaunch("ann", 1002)).ok
            await service.metrics.settled()
        assert service.counted("teardown_seconds_sum", "lab_profile") == {("1002",): 60}

    run_virtual(main())


def test_what_ends_without_a_teardown_has_none() -> None:
    async def main() -> None:
        platform = RefusesForGood(VirtualClock().now)
        service = Service(platform)
        async with service.client():
            outcome = await _relaunched(service)
        assert (outcome.outcome, outcome.reason) != ("launched", None)
        (counted,) = service.counted("ended_total", "outcome", "reason")
        assert counted == (outcome.outcome, outcome.reason)
        assert service.counted("teardown_seconds_count", "lab_profile") == {}

    run_virtual(main())


def test_an_aborted_relaunch_that_was_restarted_is_counted_once_by_whoever_ended_it() -> None:
    async def main() -> None:
        store = MemoryRunStore()
        first, second = Service(store=store), Service(store=store)
        second.platform = first.platform
        first.platform.add_running("ann", 1001)
        async with second.client():
            async with first.client():
                handle = first.relauncher.start("ann", 1002)
                await asyncio.sleep(60)
            (taken_up,) = await second.relauncher.resume_all()
            taken_up.abort()
            assert (await taken_up).relaunch_id == handle.relaunch_id
            await second.metrics.settled()
        assert first.counted("ended_total", "outcome", "reason") == {}
        assert second.counted("ended_total", "outcome", "reason") == {("aborted", "aborted"): 1}
        phases = second.counted("phase_seconds_sum", "phase")
        assert phases["tearing_down",] >= 60  # what the first process had seen is in it

    run_virtual(main())


def test_labels_are_bounded() -> None:
    async def main() -> None:
        store, metrics = MemoryRunStore(), Metrics()
        for n in range(measuring.MOST_PROFILES + 50):
            run = new_run(f"r{n}", f"u{n}")
            stored = await ended(store, run, State.FAILED, key=None)
            kept = store._kept[f"r{n}"]
            kept.stored = replace(
                stored, run=replace(stored.run, reason=f"reason-{n}", target_profile_id=n)
            )
            kept.journal[:] = [_accepted_after_a_teardown(e) for e in kept.journal * 2]
            kept.journal[0] = replace(
                kept.journal[0], progress=replace(kept.journal[0].progress, phase="tearing_down")
            )
            await metrics.count_ended(store, f"r{n}")
            metrics.call("launch", f"result_{n}", 0.1, answered=True)
        value = metrics.registry.get_sample_value
        profile = {"lab_profile": "other"}
        assert value("lab_relaunch_teardown_seconds_count", profile) == 50
        failed = {"outcome": "failed", "reason": "other"}
        assert value("lab_relaunch_ended_total", failed) == 50 + 100
        launch = {"operation": "launch", "result": "other"}
        assert value("lab_relaunch_api_calls_total", launch) == 50 + 100

    asyncio.run(main())


def _accepted_after_a_teardown(entry: Any) -> Any:
    return replace(entry, event="LaunchAccepted")


def test_where_the_store_is_away_an_end_is_not_counted_and_nothing_breaks() -> None:
    class IsAway(MemoryRunStore):
        async def load(self, relaunch_id: str) -> Any:
            raise StoreUnavailable("gone")

    async def main() -> None:
        metrics = Metrics()
        metrics.counts_ends_of(IsAway())("r1")
        await metrics.settled()
        assert "lab_relaunch_ended_total{" not in generate_latest(metrics.registry).decode()

    asyncio.run(main())


# --- in flight, streams ---------------------------------------------------------------------


def test_what_is_in_flight_is_asked_at_most_now_and_then_and_nan_if_nobody_knows() -> None:
    class Counts(MemoryRunStore):
        asked = 0
        away = silent = False

        async def unfinished(self) -> int:
            self.asked += 1
            if self.away:
                raise StoreUnavailable("gone")
            if self.silent:
                await asyncio.sleep(1e6)
            return await super().unfinished()

    async def main() -> None:
        store = Counts()
        service = Service(store=store)
        async with service.client() as client:
            for user_id in ("ann", "bob"):
                service.platform.add_running(user_id, 1001)
                service.relauncher.start(user_id, 1002)
            await asyncio.sleep(10)
            for _ in range(20):
                assert (await client.get("/metrics", headers=GOOD)).status_code == 200
            assert (service.value("in_flight"), store.asked) == (2, 1)
            for store.away, store.silent in ((True, False), (False, True)):
                await asyncio.sleep(10)
                assert (await client.get("/metrics", headers=GOOD)).status_code == 200
                assert math.isnan(service.value("in_flight") or 0)

    run_virtual(main())


def test_open_streams_are_counted_up_and_down() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    with metrics.stream(), metrics.stream():
        assert value("lab_relaunch_open_streams") == 2
    assert value("lab_relaunch_open_streams") == 0


# --- calls ----------------------------------------------------------------------------------


class Answers:
    """A platform each of whose calls is answered by one value or error."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*_: Any, **__: Any) -> Any:
            if isinstance(self._answer, BaseException):
                raise self._answer
            return self._answer

        return call


CALLS: dict[str, Callable[[MeteredPlatform], Awaitable[object]]] = {
    "userrunningandsavedlabs": lambda p: p.survey("ann", timeout=1),
    "details": lambda p: p.inspect(5, timeout=1),
    "launch": lambda p: p.launch("ann", 7, LaunchParameters(), timeout=1),
    "resume": lambda p: p.resume(5, timeout=1),
    "cancel": lambda p: p.cancel(5, note=None, timeout=1),
    "save": lambda p: p.save(5, note=None, timeout=1),
    "LabAccessUrl": lambda p: p.access_url(5, timeout=1),
    "stats": lambda p: p.count_active(timeout=1),
}
COMMON = [
    (PlatformUnreachable("no"), "platform_unreachable"),
    (PlatformUnavailable("no"), "platform_unavailable"),
    (AnswerLost("no"), "answer_lost"),
    (CallRefused("no"), "call_refused"),
    (asyncio.CancelledError(), "dropped"),
    (RuntimeError("a bug of a port"), "broken"),
]
OWN: list[tuple[tuple[str, ...], Any, str]] = [
    (("userrunningandsavedlabs",), Labs(), "ok"),
    (("details",), InstanceDetails(instance_id=5), "ok"),
    (("details",), InstanceDetails(instance_id=5, readable=False), "refused"),
    (("details",), InstanceDetails(instance_id=5, readable=False, foreign=True), "foreign"),
    (("launch", "resume"), LaunchAnswer(result=1, instance_id=6), "ok"),
    (("launch", "resume"), LaunchAnswer(result=2), "result_2"),
    (("launch", "resume"), LaunchAnswer(result=None), "no_result"),
    (("cancel", "save"), DisplaceAnswer(displaced=Displaced.ACCEPTED), "ok"),
    (("cancel", "save"), DisplaceAnswer(displaced=Displaced.REFUSED), "refused"),
    (("cancel", "save"), DisplaceAnswer(displaced=Displaced.FOREIGN), "foreign"),
    (("LabAccessUrl",), "https://x", "ok"),
    (("stats",), 5, "ok"),
]


@pytest.mark.parametrize(
    ("operation", "answer", "result"),
    [(operation, answer, result) for operation in CALLS for answer, result in COMMON]
    + [(operation, answer, result) for which, answer, result in OWN for operation in which],
)
def test_each_call_is_handed_on_and_counted_by_its_result(
    operation: str, answer: Any, result: str
) -> None:
    async def main() -> None:
        metrics = Metrics()
        answers: Any = Answers(answer)
        call = CALLS[operation](MeteredPlatform(answers, metrics))
        if isinstance(answer, BaseException):
            with pytest.raises(type(answer)):
                await call
        else:
            assert await call is answer
        value = metrics.registry.get_sample_value
        labels = {"operation": operation, "result": result}
        assert value("lab_relaunch_api_calls_total", labels) == 1
        took = {"operation": operation}
        assert value("lab_relaunch_api_call_seconds_count", took) == 1
        answered = not isinstance(answer, BaseException) or isinstance(answer, CallRefused)
        assert math.isfinite(metrics.seconds_since_answer) == answered

    asyncio.run(main())


def test_the_calls_of_a_relaunch_are_those_that_the_platform_got() -> None:
    async def main() -> None:
        service = Service(schedule=20.0, gated=True)
        async with service.client():
            outcome = await _relaunched(service)
        calls = service.counted("api_calls_total", "operation", "result")
        assert sum(calls.values()) == outcome.api_calls == len(service.platform.calls)
        assert calls["launch", "result_2"] >= 1
        assert calls["launch", "ok"] == calls["cancel", "ok"] == 1

    run_virtual(main())


# --- the route ------------------------------------------------------------------------------


def test_only_a_service_key_reads_the_metrics() -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            assert (await client.get("/metrics")).status_code == 401
            token = signed(claims())
            refused = await client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
            assert "lab_relaunch" not in refused.text

            plain = await client.get("/metrics", headers=GOOD)
            assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert {f.name for f in read_text(plain.text)} >= {"lab_relaunch_in_flight"}
            accept = GOOD | {"Accept": "application/openmetrics-text;version=1.0.0"}
            opened = await client.get("/metrics", headers=accept)
            assert opened.headers["content-type"].startswith("application/openmetrics-text")
            families = read_openmetrics(opened.text)  # type: ignore[no-untyped-call]  # theirs
            assert {f.name for f in families} >= {"lab_relaunch_webhooks"}

    run_virtual(main())


def test_every_metric_has_our_prefix_and_a_word_for_people_and_names_nobody() -> None:
    async def main() -> None:
        service = Service(schedule=20.0)
        async with service.client() as client:
            parameters = LaunchParameters(first_name="Ada", email="a@x.example", tag="my-tag")
            outcome = await _relaunched(service, "learner-17", parameters=parameters, note="a note")
            await client.post(f"/webhooks/skillable/torn-down/{outcome.lab_instance_id}")
            text = (await client.get("/metrics", headers=GOOD)).text
        names = (
            "learner-17", "Ada", "a@x.example", "my-tag", "a note", outcome.url,
            outcome.relaunch_id, str(outcome.lab_instance_id), "http",
        )  # fmt: skip
        assert [name for name in names if name in text] == []
        for family in read_text(text):
            assert family.name.startswith("lab_relaunch_")
            assert family.documentation.endswith((".", "away."))
            labels = {label for sample in family.samples for label in sample.labels}
            allowed = {"outcome", "reason", "phase", "lab_profile", "operation", "result", "event"}
            assert labels <= allowed | {"effect", "le"}

    run_virtual(main())


# --- a worker's -----------------------------------------------------------------------------


def test_a_worker_serves_its_metrics(tmp_path: Path) -> None:
    with serving() as (sandbox, env):
        env = durable(env, tmp_path)
        sandbox.world.give("ann", 1001)
        with running(env, "worker", "--metrics-port", "0") as worker:
            place = await_line(worker, "Metrics at", out=True).split()[-1]
            await_line(worker, "Worker of", out=True)
            with running(env, *run_command()) as process:
                await_line(process, "Waiting while")
                process.kill()
            assert "launched" in await_line(worker, "ended", out=True)
            text = _scraped(place, "lab_relaunch_ended_total{")
            assert 'lab_relaunch_ended_total{outcome="launched",reason="none"} 1.0' in text
            assert re.search(r'api_calls_total{operation="launch",result="ok"} 1.0', text)
            assert 'lab_relaunch_teardown_seconds_count{lab_profile="1001"} 1.0' in text
            assert re.search(r"^lab_relaunch_in_flight \d", text, re.MULTILINE)
            taken = relaunch(env, "worker", "--metrics-port", place.split(":")[2].split("/")[0])
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=10)
        assert (worker.returncode, err) == (0, "")
        assert "Stopped." in out
    assert (taken.returncode, taken.stdout) == (2, "")
    assert "--metrics-port" in taken.stderr


def _scraped(place: str, mark: str) -> str:
    """The metrics, once there is what is looked for: an end is counted after it is told."""
    while mark not in (text := httpx.get(place, trust_env=False).text):
        pass
    return text


def test_a_worker_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError(name='prometheus_client')")
    with serving() as (_, env):
        env = durable(env, tmp_path) | {"PYTHONPATH": str(tmp_path)}
        done = relaunch(env, "worker", "--metrics-port", "0")
        assert (done.returncode, done.stdout) == (2, "")
        assert "lab-relaunch[service]" in done.stderr
        assert "prometheus_client" in done.stderr
        # Without the option it isn't needed.
        assert told(env, "runs", "list")["relaunches"] == []
