"""One simulation: learners who ask, processes that come and go, and everything that goes wrong.

First a restless time, in which all of that happens; then calm, in which whatever is unfinished has
to come to its end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import Entry, StoredRun
from orchestrator.errors import InvalidRequest, RelaunchInFlight, StoreUnavailable
from orchestrator.requests import Priority, new_run
from orchestrator.sandbox import Sandbox
from orchestrator.testing.virtual import VirtualClock, run_virtual
from tests.simulation.chance import (
    EXAM,
    FAULTS,
    NEW_LAB,
    OLD_LAB,
    policy_of,
    readings,
    reproducible,
)
from tests.simulation.database import Database, Weather
from tests.simulation.network import Network, Sent
from tests.simulation.process import Process
from tests.simulation.told import Asked, Told

#: Seconds after the calm has come (or the deadline has passed) in which every run must have ended,
#: and after its end in which whoever waits for it must know: a process that has lost the run
#: without knowing may be in a call, which is answered or given up within a minute.
TO_END, TO_KNOW = 120.0, 70.0
#: For how long a process may not yet know that its lease is gone, in seconds: what it sends in this
#: time shows while its successor still looks for it.
IN_DOUBT = 5.0


@dataclass
class Simulation:
    """See the module's docstring. ``run()`` runs it; then it is the judge's."""

    seed: int
    store: MemoryRunStore | SQLiteRunStore = field(default_factory=MemoryRunStore)
    asked: list[Asked] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    calm_at: float = 0.0
    #: What was found wrong while it ran.
    violations: list[str] = field(default_factory=list)
    #: What the store keeps at the end.
    runs: dict[str, StoredRun] = field(default_factory=dict)
    journals: dict[str, tuple[Entry, ...]] = field(default_factory=dict)
    began_at: float = 0.0
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self.rng = rng = random.Random(f"simulation {self.seed}")
        self.time = VirtualClock()
        self.sandbox = Sandbox(
            now=self.now,
            seed=self.seed,
            readings=readings(rng),
            teardown=rng.choice(
                ("fixed:20", "fixed:3", "lognormal:40,0.8", "bimodal:5,90,0.3", "lognormal:90,0.5")
            ),
            startup_seconds=rng.choice((0.0, 0.0, 15.0)),
            max_active_per_user=rng.choice((1, 1, 2, 3)),
        )
        self.network = Network(self.sandbox, self.now, self.tell)
        self.network.on_sent.append(self._check_the_lease)
        self.database = Database(self.store, self.now, self.tell, by_id=rng.random() < 0.5)
        self.restless = rng.choice((600.0, 900.0, 1500.0))
        self.most_in_flight = rng.choice((None, None, None, 1, 3))
        self.skews = rng.random() < 0.5
        self.deadlines = rng.choice(((60.0,), (150.0, 600.0), (900.0,), (60.0, 300.0, 900.0)))

    # --- the course of it -------------------------------------------------------------------

    def run(self) -> None:
        """Run it, to the end."""
        with reproducible(self.seed):
            run_virtual(self._main())

    async def _main(self) -> None:
        self.began_at = self.now()
        try:
            await self._restless()
            await self._calm()
        finally:
            self.ended_at = self.now()
            self.sandbox.world.settle()
            self.runs = {
                relaunch_id: self.database.perform("load", relaunch_id)
                for relaunch_id in dict.fromkeys(
                    a.run.relaunch_id for a in self.asked if self._is_stored(a.run.relaunch_id)
                )
            }
            self.journals = {
                relaunch_id: self.database.perform("journal", relaunch_id)
                for relaunch_id in self.runs
            }
            self.database.close()

    async def _restless(self) -> None:
        rng = self.rng
        self.learners = [f"learner-{n}" for n in range(rng.randint(2, 7))]
        for learner in self.learners:
            self._give_labs(learner)
        for _ in range(rng.randint(1, 3)):
            self._begin_process()
        happenings: tuple[tuple[Callable[[], object], int], ...] = (
            (self._somebody_asks, 10),
            (self._everybody_asks, 1),
            (self._crash, rng.choice((1, 4))),
            (self._retire, 1),
            (self._freeze, rng.choice((1, 4))),
            (self._begin_process, 2),
            (self._database_slows_down, rng.choice((0, 2))),
            (self._database_loses_calls, rng.choice((0, 2))),
            (self._network_slows_down, rng.choice((0, 1))),
            (self._platform_errs, rng.choice((1, 6))),
            (self._hint, 6),
            (self._abort, 1),
            (self._somebody_else_acts, 2),
        )
        acts = [act for act, weight in happenings for _ in range(weight)]
        pause = rng.choice((4.0, 12.0, 25.0))
        self._somebody_asks()
        while self.now() < self.began_at + self.restless:
            await asyncio.sleep(rng.expovariate(1.0 / pause))
            rng.choice(acts)()

    async def _calm(self) -> None:
        self.tell("world", "", "calm")
        self.calm_at = self.now()
        self.database.weather = Weather()
        self.network.slowest = 0.1
        self.sandbox.faults.faults.clear()
        for process in self.processes:
            process.thaw()
        self._begin_process(works=True)
        while True:
            await asyncio.sleep(5.0)
            unfinished = [
                s
                for a in self.asked
                if self._is_stored(a.run.relaunch_id)
                and (s := self.database.perform("load", a.run.relaunch_id)).finished_at is None
            ]
            # A clock that is wrong is wrong about the deadline, too.
            latest = max((s.run.deadline_at + 40.0 for s in unfinished), default=0.0)
            if not unfinished or self.now() > max(latest, self.calm_at) + TO_END:
                break
        await asyncio.sleep(TO_KNOW + 1.0)

    # --- what happens -----------------------------------------------------------------------

    def _begin_process(self, *, works: bool | None = None) -> None:
        if works is None and len(self._living()) >= 4:
            return
        rng = self.rng
        process = Process(
            f"process-{len(self.processes)}",
            self.database,
            self.network,
            skew=rng.uniform(-10.0, 10.0) if self.skews else 0.0,
            seed=str(self.seed),
            most_in_flight=self.most_in_flight,
        )
        self.processes.append(process)
        if works or (works is None and rng.random() < 0.6):
            self.tell(process.name, "", f"begins to work, {process.skew:+.1f} s")
            self._in(process, self._work(process))
        else:
            self.tell(process.name, "", f"begins, {process.skew:+.1f} s")

    async def _work(self, process: Process) -> None:
        await _patiently(process, process.runtime.resume_all)

    def _somebody_asks(self) -> None:
        self._ask(self.rng.choice(self.learners))

    def _everybody_asks(self) -> None:
        for learner in self.learners:
            self._ask(learner)

    def _ask(self, learner: str) -> None:
        if not self._living():
            self._begin_process(works=True)
        rng = self.rng
        lab = rng.choice((OLD_LAB, NEW_LAB, NEW_LAB, NEW_LAB))
        policy = policy_of(rng, rng.choice(self.deadlines))
        # Of its own, so that the other seeds go on as they did.
        if random.Random(f"frees {self.seed} {len(self.asked)}").random() < 0.15:
            policy = replace(policy, launch=False)
        key = f"key-{len(self.asked)}" if rng.random() < 0.3 else None
        on_conflict = rng.choice(("refuse", "supersede"))
        priority = rng.choice((Priority.BUTTON, Priority.BULK))
        for again in range(rng.choice((1, 1, 2, 4))):
            process = rng.choice(self._living())
            number = len(self.asked)
            options: Any = {
                "relaunch_id": f"r{number:03d}",
                "idempotency_key": key,
                "on_conflict": on_conflict,
                "priority": priority,
            }
            run = new_run(learner, lab, policy, options, process.clock.now())
            asked = Asked(process.name, run, options)
            self.asked.append(asked)
            late = 0.0 if again == 0 else rng.choice((0.0, 0.05, 2.0))
            self._in(process, self._follow(process, asked, late))

    async def _follow(self, process: Process, asked: Asked, late: float) -> None:
        await asyncio.sleep(late)
        runtime, options = process.runtime, asked.options
        try:
            started = await _patiently(
                process,
                lambda: runtime.start(
                    asked.run,
                    key=options["idempotency_key"],
                    priority=options["priority"],
                    on_conflict=options["on_conflict"],
                ),
            )
        except (RelaunchInFlight, InvalidRequest) as error:
            self.tell(process.name, asked.run.relaunch_id, f"not begun: {error.code}")
            return
        asked.relaunch_id = relaunch_id = started.stored.run.relaunch_id
        self.tell(process.name, relaunch_id, f"accepted (asked as {asked.run.relaunch_id})")
        asked.outcome = await _patiently(process, lambda: runtime.outcome(relaunch_id))
        asked.known_at = self.now()
        self.tell(process.name, relaunch_id, f"known to be {asked.outcome.outcome}")

    def _crash(self) -> None:
        if living := self._living():
            process = self.rng.choice(living)
            process.kill()
            self.tell(process.name, "", "killed")
            if self.rng.random() < 0.7:
                self._begin_process()

    def _retire(self) -> None:
        if living := self._living():
            process = self.rng.choice(living)
            self.tell(process.name, "", "closes")
            process.is_closing = True
            self._in(process, process.runtime.close())

    def _freeze(self) -> None:
        running = [p for p in self._living() if not p.is_frozen]
        if running:
            process, seconds = (
                self.rng.choice(running),
                self.rng.choice((0.5, 3.0, 8.0, 30.0, 90.0)),
            )
            process.freeze()
            self.tell(process.name, "", f"frozen for {seconds} s")
            asyncio.get_running_loop().call_later(seconds, self._thaw, process)

    def _thaw(self, process: Process) -> None:
        if process.is_frozen and not process.is_dead:
            self.tell(process.name, "", "thawed")
            process.thaw()

    def _database_slows_down(self) -> None:
        self._database_is(Weather(slowest=self.rng.choice((1.0, 5.0)), lost_notification=0.2))

    def _database_loses_calls(self) -> None:
        self._database_is(Weather(lost_request=0.15, lost_answer=0.15, lost_notification=0.5))

    def _database_is(self, weather: Weather) -> None:
        self.tell("database", "", f"{weather}")
        self.database.weather = weather
        loop = asyncio.get_running_loop()
        loop.call_later(self.rng.choice((5.0, 20.0, 60.0)), self._database_is_well, weather)

    def _database_is_well(self, weather: Weather) -> None:
        if self.database.weather is weather:
            self.tell("database", "", "is well again")
            self.database.weather = Weather()

    def _network_slows_down(self) -> None:
        self.network.slowest = self.rng.choice((0.1, 2.0, 5.0))
        self.tell("network", "", f"takes up to {self.network.slowest} s")

    def _platform_errs(self) -> None:
        if len(self.sandbox.faults.faults) < 3:
            fault = self.rng.choice(FAULTS)
            self.tell("platform", "", f"will err: {fault}")
            self.sandbox.faults.add(fault)

    def _hint(self) -> None:
        """True, early, late, or about nothing."""
        instances = [*self.sandbox.world.instances, 7]
        instance_id = self.rng.choice(instances[-12:])
        if living := self._living():
            process = self.rng.choice(living)
            self.tell(process.name, "", f"is given a hint about {instance_id}")
            self._in(process, self._give_hint(process, instance_id))

    async def _give_hint(self, process: Process, instance_id: int) -> None:
        await _patiently(process, lambda: process.runtime.hint(instance_id))

    def _abort(self) -> None:
        begun = [a.relaunch_id for a in self.asked if a.relaunch_id and a.outcome is None]
        living = self._living()
        if begun and living:
            process, relaunch_id = self.rng.choice(living), self.rng.choice(begun[-5:])
            self.tell(process.name, relaunch_id, "is to be aborted")
            self._in(process, self._wish_abort(process, relaunch_id))

    async def _wish_abort(self, process: Process, relaunch_id: str) -> None:
        await _patiently(process, lambda: process.runtime.abort(relaunch_id))

    def _somebody_else_acts(self) -> None:
        """The learner launches or ends a lab by other means."""
        world, learner = self.sandbox.world, self.rng.choice(self.learners)
        world.settle()
        mine = [i for i in world.of_user(learner) if i.holds_slot]
        if mine and self.rng.random() < 0.5:
            instance = self.rng.choice(mine)
            if instance.state == "Running":
                world.tear_down(instance, "ended")
                self.tell("learner", "", f"{learner} ends {instance.instance_id}")
        elif len(mine) < self.sandbox.consumer.max_active_per_user:
            profile = world.profiles[self.rng.choice((OLD_LAB, NEW_LAB))]
            made = world.create(
                learner, profile, self.sandbox.consumer, self.now(), "by hand", "given"
            )
            self.tell("learner", "", f"{learner} launches {made.instance_id} by hand")

    def _check_the_lease(self, sent: Sent) -> None:
        """Whoever calls something with an effect must have the lease, or have lost it just now."""
        lease = self.database.leases.get(sent.relaunch_id)
        if not sent.has_effect or lease is None:
            return
        lost = self.now() - lease.since if lease.process != sent.process else 0.0
        ended = self.now() - self.database.ended_at.get(sent.relaunch_id, self.now())
        if max(lost, ended) > IN_DOUBT:
            self.violations.append(
                f"{sent.relaunch_id}: {sent.process} sent {sent.operation}, its lease lost for"
                f" {lost:.1f} s, the run ended for {ended:.1f} s"
            )

    # --- small things -----------------------------------------------------------------------

    def now(self) -> float:
        """The true time."""
        return self.time.now()

    def tell(self, who: str, relaunch_id: str, what: str) -> None:
        """Add to the time line."""
        self.told.append(Told(self.now() - self.began_at, who, relaunch_id, what))

    def _living(self) -> list[Process]:
        return [p for p in self.processes if not p.is_dead and not p.is_closing]

    def _in(self, process: Process, work: Any) -> None:
        task = asyncio.create_task(work, name=f"in {process.name}")
        process.tasks.append(task)

    def _is_stored(self, relaunch_id: str) -> bool:
        return relaunch_id in self.database.created

    def _give_labs(self, learner: str) -> None:
        rng, world = self.rng, self.sandbox.world
        labs = rng.choice(((OLD_LAB,), (OLD_LAB,), (NEW_LAB,), (EXAM,), (), (OLD_LAB, NEW_LAB)))
        for lab in labs[: self.sandbox.consumer.max_active_per_user]:
            world.give(learner, lab, started_ago=rng.choice((90.0, 4000.0)))


async def _patiently(process: Process, call: Callable[[], Any]) -> Any:
    """Ask again while the store is away, as any caller may."""
    while True:
        try:
            return await call()
        except StoreUnavailable:
            await process.clock.wait(1.0, asyncio.Event())


def sqlite_store(folder: Path, seed: int) -> SQLiteRunStore:
    """A store in a fresh file."""
    return SQLiteRunStore(folder / f"{seed}.db")
