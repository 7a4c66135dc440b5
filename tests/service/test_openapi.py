"""The OpenAPI: complete, true, and good enough that a client made from it works."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.service import representations
from orchestrator.service.access.limits import CallerLimits
from orchestrator.testing.virtual import run_virtual
from tests.service.world import KEY, NEW, OLD, OnPorts, Within, on_ports

#: The one header lets in a service key and a webhook alike.
_SECRET = f"Bearer {KEY}"
_BIN = Path(sys.executable).parent


def _openapi() -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        async with Within().client() as client:
            told: dict[str, Any] = (await client.get("/openapi.json")).json()
            return told

    return run_virtual(main())


def _operations(told: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in told["paths"].items():
        for verb, operation in item.items():
            yield f"{verb.upper()} {path}", operation


def _resolved(told: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/components/schemas/")
    found: dict[str, Any] = told["components"]["schemas"][name] if name else schema
    return found


def test_every_route_of_the_contract_is_there_under_a_good_name() -> None:
    names = {label: operation["operationId"] for label, operation in _operations(_openapi())}
    assert names == {
        "POST /relaunches": "begin_relaunch",
        "GET /relaunches": "list_relaunches",
        "GET /relaunches/{relaunch_id}": "get_relaunch",
        "DELETE /relaunches/{relaunch_id}": "abort_relaunch",
        "GET /relaunches/{relaunch_id}/events": "follow_relaunch",
        "POST /batches": "begin_batch",
        "GET /batches": "list_batches",
        "GET /batches/{batch_id}": "get_batch",
        "DELETE /batches/{batch_id}": "abort_batch",
        "GET /batches/{batch_id}/learners": "list_batch_learners",
        "POST /batches/{batch_id}/resume": "resume_batch",
        "POST /batches/{batch_id}/stop": "stop_batch",
        "GET /batches/{batch_id}/events": "follow_batch",
        "GET /batches/{batch_id}/report.{kind}": "get_batch_report",
        "GET /users/{user_id}/labs": "list_labs",
        "POST /users/{user_id}/labs/{lab_instance_id}/access-url": "make_access_url",
        "POST /webhooks/skillable/{event}/{lab_instance_id}": "post_webhook",
        "GET /webhooks/skillable/{event}/{lab_instance_id}": "get_webhook",
        "PUT /webhooks/skillable/{event}/{lab_instance_id}": "put_webhook",
        "POST /webhooks/skillable/{event}": "post_webhook_without_id",
        "GET /webhooks/skillable/{event}": "get_webhook_without_id",
        "PUT /webhooks/skillable/{event}": "put_webhook_without_id",
        "GET /healthz": "healthz",
        "GET /readyz": "readyz",
        "GET /metrics": "metrics",
    }


def test_every_operation_says_what_it_does_with_examples_and_every_error_is_a_problem() -> None:
    told = _openapi()
    for label, operation in _operations(told):
        assert operation["summary"], label
        assert operation["description"], label
        assert operation["tags"], label
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (label, parameter["name"])
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for status, response in operation["responses"].items():
            assert response["description"], (label, status)
            if int(status) >= 400 and label != "GET /readyz":
                content = response["content"]["application/problem+json"]["schema"]
                assert content["$ref"].endswith("Problem"), (label, status)
            bodies.append(response)
        for body in bodies:
            for kind, content in body.get("content", {}).items():
                schema = _resolved(told, content.get("schema", {}))
                shown = [content.get("example"), content.get("examples"), schema.get("examples")]
                fields = schema.get("properties", {}).values()
                each = bool(fields) and all("examples" in f or "default" in f for f in fields)
                assert any(shown) or each or label in _FREE, (label, kind)
        if operation.get("security"):
            assert {"401", "429"} <= set(operation["responses"]), label


#: Whose body is the platform's to shape; and flags that say it all.
_FREE = {"GET /readyz"} | {
    f"{verb} /webhooks/skillable/{{event}}{more}"
    for verb in ("POST", "PUT")
    for more in ("", "/{lab_instance_id}")
}


@pytest.mark.parametrize(
    "name",
    ["RelaunchAsked", "Relaunch", "Relaunches", "Labs", "AccessUrl", "Problem", "ConflictProblem"],
)
def test_the_examples_are_what_they_show(name: str) -> None:
    model = getattr(representations, name)
    examples = model.model_config["json_schema_extra"]["examples"]
    assert examples
    for example in examples:
        model.model_validate_json(json.dumps(example))
        assert set(example) <= set(model.model_fields)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[OnPorts]:
    limits = CallerLimits(key_requests_per_minute=10**6, failures_per_minute=10**6)
    with on_ports(
        tmp_path, teardown="fixed:0.05", limits=limits, options={"webhook_secrets": (_SECRET,)}
    ) as made:
        yield made


@pytest.mark.timeout(60)  # makes a client: a program of its own, and a formatter after it
def test_a_client_made_from_it_works(
    here: OnPorts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openapi, made = tmp_path / "openapi.json", tmp_path / "made_client"
    openapi.write_text(here.client.get("/openapi.json").text)
    done = subprocess.run(
        [
            str(_BIN / "openapi-python-client"), "generate", "--path", str(openapi),
            "--output-path", str(made), "--meta", "none", "--fail-on-warning",
        ],
        env=os.environ | {"PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr

    monkeypatch.syspath_prepend(str(tmp_path))
    old = here.sandbox.world.give("ada", OLD)
    package = importlib.import_module("made_client")
    api = {
        name: importlib.import_module(f"made_client.api.{place}.{name}")
        for place, name in (
            ("relaunches", "begin_relaunch"),
            ("relaunches", "get_relaunch"),
            ("relaunches", "list_relaunches"),
            ("relaunches", "abort_relaunch"),
            ("labs", "list_labs"),
            ("labs", "make_access_url"),
        )
    }
    models = importlib.import_module("made_client.models")
    with package.AuthenticatedClient(base_url=here.server.base_url, token=KEY) as client:
        labs = api["list_labs"].sync("ada", client=client, lab_profile_id=NEW)
        assert [(r.lab_instance_id, r.would_end) for r in labs.running] == [(old.instance_id, True)]
        url = api["make_access_url"].sync("ada", old.instance_id, client=client)
        assert url.url.startswith("http")

        asked = models.RelaunchAsked(user_id="ada", lab_profile_id=NEW)
        begun = api["begin_relaunch"].sync_detailed(client=client, body=asked, idempotency_key="k")
        assert (begun.status_code, begun.parsed.outcome) == (202, None)
        here.follow(begun.parsed.relaunch_id)
        ended = api["get_relaunch"].sync(begun.parsed.relaunch_id, client=client)
        assert isinstance(ended, models.Relaunch)
        assert (ended.outcome, ended.cancelled_instance_ids) == ("launched", [old.instance_id])
        found = api["list_relaunches"].sync(client=client, user_id="ada", in_flight=False)
        assert [r.relaunch_id for r in found.relaunches] == [ended.relaunch_id]
        late = api["abort_relaunch"].sync_detailed(ended.relaunch_id, client=client)
        assert (late.status_code, late.parsed.outcome) == (200, "launched")

        nothing = api["get_relaunch"].sync("0" * 32, client=client)
        assert isinstance(nothing, models.Problem)
        assert nothing.code == "unknown_relaunch"


_SCHEMATHESIS = """
[generation]
deterministic = true
max-examples = {examples}
# Queries are lenient: proxies and caches add to them.
allow-extra-parameters = false
# Each request brings the header that is given; what happens without it, other tests say.
with-security-parameters = false

[checks]
# To delete a relaunch is to abort it; what became of it can still be looked at.
use_after_free.enabled = false

[[operations]]
include-operation-id = "begin_relaunch"
# A key must name the learner, a token need not: no schema can say so.
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = "begin_batch"
# Nor that somebody must name a lab, and nobody is there twice.
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id-regex = ".*webhook.*"
# A body may be anything, but where it names a lab instance it must be one and the same.
checks.positive_data_acceptance.enabled = false
# An event that is no hint is taken, whatever comes with it.
checks.negative_data_rejection.enabled = false
"""


@pytest.mark.timeout(180)  # many hundred requests
@pytest.mark.parametrize("phases", ["examples,coverage", "fuzzing,stateful"])
def test_schemathesis_finds_nothing(here: OnPorts, tmp_path: Path, phases: str) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(_SCHEMATHESIS.format(examples=10))
    here.sandbox.world.give("ada", OLD)
    done = subprocess.run(
        [
            str(_BIN / "schemathesis"), "--config-file", str(config), "run",
            f"{here.server.base_url}/openapi.json", "--header", f"Authorization: {_SECRET}",
            "--phases", phases, "--continue-on-failure", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "25 selected / 25 total" in done.stdout
