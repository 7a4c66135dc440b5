"""The sandbox answers as documented, in each reading, and its faults are what their names say."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest

from orchestrator.sandbox import (
    FAULTS,
    Bimodal,
    Consumer,
    Fixed,
    LogNormal,
    Never,
    Readings,
    Sandbox,
    SandboxTransport,
    Webhook,
    parse_faults,
    parse_teardown,
)
from orchestrator.sandbox.server import SandboxServer
from orchestrator.testing import ManualClock


class Desk:
    """A sandbox under a manual clock, asked directly."""

    def __init__(self, readings: Readings | None = None, **options: Any) -> None:
        self.clock = ManualClock()
        self.sandbox = Sandbox(readings=readings, now=self.clock.now, **options)

    def ask(self, path: str, method: str = "GET", key: str = "sandbox-key", **query: Any) -> Any:
        pairs = [(name, str(value)) for name, value in query.items()]
        reply = self.sandbox.handle(method, path, pairs, {"api_key": key})
        assert reply.status == 200, reply
        return json.loads(reply.body)

    def launch(self, lab: int = 1001, user: str = "ann", **query: Any) -> Any:
        return self.ask("/api/v3/launch", labid=lab, userid=user, **query)


def test_paths_and_parameter_names_are_not_case_sensitive() -> None:
    desk = Desk()
    answer = desk.ask("/API/v3/LAUNCH/", LABID=1001, UserId="ann")
    assert answer["Result"] == 1
    assert desk.ask("details", LabInstanceID=answer["LabInstanceId"])["UserId"] == "ann"
    assert desk.ask("stats", method="POST")["NumActive"] == 1


def test_a_cancel_only_begins_a_teardown_that_still_counts() -> None:
    desk = Desk(teardown="fixed:20")
    first = desk.launch()["LabInstanceId"]
    assert desk.ask("cancel", labinstanceid=first) == {"Result": 1, "Status": 1, "Error": None}
    assert desk.ask("details", labinstanceid=first)["State"] == "Tearing Down"
    assert desk.ask("stats")["NumActive"] == 1
    desk.clock.advance(19.9)
    assert desk.launch(1002)["Result"] == 2
    desk.clock.advance(0.2)
    assert desk.ask("details", labinstanceid=first)["State"] == "Off"
    assert desk.launch(1002)["Result"] == 1
    assert desk.sandbox.ledger.max_alive("ann") == 1


def test_more_calls_in_a_second_than_allowed_are_turned_away() -> None:
    desk = Desk(max_calls_per_second=3)
    key = {"api_key": "sandbox-key"}
    replies = [desk.sandbox.handle("GET", "stats", [], key) for _ in range(5)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert replies[-1].headers["Retry-After"] == "1"
    desk.clock.advance(0.9)
    assert desk.sandbox.handle("GET", "stats", [], key).status == 429, "of any second, not each"
    desk.clock.advance(0.1)
    assert desk.launch()["Result"] == 1
    desk.sandbox.world.add_consumer(Consumer(api_key="other"))
    assert all(desk.ask("stats", key="other")["Status"] == 1 for _ in range(9))


def test_another_consumers_instance_is_answered_without_a_result() -> None:
    desk = Desk()
    other = desk.sandbox.world.add_consumer(Consumer(api_key="other"))
    foreign = desk.sandbox.world.give("ann", 1001, consumer=other)
    answer = desk.ask("cancel", labinstanceid=foreign.instance_id)
    assert answer == {"Error": "Invalid integration key", "Status": 1}
    assert desk.launch()["Result"] == 1, "handed back: the user has it running"
    assert desk.launch(1002)["Result"] == 2


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        (Readings(), {"Result": 2, "Status": 1}),
        (Readings(refusal_status=0), {"Result": 2, "Status": 0}),
        (Readings(refusal_instance_id="zero"), {"Result": 2, "LabInstanceId": 0}),
        (Readings(refusal_instance_id="null"), {"Result": 2, "LabInstanceId": None}),
        (Readings(user_limit="active_labs_page"), {"Result": 1, "Status": 1}),
    ],
)
def test_each_shape_of_a_refusal(readings: Readings, expected: dict[str, Any]) -> None:
    desk = Desk(readings)
    desk.launch()
    answer = desk.launch(1002)
    assert expected.items() <= answer.items()
    assert ("Url" in answer) == (readings.user_limit == "active_labs_page")


@pytest.mark.parametrize(
    ("reading", "during"),
    [("limit", 2), ("wrong_state", 120), ("hand_back", 1)],
)
def test_the_same_profile_during_its_teardown(reading: Any, during: int) -> None:
    desk = Desk(Readings(same_profile_tearing_down=reading))
    first = desk.launch()["LabInstanceId"]
    assert desk.launch()["LabInstanceId"] == first, "handed back, as documented"
    desk.ask("cancel", labinstanceid=first)
    answer = desk.launch()
    assert answer["Result"] == during
    assert (answer.get("LabInstanceId") == first) == (during == 1)


def test_max_active_labs_can_only_lower_the_limit() -> None:
    desk = Desk(max_active_per_user=2)
    desk.launch()
    assert desk.launch(1002, maxActiveLabs=1)["Result"] == 2
    assert desk.launch(1002, maxActiveLabs=9)["Result"] == 1
    assert desk.launch(1003, maxActiveLabs=9)["Result"] == 2


def test_every_documented_result_code_can_be_had() -> None:
    for code in (0, 3, 5, 7, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160):
        desk = Desk()
        desk.sandbox.world.profiles[1001].refuse_with = code
        assert desk.launch()["Result"] == code
    desk = Desk()
    desk.sandbox.world.give("ann", 1001, state="Saved")
    assert desk.launch()["Result"] == 6
    desk.sandbox.world.profiles[1002].launches_per_user = 0
    assert desk.launch(1002)["Result"] == 100
    assert Desk(max_active=0).launch()["Result"] == 5
    assert desk.launch(9999)["Result"] == 140


def test_saving_and_resuming() -> None:
    desk = Desk()
    first = desk.launch()["LabInstanceId"]
    assert desk.ask("save", labinstanceid=first)["Result"] == 1
    assert desk.ask("userrunningandsavedlabs", userid="ann")["SavedLabs"][0]["SaveInProgress"]
    assert desk.launch(1002)["Result"] == 2, "saving counts"
    desk.clock.advance(6)
    assert desk.ask("stats")["NumSaved"] == 1
    assert desk.ask("resume", labinstanceid=first)["Result"] == 1
    assert desk.ask("details", labinstanceid=first)["State"] == "Running"


def test_searching_is_paged() -> None:
    desk = Desk(max_active_per_user=9)
    for _ in range(5):
        desk.launch(user=f"u{len(desk.sandbox.world.instances)}")
    page = desk.ask("labinstance/search", pageSize=2, pageIndex=2, mode=5)
    assert (page["TotalResults"], page["TotalPages"], len(page["Results"])) == (5, 3, 1)
    assert desk.ask("labinstance/search", userId="u3")["TotalResults"] == 1


def test_the_concise_form_tells_the_class_and_the_last_activity_where_there_are_any() -> None:
    desk = Desk(max_active_per_user=9)
    desk.launch()
    desk.sandbox.world.give("bob", 1001, class_id="c1", last_activity_ago=60.0)
    bare, told = desk.ask("labinstance/search", sort="start desc", mode=5)["Results"]
    assert not {"ClassId", "LastActivity"} & set(bare)
    assert (told["ClassId"], told["LastActivity"]) == ("c1", int(desk.clock.now() - 60))
    assert "CloudCredentials" not in told
    assert desk.ask("labinstance/search", classId="c1", mode=5)["TotalResults"] == 1
    assert desk.ask("result", labinstanceid=told["Id"])["LastActivity"] == told["LastActivity"]


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_breaks_something_and_says_whether_it_had_an_effect(name: str) -> None:
    desk = Desk(faults=f"launch:{name}")
    with httpx.Client(transport=SandboxTransport(desk.sandbox, desk.clock.advance)) as client:
        url = "https://x/api/v3/launch?labid=1001&userid=ann"
        try:
            response = client.get(url, headers={"api_key": "sandbox-key"})
            whole = response.status_code == 200 and len(response.content) < 2**20
            well = whole and response.headers["content-type"].startswith("application/json")
            well = well and "Expires" in response.text and isinstance(response.json(), dict)
        except (httpx.TransportError, ValueError):
            well = False
    assert well == (name == "delay")
    nothing = ("nothing carried out", "before the call", "HTTP 429")
    carried_out = not any(words in FAULTS[name] for words in nothing)
    desk.clock.advance(10)
    desk.sandbox.world.settle()
    assert bool(desk.sandbox.ledger.launches()) == carried_out


def test_the_text_forms_of_faults_and_teardowns() -> None:
    (fault,) = parse_faults(" details:http_503=2.5*3+1 ")
    assert (fault.operation, fault.number, fault.times, fault.after) == ("details", 2.5, 3, 1)
    assert parse_teardown("fixed:20") == Fixed(20)
    assert parse_teardown("lognormal:60,0.5") == LogNormal(60, 0.5)
    assert parse_teardown("bimodal:1,2,0.3") == Bimodal(1, 2, 0.3)
    assert parse_teardown("never") == Never()
    for wrong in ("fixed", "fixed:x", "fixed:-1", "lognormal:1", "soon", "never:1"):
        with pytest.raises(ValueError, match="takes fixed:SECONDS"):
            parse_teardown(wrong)
    for wrong in ("launch", "launch:explode", "launch:html*x"):
        with pytest.raises(ValueError, match="fault"):
            parse_faults(wrong)


def test_the_same_seed_draws_the_same_teardowns() -> None:
    def draws(seed: int) -> list[float]:
        desk = Desk(teardown="lognormal:60,1", seed=seed)
        instances = [desk.sandbox.world.give("ann", 1001) for _ in range(5)]
        return [i.teardown_seconds for i in instances]

    assert draws(1) == draws(1) != draws(2)


def test_over_real_http_a_broken_connection_is_broken_and_a_link_is_single_use() -> None:
    sandbox = Sandbox(faults="launch:lose_after")
    headers = {"api_key": "sandbox-key"}
    with SandboxServer(sandbox) as server, httpx.Client(headers=headers) as client:
        with pytest.raises(httpx.TransportError):
            client.get(f"{server.base_url}/launch?labid=1001&userid=ann")
        (launched,) = sandbox.ledger.launches("ann")
        link = client.post(f"{server.base_url}/LabAccessUrl", data={"labInstanceId": launched})
        url = link.json()["Url"]
        assert client.get(url).status_code == 200
        assert client.get(url).status_code == 410
        assert client.get(f"{server.base_url}/stats", headers={"api_key": "x"}).status_code == 401
        origin = server.base_url.removesuffix("/api/v3")
        assert client.get(f"{origin}/_sandbox/state").json()["instances"][0]["user_id"] == "ann"
        assert client.get(f"{origin}/_sandbox/ledger").json()["effects"][0]["what"] == "launched"


@pytest.mark.parametrize("appended", [True, False])
def test_a_torn_down_webhook_is_sent_and_retried(appended: bool) -> None:
    got: list[tuple[str, bytes, str | None]] = []
    arrived = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            got.append((self.path, body, self.headers["Authorization"]))
            self.send_response(204)
            self.end_headers()
            arrived.set()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        hook = Webhook(
            event="Torn Down",
            url=f"http://127.0.0.1:{receiver.server_port}/torn-down/{{id}}",
            headers={"Authorization": "shared"},
            appended_query=appended,
        )
        sandbox = Sandbox(teardown="fixed:0")
        with SandboxServer(sandbox, webhooks=[hook]):
            with sandbox.lock:
                instance = sandbox.world.give("ann", 1001)
                sandbox.world.tear_down(instance)
            assert arrived.wait(10)
        receiver.shutdown()
        thread.join()
    path, body, secret = got[0]
    assert path.startswith(f"/torn-down/{instance.instance_id}")
    assert ("userExternalId=ann" in path) == appended
    assert json.loads(body)["UserExternalId"] == "ann"
    assert secret == "shared"
