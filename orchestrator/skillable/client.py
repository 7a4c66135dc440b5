"""The client of the Skillable Lab API v3, sync and async, both thin over :mod:`.calls`.

Pooled; TLS verified; the key travels in the ``api_key`` header and nowhere else; redirects are not
followed; nothing below this file repeats a request (httpx's own connection retries are off). Each
method makes one call and takes ``timeout`` in seconds, a bound on the whole call.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Self, TypeVar, Unpack

import httpx
from tenacity import AsyncRetrying, Retrying

from orchestrator.labs import InstanceDetails, Labs, LaunchAnswer, LaunchParameters
from orchestrator.skillable import calls, transport
from orchestrator.skillable.answers import (
    CancelAnswer,
    ConsumerLabs,
    LabResult,
    SaveAnswer,
    SearchPage,
    Stats,
)
from orchestrator.skillable.calls import Call
from orchestrator.skillable.connection import ClientOptions, Connection
from orchestrator.skillable.pools import EACH, Pools

T = TypeVar("T")


class SkillableClient(Connection):
    """The sync client; a context manager. See the module's docstring.

    ``verify`` is httpx's (TLS); ``transport`` and ``sleep`` are for tests; the rest is in
    :class:`~orchestrator.skillable.connection.ClientOptions`.
    Raises :class:`~orchestrator.errors.ConfigurationError` for an unusable key or base URL, and
    the branches of :class:`~orchestrator.errors.PlatformError` from every call.
    """

    def __init__(
        self,
        api_key: str,
        *,
        verify: Any = True,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(api_key, options)
        self._sleep = sleep
        self._http = httpx.Client(
            transport=transport
            or httpx.HTTPTransport(verify=verify, retries=0, limits=self._limits()),
            **self._options(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def send(self, call: Call[T], *, timeout: float | None = None, repeat: bool = True) -> T:
        """Make one call; repeat it where that is safe, unless ``repeat`` is false."""
        limit = self._limit(call, timeout)
        if not repeat:
            return self._once(call, limit)
        retrying = Retrying(sleep=self._sleep, **self._policy(call))
        answer: T = retrying(self._once, call, limit)
        return answer

    def _once(self, call: Call[T], limit: float) -> T:
        with self._told(call):
            began = time.monotonic()
            with self._http.stream(**self._request(call, limit)) as response:
                self._note_response(response)
                transport.check_status(call, response, self._now)
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    transport.check_size(call, body)
                    if time.monotonic() - began > limit:
                        raise httpx.ReadTimeout("the answer took too long as a whole")
            return call.read(transport.decode(call, bytes(body), self._key))

    def launch(
        self,
        user_id: str,
        lab_profile_id: int,
        parameters: LaunchParameters | None = None,
        *,
        timeout: float | None = None,
    ) -> LaunchAnswer:
        """See :func:`.calls.launch`, as for every method here the function of its name."""
        call = calls.launch(user_id, lab_profile_id, parameters or LaunchParameters())
        return self.send(call, timeout=timeout)

    def resume(self, instance_id: int, *, timeout: float | None = None) -> LaunchAnswer:
        """Resume a saved instance."""
        return self.send(calls.resume(instance_id), timeout=timeout)

    def cancel(
        self, instance_id: int, *, note: str | None = None, timeout: float | None = None
    ) -> CancelAnswer:
        """Begin the teardown of an instance."""
        return self.send(calls.cancel(instance_id, note), timeout=timeout)

    def save(self, instance_id: int, *, timeout: float | None = None) -> SaveAnswer:
        """Begin to save an instance."""
        return self.send(calls.save(instance_id), timeout=timeout)

    def details(self, instance_id: int, *, timeout: float | None = None) -> InstanceDetails:
        """Describe one instance, without its credentials."""
        return self.send(calls.details(instance_id), timeout=timeout)

    def user_running_and_saved_labs(self, user_id: str, *, timeout: float | None = None) -> Labs:
        """What one user has."""
        return self.send(calls.user_running_and_saved_labs(user_id), timeout=timeout)

    def running_and_saved_labs(self, *, timeout: float | None = None) -> ConsumerLabs:
        """What the whole API consumer has."""
        return self.send(calls.running_and_saved_labs(), timeout=timeout)

    def search(self, **filters: Any) -> Iterator[InstanceDetails]:
        """Every instance that matches, page by page; filters as for :func:`.calls.search`."""
        index = int(filters.pop("page_index", 0))
        while True:
            page = self.send(calls.search(page_index=index, **filters))
            yield from page.instances
            index += 1
            if not _goes_on(page, index):
                return

    def latest_results(
        self, minutes: int, *, timeout: float | None = None
    ) -> tuple[LabResult, ...]:
        """Instances that changed state in the last ``minutes``."""
        return self.send(calls.latest_results(minutes), timeout=timeout)

    def result(self, instance_id: int, *, timeout: float | None = None) -> LabResult:
        """How one instance ended, or stands."""
        return self.send(calls.result(instance_id), timeout=timeout)

    def lab_access_url(
        self,
        instance_id: int,
        *,
        role_ids: tuple[int, ...] = (),
        timeout: float | None = None,
    ) -> str:
        """A single-use URL to enter a running instance."""
        return self.send(calls.lab_access_url(instance_id, role_ids), timeout=timeout)

    def stats(self, *, timeout: float | None = None) -> Stats:
        """How many labs of the API consumer are active and saved."""
        return self.send(calls.stats(), timeout=timeout)


class AsyncSkillableClient(Connection):
    """:class:`SkillableClient` for asyncio; ``timeout`` bounds each call as a whole, exactly."""

    def __init__(
        self,
        api_key: str,
        *,
        verify: Any = True,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(api_key, options)
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            transport=transport or self._pools(verify),
            **self._options(),
        )

    def _pools(self, verify: ssl.SSLContext | bool) -> Pools:
        # One for all pools: to make it takes longer than a call.
        tls = httpx.create_ssl_context(verify=verify)
        limits = self._limits(EACH)
        return Pools(lambda: httpx.AsyncHTTPTransport(verify=tls, retries=0, limits=limits))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def send(self, call: Call[T], *, timeout: float | None = None, repeat: bool = True) -> T:
        """Make one call; repeat it where that is safe, unless ``repeat`` is false."""
        limit = self._limit(call, timeout)
        if not repeat:
            return await self._once(call, limit)
        retrying = AsyncRetrying(sleep=self._sleep, **self._policy(call))
        answer: T = await retrying(self._once, call, limit)
        return answer

    async def _once(self, call: Call[T], limit: float) -> T:
        with self._told(call):
            async with (
                asyncio.timeout(limit),
                self._http.stream(**self._request(call, limit)) as response,
            ):
                self._note_response(response)
                transport.check_status(call, response, self._now)
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    transport.check_size(call, body)
            return call.read(transport.decode(call, bytes(body), self._key))

    async def launch(
        self,
        user_id: str,
        lab_profile_id: int,
        parameters: LaunchParameters | None = None,
        *,
        timeout: float | None = None,
    ) -> LaunchAnswer:
        """See :class:`SkillableClient`, as for every method here."""
        call = calls.launch(user_id, lab_profile_id, parameters or LaunchParameters())
        return await self.send(call, timeout=timeout)

    async def resume(self, instance_id: int, *, timeout: float | None = None) -> LaunchAnswer:
        """Resume a saved instance."""
        return await self.send(calls.resume(instance_id), timeout=timeout)

    async def cancel(
        self, instance_id: int, *, note: str | None = None, timeout: float | None = None
    ) -> CancelAnswer:
        """Begin the teardown of an instance."""
        return await self.send(calls.cancel(instance_id, note), timeout=timeout)

    async def save(self, instance_id: int, *, timeout: float | None = None) -> SaveAnswer:
        """Begin to save an instance."""
        return await self.send(calls.save(instance_id), timeout=timeout)

    async def details(self, instance_id: int, *, timeout: float | None = None) -> InstanceDetails:
        """Describe one instance, without its credentials."""
        return await self.send(calls.details(instance_id), timeout=timeout)

    async def user_running_and_saved_labs(
        self, user_id: str, *, timeout: float | None = None
    ) -> Labs:
        """What one user has."""
        return await self.send(calls.user_running_and_saved_labs(user_id), timeout=timeout)

    async def running_and_saved_labs(self, *, timeout: float | None = None) -> ConsumerLabs:
        """What the whole API consumer has."""
        return await self.send(calls.running_and_saved_labs(), timeout=timeout)

    async def search(self, **filters: Any) -> AsyncIterator[InstanceDetails]:
        """Every instance that matches, page by page; filters as for :func:`.calls.search`."""
        index = int(filters.pop("page_index", 0))
        while True:
            page = await self.send(calls.search(page_index=index, **filters))
            for instance in page.instances:
                yield instance
            index += 1
            if not _goes_on(page, index):
                return

    async def latest_results(
        self, minutes: int, *, timeout: float | None = None
    ) -> tuple[LabResult, ...]:
        """Instances that changed state in the last ``minutes``."""
        return await self.send(calls.latest_results(minutes), timeout=timeout)

    async def result(self, instance_id: int, *, timeout: float | None = None) -> LabResult:
        """How one instance ended, or stands."""
        return await self.send(calls.result(instance_id), timeout=timeout)

    async def lab_access_url(
        self,
        instance_id: int,
        *,
        role_ids: tuple[int, ...] = (),
        timeout: float | None = None,
    ) -> str:
        """A single-use URL to enter a running instance."""
        return await self.send(calls.lab_access_url(instance_id, role_ids), timeout=timeout)

    async def stats(self, *, timeout: float | None = None) -> Stats:
        """How many labs of the API consumer are active and saved."""
        return await self.send(calls.stats(), timeout=timeout)


def _goes_on(page: SearchPage, next_index: int) -> bool:
    if not page.instances:
        return False
    return page.total_pages is None or next_index < page.total_pages
