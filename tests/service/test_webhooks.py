"""The platform's webhooks at the service: in every shape, from anybody, at any time."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from orchestrator import AsyncRelauncher, Outcome, Schedules
from orchestrator.cli.settings import load
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import StoreUnavailable
from orchestrator.handles import AsyncRelaunch
from orchestrator.sandbox import Sandbox, Webhook
from orchestrator.sandbox.server import SandboxServer
from orchestrator.service.access.authority import Authority
from orchestrator.service.app import create_app
from orchestrator.service.metered import MeteredPlatform
from orchestrator.service.metrics import Metrics
from orchestrator.service.parts import ServiceOptions, ServiceParts
from orchestrator.service.server import ServiceServer
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.testing.virtual import run_virtual
from orchestrator.waiting import FixedSchedule
from tests.cli.test_cli import environment, relaunch
from tests.service.operating import WEBHOOK_SECRET, Service

GOOD = {"Authorization": WEBHOOK_SECRET}
HERE = "/webhooks/skillable"


async def _waiting(service: Service, user_id: str = "ann") -> tuple[int, AsyncRelaunch]:
    """The instance whose end a relaunch waits for, and the relaunch; a minute after its cancel."""
    old = service.platform.add_running(user_id, 1001)
    handle = service.relauncher.start(user_id, 1002)
    await asyncio.sleep(60)
    return old, handle


@pytest.mark.parametrize("verb", ["POST", "GET", "PUT"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/torn-down/{id}", None),
        ("/torn-down/{id}", '{"Id": {id}, "State": 20, "CompletionStatus": 2}'),
        ("/torn-down/{id}", "no JSON at all \xff"),
        ("/torn-down/{id}", json.dumps({"Id": None, "x": "y" * 65_000})),
        ("/torn-down/{id}?labInstanceId={id}&userExternalId=ann&tag=t%20t", None),
        ("/torn-down?labInstanceId={id}&userExternalId=ann", None),
        ("/torn-down", '{"Id": {id}}'),
    ],
    ids=["path", "body", "not-json", "64-kB", "query", "query-alone", "body-alone"],
)
def test_each_shape_ends_the_wait_and_is_stored_before_the_answer(
    verb: str, path: str, body: str | None
) -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            old, handle = await _waiting(service)
            content = None if body is None else body.replace("{id}", str(old)).encode()
            answer = await client.request(
                verb, HERE + path.replace("{id}", str(old)), headers=GOOD, content=content
            )
            assert (answer.status_code, answer.content) == (204, b"")
            assert (await service.store.signals(handle.relaunch_id)).hinted == old
            outcome = await handle
        assert outcome.ok
        assert outcome.waited_seconds < 70
        assert service.value("webhooks_total", event="torn-down", effect="awaited") == 1

    run_virtual(main())


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-odd", ""]
)
def test_the_content_type_means_nothing(content_type: str) -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            old, handle = await _waiting(service)
            headers = GOOD | {"Content-Type": content_type}
            body = json.dumps({"Id": old})
            answer = await client.post(f"{HERE}/torn-down", headers=headers, content=body)
            assert answer.status_code == 204
            assert (await handle).waited_seconds < 70

    run_virtual(main())


def test_early_late_doubled_and_unknown_ones_are_harmless() -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            old, handle = await _waiting(service)
            early = asyncio.create_task(_of_another_learner(service))
            await asyncio.sleep(1)
            statuses = []
            for instance in (old, old, 4, *service.platform.cancels(), 2**63 - 1):
                answer = await client.post(f"{HERE}/torn-down/{instance}", headers=GOOD)
                statuses.append(answer.status_code)
            assert statuses == [204] * len(statuses)
            assert (await handle).ok
            assert (await client.post(f"{HERE}/torn-down/{old}", headers=GOOD)).status_code == 204
            await early
        # The early one was checked by a launch that was refused, and the lab was not lost to it.
        assert len(service.platform.launches()) == 2
        effects = service.counted("webhooks_total", "event", "effect")
        assert effects["torn-down", "awaited"] >= 2
        assert effects["torn-down", "not_awaited"] >= 3

    run_virtual(main())


async def _of_another_learner(service: Service) -> None:
    service.platform.add_running("bob", 1001)
    assert (await service.relauncher.relaunch("bob", 1002)).ok


@pytest.mark.parametrize("event", ["tearing-down", "saved", "no-event-of-theirs", "x" * 64])
def test_other_events_are_only_counted(event: str) -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            old, handle = await _waiting(service)
            answer = await client.post(f"{HERE}/{event}/{old}", headers=GOOD, content=b"{")
            assert answer.status_code == 204
            assert (await service.store.signals(handle.relaunch_id)).hints == 0
        shown = event if event in ("tearing-down", "saved") else "other"
        assert service.counted("webhooks_total", "event", "effect") == {(shown, "ignored"): 1}

    run_virtual(main())


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "wrong")],
        [("Authorization", f"Bearer {WEBHOOK_SECRET}")],
        [("Authorization", WEBHOOK_SECRET[:-1])],
        [("Authorization", f"{WEBHOOK_SECRET}x")],
        [("Authorization", WEBHOOK_SECRET), ("Authorization", WEBHOOK_SECRET)],
        [("X-Authorization", WEBHOOK_SECRET)],
    ],
)
@pytest.mark.parametrize("event", ["torn-down", "tearing-down"])
def test_without_the_secret_nothing_is_let_in(headers: list[tuple[str, str]], event: str) -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            old, handle = await _waiting(service)
            answer = await client.post(
                f"{HERE}/{event}/{old}?secret={WEBHOOK_SECRET}", headers=headers
            )
            assert answer.status_code == 401
            assert answer.json()["code"] == "unauthenticated"
            assert WEBHOOK_SECRET not in answer.text
            assert (await service.store.signals(handle.relaunch_id)).hints == 0
        assert service.counted("webhooks_total", "event", "effect") == {(event, "refused"): 1}

    run_virtual(main())


@pytest.mark.parametrize("secrets", [(), ("",), ("  ",)])
@pytest.mark.parametrize("brought", ["", " ", "Bearer"])
def test_where_none_is_configured_nobody_is_let_in(secrets: tuple[str, ...], brought: str) -> None:
    async def main() -> None:
        service = Service(secrets=secrets)
        async with service.client() as client:
            answer = await client.post(f"{HERE}/torn-down/5", headers={"Authorization": brought})
            assert answer.status_code == 401

    run_virtual(main())


@pytest.mark.parametrize(
    "brought",
    ["geheim-ä".encode(), "geheim-ä".encode("latin-1"), "秘密".encode(), b"plain", b"Basic eDp5"],
)
def test_any_of_the_secrets_is_good_ascii_or_not(brought: bytes) -> None:
    async def main() -> None:
        service = Service(secrets=("plain", "geheim-ä", "秘密", "Basic eDp5"))
        async with service.client() as client:
            headers = [(b"Authorization", brought)]
            answer = await client.post(f"{HERE}/torn-down/5", headers=headers)
            assert answer.status_code == 204
            wrong = [(b"Authorization", brought + b"\xff")]
            answer = await client.post(f"{HERE}/torn-down/5", headers=wrong)
            assert answer.status_code == 401

    run_virtual(main())


def test_wrong_secrets_are_limited_and_the_right_one_is_not() -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            statuses = set()
            for _ in range(100):
                answer = await client.post(f"{HERE}/torn-down/5", headers={"Authorization": "x"})
                statuses.add(answer.status_code)
            assert statuses == {401, 429}
            assert int(answer.headers["Retry-After"]) >= 1
            for _ in range(200):
                answer = await client.post(f"{HERE}/torn-down/5", headers=GOOD)
                assert answer.status_code == 204

    run_virtual(main())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/torn-down/5", '{"Id": 6}'),
        ("/torn-down/5?labInstanceId=6", None),
        ("/torn-down?labInstanceId=5", '{"Id": 6}'),
        ("/torn-down", None),
        ("/torn-down", "[5]"),
        ("/torn-down?labInstanceId=0", None),
    ],
)
def test_one_that_names_no_or_two_lab_instances_is_refused(path: str, body: str | None) -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            answer = await client.post(HERE + path, headers=GOOD, content=body)
            assert answer.status_code == 422
            assert answer.json()["code"] == "invalid_request"
            assert answer.json()["field"] == "webhook"
        assert service.counted("webhooks_total", "event", "effect") == {
            ("torn-down", "unreadable"): 1
        }

    run_virtual(main())


@pytest.mark.parametrize("instance", ["%7Bid%7D", "0", "-5", str(2**63), "x"])
def test_an_id_that_is_none_is_refused(instance: str) -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            answer = await client.post(f"{HERE}/torn-down/{instance}", headers=GOOD)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            unknown = await client.post(f"{HERE}/torn-down/{instance}")
            assert unknown.status_code == 401

    run_virtual(main())


class IsAway(MemoryRunStore):
    """Takes no hint."""

    async def hint(self, lab_instance_id: int, *, at: float) -> tuple[str, ...]:
        raise StoreUnavailable("The store cannot be reached.")


def test_where_the_store_is_away_the_platform_is_to_try_again() -> None:
    async def main() -> None:
        service = Service(store=IsAway())
        async with service.client() as client:
            answer = await client.post(f"{HERE}/torn-down/5", headers=GOOD)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert service.counted("webhooks_total", "event", "effect") == {
            ("torn-down", "not_stored"): 1
        }

    run_virtual(main())


def test_neither_an_event_nor_an_id_from_outside_becomes_a_label() -> None:
    async def main() -> None:
        service = Service()
        async with service.client() as client:
            for n in range(30):
                await client.post(f"{HERE}/event-{n}/{n + 1}")
                await client.post(f"{HERE}/event-{n}/{n + 1}", headers=GOOD)
        assert service.counted("webhooks_total", "event", "effect") == {
            ("other", "refused"): 30,
            ("other", "ignored"): 30,
        }

    run_virtual(main())


# --- from end to end ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["webhook", "with a body", "life cycle action"])
def test_what_is_printed_for_the_form_works_from_end_to_end(shape: str) -> None:
    ended: Future[Outcome] = Future()
    sandbox = Sandbox(teardown="fixed:0.6")
    old = sandbox.world.give("ann", 1001)
    platform = SandboxServer(sandbox)
    with _served(platform.base_url, ended) as service:
        form = _printed(service.base_url)
        chosen = form["life_cycle_action" if shape == "life cycle action" else "webhook"]
        platform.webhooks.append(
            Webhook(
                event=chosen["event"],
                url=chosen["url"],
                verb=chosen["verb"],
                headers={chosen["header"]["name"]: chosen["header"]["value"]},
                with_body=shape == "with a body",
                appended_query=shape == "life cycle action",
            )
        )
        with platform:
            httpx.post(f"{service.base_url}/test/begin").raise_for_status()
            outcome = ended.result(timeout=20)
        assert service.parts is not None
        value = service.parts.metrics.registry.get_sample_value
    # Without the webhook, the first look would come after ten minutes.
    assert (outcome.outcome, outcome.cancelled_instance_ids) == ("launched", (old.instance_id,))
    assert [e.phase for e in outcome.events].count("looking") == 0
    awaited = {"event": "torn-down", "effect": "awaited"}
    assert value("lab_relaunch_webhooks_total", awaited) == 1
    assert 500 < (value("lab_relaunch_wait_saved_seconds_total") or 0) < 600


def _printed(public_url: str) -> dict[str, Any]:
    """What ``relaunch webhook-setup`` has for the form."""
    env = environment() | {"RELAUNCH_SERVICE__WEBHOOK_SECRETS": WEBHOOK_SECRET}
    command = ("webhook-setup", "--public-url", public_url, "--show-secret", "--json")
    told: dict[str, Any] = json.loads(relaunch(env, *command).stdout)
    return told | {"webhook": told["webhooks"][0]}


def _served(base_url: str, ended: Future[Outcome]) -> ServiceServer:
    """The service on a port, with a sandbox behind it and no look for ten minutes."""

    @asynccontextmanager
    async def make(origin: str) -> AsyncIterator[tuple[FastAPI, ServiceParts]]:
        store, metrics = MemoryRunStore(), Metrics()
        async with AsyncSkillableClient("sandbox-key", base_url=base_url) as client:
            platform = MeteredPlatform(AsyncSkillablePlatform(client), metrics)
            relauncher = AsyncRelauncher(
                platform,
                store=store,
                schedules=Schedules(teardown=FixedSchedule(600)),
                on_end=metrics.counts_ends_of(store),
            )
            async with relauncher:
                parts = ServiceParts(
                    relauncher=relauncher,
                    platform=platform,
                    store=store,
                    authority=Authority(),
                    metrics=metrics,
                    options=ServiceOptions(webhook_secrets=(WEBHOOK_SECRET,)),
                )
                app = create_app(parts)

                @app.post("/test/begin")
                async def begin() -> None:
                    tasks.append(asyncio.create_task(follow()))

                async def follow() -> None:
                    outcome = await relauncher.relaunch("ann", 1002)
                    await metrics.settled()
                    ended.set_result(outcome)

                tasks: list[asyncio.Task[None]] = []
                yield app, parts

    return ServiceServer(make)


# --- what to type into the form -------------------------------------------------------------

SETUP = ("webhook-setup", "--public-url", "https://relaunch.example.org/base/")
URL = "https://relaunch.example.org/base/webhooks/skillable"


def test_the_form_names_all_that_is_to_be_typed_and_no_configured_secret() -> None:
    env = environment() | {"RELAUNCH_SERVICE__WEBHOOK_SECRETS": f"{WEBHOOK_SECRET},older"}
    done = relaunch(env, *SETUP)
    assert (done.returncode, done.stderr) == (0, "")
    for typed in ("Torn Down", "POST", f"{URL}/torn-down/{{id}}\n", f"{URL}/torn-down\n"):
        assert typed in done.stdout
    assert WEBHOOK_SECRET not in done.stdout
    assert "older" not in done.stdout
    assert "Mind:" not in done.stdout
    shown = relaunch(env, *SETUP, "--show-secret").stdout
    assert f"Authorization={WEBHOOK_SECRET}\n" in shown
    assert "older" not in shown


def test_where_no_secret_is_configured_a_fresh_one_is_made_and_its_setting() -> None:
    told = [json.loads(relaunch(environment(), *SETUP, "--json").stdout) for _ in range(2)]
    secrets = [form["webhooks"][0]["header"]["value"] for form in told]
    assert len(set(secrets)) == 2
    assert min(map(len, secrets)) >= 43
    name, _, value = told[0]["setting"].partition("=")
    settings = load(None, {}, {name: value}).settings
    assert [s.get_secret_value() for s in settings.service.webhook_secrets] == [secrets[0]]
    text = relaunch(environment(), *SETUP).stdout
    (line,) = (line for line in text.splitlines() if "webhook_secrets = [" in line)
    (made,) = tomllib.loads(line)["webhook_secrets"]
    assert f"Authorization={made}" in text


@pytest.mark.parametrize("url", [None, "relaunch.example.org", "ftp://x.example", "https://x/?a=b"])
def test_without_a_url_that_makes_sense_nothing_is_printed(url: str | None) -> None:
    command = ("webhook-setup",) if url is None else ("webhook-setup", "--public-url", url)
    done = relaunch(environment(), *command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "service.public_url" in done.stderr


@pytest.mark.parametrize(
    ("url", "doubts"),
    [
        ("https://relaunch.example.org", 0),
        ("http://relaunch.example.org", 1),
        ("https://10.0.0.5", 1),
        ("http://localhost:8080", 2),
        ("http://[::1]:8080", 2),
    ],
)
def test_a_url_that_cannot_work_or_is_unsafe_is_doubted(url: str, doubts: int) -> None:
    done = relaunch(environment(), "webhook-setup", "--public-url", url, "--json")
    assert len(json.loads(done.stdout)["warnings"]) == doubts
