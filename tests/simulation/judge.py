"""The judge: what must hold, whatever happened. It asks the ledger, never the outcome alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator

from orchestrator.progress import Outcome
from tests.simulation.network import Sent
from tests.simulation.world import TO_END, TO_KNOW, Simulation

#: How wrong a clock may be.
SKEW = 20.0


def verdict(simulation: Simulation) -> list[str]:
    """What was violated; nothing, if all is well."""
    judge = _Judge(simulation)
    return [
        *simulation.violations,
        *judge.one_launch(),
        *judge.nobody_elses_lab(),
        *judge.never_its_own(),
        *judge.nothing_launched_where_none_is_wanted(),
        *judge.few_cancels(),
        *judge.every_run_ends(),
        *judge.outcomes_are_so(),
        *judge.nothing_is_hidden(),
        *judge.journals_are_whole(),
        *judge.everybody_hears_the_same(),
        *judge.requests_are_counted(),
    ]


def fingerprint(simulation: Simulation) -> tuple[object, ...]:
    """The ledger and the time line, to be compared."""
    ledger = simulation.sandbox.ledger
    told = tuple((t.at, t.who, t.relaunch_id, t.what) for t in simulation.told)
    return (tuple(ledger.effects), tuple(ledger.requests), told)


class _Judge:
    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.ledger = simulation.sandbox.ledger
        self.instances = simulation.sandbox.world.instances
        self.by_run: dict[str, list[Sent]] = defaultdict(list)
        for sent in simulation.network.sent:
            self.by_run[sent.relaunch_id].append(sent)

    def launched(self, relaunch_id: str) -> list[int]:
        return self.ledger.launches(tag_part=f"relaunch={relaunch_id}")

    def displaced(self, relaunch_id: str) -> set[int]:
        """Every instance that the run has asked to cancel or save, and that has gone for it."""
        asked = {s.instance_id for s in self.by_run[relaunch_id] if s.displaces}
        return asked & {e.instance_id for e in self.ledger.of("cancelled", "saving")}

    def one_launch(self) -> Iterator[str]:
        # A lab that its learner ends while the answer to its launch is missing leaves no trace.
        ended = {e.instance_id: e.at for e in self.ledger.of("ended")}
        for relaunch_id in self.simulation.runs:
            ids = self.launched(relaunch_id)
            began = [self.instances[i].started_at for i in ids]
            if any(ended.get(i, math.inf) > at for i, at in zip(ids, began[1:], strict=False)):
                yield f"{relaunch_id}: two labs from one request: {ids}"

    def nobody_elses_lab(self) -> Iterator[str]:
        for relaunch_id, stored in self.simulation.runs.items():
            for sent in self.by_run[relaunch_id]:
                if not sent.displaces:
                    continue
                instance = self.instances[sent.instance_id]
                if instance.user_id != stored.run.user_id:
                    yield f"{relaunch_id}: {sent.operation} of {instance.user_id}'s lab"
                if instance.profile.is_exam:
                    yield f"{relaunch_id}: {sent.operation} of an exam"

    def never_its_own(self) -> Iterator[str]:
        for relaunch_id in self.simulation.runs:
            for instance_id in self.displaced(relaunch_id) & set(self.launched(relaunch_id)):
                yield f"{relaunch_id}: displaced its own new lab {instance_id}"

    def nothing_launched_where_none_is_wanted(self) -> Iterator[str]:
        for relaunch_id, stored in self.simulation.runs.items():
            if stored.run.policy.launch:
                continue
            for sent in self.by_run[relaunch_id]:
                if sent.has_effect and not sent.displaces:
                    yield f"{relaunch_id}: {sent.operation}, though it is to launch nothing"
                if sent.displaces and sent.instance_id not in stored.run.known:
                    yield f"{relaunch_id}: {sent.operation} of {sent.instance_id}, which came later"

    def few_cancels(self) -> Iterator[str]:
        for relaunch_id, stored in self.simulation.runs.items():
            gone = self.displaced(relaunch_id)
            # One that launches nothing ends all that were there at its beginning.
            if stored.run.policy.launch and len(gone) > 1 + stored.run.policy.max_recancels:
                yield f"{relaunch_id}: displaced {sorted(gone)}"
        twice = Counter(e.instance_id for e in self.ledger.of("cancelled"))
        for instance_id, times in twice.items():
            if times > 1:
                yield f"{instance_id}: cancelled with effect {times} times"

    def every_run_ends(self) -> Iterator[str]:
        for relaunch_id, stored in self.simulation.runs.items():
            latest = max(stored.run.deadline_at + SKEW * 2, self.simulation.calm_at) + TO_END
            ended_at = self.simulation.database.ended_at.get(relaunch_id)
            if stored.finished_at is None or ended_at is None:
                yield f"{relaunch_id}: has not ended, it is {stored.run.state}"
            elif ended_at > latest:
                yield f"{relaunch_id}: ended {ended_at - latest:.0f} s too late"

    def outcomes_are_so(self) -> Iterator[str]:
        for asked in self.simulation.asked:
            outcome = asked.outcome
            if outcome is None or outcome.outcome != "launched":
                continue
            ours = self.launched(outcome.relaunch_id)
            if outcome.lab_instance_id not in ours and outcome.reason != "not_verified":
                yield f"{outcome.relaunch_id}: says {outcome.lab_instance_id}, launched {ours}"

    def nothing_is_hidden(self) -> Iterator[str]:
        for outcome in self._outcomes():
            ours = self.launched(outcome.relaunch_id)
            if not ours or outcome.lab_instance_id in ours:
                continue
            if outcome.left.launch_in_doubt_tag is None and outcome.reason != "new_instance_ended":
                yield f"{outcome.relaunch_id}: {outcome.outcome} ({outcome.reason}), hides {ours}"

    def _outcomes(self) -> Iterator[Outcome]:
        found = {a.outcome.relaunch_id: a.outcome for a in self.simulation.asked if a.outcome}
        yield from found.values()

    def journals_are_whole(self) -> Iterator[str]:
        for relaunch_id, journal in self.simulation.journals.items():
            versions = [entry.progress.sequence for entry in journal]
            if versions != list(range(1, self.simulation.runs[relaunch_id].version + 1)):
                yield f"{relaunch_id}: the journal has versions {versions}"
        last: dict[tuple[str, int], float] = {}
        for recorded in self.simulation.database.recorded:
            at, lease = recorded.step.entry.progress.at, recorded.epoch
            place = (recorded.step.run.relaunch_id + recorded.process, lease)
            if at < last.get(place, at):
                yield f"{place[0]}: the time line goes back within epoch {lease}"
            last[place] = at

    def everybody_hears_the_same(self) -> Iterator[str]:
        said: dict[str, tuple[object, ...]] = {}
        living = {p.name for p in self.simulation.processes if not p.is_dead and not p.is_closing}
        for asked in self.simulation.asked:
            if asked.relaunch_id is None:
                continue
            if asked.outcome is None or asked.known_at is None:
                if asked.process in living and asked.relaunch_id in self.simulation.runs:
                    yield f"{asked.relaunch_id}: {asked.process} still waits for the outcome"
                continue
            outcome = asked.outcome
            told = (outcome.outcome, outcome.reason, outcome.lab_instance_id, outcome.events)
            if said.setdefault(outcome.relaunch_id, told) != told:
                yield f"{outcome.relaunch_id}: two outcomes, {said[outcome.relaunch_id]} and {told}"
            ended_at = self.simulation.database.ended_at.get(outcome.relaunch_id, 0.0)
            since = asked.known_at - max(ended_at, self.simulation.calm_at)
            if since > TO_KNOW:
                yield f"{outcome.relaunch_id}: {asked.process} heard of the end {since:.0f} s later"

    def requests_are_counted(self) -> Iterator[str]:
        for relaunch_id, stored in self.simulation.runs.items():
            made = len(self.by_run[relaunch_id])
            if stored.api_calls > made:
                yield f"{relaunch_id}: counts {stored.api_calls} calls of {made}"
