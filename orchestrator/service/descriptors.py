"""How many connections the process may hold open: as many as the system lets it have.

The limit that a process begins with is low on many systems for the sake of old programs, which it
may raise by itself up to another one. Beyond that limit new connections are not even refused; so
fewer streams are let in than would reach it.
"""

from __future__ import annotations

import math

#: Descriptors for everything but event streams: requests, calls of the platform, the store.
OTHERS = 256
#: Connections that are accepted in one go; a few such go by before any of them can be closed.
AT_ONCE = 32
#: Descriptors that no connection may keep: those of a few goes, calls of the platform, the store.
_KEPT = 4 * AT_ONCE + 64


def most_streams(wanted: int) -> int:
    """Let the process have as many descriptors as it may; how many streams fit, at most those."""
    return max(1, int(min(wanted, _raised() - OTHERS)))


def most_connections() -> float:
    """How many connections may be open; at the limit itself nothing would work any more."""
    try:
        import resource
    except ImportError:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else max(soft - _KEPT, soft // 4)


def _raised() -> float:
    try:
        import resource
    except ImportError:  # no POSIX: there is no such limit
        return math.inf
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return math.inf
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # some systems have a lower one that they don't tell of
        return soft
    return math.inf if hard == resource.RLIM_INFINITY else hard
