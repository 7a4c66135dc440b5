"""Reading the platform's lists into the run, and telling what in them is new."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.labs import Labs, RunningInstance, SavedInstance
from orchestrator.machine.run import Run


def remember_listing(run: Run, labs: Labs, *, learn: bool = True) -> Run:
    """Take over what is listed now; with ``learn``, none of it can be the new lab any more."""
    known = union_of(run.known, ids_of(labs.running) + ids_of(labs.saved)) if learn else run.known
    return replace(run, running=labs.running, saved=labs.saved, known=known)


def fresh_instances(run: Run, labs: Labs) -> tuple[RunningInstance, ...]:
    """The running instances that came into being since this run first looked."""
    old = (*run.known, *run.displaced, run.target)
    return tuple(i for i in labs.running if i.instance_id not in old)


def ids_of(instances: tuple[RunningInstance | SavedInstance, ...]) -> tuple[int, ...]:
    """The ids of listed instances, in their order."""
    return tuple(i.instance_id for i in instances)


def union_of(known: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    """Both, each id once, in the order of their coming."""
    return tuple(dict.fromkeys(known + more))
