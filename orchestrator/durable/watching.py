"""Who wants to know of changes: callbacks, each called in its own event loop, from any thread."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

#: What a watcher is told: the id of the run that changed, or ``None`` for "any of them".
Changed = Callable[[str | None], object]


class Watchers:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._watching: dict[int, tuple[asyncio.AbstractEventLoop, Changed]] = {}
        self._ids = itertools.count()

    def __len__(self) -> int:
        return len(self._watching)

    def add(self, changed: Changed) -> Callable[[], None]:
        """Call ``changed`` in the running loop from now on; returns what ends that."""
        number = next(self._ids)
        self._watching[number] = (asyncio.get_running_loop(), changed)
        return lambda: self._watching.pop(number, None) and None

    def tell(self, relaunch_id: str | None) -> None:
        """Tell everybody, from any thread."""
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop, changed in list(self._watching.values()):
            if loop is here:
                loop.call_soon(changed, relaunch_id)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(changed, relaunch_id)
