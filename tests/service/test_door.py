"""The door of the routes: scopes, limits, what comes in headers, and what OpenAPI says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from freezegun import freeze_time

from orchestrator.service.access.authority import Authority
from orchestrator.service.access.callers import Scope
from orchestrator.service.access.door import Admin, Reader, Starter
from orchestrator.service.access.key_sets import UrlKeySet
from orchestrator.service.access.learner_tokens import LearnerTokens
from orchestrator.service.access.limits import CallerLimits
from orchestrator.service.access.service_keys import ServiceKeys, new_key
from orchestrator.service.refusals import Refused
from tests.service.signing import SECRET, claims, ec_key, signed

_MADE = {scope: new_key(scope, [scope]) for scope in Scope}
KEYS = {scope: key for scope, (key, _) in _MADE.items()}
GOOD = f"Bearer {KEYS[Scope.READ]}".encode()
Headers = dict[str, str] | Sequence[tuple[bytes, bytes]]


@dataclass
class House:
    """An application with a door for each scope, and nothing behind it."""

    app: FastAPI
    limits: CallerLimits

    def get(
        self, path: str, headers: Headers | None = None, address: str = "192.0.2.1"
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://house") as client:
                return await client.get(path, headers=headers)

        return asyncio.run(ask())

    def ask(self, path: str, credential: str) -> httpx.Response:
        return self.get(path, {"Authorization": f"Bearer {credential}"})


def house(tokens: LearnerTokens | None = None, **limits: Any) -> House:
    """Built before time is frozen: FastAPI imports on the way what cannot stand a false `date`."""
    app = FastAPI()
    authority = Authority(
        keys=ServiceKeys(kept.entry for _, kept in _MADE.values()),
        tokens=tokens or LearnerTokens(secret=SECRET),
    )
    limited = CallerLimits(**limits)
    app.state.parts = SimpleNamespace(authority=authority, limits=limited)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse(
            {"code": error.code, "detail": str(error)}, error.status, headers=error.headers
        )

    @app.get("/read")
    async def read(caller: Reader) -> str | None:
        return caller.user_id

    @app.get("/start")
    async def start(caller: Starter) -> str | None:
        return caller.user_id

    @app.get("/admin")
    async def admin(caller: Admin) -> str | None:
        return caller.user_id

    return House(app, limited)


@pytest.mark.parametrize("path", ["/read", "/start", "/admin"])
def test_nobody_is_let_in_without_a_credential(path: str) -> None:
    answer = house().get(path)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("scope", "statuses"),
    [
        (Scope.READ, (200, 403, 403)),
        (Scope.START, (200, 200, 403)),
        (Scope.ADMIN, (200, 200, 200)),
    ],
)
def test_a_key_opens_the_doors_of_its_scope(scope: Scope, statuses: tuple[int, ...]) -> None:
    there = house()
    found = tuple(
        there.ask(path, KEYS[scope]).status_code for path in ("/read", "/start", "/admin")
    )
    assert found == statuses


def test_a_learner_may_read_and_start() -> None:
    there, token = house(), signed()
    assert [there.ask(p, token).status_code for p in ("/read", "/start", "/admin")] == [
        200,
        200,
        403,
    ]
    assert there.ask("/read", token).json() == "ada"


def test_a_token_that_ran_out_says_so() -> None:
    there = house()
    with freeze_time("2026-03-01 12:00:00", real_asyncio=True) as frozen:
        token = signed()
        assert there.ask("/read", token).status_code == 200
        frozen.tick(611)
        answer = there.ask("/read", token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"authorization", "Bearer ä.ö.ü".encode())],
        [(b"authorization", b"Bearer a.b.c"), (b"authorization", GOOD)],
        [(b"authorization", GOOD)] * 2,
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer " + b"x" * 60_000)],
        [(b"authorization", b"Basic YTpi")],
        [(b"x-api-key", KEYS[Scope.READ].encode())],
        [(b"cookie", b"authorization=" + GOOD)],
    ],
    ids=range(9),
)
def test_what_is_not_one_plain_credential_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    answer = house().get("/read", headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_a_credential_in_the_url_is_none() -> None:
    key = KEYS[Scope.ADMIN]
    assert house().get(f"/read?access_token={key}&authorization=Bearer%20{key}").status_code == 401


def test_the_scheme_may_be_in_small_letters() -> None:
    key = KEYS[Scope.READ]
    assert house().get("/read", {"authorization": f"bearer {key}"}).status_code == 200


def test_too_many_requests_are_told_when_to_come_again() -> None:
    there = house(learner_requests_per_minute=2, key_requests_per_minute=3)
    with freeze_time("2026-03-01 12:00:00", real_asyncio=True) as frozen:
        for credential, many in ((signed(), 2), (KEYS[Scope.READ], 3)):
            for _ in range(many):
                assert there.ask("/read", credential).status_code == 200
            answer = there.ask("/read", credential)
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
            assert answer.headers["retry-after"] == "60"
        # A new token of the same learner is the same learner; another learner is not.
        assert there.ask("/read", signed(claims(jti="other"))).status_code == 429
        assert there.ask("/read", signed(claims(sub="bob"))).status_code == 200
        assert there.ask("/read", KEYS[Scope.ADMIN]).status_code == 200
        frozen.tick(60)
        assert there.ask("/read", signed()).status_code == 200


def test_what_a_key_may_not_do_counts_as_well() -> None:
    there = house(key_requests_per_minute=2)
    statuses = [there.ask("/admin", KEYS[Scope.READ]).status_code for _ in range(3)]
    assert statuses == [403, 403, 429]


def test_wrong_credentials_are_slowed_down_and_good_ones_are_not() -> None:
    there = house(failures_per_minute=3)
    bad = "lrk_" + "A" * 43
    assert [there.ask("/read", bad).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert there.get("/read").status_code == 429
    assert there.ask("/read", KEYS[Scope.READ]).status_code == 200
    assert there.ask("/read", signed()).status_code == 200
    assert there.get("/read", address="192.0.2.2").status_code == 401


def test_a_class_whose_tokens_ran_out_is_not_taken_for_an_attack() -> None:
    there = house(failures_per_minute=3)
    with freeze_time("2026-03-01 12:00:00", real_asyncio=True) as frozen:
        token = signed()
        frozen.tick(700)
        assert {there.ask("/read", token).json()["code"] for _ in range(9)} == {"token_expired"}


def test_without_the_lms_s_keys_it_is_503_and_nobody_s_fault() -> None:
    def down(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("down")

    keys = UrlKeySet("https://lms.example/jwks", transport=httpx.MockTransport(down))
    there = house(LearnerTokens(key_set=keys), failures_per_minute=1)
    token = signed(key=ec_key(), algorithm="ES256")
    for _ in range(3):
        answer = there.ask("/read", token)
        assert (answer.status_code, answer.json()["code"]) == (503, "key_set_unavailable")
        assert answer.headers["retry-after"] == "5"
    assert there.ask("/read", KEYS[Scope.READ]).status_code == 200


def test_openapi_says_what_to_send() -> None:
    openapi = house().app.openapi()
    (name,) = openapi["components"]["securitySchemes"]
    scheme = openapi["components"]["securitySchemes"][name]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path in ("/read", "/start", "/admin"):
        assert openapi["paths"][path]["get"]["security"] == [{name: []}]
        assert "parameters" not in openapi["paths"][path]["get"]


def test_no_part_of_a_credential_gets_into_a_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG", logger="orchestrator")
    there = house()
    for credential in (signed(), signed(key=SECRET + "x"), KEYS[Scope.READ], "lrk_" + "A" * 43):
        there.ask("/read", credential)
        assert credential not in caplog.text
    assert "ada" not in caplog.text
