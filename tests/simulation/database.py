"""The shared store, as a process sees it: slow, away, or silent about what it has done.

The store itself is a real one. A call takes effect in one moment of virtual time; what happens
before and after that moment, and whether its answer arrives, is up to the weather.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import Step
from orchestrator.errors import StoreUnavailable

if TYPE_CHECKING:
    from tests.simulation.process import Process

#: Calls after which a simulation counts as one that runs hot.
HOT = 150_000

_READS = ("load", "journal", "signals", "history", "unfinished")
_FREE = ("open", "close", "watch")


@dataclass(slots=True)
class Weather:
    """How the database does. Times in seconds, the rest are chances."""

    slowest: float = 0.003
    lost_request: float = 0.0
    lost_answer: float = 0.0
    lost_notification: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A transition that was recorded: by whom, under which lease, at what (true) time."""

    at: float
    process: str
    epoch: int
    step: Step


@dataclass(slots=True)
class Lease:
    """Who may drive a run, and since when; whose it was before."""

    process: str
    since: float


@dataclass(slots=True)
class Database:
    """A store and its weather; it also keeps the books for the judge."""

    inner: MemoryRunStore | SQLiteRunStore
    now: Callable[[], float]
    told: Callable[[str, str, str], None]
    by_id: bool
    weather: Weather = field(default_factory=Weather)
    calls: int = 0
    recorded: list[Recorded] = field(default_factory=list)
    leases: dict[str, Lease] = field(default_factory=dict)
    takeovers: int = 0
    created: set[str] = field(default_factory=set)
    ended_at: dict[str, float] = field(default_factory=dict)
    _watchers: dict[int, tuple[Process, Callable[[str | None], object]]] = field(
        default_factory=dict
    )
    _thread: _LoopThread | None = None

    @property
    def latency(self) -> float:
        """See :class:`~orchestrator.durable.store.RunStore`."""
        return self.inner.latency

    def perform(self, name: str, *args: Any, **options: Any) -> Any:
        """Let the store do it, in no time."""
        self.calls += 1
        if self.calls > HOT:
            raise AssertionError(f"{HOT} calls of the store: something runs hot")
        work = getattr(self.inner, name)(*args, **options)
        if isinstance(self.inner, MemoryRunStore):
            try:
                work.send(None)
            except StopIteration as done:
                return done.value
            raise AssertionError("the store in memory never waits")
        if self._thread is None:
            self._thread = _LoopThread()
        return self._thread.run(work)

    def close(self) -> None:
        """Let go of the store's thread."""
        if self._thread is not None:
            self._thread.run(self.inner.close())
            self._thread.close()

    def watch(
        self, process: Process, changed: Callable[[str | None], object]
    ) -> Callable[[], None]:
        """Tell a process of changes."""
        number = len(self._watchers)
        self._watchers[number] = (process, changed)
        return lambda: self._watchers.pop(number, None) and None

    def keep_books(self, process: Process, name: str, args: Any, options: Any, result: Any) -> None:
        """Note what a call has changed, and tell who watches."""
        changed: list[str | None] = []
        match name, args:
            case "append", (Step() as step,):
                self._keep(process, step)
                changed = [step.run.relaunch_id]
            case "create", (run, *_) if result[1]:
                self.created.add(run.relaunch_id)
                self.told(process.name, run.relaunch_id, f"created for {run.user_id}")
                changed = [run.relaunch_id]
                replaced = options.get("replacing")
                if replaced is not None and self._has_taken(replaced):
                    self._keep(process, replaced)
                    changed.append(replaced.run.relaunch_id)
            case "claim", (relaunch_id, *_) if result is not None:
                held = self.leases.get(relaunch_id)
                self.takeovers += held is not None and held.process != process.name
                self.leases[relaunch_id] = Lease(process.name, self.now())
                self.told(process.name, relaunch_id, f"claimed: epoch {result.epoch}")
            case (("release" | "request_abort"), (relaunch_id, *_)):
                self.told(process.name, relaunch_id, name)
                changed = [relaunch_id]
            case "hint", _:
                for relaunch_id in result:
                    self.told(process.name, relaunch_id, "hint stored")
                changed = list(result)
            case "retire", _:
                changed = [None]
        for relaunch_id in changed:
            self._tell(process, relaunch_id)

    def _has_taken(self, step: Step) -> bool:
        return bool(self.perform("load", step.run.relaunch_id).run == step.run)

    def _keep(self, process: Process, step: Step) -> None:
        run, version = step.run, step.entry.progress.sequence
        self.recorded.append(
            Recorded(at=self.now(), process=process.name, epoch=step.epoch, step=step)
        )
        calling = f", about to call {step.entry.progress.calling}" if run.state != "new" else ""
        told = f"v{version} e{step.epoch} {step.entry.event} -> {run.state}{calling}"
        self.told(process.name, run.relaunch_id, f"{told} ({run.reason or run.blocked_by})")
        if run.state.is_terminal:
            self.ended_at.setdefault(run.relaunch_id, self.now())

    def _tell(self, origin: Process, relaunch_id: str | None) -> None:
        loop = asyncio.get_running_loop()
        for process, changed in list(self._watchers.values()):
            if process is origin:
                loop.call_soon(process.tell, partial(changed, relaunch_id))
            elif process.luck.random() >= self.weather.lost_notification:
                what = relaunch_id if self.by_id else None
                late = process.luck.uniform(0.0, self.latency)
                loop.call_later(late, process.tell, partial(changed, what))


class Wired:
    """The store at a process's end of the line: any method of it, through the weather."""

    engine = "embedded"
    consumer = "default"

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process

    @property
    def latency(self) -> float:
        """See :class:`~orchestrator.durable.store.RunStore`."""
        return self._database.latency

    async def open(self) -> None:
        """It is."""

    async def close(self) -> None:
        """It stays open."""

    def watch(self, changed: Callable[[str | None], object]) -> Callable[[], None]:
        """See :class:`~orchestrator.durable.store.RunStore`."""
        return self._database.watch(self._process, changed)

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, name)

    async def _call(self, name: str, *args: Any, **options: Any) -> Any:
        process, database, weather = self._process, self._database, self._database.weather
        luck = process.luck_in_reading if name in _READS else process.luck
        fate, unsent = luck.random(), luck.random() < 0.5
        before, after = (luck.uniform(0.0, weather.slowest / 2) for _ in range(2))
        await process.through()
        await asyncio.sleep(before)
        if fate < weather.lost_request:
            await process.through()
            raise StoreUnavailable("The store cannot be reached.")
        if process.is_dead and unsent:
            await process.through()
        error: Exception | None = None
        result = None
        try:
            result = database.perform(name, *args, **options)
            database.keep_books(process, name, args, options, result)
        except Exception as failure:
            error = failure
        await asyncio.sleep(after)
        await process.through()
        if fate > 1 - weather.lost_answer:
            raise StoreUnavailable("The store's answer got lost.")
        if error is not None:
            raise error
        return result


class _LoopThread:
    """A loop of its own for a store that has a thread; whoever calls stands still meanwhile."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
