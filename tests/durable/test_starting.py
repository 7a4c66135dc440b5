"""A request becomes a relaunch of its own, or joins the one in flight, or is a conflict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import pytest

from orchestrator import InvalidRequest, Policy, RelaunchInFlight, Run
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.starting import Started, start
from orchestrator.durable.store import Entry, Step
from orchestrator.machine.vocabulary import State
from orchestrator.progress import progress_of
from orchestrator.requests import Options, new_run
from orchestrator.testing.virtual import run_virtual

NOW = 1_700_000_000.0


def a_run(user: str = "ann", lab: int = 1002, **options: Unpack[Options]) -> Run:
    return new_run(user, lab, Policy(), options, NOW)


async def moved_to(store: MemoryRunStore, relaunch_id: str, state: State, **changes: Any) -> None:
    """Let the stored run be in ``state``, as its driver would have recorded it."""
    stored = await store.load(relaunch_id)
    run = replace(stored.run, state=state, **changes)
    progress = progress_of(
        run, sequence=stored.version + 1, at=NOW + 1, calling=None, next_look_at=None
    )
    entry = Entry(event="Moved", progress=progress)
    await store.append(Step(run=run, entry=entry, epoch=stored.epoch, due_at=NOW + 1))


def test_the_second_request_for_a_lab_joins_the_first() -> None:
    async def main() -> tuple[Started, Started]:
        store = MemoryRunStore()
        return await start(store, a_run(), at=NOW), await start(store, a_run(), at=NOW)

    first, second = run_virtual(main())
    assert (first.joined, second.joined) == (False, True)
    assert first.stored.run.relaunch_id == second.stored.run.relaunch_id


def test_a_finished_relaunch_is_joined_only_by_its_key() -> None:
    async def main() -> list[Started]:
        store = MemoryRunStore()
        first = await start(store, a_run(), at=NOW, key="k")
        await moved_to(store, first.stored.run.relaunch_id, State.LAUNCHED, new_instance_id=9)
        keyed = await start(store, a_run(), at=NOW, key="k")
        return [first, keyed, await start(store, a_run(), at=NOW, key="other")]

    first, keyed, other = run_virtual(main())
    assert keyed.joined
    assert keyed.stored.run.relaunch_id == first.stored.run.relaunch_id
    assert keyed.stored.finished_at is not None
    assert not other.joined


@pytest.mark.parametrize(
    ("again", "field"),
    [
        ({"user": "bob"}, "idempotency_key"),
        ({"lab": 1003}, "idempotency_key"),
        ({"user": "bob", "relaunch_id": "r1"}, "relaunch_id"),
        ({"policy": Policy(launch=False)}, "idempotency_key"),
        ({"policy": Policy(launch=False), "relaunch_id": "r1"}, "relaunch_id"),
    ],
)
def test_a_name_that_was_used_for_something_else_is_refused(
    again: dict[str, Any], field: str
) -> None:
    async def main() -> None:
        store = MemoryRunStore()
        await start(store, a_run(relaunch_id="r1"), at=NOW, key="k")
        with pytest.raises(InvalidRequest, match=field):
            await start(
                store, a_run(**again), at=NOW, key="k" if "relaunch_id" not in again else None
            )

    run_virtual(main())


@pytest.mark.parametrize(
    ("state", "changes", "harmless"),
    [
        (State.NEW, {}, True),
        (State.SURVEYING, {}, True),
        (State.INSPECTING, {}, True),
        (State.PROBING, {}, False),
        (State.DISPLACING, {"target": 7}, False),
        (State.TEARING_DOWN, {"target": 7, "cancelled": (7,)}, False),
        (State.VERIFYING, {"new_instance_id": 9}, False),
    ],
)
@pytest.mark.parametrize("on_conflict", ["refuse", "supersede"])
def test_another_lab_is_a_conflict_unless_it_supersedes_what_has_changed_nothing(
    state: State, changes: dict[str, Any], harmless: bool, on_conflict: Any
) -> None:
    async def main() -> None:
        store = MemoryRunStore()
        first = await start(store, a_run(), at=NOW)
        relaunch_id = first.stored.run.relaunch_id
        if state is not State.NEW:
            await moved_to(store, relaunch_id, state, **changes)
        if harmless and on_conflict == "supersede":
            second = await start(store, a_run(lab=1003), at=NOW + 2, on_conflict=on_conflict)
            assert not second.joined
            ended = await store.load(relaunch_id)
            assert (ended.run.state, ended.run.reason) == (State.ABORTED, "superseded")
            assert ended.finished_at == NOW + 2
            assert (await store.journal(relaunch_id))[-1].progress.message.startswith("Superseded")
            return
        with pytest.raises(RelaunchInFlight) as caught:
            await start(store, a_run(lab=1003), at=NOW + 2, on_conflict=on_conflict)
        assert caught.value.relaunch_id == relaunch_id
        assert caught.value.lab_profile_id == 1002
        assert caught.value.harmless == harmless
        assert (await store.load(relaunch_id)).finished_at is None

    run_virtual(main())


class MovesOnMeanwhile(MemoryRunStore):
    """Whenever a relaunch is to be replaced, its driver has just recorded another step."""

    async def create(self, run: Run, **options: Any) -> Any:
        if options.get("replacing") is not None:
            options["replacing"] = replace(options["replacing"], epoch=99)
        return await super().create(run, **options)


def test_a_relaunch_that_keeps_moving_is_not_superseded() -> None:
    async def main() -> None:
        store = MovesOnMeanwhile()
        await start(store, a_run(), at=NOW)
        with pytest.raises(RelaunchInFlight):
            await start(store, a_run(lab=1003), at=NOW, on_conflict="supersede")

    run_virtual(main())


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"])
def test_a_key_that_is_none_is_refused_at_the_door(key: str) -> None:
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        a_run(idempotency_key=key)
