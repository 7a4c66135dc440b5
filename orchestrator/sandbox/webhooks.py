"""Webhooks as the vendor documents them: one URL for each life-cycle event, retried up to 5 times.

``{id}`` in the URL becomes the lab instance's id; the body is optional and does not name the event.
A failing delivery is tried again 1, 2, 3, 4 and 5 s apart. The other form, a lab profile's "send
web request", appends what it knows to the URL. Deliveries are planned here (pure) and sent by
:class:`Sender` in a thread of its own.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx

from orchestrator.sandbox.api import Sandbox
from orchestrator.sandbox.shapes import Json, webhook_body
from orchestrator.sandbox.world import Instance

#: Seconds before each further try.
RETRIES = (1.0, 2.0, 3.0, 4.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook as set up with the vendor; times in seconds."""

    event: str
    url: str
    verb: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    with_body: bool = True
    appended_query: bool = False
    delay: float = 0.0
    timeout: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One request to make."""

    webhook: Webhook
    url: str
    body: Json | None


def deliveries(webhooks: list[Webhook], event: str, instance: Instance) -> list[Delivery]:
    """The requests that an event of an instance calls for."""
    planned = []
    for hook in webhooks:
        if hook.event != event:
            continue
        url = hook.url.replace("{id}", str(instance.instance_id))
        if hook.appended_query:
            known = {
                "labInstanceId": instance.instance_id,
                "labProfileId": instance.profile.profile_id,
                "userExternalId": instance.user_id,
                "tag": instance.tag or "",
            }
            url += ("&" if "?" in url else "?") + urlencode(known)
        body = webhook_body(instance) if hook.with_body else None
        planned.append(Delivery(webhook=hook, url=url, body=body))
    return planned


class Sender:
    """Sends webhooks while it is open. ``attempts`` lists (url, HTTP status or ``None``)."""

    def __init__(self, sandbox: Sandbox, webhooks: list[Webhook]) -> None:
        self.attempts: list[tuple[str, int | None]] = []
        self._webhooks = webhooks
        self._due: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        sandbox.world.on_event.append(self._on_event)
        self._main = threading.Thread(target=self._run, name="sandbox-webhooks", daemon=True)
        self._main.start()

    def close(self) -> None:
        """Stop; what is not delivered by now never will be."""
        self._closing.set()
        self._due.put(None)
        for thread in (self._main, *self._threads):
            thread.join(timeout=2)

    def _on_event(self, event: str, instance: Instance) -> None:
        for delivery in deliveries(self._webhooks, event, instance):
            self._due.put(delivery)

    def _run(self) -> None:
        while (delivery := self._due.get()) is not None:
            thread = threading.Thread(target=self._deliver, args=(delivery,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _deliver(self, delivery: Delivery) -> None:
        hook = delivery.webhook
        for pause in (hook.delay, *RETRIES):
            if self._closing.wait(pause):
                return
            try:
                answer = httpx.request(
                    hook.verb,
                    delivery.url,
                    headers=hook.headers,
                    json=delivery.body,
                    timeout=hook.timeout,
                    trust_env=False,
                )
            except httpx.HTTPError:
                self.attempts.append((delivery.url, None))
                continue
            self.attempts.append((delivery.url, answer.status_code))
            if answer.is_success:
                return
