"""From settings to a store of relaunches: opening, describing and pruning it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from orchestrator.cli import store_url
from orchestrator.cli.settings import Loaded
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import RunStore, StoredRun
from orchestrator.errors import ConfigurationError, StoreError

_DAY = 86_400.0
#: Takes a lease for a moment, to see whether anybody has it.
_NOBODY = "nobody"
#: Seconds in which whoever has begun a relaunch has taken its lease.
_JUST_BEGUN = 2.0


def store_of(loaded: Loaded) -> RunStore | None:
    """The store that the settings name, not opened yet; ``None`` if there is to be none."""
    url = loaded.settings.store.url.get_secret_value()
    if url == store_url.NONE:
        return None
    consumer = loaded.settings.store.consumer
    if consumer == "auto":
        consumer = urlsplit(loaded.settings.platform.base_url).netloc or "default"
    if not store_url.is_postgresql(url):
        return SQLiteRunStore(store_url.path_of(url), consumer=consumer)
    try:
        import procrastinate  # noqa: F401 - told now, not when the first relaunch is queued

        from orchestrator.durable.postgres import PostgresRunStore
    except ImportError as error:
        raise ConfigurationError(
            f"store.url: a PostgreSQL store needs {error.name or 'psycopg'}, which cannot be "
            "imported; nothing was called. Install it with: pip install 'lab-relaunch[fleet]'"
        ) from None
    return PostgresRunStore(url, consumer=consumer)


def place_of(loaded: Loaded) -> str:
    """Where the store is, without a password."""
    url = loaded.settings.store.url.get_secret_value()
    if url == store_url.NONE or store_url.is_postgresql(url):
        return store_url.shown(url)
    return str(store_url.path_of(url))


@contextlib.asynccontextmanager
async def opened_store(loaded: Loaded) -> AsyncIterator[RunStore]:
    """The store alone, for whoever only looks at it: nothing is driven, no key is needed."""
    store = await required(store_of(loaded))
    try:
        yield store
    finally:
        await store.close()


async def required(store: RunStore | None) -> RunStore:
    """The store, opened; ``ConfigurationError`` if there is none."""
    if store is None:
        raise ConfigurationError(
            "store.url: it is set to none, so no relaunches are kept; nothing was done."
        )
    await store.open()
    return store


async def prune(store: RunStore, loaded: Loaded) -> int:
    """Forget what ended longer ago than is to be kept; how many relaunches that were.

    Where the store is away, the next one does it.
    """
    days = loaded.settings.store.keep_days
    if days == 0:
        return 0
    with contextlib.suppress(StoreError):
        return (await forget(store, before=time.time() - days * _DAY))[0]
    return 0


async def forget(store: RunStore, *, before: float) -> tuple[int, int]:
    """Forget the relaunches and the batches that ended before then; how many of each."""
    relaunches = await store.prune(before=before)
    return relaunches, await store.batches.prune(before=before)


async def is_driven(store: RunStore, stored: StoredRun) -> bool:
    """Whether somebody drives the run: a living process, or a worker of the fleet."""
    if stored.finished_at is not None:
        return False
    if stored.version == 0 and time.time() - stored.run.created_at < _JUST_BEGUN:
        return True
    if store.engine == "fleet":
        return stored.owner is not None
    # The port has no question for this; a lease that can be had, though, is held by nobody living.
    relaunch_id = stored.run.relaunch_id
    claimed = await store.claim(relaunch_id, _NOBODY, at=time.time())
    if claimed is None:
        return True
    await store.release(relaunch_id, claimed.epoch)
    return False
