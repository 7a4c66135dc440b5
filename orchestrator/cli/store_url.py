"""What names a store of relaunches: ``auto``, ``none``, a path, ``sqlite:///PATH``, ``postgresql://``.

A PostgreSQL URL may hold a password. It is a secret that shows itself without it, and wherever it
can't be told which part is the password, it doesn't show itself at all.
"""

from __future__ import annotations

import re
from pathlib import Path

import platformdirs
from pydantic import Secret

AUTO, NONE = "auto", "none"

_SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql://", "postgres://")
_NO_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|.*\b(?:host|dbname|user|password)\s*=")
# Nothing that is shown may contain what comes before an "@" but a plain user name; where a
# password has a "/", "?" or "@" in it that should have been escaped, this does not match.
_SHOWABLE = re.compile(
    r"(?P<scheme>postgres(?:ql)?://)(?:(?P<user>[\w.-]*)(?::[^@/?#]*)?@)?"
    r"(?P<place>[\w.-]*(?::\d+)?(?:,[\w.-]*(?::\d+)?)*(?:/[\w.-]*)?)(?:\?[^@#]*)?"
)


class StoreUrl(Secret[str]):
    """A store's name as it was set."""

    def _display(self) -> str:
        return shown(self.get_secret_value())


def shown(url: str) -> str:
    """The name without a password."""
    if not is_postgresql(url):
        return url
    found = _SHOWABLE.fullmatch(url)
    if found is None:
        return "postgresql://**********"
    user = f"{found['user']}@" if found["user"] else ""
    return f"{found['scheme']}{user}{found['place']}"


def checked(url: str) -> str:
    """The name, if it is one; ``ValueError`` without a word of what was given, if not."""
    url = url.strip()
    known = is_postgresql(url) or (url.startswith(_SQLITE) and len(url) > len(_SQLITE))
    if not url or (_NO_PATH.match(url) and not known):
        raise ValueError("takes auto, none, a path, sqlite:///PATH or postgresql://HOST/DATABASE")
    return url


def is_postgresql(url: str) -> bool:
    """Whether it names a PostgreSQL database."""
    return url.lower().startswith(_POSTGRESQL)


def path_of(url: str) -> Path:
    """The SQLite file that it names."""
    if url == AUTO:
        return platformdirs.user_state_path("lab-relaunch") / "relaunch.db"
    return Path(url.removeprefix(_SQLITE)).expanduser()
