"""The fleet: any number of worker processes that drive the runs of one PostgreSQL store.

The queue is procrastinate's; these are the rules that it is used by:

* One job drives one run to its end; waiting is an ``await``, so a worker holds thousands of jobs.
  A job is deferred in the transaction that creates its run: neither is there without the other.
* Two jobs of one run never run at once (``lock``), and no two wait (``queueing_lock``).
* Workers have heartbeats. A job whose worker has been silent is put back by the sweeper, which is
  a periodic job itself; so is what a stopping worker hasn't finished, by that worker, at once.
* Whoever takes a job over takes the run's lease over: a worker that was only slow finds out when
  it next records something, or before it calls something with an effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import psycopg
from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, UniqueViolation
from procrastinate.jobs import Job, JobDeferrer, Status

from orchestrator.durable.fleet.connector import PatientConnector, database_error
from orchestrator.durable.postgres.connections import Connection, translated
from orchestrator.durable.postgres.store import PostgresRunStore
from orchestrator.durable.store import StoredRun
from orchestrator.errors import StoreUnavailable
from orchestrator.logs import get_logger
from orchestrator.requests import Priority

#: Drives a run to its end, taking its lease over, and returns; leaves it when cancelled.
Drive = Callable[[str], Awaitable[None]]

_log = get_logger("orchestrator.durable")

DRIVE = "drive"
SWEEP = "sweep"
MEND = "mend"

#: When stalled jobs are looked for, and runs without a job: cron with seconds.
_EVERY_SECOND = "* * * * * *"
_NOW_AND_THEN = "* * * * * */20"

#: A worker forgets those that have been silent for so many times as long as makes a job stalled.
#: (One that is forgotten too early has to begin anew.)
_FORGOTTEN = 12
#: Seconds before a worker that has failed comes back, at most.
_COME_BACK = 2.0
#: Seconds that a stopping worker tries to put back what it drives, while the server is away.
_HURRY = 5.0
#: Seconds in which every worker has found its way back to a server that was away.
_FIND_BACK = 3.0
#: Seconds before a job is tried again whose driver has failed, at most.
_TRY_AGAIN = 60.0


class Fleet:
    """This process's part in the fleet of a store.

    ``open()`` is enough to start relaunches, ``work()`` drives them. A worker drives up to
    ``concurrency`` runs, says every ``heartbeat_seconds`` that it lives, and is taken for dead when
    it has not for ``stalled_after_seconds``.
    """

    def __init__(
        self,
        store: PostgresRunStore,
        drive: Drive,
        *,
        concurrency: int = 1000,
        heartbeat_seconds: float = 1.0,
        stalled_after_seconds: float = 5.0,
    ) -> None:
        self._store = store
        self._drive = drive
        self._concurrency = concurrency
        self._heartbeat = heartbeat_seconds
        self._stalled_after = stalled_after_seconds
        # A name that fits into the name of a notification channel, whatever the label is.
        told_apart = f"{store.connections.schema}\0{store.consumer}"
        self.queue = f"relaunch_{hashlib.sha256(told_apart.encode()).hexdigest()[:16]}"
        self._connector = PatientConnector(store.connections.conninfo)
        self._app = App(connector=self._connector)
        self._register()
        self._is_open = False
        self._stop = asyncio.Event()
        #: The jobs that run in this process.
        self._running: set[int | None] = set()
        self._looked_for = 0
        self._suspects: set[int] = set()

    async def open(self) -> None:
        """Open the store, make the queue if there is none, and queue every run created here.

        Raises :class:`~orchestrator.errors.StoreUnavailable` if the server goes away meanwhile.
        """
        if self._is_open:
            return
        await self._store.open()
        try:
            await self._app.open_async()
            await self._make_queue()
        except BaseException as error:
            await self._app.close_async()
            failed = database_error(error) if isinstance(error, ConnectorException) else error
            if isinstance(failed, psycopg.Error):
                raise translated(failed) from error
            raise
        self._store.on_create = self._queue_runs
        self._is_open = True

    async def close(self) -> None:
        """Let go of the queue's connections; the store stays open."""
        if self._is_open:
            self._is_open = False
            self._store.on_create = None
            await self._app.close_async()

    async def work(self) -> None:
        """Drive runs until :meth:`stop`, or until cancelled; comes back from every failure."""
        self._stop.clear()
        self._connector.hurry(None)
        await self.open()
        while not self._stop.is_set():
            worker = asyncio.create_task(self._work(), name="worker")
            stopping = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait({worker, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                if not worker.done():
                    # Cancelled, it puts back what it drives; it does not leave before.
                    self._connector.hurry(_HURRY)
                    worker.cancel()
                    await asyncio.wait({worker})
            if self._stop.is_set():
                break
            failed = not worker.cancelled() and worker.exception()
            _log.warning("worker_stopped", reason=type(failed).__name__ if failed else None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.1, _COME_BACK)):
                    await self._stop.wait()

    def stop(self) -> None:
        """Let :meth:`work` put back what is being driven here, and return."""
        self._stop.set()

    async def _work(self) -> None:
        await self._app.run_worker_async(
            queues=[self.queue],
            concurrency=self._concurrency,
            update_heartbeat_interval=self._heartbeat,
            stalled_worker_timeout=self._stalled_after * _FORGOTTEN,
            # What is left unfinished is put back at once; there is no point in waiting.
            shutdown_graceful_timeout=0,
            delete_jobs="always",
            install_signal_handlers=False,
            # A notification tells of new jobs, and the sweeper's job of those put back.
            fetch_job_polling_interval=self._stalled_after,
        )

    async def _make_queue(self) -> None:
        async with (
            await self._store.connections.connect() as connection,
            connection.transaction(),
        ):
            # Many workers may start at once: one makes the queue, the others find it.
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtext(%s))",
                (f"lab-relaunch queue {self._store.connections.schema}",),
            )
            if not await self._app.check_connection_async():
                await self._app.schema_manager.apply_schema_async()

    def _register(self) -> None:
        task = self._app.task
        task(name=DRIVE, queue=self.queue, pass_context=True, retry=_Again())(self._drive_job)
        for name, cron, act in (
            (SWEEP, _EVERY_SECOND, self._sweep),
            (MEND, _NOW_AND_THEN, self._mend),
        ):
            # Before the relaunches: where no worker has room, nobody would be helped.
            periodic = self._app.periodic(cron=cron)
            periodic(
                task(
                    name=name,
                    queue=self.queue,
                    queueing_lock=f"{self.queue}/{name}",
                    priority=100,
                    pass_context=True,
                )(act)
            )

    # --- a run's job -------------------------------------------------------------------------

    async def _queue_runs(self, connection: Connection, new: Sequence[StoredRun]) -> None:
        """Called by the store, in the transaction that creates the runs."""
        jobs = []
        for stored in new:
            relaunch_id = stored.run.relaunch_id
            deferrer = self._job_of(relaunch_id, stored.priority)
            jobs.append(deferrer.make_new_job(relaunch_id=relaunch_id))
        try:
            await self._app.job_manager.batch_defer_jobs_async(jobs, connection=connection)
        except AlreadyEnqueued:
            if len(new) > 1:
                raise  # the store tries one by one
            raise StoreUnavailable(
                "A job of a forgotten relaunch with the same id still waits. Nothing was stored; "
                "ask again in a moment."
            ) from None
        except ConnectorException as error:
            raise database_error(error) or error from error

    def _job_of(self, relaunch_id: str, priority: Priority) -> JobDeferrer:
        lock = f"{self.queue}/{relaunch_id}"
        return self._app.configure_task(
            DRIVE,
            queue=self.queue,
            lock=lock,
            queueing_lock=lock,
            priority=10 if priority is Priority.BUTTON else 0,
        )

    async def _drive_job(self, context: JobContext, relaunch_id: str) -> None:
        job_id = context.job.id
        self._running.add(job_id)
        try:
            await self._drive(relaunch_id)
        except Exception as error:
            # Without its words: the queue would log them.
            _log.error("driver_failed", relaunch_id=relaunch_id, reason=type(error).__name__)
            raise _DriverFailed from None
        finally:
            self._running.discard(job_id)

    # --- the sweeper -------------------------------------------------------------------------

    async def _sweep(self, context: JobContext, timestamp: int) -> None:
        """Put back the jobs of workers that have fallen silent."""
        await self._find_lost_jobs(context)
        if time.monotonic() - self._connector.failed_at < self._stalled_after + _FIND_BACK:
            return  # the server was away, and nobody could say that it lives
        for job in await self._app.job_manager.get_stalled_jobs(
            queue=self.queue, seconds_since_heartbeat=self._stalled_after
        ):
            _log.warning("job_stalled", relaunch_id=job.task_kwargs.get("relaunch_id"))
            await self._put_back(job)

    async def _find_lost_jobs(self, context: JobContext) -> None:
        """Put back the jobs that this worker was given by an answer that it never got."""
        if self._connector.failures == self._looked_for and not self._suspects:
            return
        failures = self._connector.failures
        found = {
            job.id: job
            for job in await self._app.job_manager.list_jobs_async(
                queue=self.queue,
                task=DRIVE,
                status=Status.DOING.value,
                worker_id=context.job.worker_id,
            )
            if job.id is not None and job.id not in self._running
        }
        # Those seen for the first time may just be about to begin.
        for job_id in self._suspects & found.keys():
            await self._put_back(found[job_id])
        self._suspects = found.keys() - self._suspects
        self._looked_for = failures

    async def _mend(self, context: JobContext, timestamp: int) -> None:
        """Queue the unfinished runs that have no job: created without a fleet, or left over."""
        manager = self._app.job_manager
        counts = await manager.list_tasks_async(queue=self.queue, task=DRIVE)
        jobs = sum(task["todo"] + task["doing"] for task in counts)
        if jobs >= await self._store.unfinished():
            return
        queued = {
            job.queueing_lock
            for status in (Status.TODO, Status.DOING)
            for job in await manager.list_jobs_async(
                queue=self.queue, task=DRIVE, status=status.value
            )
        }
        for relaunch_id, priority in await self._store.to_be_driven():
            if f"{self.queue}/{relaunch_id}" not in queued:
                with contextlib.suppress(AlreadyEnqueued):
                    await self._job_of(relaunch_id, priority).defer_async(relaunch_id=relaunch_id)

    async def _put_back(self, job: Job) -> None:
        manager = self._app.job_manager
        if job.task_name == DRIVE:
            with contextlib.suppress(UniqueViolation):
                await manager.retry_job(job)
                return
        # Another sweep has come since, or another job of the run waits already.
        await manager.finish_job(job, Status.ABORTED, delete_job=True)


class _DriverFailed(Exception):
    """A driver failed, which it never should: its job is tried again."""


class _Again(BaseRetryStrategy):
    """A job that was not driven to its end is put back: at once if its worker stops."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        if isinstance(exception, _DriverFailed):
            seconds = min(2.0 ** min(job.attempts, 10), _TRY_AGAIN)
            return RetryDecision(retry_in={"seconds": int(seconds)})
        return RetryDecision()
