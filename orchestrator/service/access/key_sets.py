"""The LMS's public keys (JWKS, RFC 7517), from a file or a URL, always current.

Only what can verify a signature of ours is taken: RSA keys of 2048 bits or more (RS256) and P-256
keys (ES256), meant for signatures; shared secrets (``oct``) and private keys have no place in such
a set. A file is read again when it changes. A URL is asked every ten minutes, and for a key id
that is not known, but at most twice a minute, so that made-up key ids cost the LMS nothing. What
cannot be fetched or read changes nothing: the keys of before go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import jwt

from orchestrator.errors import ConfigurationError
from orchestrator.logs import get_logger
from orchestrator.service.refusals import KeySetUnavailable

_log = get_logger(__name__)

_LARGEST = 256 * 1024
_MOST_KEYS = 32
_FRESH_SECONDS = 600.0
_PAUSE_SECONDS = 30.0
_PAUSE_WITHOUT_KEYS_SECONDS = 5.0
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key with the one algorithm that it is for."""

    key_id: str | None
    algorithm: str
    key: jwt.PyJWK


class KeySet(Protocol):
    """Where public keys come from."""

    async def keys(self, key_id: str | None) -> Sequence[PublicKey]:
        """The keys with this id; all of them if it is ``None``.

        Raises :class:`~orchestrator.service.refusals.KeySetUnavailable`.
        """


def key_set_of(place: str) -> KeySet:
    """The key set at ``place``: a path, an https URL, or an http URL of this machine.

    Raises :class:`~orchestrator.errors.ConfigurationError`.
    """
    return UrlKeySet(place) if "://" in place else FileKeySet(Path(place).expanduser())


def read_key_set(text: str | bytes) -> tuple[PublicKey, ...]:
    """The usable keys of a JWKS. Raises ``ValueError`` if it is none or has none."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError("it is no JSON") from None
    except ValueError:  # among them UnicodeDecodeError, and its message would quote the data
        raise ValueError("it is no JSON") from None
    listed = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it has no list of `keys`")
    if len(listed) > _MOST_KEYS:
        raise ValueError(f"it has more than {_MOST_KEYS} keys")
    usable = tuple(key for item in listed if (key := _usable(item)) is not None)
    if not usable:
        raise ValueError(
            "none of its keys is a public RSA key of 2048 bits or more or a public P-256 key, "
            "meant for signatures"
        )
    return usable


def _usable(data: Any) -> PublicKey | None:
    if not isinstance(data, dict) or "d" in data:
        return None
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(data.get("kty")))
    if algorithm is None or data.get("alg", algorithm) != algorithm:
        return None
    if data.get("use", "sig") != "sig":
        return None
    operations = data.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if algorithm == "ES256" and data.get("crv") != "P-256":
        return None
    key_id = data.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        return None
    try:
        key = jwt.PyJWK(data, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm == "RS256" and key.key.key_size < 2048:
        return None
    return PublicKey(key_id, algorithm, key)


def _chosen(keys: Sequence[PublicKey], key_id: str | None) -> Sequence[PublicKey]:
    return keys if key_id is None else [key for key in keys if key.key_id == key_id]


class FileKeySet:
    """A JWKS in a file; it must be good when the service starts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._seen: tuple[int, int, int] | None = self._state()
            self._keys = read_key_set(self._read())
        except OSError as error:
            raise ConfigurationError(
                f"tokens.jwks: {file} cannot be read: {error.strerror}. Nothing was started."
            ) from None
        except ValueError as error:
            raise ConfigurationError(
                f"tokens.jwks: {file} is no key set: {error}. Nothing was started."
            ) from None

    async def keys(self, key_id: str | None) -> Sequence[PublicKey]:
        """See :class:`KeySet`."""
        state: tuple[int, int, int] | None = None
        with contextlib.suppress(OSError):
            state = self._state()
        if state != self._seen:
            self._seen = state  # looked at once, good or bad
            try:
                self._keys = read_key_set(self._read())
            except (OSError, ValueError):
                _log.warning("the key set's file cannot be read; the keys of before go on")
        return _chosen(self._keys, key_id)

    def _read(self) -> bytes:
        with self._file.open("rb") as stream:
            text = stream.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST} bytes")
        return text

    def _state(self) -> tuple[int, int, int]:
        status = self._file.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino


class UrlKeySet:
    """A JWKS behind a URL; asked for when the first token comes."""

    def __init__(
        self,
        url: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_url(url)
        self._url = url
        self._transport = transport
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def keys(self, key_id: str | None) -> Sequence[PublicKey]:
        """See :class:`KeySet`."""
        known = _chosen(self._keys, key_id)
        if known and self._fetching.locked():
            return known
        if self._fetching.locked() or self._wants(key_id):
            async with self._fetching:
                if self._wants(key_id):  # whoever stood before us may have brought it
                    await self._fetch()
        if not self._keys:
            raise KeySetUnavailable(retry_after=_PAUSE_WITHOUT_KEYS_SECONDS)
        return _chosen(self._keys, key_id)

    def _wants(self, key_id: str | None) -> bool:
        now = self._clock()
        pause = _PAUSE_SECONDS if self._keys else _PAUSE_WITHOUT_KEYS_SECONDS
        if self._tried_at is not None and now - self._tried_at < pause:
            return False
        if self._fetched_at is None or now - self._fetched_at >= _FRESH_SECONDS:
            return True
        return not _chosen(self._keys, key_id)

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                self._keys = read_key_set(await self._read())
            self._fetched_at = self._clock()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError):
            _log.warning("the key set cannot be fetched; the keys of before go on, if any")

    async def _read(self) -> bytes:
        # Unpacking could make much of little, so nothing packed is asked for, or taken.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(
                transport=self._transport, timeout=_TIMEOUT_SECONDS, follow_redirects=False
            ) as client,
            client.stream("GET", self._url, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError("it did not answer 200")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("it is packed")
            text = b""
            async for piece in answer.aiter_raw():
                text += piece
                if len(text) > _LARGEST:
                    raise ValueError("it is too large")
            return text


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    local = host == "localhost"
    if not local:
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = False
    secure = parts.scheme == "https" or (parts.scheme == "http" and local)
    if not host or not secure or parts.username is not None or parts.fragment:
        raise ConfigurationError(
            "tokens.jwks: takes a file or an https URL without user, password and fragment (http "
            "only to this machine): whoever can change the keys on their way here can sign tokens. "
            "Nothing was started."
        )
