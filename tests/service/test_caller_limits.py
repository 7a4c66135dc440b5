"""Limits: a moving window for each caller, streams that are held, and memory that stays bounded."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from freezegun import freeze_time
from limits import RateLimitItemPerMinute
from limits.strategies import MovingWindowRateLimiter

from orchestrator.service.access import limits as subject
from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.access.limits import CallerLimits
from orchestrator.service.refusals import TooMany


def learner(name: str = "ada") -> Caller:
    return Caller(name=f"learner:{name}", scopes=frozenset({Scope.START}), user_id=name)


KEY = Caller(name="key:prov", scopes=frozenset({Scope.START}))


def retry_after(asking: Any, *arguments: Any) -> int:
    with pytest.raises(TooMany) as caught:
        asking(*arguments)
    assert "ada" not in str(caught.value)
    assert "prov" not in str(caught.value)
    return int(caught.value.headers["Retry-After"])


def test_a_learner_may_ask_so_often_within_any_minute() -> None:
    limits = CallerLimits(learner_requests_per_minute=3, key_requests_per_minute=5)
    with freeze_time("2026-03-01 12:00:50") as frozen:
        for _ in range(3):
            limits.count_request(learner())
            frozen.tick(10)
        # No new minute of the clock on the wall lets it begin again.
        assert retry_after(limits.count_request, learner()) == 30
        frozen.tick(29)
        assert retry_after(limits.count_request, learner()) == 1
        frozen.tick(1)
        limits.count_request(learner())
        assert retry_after(limits.count_request, learner()) == 10


def test_whoever_comes_when_told_to_is_let_in() -> None:
    limits = CallerLimits(learner_requests_per_minute=2)
    with freeze_time("2026-03-01 12:00:00") as frozen:
        for _ in range(20):
            limits.count_request(learner())
            frozen.tick(0.7)
            limits.count_request(learner())
            frozen.tick(retry_after(limits.count_request, learner()))


def test_one_caller_s_haste_is_not_another_s() -> None:
    limits = CallerLimits(learner_requests_per_minute=1, key_requests_per_minute=2)
    limits.count_request(learner("ada"))
    limits.count_request(learner("bob"))
    for _ in range(2):
        limits.count_request(KEY)
    for caller in (learner("ada"), learner("bob"), KEY):
        retry_after(limits.count_request, caller)


def test_a_learner_cannot_spend_the_turns_of_a_key_by_its_name() -> None:
    limits = CallerLimits(learner_requests_per_minute=1, key_requests_per_minute=1)
    for name in ("key:prov", "prov", "prov/1/1/minute", "127.0.0.1"):
        limits.count_request(learner(name))
    limits.count_request(KEY)


def test_many_wrong_credentials_of_one_address_are_told_to_wait() -> None:
    limits = CallerLimits(failures_per_minute=5)
    with freeze_time("2026-03-01 12:00:00") as frozen:
        for _ in range(5):
            limits.count_failure("192.0.2.1")
        assert retry_after(limits.count_failure, "192.0.2.1") == 60
        limits.count_failure("192.0.2.2")
        frozen.tick(60)
        limits.count_failure("192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        (None, "testclient", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_which_addresses_count_as_one(one: str | None, other: str, same: bool) -> None:
    limits = CallerLimits(failures_per_minute=1)
    limits.count_failure(one)
    if same:
        retry_after(limits.count_failure, other)
    else:
        limits.count_failure(other)


def test_streams_are_counted_while_they_are_held() -> None:
    limits = CallerLimits(most_streams=6, most_streams_each=2)
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(limits.stream(learner()))
        assert retry_after(limits.stream(learner()).__enter__) == 10
        with limits.stream(learner("bob")):
            for _ in range(3):
                held.enter_context(limits.stream(KEY))
            assert limits.open_streams == 6
            retry_after(limits.stream(KEY).__enter__)
        held.enter_context(limits.stream(KEY))
    assert limits.open_streams == 0
    assert not limits._streams
    with pytest.raises(ZeroDivisionError), limits.stream(learner()):
        raise ZeroDivisionError
    assert limits.open_streams == 0


def test_names_that_fell_silent_are_forgotten() -> None:
    limits = CallerLimits()
    with freeze_time("2026-03-01 12:00:00") as frozen:
        for n in range(1000):
            limits.count_request(learner(f"l{n}"))
        assert len(limits._windows) == 1000
        frozen.tick(61)
        for n in range(1000):
            limits.count_request(learner(f"m{n % 10}"))
        assert len(limits._windows) == 10


def test_there_are_never_more_names_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_MOST_NAMES", 100)
    limits = CallerLimits(learner_requests_per_minute=2)
    busy = learner("busy")
    limits.count_request(busy)
    for n in range(50):
        limits.count_request(learner(f"l{n}"))
    limits.count_request(busy)
    for n in range(90):
        limits.count_request(learner(f"m{n}"))
    assert len(limits._windows) == 100
    retry_after(limits.count_request, busy)  # who asked lately is still known
    for n in range(100):
        limits.count_request(learner(f"n{n}"))
    limits.count_request(busy)


def test_it_keeps_what_the_library_s_strategy_asks_of_it() -> None:
    windows = subject._Windows()
    limiter, item = MovingWindowRateLimiter(windows), RateLimitItemPerMinute(10)
    assert not limiter.hit(item, "a", cost=11)
    assert limiter.hit(item, "a", cost=8)
    assert limiter.test(item, "a", cost=2)
    assert not limiter.test(item, "a", cost=3)
    assert limiter.get_window_stats(item, "a").remaining == 2
    assert limiter.get_window_stats(item, "b").remaining == 10
    limiter.clear(item, "a")
    assert limiter.hit(item, "a", cost=10)
    assert windows.check()
    assert windows.reset() == 1
    assert limiter.hit(item, "a", cost=10)
