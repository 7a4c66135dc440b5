"""``relaunch webhook-setup``: what to type into the vendor's form, so that webhooks reach us.

It only prints. A secret that is configured is shown on request alone; where none is, a fresh one is
made, and the line that lets it in.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from orchestrator.cli.connect import settings_for
from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.settings import Loaded, environment_name
from orchestrator.errors import ConfigurationError

_SETTING = "service.webhook_secrets"
_HEADER = "Authorization"
_PATH = "/webhooks/skillable"
_HIDDEN = "(the secret that is configured; --show-secret shows it)"
#: The events that are worth setting up, and their names in URLs.
_TORN_DOWN, _TEARING_DOWN = ("Torn Down", "torn-down"), ("Tearing Down", "tearing-down")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setup:
    """What was found out: ``secret`` is what the header is to hold, ``fresh`` if made just now."""

    public_url: str
    secret: str
    fresh: bool
    configured: int

    def url(self, slug: str, *, with_id: bool = True) -> str:
        return f"{self.public_url}{_PATH}/{slug}{'/{id}' if with_id else ''}"


def webhook_setup(
    config: ConfigOption = None,
    public_url: Annotated[
        str | None,
        typer.Option("--public-url", metavar="URL", help="Where the platform reaches the service."),
    ] = None,
    show_secret: Annotated[
        bool, typer.Option("--show-secret", help="Show the secret that is configured.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Print what to type into the platform's form, so that its webhooks reach the service."""
    loaded = settings_for(config, {"service.public_url": public_url})
    setup = _setup_of(loaded, show_secret=show_secret)
    if as_json:
        print(json.dumps(_plain(setup)))
    else:
        print("\n".join(_lines(setup)))
    return 0


def _setup_of(loaded: Loaded, *, show_secret: bool) -> _Setup:
    kept = [secret.get_secret_value() for secret in loaded.settings.service.webhook_secrets]
    url = loaded.settings.service.public_url
    if url is None:
        raise ConfigurationError(
            "service.public_url: it is not set, so nobody knows where the platform reaches the "
            "service; nothing was printed. Set it, or give --public-url."
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            "service.public_url: it must be like https://relaunch.example.org, with or without a "
            "path; nothing was printed."
        )
    fresh = not kept
    secret = secrets.token_urlsafe(32) if fresh else kept[0] if show_secret else _HIDDEN
    return _Setup(public_url=url.rstrip("/"), secret=secret, fresh=fresh, configured=len(kept))


def _lines(setup: _Setup) -> Iterator[str]:
    yield "The service need not wait for its next look where the platform tells it that a lab is"
    yield "gone. Set up one webhook for your API consumer, in the platform's own pages:"
    yield ""
    yield from _form(setup, _TORN_DOWN, "Life cycle event")
    yield "  Body             off; the URL says enough, and so no learner is named on the way"
    yield "  Delay            none"
    yield "  Timeout          10 seconds"
    yield ""
    yield "{id} is typed as it stands here; the platform puts the lab instance's id there."
    yield "Nothing else is needed. If you would count the beginnings of teardowns in /metrics, set"
    yield f"up the event {_TEARING_DOWN[0]} as well, with this URL; it is no hint and wakes nobody:"
    yield f"  {setup.url(_TEARING_DOWN[1])}"
    yield ""
    yield "For single lab profiles, a life cycle action does the same:"
    yield ""
    yield "  Action           Send web request"
    yield from _form(setup, _TORN_DOWN, "Event", with_id=False)
    yield "  Parameters       labInstanceId, which the platform appends to the URL"
    yield from _about_the_secret(setup)
    yield from _warnings(setup)


def _form(
    setup: _Setup, event: tuple[str, str], label: str, *, with_id: bool = True
) -> Iterator[str]:
    name, slug = event
    yield f"  {label:<16} {name}"
    yield "  Verb             POST"
    yield f"  URL              {setup.url(slug, with_id=with_id)}"
    yield f"  Custom header    {_HEADER}={setup.secret}"


def _about_the_secret(setup: _Setup) -> Iterator[str]:
    if setup.fresh:
        yield ""
        yield "No secret is configured, so this one was made now. It is kept nowhere: the service"
        yield "lets it in once it is in its settings, as one of these, and has been restarted:"
        yield f"  {_setting_line(setup.secret)}"
        yield f"  webhook_secrets = [{json.dumps(setup.secret)}]   # in the section [service]"
    elif setup.configured > 1:
        yield ""
        yield f"{setup.configured} secrets are configured, and any of them is let in; this is about"
        yield "the first. Drop the others once no webhook brings them any more."


def _warnings(setup: _Setup) -> Iterator[str]:
    for warning in _doubts(setup.public_url):
        yield ""
        yield f"Mind: {warning}"


def _doubts(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme == "http":
        yield "over plain http everybody on the way can read the secret."
    if _is_private(parts.hostname or ""):
        yield "the platform is on the internet and cannot reach this address."


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def _plain(setup: _Setup) -> dict[str, Any]:
    shown = None if setup.secret == _HIDDEN else setup.secret
    header = {"name": _HEADER, "value": shown}
    return {
        "webhooks": [
            {
                "event": name,
                "needed": slug == _TORN_DOWN[1],
                "verb": "POST",
                "url": setup.url(slug),
                "header": header,
                "body": False,
            }
            for name, slug in (_TORN_DOWN, _TEARING_DOWN)
        ],
        "life_cycle_action": {
            "action": "Send web request",
            "event": _TORN_DOWN[0],
            "verb": "POST",
            "url": setup.url(_TORN_DOWN[1], with_id=False),
            "header": header,
        },
        "secrets_configured": setup.configured,
        "setting": _setting_line(setup.secret) if setup.fresh else None,
        "warnings": list(_doubts(setup.public_url)),
    }


def _setting_line(secret: str) -> str:
    return f"{environment_name(_SETTING)}={secret}"
