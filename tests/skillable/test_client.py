"""The client against canned answers: parameters, tolerant reading, typed errors, safe repeating."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import (
    AnswerLost,
    AnswerUnreadable,
    CallRefused,
    ConfigurationError,
    InvalidRequest,
    KeyRejected,
    LaunchParameters,
    NotSent,
    Phase,
    PlatformError,
    PlatformUnavailable,
    PlatformUnreachable,
    RateLimited,
)
from orchestrator.labs import RosterEntry, RosterPage
from orchestrator.skillable import (
    AsyncSkillableClient,
    AsyncSkillablePlatform,
    SkillableClient,
    SkillablePlatform,
    calls,
)
from orchestrator.skillable.transport import retry_after

KEY = "k-123-secret"
Handler = Callable[[httpx.Request], httpx.Response]


class Client:
    """Either client, with one way to call it; waits are noted instead of slept."""

    def __init__(self, drive: str) -> None:
        self.drive = drive
        self.waits: list[float] = []
        self.requests: list[httpx.Request] = []

    def send(self, call: calls.Call[Any], handler: Handler, **options: Any) -> Any:
        def noted(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return handler(request)

        if self.drive == "sync":
            with SkillableClient(
                KEY, transport=httpx.MockTransport(noted), sleep=self.waits.append
            ) as client:
                return client.send(call, **options)
        return asyncio.run(self._send(call, noted, options))

    async def _send(self, call: calls.Call[Any], handler: Handler, options: Any) -> Any:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        async with AsyncSkillableClient(
            KEY, transport=httpx.MockTransport(handler), sleep=sleep
        ) as client:
            return await client.send(call, **options)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(request.param)


def answers(*bodies: Any) -> Handler:
    """Answer with each body in turn, the last one again and again."""
    left = list(bodies)

    def handler(request: httpx.Request) -> httpx.Response:
        body = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(body, httpx.Response):
            # A fresh one each time: a response's stream can be read only once.
            return httpx.Response(body.status_code, headers=body.headers, content=body.content)
        if isinstance(body, Exception):
            raise body
        return httpx.Response(200, json=body)

    return handler


EVERY_PARAMETER = LaunchParameters(
    first_name="Ann", last_name="Lee", email="ann@x.org", class_id="c1",
    can_be_marked_complete=False, tag="t", ip_address="1.1.1.1", region_id=2, role_ids=(3, 4),
    variables={"size": "big one"}, max_saved_labs=5, max_active_labs=6, lang="de",
    instructions_id="Base-01", duration_minutes=90, last_activity_timeout_minutes=30,
)  # fmt: skip


@pytest.mark.parametrize(
    ("call", "path", "query"),
    [
        (
            calls.launch("u 1", 7, EVERY_PARAMETER),
            "launch",
            {
                "labid": "7", "userid": "u 1", "firstname": "Ann", "lastname": "Lee",
                "email": "ann@x.org", "classId": "c1", "canBeMarkedComplete": "2", "tag": "t",
                "ipAddress": "1.1.1.1", "regionId": "2", "maxSavedLabs": "5",
                "maxActiveLabs": "6", "lang": "de", "instructionsId": "Base-01",
                "durationMinutes": "90", "lastActivityTimeoutMinutes": "30",
                "roleId": ["3", "4"], "variable-size": "big one",
            },
        ),
        (calls.launch("u", 7, LaunchParameters()), "launch", {"labid": "7", "userid": "u"}),
        (
            calls.launch("u", 7, LaunchParameters(can_be_marked_complete=True)),
            "launch",
            {"labid": "7", "userid": "u", "canBeMarkedComplete": "1"},
        ),
        (calls.cancel(9, "why"), "cancel", {"labinstanceid": "9", "note": "why"}),
        (calls.cancel(9), "cancel", {"labinstanceid": "9"}),
        (calls.details(9), "details", {"labinstanceid": "9"}),
        (calls.user_running_and_saved_labs("u"), "userrunningandsavedlabs", {"userid": "u"}),
        (calls.running_and_saved_labs(), "runningandsavedlabs", {}),
        (
            calls.search(user_id="u", lab_profile_id=1, start=5.5, page_index=2),
            "labinstance/search",
            {
                "userId": "u", "labProfileId": "1", "start": "5", "pageIndex": "2",
                "pageSize": "100", "mode": "5",
            },
        ),
        (calls.latest_results(60), "LatestResults", {"minutes": "60"}),
        (calls.result(9), "Result", {"labinstanceid": "9"}),
        (calls.save(9), "save", {"labinstanceid": "9"}),
        (calls.resume(9), "resume", {"labinstanceid": "9"}),
        (calls.lab_access_url(9, (1, 2)), "LabAccessUrl",
         {"labInstanceId": "9", "roleId": ["1", "2"]}),
        (calls.stats(), "stats", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_call_as_documented(
    client: Client, call: calls.Call[Any], path: str, query: dict[str, Any]
) -> None:
    client.send(call, answers({"Status": 1, "Error": None, "Result": 1, "Url": "x"}))
    (request,) = client.requests
    assert request.method == "GET"
    assert request.url.path == f"/api/v3/{path}"
    sent = request.url.params
    assert {k: v[0] if len(v := sent.get_list(k)) == 1 else v for k in sent} == query
    assert request.headers["api_key"] == KEY
    assert KEY not in str(request.url)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"Result": 1, "LabInstanceId": 5, "Url": "u", "Expires": 9}, (1, 5, "u", None)),
        ({"Result": "1", "LabInstanceId": "5", "Url": "u"}, (1, 5, "u", None)),
        ({"Result": 1.0, "LabInstanceId": 5.0, "Url": " "}, (1, 5, None, None)),
        ({"Result": 2, "LabInstanceId": 0, "Error": "full"}, (2, None, None, "full")),
        ({"Result": 2, "LabInstanceId": None}, (2, None, None, None)),
        ({"Error": "no", "Status": 1}, (None, None, None, "no")),
        ({"Result": 4711, "New": {"a": [1]}}, (4711, None, None, None)),
        ({"Result": True, "LabInstanceId": [], "Url": 7}, (None, None, "7", None)),
        ({}, (None, None, None, None)),
    ],
)
def test_a_launch_is_read_tolerantly(
    client: Client, body: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    answer = client.send(calls.launch("u", 7, LaunchParameters()), answers(body))
    assert (answer.result, answer.instance_id, answer.url, answer.error) == expected


@pytest.mark.parametrize(
    ("body", "running", "saved"),
    [
        ({"RunningLabs": [{"LabInstanceId": 1}], "SavedLabs": None}, [1], []),
        ({"RunningLabs": None, "SavedLabs": [{"LabInstanceId": 2, "Saved": 3}]}, [], [2]),
        ({"RunningLabs": [{"LabInstanceId": 0}, None, {"Id": 4}]}, [4], []),
        ({"Status": 1}, [], []),
        ({"Status": 0, "Error": "User not found"}, [], []),
        ({"Status": 0, "Error": "The specified user does not exist."}, [], []),
        ({"Status": 1, "Error": "Invalid user"}, [], []),
    ],
)
def test_a_users_labs_and_an_unseen_user(
    client: Client, body: Any, running: list[int], saved: list[int]
) -> None:
    labs = client.send(calls.user_running_and_saved_labs("u"), answers(body))
    assert [i.instance_id for i in labs.running] == running
    assert [i.instance_id for i in labs.saved] == saved


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("Off", Phase.GONE), ("Saved", Phase.GONE), ("Tearing Down", Phase.ENDING),
        ("tearing  down", Phase.ENDING), ("Saving", Phase.SAVING), ("Scoring", Phase.SCORING),
        ("Running", Phase.ALIVE), ("Building (Displayable)", Phase.ALIVE),
        ("Levitating", Phase.UNKNOWN),
    ],
)  # fmt: skip
def test_details_without_credentials(client: Client, state: str, phase: Phase) -> None:
    secret = {"Username": "x", "Password": "hunter2"}
    body = {
        "Id": 9, "State": state, "UserId": "u", "Tag": None, "IsExam": True, "Start": 1338223121,
        "CompletionStatus": "Submitted For Grading", "VirtualMachineCredentials": [secret],
        "CloudCredentials": [secret], "CloudPortalCredentials": [secret],
    }  # fmt: skip
    details = client.send(calls.details(9), answers(body))
    assert (details.phase, details.state, details.tag) == (phase, state, "")
    assert details.is_exam
    assert details.submitted_for_grading
    assert details.started_at == 1338223121
    assert "hunter2" not in repr(details)


@pytest.mark.parametrize(
    ("call", "body", "foreign"),
    [
        (calls.cancel(9), {"Error": "Invalid integration key", "Status": 1}, True),
        (calls.cancel(9), {"Result": 0, "Error": "no", "Status": 1}, False),
        (calls.save(9), {"Error": "Invalid integration key", "Status": 1}, True),
        (calls.details(9), {"Error": "Invalid integration key", "Status": 1}, True),
        (calls.details(9), {"Error": "Access denied to this lab", "Status": 0}, False),
        (calls.details(9), {"Error": "Lab instance not found", "Status": 0}, False),
        (calls.details(9), {"Status": 1}, False),
    ],
)
def test_refusals_about_an_instance(
    client: Client, call: calls.Call[Any], body: Any, foreign: bool
) -> None:
    answer = client.send(call, answers(body))
    assert answer.foreign == foreign
    assert getattr(answer, "result", None) != 1
    assert not getattr(answer, "readable", False)


READS = [
    calls.user_running_and_saved_labs("u"), calls.details(9), calls.running_and_saved_labs(),
    calls.search(), calls.latest_results(5), calls.result(9), calls.lab_access_url(9),
    calls.stats(),
]  # fmt: skip
EFFECTS = [
    calls.launch("u", 7, LaunchParameters(email="ann@x.org", first_name="Annabel")),
    calls.cancel(9), calls.save(9), calls.resume(9),
]  # fmt: skip


@pytest.mark.parametrize("call", READS + EFFECTS, ids=lambda c: c.operation)
@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(401),
        httpx.Response(403, text="<html>"),
        {"Status": 0, "Error": "Invalid integration key"},
        {"Status": 0, "Error": "Invalid API key", "Result": 0},
    ],
    ids=str,
)
def test_a_bad_key_is_final_at_once(client: Client, call: calls.Call[Any], answer: Any) -> None:
    with pytest.raises(KeyRejected):
        client.send(call, answers(answer))
    assert len(client.requests) == 1


LOST = [
    (httpx.ReadTimeout("x"), AnswerLost),
    (httpx.ReadError("x"), AnswerLost),
    (httpx.WriteError("x"), AnswerLost),
    (httpx.RemoteProtocolError("x"), AnswerLost),
    (httpx.Response(500, text="oops"), PlatformUnavailable),
    (httpx.Response(502), PlatformUnavailable),
    (httpx.Response(408), PlatformUnavailable),
    (httpx.Response(200, text="<html>Sorry</html>"), AnswerUnreadable),
    (httpx.Response(200, text='{"Result": 1, "Lab'), AnswerUnreadable),
    (httpx.Response(200, json=[1]), AnswerUnreadable),
    (httpx.Response(200, content=b"{" + b" " * 2_000 + b"}"), AnswerUnreadable),
    (httpx.Response(302, headers={"Location": "https://login.x/a?ReturnUrl=b"}), AnswerUnreadable),
]


@pytest.mark.parametrize("call", EFFECTS, ids=lambda c: c.operation)
@pytest.mark.parametrize(("what", "error"), LOST, ids=str)
def test_an_effect_whose_answer_is_lost_is_never_repeated(
    client: Client, call: calls.Call[Any], what: Any, error: type[PlatformError]
) -> None:
    with pytest.raises(error) as caught:
        client.send(replace(call, largest_body=1_000), answers(what))
    assert isinstance(caught.value, AnswerLost)
    assert len(client.requests) == 1
    assert client.waits == []


@pytest.mark.parametrize("call", READS, ids=lambda c: c.operation)
@pytest.mark.parametrize(("what", "error"), LOST, ids=str)
def test_a_read_is_repeated_and_then_given_up(
    client: Client, call: calls.Call[Any], what: Any, error: type[PlatformError]
) -> None:
    with pytest.raises(error):
        client.send(replace(call, largest_body=1_000), answers(what))
    assert len(client.requests) == 3
    assert len(client.waits) == 2


@pytest.mark.parametrize("call", READS + EFFECTS, ids=lambda c: c.operation)
def test_what_never_left_is_repeated(client: Client, call: calls.Call[Any]) -> None:
    failures = (httpx.ConnectError("x"), httpx.ConnectTimeout("x"))
    client.send(call, answers(*failures, {"Result": 1, "Url": "u", "Status": 1}))
    assert len(client.requests) == 3


@pytest.mark.parametrize("call", EFFECTS, ids=lambda c: c.operation)
def test_an_effect_that_was_rate_limited_is_left_to_the_caller(
    client: Client, call: calls.Call[Any]
) -> None:
    limited = httpx.Response(429, headers={"Retry-After": "7"})
    with pytest.raises(RateLimited) as caught:
        client.send(call, answers(limited))
    assert caught.value.retry_after == 7
    assert len(client.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_read_keeps_the_retry_after(client: Client, status: int) -> None:
    limited = httpx.Response(status, headers={"Retry-After": "7"})
    client.send(calls.stats(), answers(limited, {"NumActive": 1, "Status": 1}))
    assert client.waits == [7.0]


def test_a_retry_after_that_is_too_long_to_sleep_through_goes_up(client: Client) -> None:
    with pytest.raises(RateLimited):
        client.send(calls.stats(), answers(httpx.Response(429, headers={"Retry-After": "31"})))
    assert client.waits == []


def test_our_own_congestion_is_no_outage_of_the_platform(client: Client) -> None:
    with pytest.raises(NotSent) as caught:
        client.send(calls.stats(), answers(httpx.PoolTimeout("x")), repeat=False)
    assert not isinstance(caught.value, PlatformUnreachable)


def test_no_repeating_where_it_is_not_wanted(client: Client) -> None:
    with pytest.raises(PlatformUnreachable):
        client.send(calls.stats(), answers(httpx.ConnectError("x")), repeat=False)
    assert len(client.requests) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("5", 5.0), (" 5 ", 5.0), ("1.5", 1.5), ("soon", None), ("-3", None),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0), ("Mon, 23 Nov 2026 11:59:00 GMT", 0.0),
        ("Mon, 99 Foo 2026", None), ("", None),
    ],
)  # fmt: skip
@freeze_time("2026-11-23 12:00:00")
def test_retry_after_in_each_form(value: str | None, seconds: float | None) -> None:
    import time

    assert retry_after(value, time.time()) == seconds


def test_a_refused_question_names_the_platforms_word(client: Client) -> None:
    with pytest.raises(CallRefused, match="maintenance") as caught:
        client.send(calls.stats(), answers({"Status": 0, "Error": "maintenance"}))
    assert caught.value.error == "maintenance"
    assert len(client.requests) == 1


@pytest.mark.parametrize("call", READS + EFFECTS, ids=lambda c: c.operation)
@pytest.mark.parametrize(("what", "error"), LOST, ids=str)
def test_no_error_shows_the_key_or_personal_data(
    client: Client, call: calls.Call[Any], what: Any, error: type[PlatformError]
) -> None:
    with pytest.raises(error) as caught:
        client.send(replace(call, largest_body=1_000), answers(what), repeat=False)
    shown = f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for secret in (KEY, "ann@x.org", "Annabel", "ReturnUrl"):
        assert secret not in shown


def test_an_excerpt_is_short_and_redacted(client: Client) -> None:
    page = f"<html>key {KEY} Password: hunter2 {'x' * 500}</html>"
    with pytest.raises(AnswerUnreadable) as caught:
        client.send(calls.stats(), answers(httpx.Response(200, text=page)), repeat=False)
    assert len(caught.value.excerpt) <= 120
    assert KEY not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(AnswerUnreadable) as caught:
        client.send(calls.details(9), answers(httpx.Response(200, text=page)), repeat=False)
    assert caught.value.excerpt == ""


def test_logs_have_neither_queries_nor_secrets(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    call: calls.Call[Any] = calls.launch("u", 7, EVERY_PARAMETER)
    client.send(call, answers({"Result": 2}))
    logged = " ".join(f"{r.getMessage()} {vars(r)}" for r in caplog.records)
    assert "launch" in logged
    for secret in (KEY, "ann@x.org", "Lee", "userid"):
        assert secret not in logged


@pytest.mark.parametrize(
    ("url", "works"),
    [
        ("https://x.org/api/v3", True),
        ("https://x.org/api/v3/", True),
        ("http://127.0.0.1:8/api/v3", True),
        ("http://localhost/api", True),
        ("http://[::1]:8", True),
        ("http://x.org/api/v3", False),
        ("ftp://x.org", False),
        ("x.org", False),
        ("https://u:p@x.org", False),
        ("https://x.org/?a=b", False),
        ("https://", False),
    ],
)
def test_the_base_url_is_checked(url: str, works: bool) -> None:
    if works:
        with SkillableClient(KEY, base_url=url) as client:
            assert not client.base_url.endswith("/")
            assert KEY not in repr(client)
    else:
        with pytest.raises(ConfigurationError, match="base_url"):
            SkillableClient(KEY, base_url=url)
    with SkillableClient(KEY, base_url="http://x.org", allow_http=True):
        pass


@pytest.mark.parametrize("key", ["", "a b", "ä", "a\nb"])
def test_a_key_that_is_none_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        SkillableClient(key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: calls.launch("", 7, LaunchParameters()), "user_id"),
        (lambda: calls.launch("u", 0, LaunchParameters()), "lab_profile_id"),
        (lambda: calls.launch("u", 2**31, LaunchParameters()), "lab_profile_id"),
        (lambda: calls.launch("u", 7, LaunchParameters(lang="xx")), "lang"),
        (lambda: calls.launch("u", 7, LaunchParameters(variables={"": "x"})), "variables"),
        (lambda: calls.cancel(0), "instance_id"),
        (lambda: calls.latest_results(10_081), "minutes"),
    ],
)
def test_bad_input_is_refused_by_name(make: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make()
    assert caught.value.field == field


@pytest.mark.parametrize("total", [3, None])
def test_a_search_goes_through_all_pages(total: int | None) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        index = int(request.url.params["pageIndex"])
        found = [{"Id": 10 * index + n, "State": "Off"} for n in (1, 2)] if index < 3 else []
        return httpx.Response(200, json={"Results": found, "TotalPages": total})

    def sync() -> Iterator[int]:
        with SkillableClient(KEY, transport=httpx.MockTransport(handler)) as client:
            yield from (i.instance_id for i in client.search(user_id="u"))

    async def asynchronous() -> list[int]:
        async with AsyncSkillableClient(KEY, transport=httpx.MockTransport(handler)) as client:
            return [i.instance_id async for i in client.search(user_id="u")]

    assert list(sync()) == asyncio.run(asynchronous()) == [1, 2, 11, 12, 21, 22]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "Result", "Status", "Error", "LabInstanceId", "Id", "Url", "Expires", "Start", "State",
        "Tag", "RunningLabs", "SavedLabs", "IsExam", "NumActive", "Results", "TotalPages",
        "UserId", "EstimatedReadySeconds", "CompletionStatus",
    ]
)  # fmt: skip


@given(st.sampled_from(READS + EFFECTS), st.dictionaries(FIELDS, JSON | st.just([{"Id": 3}])))
def test_no_json_object_breaks_the_reading(call: calls.Call[Any], body: dict[str, Any]) -> None:
    with contextlib.suppress(PlatformError):
        call.read(body)


def test_what_is_said_of_another_instance_is_not_believed() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"Id": 8, "State": "Running", "Status": 1})

    with SkillableClient(KEY, transport=httpx.MockTransport(handler)) as client:
        assert client.details(9).instance_id == 8
        seen = SkillablePlatform(client).inspect(9, timeout=5)
    assert (seen.instance_id, seen.readable) == (9, False)


@pytest.mark.parametrize("results", [[{"Id": 3}], {"Id": 3}, {"Results": [{"Id": 3}]}])
def test_search_results_are_read_as_a_list_or_an_object(client: Client, results: Any) -> None:
    page = client.send(calls.search(), answers({"Results": results, "TotalPages": 1}))
    assert [i.instance_id for i in page.instances] == [3]


def asked(body: Any, ask: Callable[[AsyncSkillablePlatform], Awaitable[Any]]) -> Any:
    """What the platform makes of an answer."""

    async def ask_it() -> Any:
        transport = httpx.MockTransport(answers(body))
        async with AsyncSkillableClient(KEY, transport=transport) as client:
            return await ask(AsyncSkillablePlatform(client))

    return asyncio.run(ask_it())


def test_the_roster_takes_what_names_an_instance_once_and_no_names_of_people() -> None:
    row = {"UserId": "ann", "UserFirstName": "Ann", "LabProfileId": 7, "LabProfileName": "Net"}
    body = {
        "RunningLabs": [
            {**row, "Id": 1, "Start": 100, "Expires": 200, "IsExam": True},
            {**row},
            {"Id": 2, "UserId": " ", "LabProfileId": 0},
            {**row, "Id": 3},
            None,
        ],
        "SavedLabs": [{**row, "Id": 3}],
        "Status": 1,
    }
    first, nobodys, saved = asked(body, lambda p: p.roster(timeout=5))
    assert first == RosterEntry(
        instance_id=1,
        user_id="ann",
        lab_profile_id=7,
        lab_profile_name="Net",
        started_at=100.0,
        expires_at=200.0,
        is_exam=True,
    )
    assert (nobodys.user_id, nobodys.lab_profile_id, nobodys.saved) == (None, None, False)
    assert (saved.instance_id, saved.saved) == (3, True), "what is saved by now is not running"
    assert "Ann" not in repr(first)


@pytest.mark.parametrize("empty", [None, []])
def test_a_consumer_without_labs_has_an_empty_roster(empty: Any) -> None:
    body = {"RunningLabs": empty, "SavedLabs": empty, "Status": 1}
    assert asked(body, lambda p: p.roster(timeout=5)) == ()
    page = asked({"Results": empty, "TotalPages": 0}, lambda p: p.search(timeout=5))
    assert page == RosterPage(instances=(), total_pages=0)


def test_a_roster_of_thousands_is_read_and_a_lab_of_that_size_is_not() -> None:
    row = {"UserId": "u", "LabProfileId": 7, "LabProfileName": "n" * 200}
    body = {"RunningLabs": [{**row, "Id": n} for n in range(1, 8001)], "Status": 1}
    assert len(asked(body, lambda p: p.roster(timeout=5))) == 8000
    with pytest.raises(AnswerUnreadable, match="larger than 1048576 bytes"):
        asked(body, lambda p: p.survey("u", timeout=5))


def test_a_search_tells_the_class_and_the_last_activity_null_or_missing_or_there() -> None:
    body = {
        "Results": [
            {"Id": 1, "State": "Running", "ClassId": 12, "LastActivity": 50},
            {"Id": 2, "ClassId": None, "LastActivity": None},
            {"Id": 3, "LastActivityTime": "/Date(60000)/"},
        ]
    }
    page = asked(body, lambda p: p.search(class_id="12", timeout=5))
    told = [(i.class_id, i.last_activity_at) for i in page.instances]
    assert told == [("12", 50.0), ("", None), (None, 60.0)]
    assert page.total_pages is None


def test_the_platform_port_makes_one_request_for_each_call() -> None:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        raise httpx.ConnectError("x")

    with SkillableClient(KEY, transport=httpx.MockTransport(handler)) as client:
        platform = SkillablePlatform(client)
        for call in (
            lambda: platform.survey("u", timeout=5),
            lambda: platform.inspect(9, timeout=5),
            lambda: platform.launch("u", 7, LaunchParameters(), timeout=5),
            lambda: platform.cancel(9, note=None, timeout=5),
            lambda: platform.access_url(9, timeout=5),
            lambda: platform.count_active(timeout=5),
        ):
            requests.clear()
            with pytest.raises(PlatformUnreachable):
                call()
            assert len(requests) == 1
