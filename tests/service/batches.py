"""A class that asks the service for a batch, in virtual time; and one who follows it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from orchestrator.labs import RosterEntry, RosterPage
from orchestrator.service.app import create_app
from orchestrator.testing import Async, InMemoryPlatform
from tests.service.world import NEW, OLD, Following, Within, bearer


class Listing(Async):
    """A platform that lists all of its labs; ``slow`` seconds later. A search finds none."""

    def __init__(self, platform: InMemoryPlatform, slow: float = 0.0) -> None:
        super().__init__(platform)
        self.slow = slow
        self.asked = 0

    async def roster(self, *, timeout: float) -> tuple[RosterEntry, ...]:
        """Every lab that is not gone."""
        self.asked += 1
        await asyncio.sleep(self.slow)
        return tuple(
            RosterEntry(
                instance_id=one.instance_id,
                user_id=one.user_id,
                lab_profile_id=one.lab_profile_id,
                started_at=one.started_at,
                is_exam=one.is_exam,
            )
            for one in self.platform.instances.values()
            if one.gone_at > self.platform.now()
        )

    async def search(self, **_: object) -> RosterPage:
        """Nothing."""
        return RosterPage(instances=())


def listing(slow: float = 0.0, **within: Any) -> tuple[Within, Listing]:
    """A service whose platform lists all of its labs."""
    service = Within(**within)
    platform = Listing(service.platform, slow)
    service.parts = replace(service.parts, platform=platform)
    service.app = create_app(service.parts)
    return service, platform


def asked(count: int = 3, **more: Any) -> dict[str, Any]:
    """A batch of so many learners."""
    learners = [{"user_id": user} for user in names(count)]
    return {"lab_profile_id": NEW, "learners": learners} | more


def names(count: int) -> list[str]:
    """So many learners."""
    return [f"learner-{number}" for number in range(1, count + 1)]


def give(service: Within, count: int) -> list[int]:
    """Each of so many learners has a lab that runs."""
    return [service.platform.add_running(user, OLD) for user in names(count)]


@asynccontextmanager
async def at_work(service: Within) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, which carries batches out meanwhile."""
    async with service.client() as client, service.app.router.lifespan_context(service.app):
        yield client


async def begun(client: httpx.AsyncClient, body: Mapping[str, Any], status: int = 202) -> str:
    """Ask for a batch; its id."""
    answer = await client.post("/batches", json=body, headers=bearer())
    assert answer.status_code == status, answer.text
    batch_id: str = answer.json()["batch_id"]
    assert answer.headers["location"] == f"/batches/{batch_id}"
    return batch_id


async def looked_at(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    """The batch as it stands."""
    answer = await client.get(f"/batches/{batch_id}", headers=bearer())
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def learners_of(client: httpx.AsyncClient, batch_id: str) -> dict[str, dict[str, Any]]:
    """What has come of each learner."""
    answer = await client.get(f"/batches/{batch_id}/learners?limit=1000", headers=bearer())
    assert answer.status_code == 200, answer.text
    return {one["user_id"]: one for one in answer.json()["learners"]}


@asynccontextmanager
async def following(
    service: Within,
    batch_id: str,
    last: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Following]:
    """A batch's events, after the one of this id; at the end of the block the client vanishes."""
    sent = dict(bearer() if headers is None else headers)
    if last is not None:
        sent["Last-Event-ID"] = last
    stream = Following(service.app, f"/batches/{batch_id}/events", sent)
    try:
        yield stream
    finally:
        await stream.leave()


Told = list[tuple[str, str | None, dict[str, Any]]]


def told_in(text: str) -> Told:
    """The whole events of a stream: name, id, data."""
    found: Told = []
    for block in text.split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if not line.startswith((":", "retry:"))]
        if lines:
            event = dict(line.split(": ", 1) for line in lines)
            found.append((event["event"], event.get("id"), json.loads(event["data"])))
    return found


def last_id(told: Told) -> str | None:
    """What a client says that comes again after these."""
    return next((place for _, place, _ in reversed(told) if place is not None), None)


def ends_in(told: Told) -> list[tuple[str, int]]:
    """Who has come to an end, and at which attempt, in the order in which it was told."""
    return [(d["user_id"], d["attempt"]) for name, _, d in told if name == "learner"]
