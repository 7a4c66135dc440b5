"""``relaunch doctor``: is everything set up? One line for each check, with what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.cli import exits
from orchestrator.cli.connect import client_of, settings_for
from orchestrator.cli.options import ConfigOption, JsonOption, StoreOption
from orchestrator.cli.settings import Loaded
from orchestrator.cli.stores import place_of, store_of
from orchestrator.durable.migrating import migrations
from orchestrator.durable.store import Filter
from orchestrator.errors import (
    ConfigurationError,
    KeyRejected,
    NotSent,
    PlatformError,
    StoreError,
)
from orchestrator.plain import to_plain
from orchestrator.skillable import Stats

#: A platform clock that is further off than this (seconds) makes times hard to compare.
_SKEW = 30.0


@dataclass(frozen=True)
class Check:
    """One line: what was checked, whether it is well, what was found, and what to do."""

    name: str
    ok: bool | None
    found: str
    to_do: str = ""


def doctor(
    config: ConfigOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> int:
    """Check the configuration, the platform, the key, the clock, the labs and the store."""
    try:
        loaded = settings_for(config, {"store.url": store})
        loaded.policy()
        loaded.api_key()
        checks = asyncio.run(_examine(loaded))
    except ConfigurationError as error:
        checks = [Check("configuration", False, str(error), "Correct it; see `relaunch config`.")]
    if as_json:
        print(
            json.dumps({"ok": all(c.ok is not False for c in checks), "checks": to_plain(checks)})
        )
    else:
        for check in checks:
            mark = {True: "ok  ", False: "FAIL", None: "?   "}[check.ok]
            print(f"{mark} {check.name}: {check.found} {check.to_do}".rstrip())
    return _exit(checks)


def _exit(checks: list[Check]) -> int:
    failed = {check.name for check in checks if check.ok is False}
    if not failed:
        return 0
    if "configuration" in failed:
        return exits.USAGE
    return exits.UNREACHABLE if "reachability" in failed else exits.FAILED


async def _examine(loaded: Loaded) -> list[Check]:
    where = loaded.settings.platform.base_url
    checks = [Check("configuration", True, f"complete; the platform is {where}.")]
    stats: Stats | None = None
    problem: PlatformError | None = None
    async with client_of(loaded) as client:
        try:
            stats = await client.stats()
        except PlatformError as error:
            problem = error
        checks.extend(_verdicts(stats, problem, client.clock_skew))
    checks.append(await _store(loaded))
    return checks


async def _store(loaded: Loaded) -> Check:
    store, place = store_of(loaded), place_of(loaded)
    if store is None:
        return Check("store", True, "none, so a relaunch ends with its process.")
    try:
        await store.open()
        unfinished = len(await store.history(Filter(unfinished=True, limit=1_000_000)))
    except StoreError as error:
        return Check("store", False, f"{place}: {error}")
    finally:
        await store.close()
    schema = len(migrations("postgres" if store.engine == "fleet" else "sqlite"))
    return Check(
        "store", True, f"{place} is reachable and fits schema {schema}; {unfinished} unfinished."
    )


def _verdicts(
    stats: Stats | None, problem: PlatformError | None, skew: float | None
) -> Iterator[Check]:
    unreachable = isinstance(problem, NotSent) and problem.status is None
    if problem is not None and unreachable:
        yield Check("reachability", False, str(problem))
        return
    if isinstance(problem, KeyRejected):
        yield Check("reachability", True, "the platform answers.")
        yield Check("key", False, str(problem))
    elif problem is not None:
        yield Check("reachability", False, str(problem), "Try again later.")
    else:
        yield Check("reachability", True, "the platform answers.")
        yield Check("key", True, "accepted.")
    if skew is None:
        yield Check("clock", None, "the platform tells no time to compare with.")
    else:
        advice = "" if abs(skew) <= _SKEW else "Set this machine's clock (NTP)."
        yield Check("clock", abs(skew) <= _SKEW, f"{skew:+.0f} s off the platform's.", advice)
    if stats is not None:
        yield Check(
            "labs", True, f"{stats.num_active} active (tearing down included), "
            f"{stats.num_saved} saved, of the whole API consumer.",
        )  # fmt: skip
