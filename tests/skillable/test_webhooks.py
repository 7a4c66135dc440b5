"""The three shapes of a webhook, as the sandbox sends them and as anybody might."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import InvalidRequest
from orchestrator.sandbox import Sandbox
from orchestrator.sandbox import Webhook as SetUp
from orchestrator.sandbox.webhooks import deliveries
from orchestrator.skillable import Webhook, parse_webhook

PLACE = "https://lms.example/hooks/torn-down"


@pytest.mark.parametrize(
    ("set_up", "tells_more"),
    [
        (SetUp(event="Torn Down", url=PLACE), True),
        (SetUp(event="Torn Down", url=f"{PLACE}/{{id}}"), True),
        (SetUp(event="Torn Down", url=f"{PLACE}/{{id}}", with_body=False), False),
        (SetUp(event="Torn Down", url=PLACE, with_body=False, appended_query=True), True),
        (SetUp(event="Torn Down", url=f"{PLACE}?a=1", with_body=False, appended_query=True), True),
    ],
)
def test_every_shape_that_the_platform_sends_is_read(set_up: SetUp, tells_more: bool) -> None:
    instance = Sandbox().world.give("ann", 1001)
    (sent,) = deliveries([set_up], "Torn Down", instance)
    body = None if sent.body is None else json.dumps(sent.body).encode()
    read = parse_webhook(sent.url, body)
    assert read.lab_instance_id == instance.instance_id
    assert read.user_id == ("ann" if tells_more else None)
    assert read.lab_profile_id == (1001 if tells_more else None)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/hooks/7/", None),
        ("/hooks/torn-down/7?verbose=1", b""),
        ("/hooks/2024/torn-down/7", b"not JSON"),
        ("/hooks", b'{"Id": "7"}'),
        ("/hooks", '{"Id": 7, "New": {"Field": [1]}}'),
        ("/hooks?labInstanceId=7&labInstanceId=7", b"[]"),
        ("/hooks/7?labInstanceId=7", b'{"Id": 7}'),
    ],
)
def test_what_names_one_instance_is_read(url: str, body: bytes | str | None) -> None:
    assert parse_webhook(url, body).lab_instance_id == 7


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/hooks", None),
        ("/hooks/{id}", b"{}"),
        ("/hooks/0", None),
        ("/hooks/-7", None),
        ("/hooks/7x", None),
        ("/hooks", b'{"Id": true}'),
        ("/hooks/8", b'{"Id": 7}'),
        ("/hooks?labInstanceId=8", b'{"Id": 7}'),
        ("/hooks/7", b"x" * 70_000),
        ("/hooks", b"[" * 60_000),
    ],
)
def test_what_names_none_or_two_is_refused(url: str, body: bytes | None) -> None:
    with pytest.raises(InvalidRequest, match="webhook"):
        parse_webhook(url, body)


@given(st.text(max_size=60), st.binary(max_size=60) | st.none())
def test_nothing_that_comes_does_any_harm(path: str, body: bytes | None) -> None:
    try:
        read = parse_webhook("/" + path, body)
    except InvalidRequest:
        return
    assert isinstance(read, Webhook)
    assert read.lab_instance_id > 0
