"""Every error as a problem: its status and code, and nothing in it that nobody should read."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import pytest

from orchestrator import errors
from orchestrator.service import refusals
from orchestrator.service.problems import problem_of
from orchestrator.testing.virtual import run_virtual
from tests.service.world import NEW, Within, bearer

GOOD: dict[str, Any] = {"user_id": "ada", "lab_profile_id": NEW}
_BUGS = (errors.ConfigurationError, errors.IllegalTransition)


def _told(error: errors.RelaunchError) -> tuple[dict[str, Any], dict[str, str]]:
    answer = problem_of(error)
    assert answer.media_type == "application/problem+json"
    told = json.loads(bytes(answer.body))
    assert told["status"] == answer.status_code
    assert told["title"] == HTTPStatus(answer.status_code).phrase
    assert told["type"] == f"urn:lab-relaunch:problem:{told['code']}"
    return told, dict(answer.headers)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.InvalidRequest("user_id", "is wrong."), 422, None),
        (errors.UnknownRelaunch("x"), 404, None),
        (errors.StoreUnavailable("away"), 503, "2"),
        (errors.StoreIncompatible("too new"), 503, "2"),
        (errors.LeaseLost("lost"), 503, "2"),
        (errors.HeldBack("later", retry_after=0.2), 503, "1"),
        (errors.PlatformPaused("later", retry_after=9.1), 503, "10"),
        (errors.RateLimited("later"), 503, "2"),
        (errors.PlatformUnreachable("no"), 502, None),
        (errors.AnswerLost("no"), 502, None),
        (errors.CallRefused("no"), 502, None),
        (errors.KeyRejected("no"), 502, None),
        (refusals.Unauthenticated("no"), 401, None),
        (refusals.TokenExpired("no"), 401, None),
        (refusals.Forbidden("no"), 403, None),
        (refusals.NotFound("no"), 404, None),
        (refusals.TooMany("no", retry_after=0.0), 429, "1"),
        (refusals.KeySetUnavailable(retry_after=3.5), 503, "4"),
        (refusals.Draining(), 503, "1"),
    ],
    ids=lambda value: value.code if isinstance(value, errors.RelaunchError) else None,
)
def test_each_error_has_a_status(
    error: errors.RelaunchError, status: int, retry_after: str | None
) -> None:
    told, headers = _told(error)
    assert (told["status"], told["code"], told["detail"]) == (status, error.code, str(error))
    assert headers.get("retry-after") == retry_after
    assert (headers.get("www-authenticate") == "Bearer") is (status == 401)


@pytest.mark.parametrize("kind", _BUGS)
def test_what_only_a_bug_can_be_is_none(kind: type[errors.RelaunchError]) -> None:
    with pytest.raises(kind):
        problem_of(kind("the place of a secret"))


def test_members() -> None:
    assert _told(errors.InvalidRequest("user_id", "is wrong."))[0]["field"] == "user_id"
    conflict = refusals.Conflict("no", members={"relaunch_id": "r", "may": ["wait"]})
    told, _ = _told(conflict)
    assert (told["relaunch_id"], told["may"], told["status"]) == ("r", ["wait"], 409)


def _asked(body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    async def main() -> tuple[int, dict[str, Any]]:
        service = Within()
        async with service.client() as client:
            sent = bearer() | {"Content-Type": "application/json"} | headers
            answer = await client.post("/relaunches", content=body, headers=sent)
            if answer.is_error:
                assert answer.headers["content-type"] == "application/problem+json"
                assert await service.store.unfinished() == 0
            return answer.status_code, answer.json()

    return run_virtual(main())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b"[" * 60_000, b'{"a":' * 10_000, b'{"user_id": "\xff\xfe"}',
        b"\x00", b"\xef\xbb\xbf{}", b'{"lab_profile_id": ' + b"9" * 50_000 + b"}", b"[]", b"7",
        b'"text"', b"null", b"{}",
    ],
    ids=range(14),
)  # fmt: skip
def test_a_body_that_is_none(body: bytes) -> None:
    status, told = _asked(body)
    assert status in (400, 422)
    assert told["code"] in ("bad_request", "invalid_request")
    assert told["detail"].endswith(("Nothing was done.", "correct it and try again."))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user_id", ""), ("user_id", "   "), ("user_id", "a\r\nX: y"), ("user_id", "a\x00b"),
        ("user_id", "a" * 1001), ("user_id", 5), ("user_id", ["ada"]), ("user_id", {"$ne": ""}),
        ("lab_profile_id", 0), ("lab_profile_id", -1), ("lab_profile_id", 2**31),
        ("lab_profile_id", 10**300), ("lab_profile_id", 1.5), ("lab_profile_id", "1002"),
        ("lab_profile_id", True), ("lab_profile_id", None), ("lab_profile_id", float("nan")),
        ("displace_instance_id", 2**63), ("displace_instance_id", 0), ("note", "a\nb"),
        ("note", "a" * 1001), ("priority", "urgent"), ("on_conflict", "fight"),
        ("policy", {"deadline_seconds": float("nan")}), ("policy", {"max_recancels": 10**9}),
        ("policy", {"deadline_seconds": float("inf")}), ("policy", {"deadline_seconds": 0}),
        ("policy", {"displace_instance_id": 5}), ("policy", {"if_running": "explode"}),
        ("policy", {"allow_exam": "yes"}), ("parameters", {"tag": "a\rb"}),
        ("parameters", {"role_ids": [2**40]}), ("parameters", {"role_ids": list(range(101))}),
        ("parameters", {"variables": {"a": 5}}), ("parameters", {"nonsense": 1}),
        ("parameters", {"region_id": -1}), ("relaunch_id", "mine"), ("idempotency_key", "k"),
    ],
)  # fmt: skip
def test_a_value_that_is_wrong_is_named_and_not_repeated(name: str, value: Any) -> None:
    status, told = _asked(json.dumps(GOOD | {name: value}).encode())
    assert (status, told["code"]) == (422, "invalid_request")
    assert name in told["field"]
    assert told["errors"][0]["field"] == told["field"]
    for text in ("X: y", "urgent", "fight", "explode", "aaaaaaaa", "$ne"):
        assert text not in json.dumps(told)


@pytest.mark.parametrize(
    "sent",
    ['"\\ud800"', '"a\\udfffb"'],
)
@pytest.mark.parametrize(
    "template",
    [
        '{"user_id": %s, "lab_profile_id": 1}',
        "{%s: 1}",
        '{"user_id": "ada", "lab_profile_id": 1, "parameters": {"variables": {%s: 5}}}',
    ],
)
def test_half_a_character_is_refused_and_can_be_told(sent: str, template: str) -> None:
    status, told = _asked((template % sent).encode())
    assert (status, told["code"]) == (422, "invalid_request")


def test_of_thousands_of_wrong_values_a_few_are_named() -> None:
    body = {f"{number}" * 20: 1 for number in range(1000, 1700)}
    status, told = _asked(json.dumps(body).encode())
    assert status == 422
    assert len(told["errors"]) == 20
    _, told = _asked(json.dumps({"x" * 60_000: 1}).encode())
    assert len(json.dumps(told)) < 2000


def test_of_two_values_under_one_name_the_last_counts() -> None:
    status, told = _asked(b'{"user_id": "eve", "lab_profile_id": 1, "user_id": "ada"}')
    assert (status, told["user_id"]) == (202, "ada")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"],
)
def test_what_a_page_could_send_unasked_is_no_json(content_type: str) -> None:
    # A form of any page could send these without the browser asking whether it may.
    status, told = _asked(json.dumps(GOOD).encode(), **{"Content-Type": content_type})
    assert (status, told["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/x+json"])
def test_json_by_another_name(content_type: str) -> None:
    status, _ = _asked(json.dumps(GOOD).encode(), **{"Content-Type": content_type})
    assert status == 202
