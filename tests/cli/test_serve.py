"""``relaunch serve``: what the settings say arrives, it hands over, and the demo stays a demo."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from orchestrator.cli.serving import _is_this_machine
from orchestrator.cli.settings import load
from orchestrator.errors import ConfigurationError
from orchestrator.service.access.callers import Scope
from orchestrator.service.access.service_keys import new_key
from tests.cli.processes import await_line, await_requests, durable, running, tear_down, unfinished
from tests.cli.test_cli import environment, serving
from tests.service.signing import SECRET, claims, signed

PAGE = "https://lms.example"
HOOK = "what the platform brings"
KEY, _KEPT = new_key("portal", [Scope.START])
LET_IN = {
    "RELAUNCH_SERVICE__KEYS": _KEPT.entry,
    "RELAUNCH_SERVICE__WEBHOOK_SECRETS": HOOK,
    "RELAUNCH_SERVICE__ALLOWED_ORIGINS": f"{PAGE}/",
    "RELAUNCH_SERVICE__LEARNER_REQUESTS_PER_MINUTE": "3",
    "RELAUNCH_TOKENS__SECRET": SECRET,
    "RELAUNCH_TOKENS__AUDIENCE": "here",
}


@contextmanager
def _service(
    env: dict[str, str], *arguments: str, mark: str = "The snippet"
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    with running(env, "serve", "--port", "0", *arguments) as process:
        line = await_line(process, mark, out=True)
        url = next(word for word in line.split() if word.startswith("http"))
        origin = "/".join(url.split("/")[:3])
        with httpx.Client(base_url=origin, timeout=20) as client:
            yield process, client


def _bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def test_what_the_settings_say_arrives(tmp_path: Path) -> None:
    with serving() as (sandbox, env):
        env = durable(env, tmp_path) | LET_IN | {"RELAUNCH_POLICY__IF_RUNNING": "reuse"}
        old = sandbox.world.give("ann", 1001).instance_id
        with _service(env) as (process, client):
            learner = _bearer(signed(claims(sub="ann", aud="here")))
            labs = client.get("/users/ann/labs", headers=learner | {"Origin": PAGE})
            assert labs.status_code == 200
            assert labs.headers["access-control-allow-origin"] == PAGE
            other = client.get("/users/ann/labs", headers=learner | {"Origin": f"{PAGE}.evil"})
            assert "access-control-allow-origin" not in other.headers
            answers = [client.get("/relaunches", headers=learner).status_code for _ in range(2)]
            assert answers == [200, 429]
            assert client.get("/relaunches").status_code == 401
            hook = f"/webhooks/skillable/torn-down/{old}"
            assert client.post(hook, headers={"Authorization": HOOK}).status_code == 204
            assert client.post(hook, headers={"Authorization": "x"}).status_code == 401
            asked = {"user_id": "ann", "lab_profile_id": 1001}
            made = client.post("/relaunches", json=asked, headers=_bearer(KEY))
            assert made.status_code == 202
            events = client.get(made.headers["location"] + "/events", headers=_bearer(KEY)).text
            assert '"outcome":"reused"' in events, "the policy of the settings"
            assert client.get("/demo/token?learner=ann").status_code == 404
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
        assert process.returncode == 0
        (line,) = err.splitlines()
        assert "origin_not_allowed" in line
        assert f"origin={PAGE}.evil" in line
        assert "Stopped." in out


def test_stopped_it_hands_over_and_begun_again_it_goes_on_by_itself(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path) | LET_IN
        old = sandbox.world.give("ann", 1001).instance_id
        with _service(env) as (process, client):
            asked = {"user_id": "ann", "lab_profile_id": 1002}
            client.post("/relaunches", json=asked, headers=_bearer(KEY)).raise_for_status()
            await_requests(sandbox, "cancel", 1)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
        (left,) = unfinished(env)
        assert left["owner"] is None
        with _service(env):
            tear_down(sandbox, old)
            while not sandbox.ledger.launches():
                await_requests(sandbox, "launch", sandbox.ledger.count("launch") + 1)
        assert len(sandbox.ledger.launches()) == len(sandbox.ledger.cancels()) == 1


def test_the_demo_works_beside_the_settings_of_a_real_service(tmp_path: Path) -> None:
    env = environment() | LET_IN | {"RELAUNCH_TOKENS__ISSUER": PAGE}
    env |= {"RELAUNCH_TOKENS__LONGEST_SECONDS": "60", "TMPDIR": str(tmp_path)}
    with _service(env, "--demo", mark="/demo in a browser") as (process, client):
        given = client.get("/demo/token?learner=ada", headers={"Origin": PAGE})
        assert "access-control-allow-origin" not in given.headers
        headers = _bearer(given.json()["token"])
        assert client.get("/users/ada/labs", headers=headers).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    (line,) = err.splitlines()
    assert f"origin={PAGE}" in line, "a page of the real service may not ask here"
    assert list(tmp_path.iterdir()) == [], "nothing is kept"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://LMS.example/", "https://lms.example"),
        ("https://lms.example:443", "https://lms.example"),
        ("https://lms.example:8443", "https://lms.example:8443"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_an_origin_is_as_browsers_write_it(written: str, meant: str) -> None:
    environ = {"RELAUNCH_SERVICE__ALLOWED_ORIGINS": f"https://first.example,{written}"}
    assert load(None, {}, environ).settings.service.allowed_origins[1] == meant


@pytest.mark.parametrize(
    "written",
    ["*", "null", "lms.example", "https://lms.example/course", "https://*.lms.example", "https://"],
)
def test_what_is_no_origin_is_refused(written: str) -> None:
    environ = {"RELAUNCH_SERVICE__ALLOWED_ORIGINS": written}
    with pytest.raises(ConfigurationError, match=r"service\.allowed_origins.*without a path"):
        load(None, {}, environ)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True), ("::1", True), ("localhost", True),
        ("192.0.2.7", False), ("::", False), ("lms.example", False),
    ],
)  # fmt: skip
def test_a_demo_that_others_can_reach_says_so(host: str, here: bool) -> None:
    assert _is_this_machine(host) is here
