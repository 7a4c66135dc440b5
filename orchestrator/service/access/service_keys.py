"""Service keys: made here, kept as hashes, looked up in constant time.

A key is ``lrk_`` and 256 random bits. That is why one round of SHA-256 without salt is the right
hash: slow and salted hashes protect what people choose, and nobody can try out 2**256 keys; nor
can anybody choose a key, since a text of another shape is refused unseen. In the settings stands
``NAME:SCOPES:HASH``, which is no secret; scopes are joined by ``+``. Two entries may bear the same
name: the old key and the new one while it is being replaced. They share one limit.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.errors import ConfigurationError
from orchestrator.service.access.callers import Caller, Scope

_KEY = re.compile(r"lrk_[A-Za-z0-9_-]{43}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKey:
    """What is kept of a key."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes

    @property
    def entry(self) -> str:
        """How it stands in the settings."""
        scopes = "+".join(scope for scope in Scope if scope in self.scopes)
        return f"{self.name}:{scopes}:{self.digest.hex()}"


def new_key(name: str, scopes: Iterable[Scope]) -> tuple[str, ServiceKey]:
    """A new key, which nobody can show again, and what is kept of it."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "A key's name takes 1 to 64 letters, digits, '.', '-' and '_'. No key was made."
        )
    held = frozenset(scopes)
    if not held:
        raise ConfigurationError("A key needs a scope: read, start or admin. No key was made.")
    key = f"lrk_{secrets.token_urlsafe(32)}"
    return key, ServiceKey(name=name, scopes=held, digest=_digest(key))


class ServiceKeys:
    """The keys that the service knows, from the entries of its settings."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._keys = tuple(_read(n, entry) for n, entry in enumerate(entries, 1))
        seen: dict[bytes, int] = {}
        for position, key in enumerate(self._keys, 1):
            first = seen.setdefault(key.digest, position)
            if first != position:
                raise ConfigurationError(
                    f"service.keys: entries {first} and {position} are the same key, of which only "
                    "one entry could hold. Nothing was started; remove one."
                )

    def __bool__(self) -> bool:
        return bool(self._keys)

    def caller(self, key: str) -> Caller | None:
        """Whose key this is, if anybody's."""
        if not _KEY.fullmatch(key):
            return None
        digest, found = _digest(key), None
        # All of them, whichever fits: how long it takes tells nothing.
        for known in self._keys:
            if hmac.compare_digest(known.digest, digest):
                found = known
        return None if found is None else Caller(name=f"key:{found.name}", scopes=found.scopes)


def looks_like_a_key(credential: str) -> bool:
    """Whether it was made by :func:`new_key`, or is meant to look so."""
    return credential.startswith("lrk_")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _read(position: int, entry: str) -> ServiceKey:
    parts = entry.strip().split(":")
    if len(parts) != 3:
        raise _malformed(position, "is not NAME:SCOPES:HASH")
    name, scopes, digest = parts
    if not _NAME.fullmatch(name):
        raise _malformed(position, "has a name that is not of letters, digits, '.', '-' and '_'")
    known = {scope.value: scope for scope in Scope}
    named = scopes.split("+")
    if not set(named) <= set(known):
        raise _malformed(position, "has a scope that is none of read, start and admin")
    if not _HASH.fullmatch(digest):
        raise _malformed(position, "has no SHA-256 hash (64 hexadecimal digits, small letters)")
    held = frozenset(known[scope] for scope in named)
    return ServiceKey(name=name, scopes=held, digest=bytes.fromhex(digest))


def _malformed(position: int, problem: str) -> ConfigurationError:
    # Somebody may have put the key itself there: what stands in the entry is never repeated.
    return ConfigurationError(
        f"service.keys: entry {position} {problem}. Nothing was started; "
        "`relaunch key NAME` makes a key and prints its entry."
    )
