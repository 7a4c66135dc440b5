"""From settings to who is let into the service, and how much each may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.settings import Loaded
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from orchestrator.service.access.authority import Authority
    from orchestrator.service.access.learner_tokens import LearnerTokens
    from orchestrator.service.access.limits import CallerLimits


def missing_extra(error: ImportError) -> ConfigurationError:
    """What to tell where a library of the service is not installed."""
    return ConfigurationError(
        f"This needs {error.name or 'more libraries'}; nothing was done. "
        "pip install 'lab-relaunch[service]'"
    )


def authority_of(loaded: Loaded) -> Authority:
    """Whose keys and tokens are good. Raises ``ConfigurationError``."""
    try:
        from orchestrator.service.access.authority import Authority
        from orchestrator.service.access.service_keys import ServiceKeys
    except ImportError as error:
        raise missing_extra(error) from None
    entries = [entry.get_secret_value() for entry in loaded.settings.service.keys]
    return Authority(keys=ServiceKeys(entries), tokens=tokens_of(loaded))


def tokens_of(loaded: Loaded) -> LearnerTokens | None:
    """What verifies learner tokens; ``None`` if they are not set up."""
    try:
        from orchestrator.service.access.key_sets import key_set_of
        from orchestrator.service.access.learner_tokens import LearnerTokens
    except ImportError as error:
        raise missing_extra(error) from None
    chosen = loaded.settings.tokens
    if chosen.secret is None and chosen.jwks is None:
        return None
    return LearnerTokens(
        secret=chosen.secret.get_secret_value() if chosen.secret is not None else None,
        key_set=key_set_of(chosen.jwks) if chosen.jwks is not None else None,
        audience=chosen.audience,
        issuer=chosen.issuer,
        leeway_seconds=chosen.leeway_seconds,
        longest_seconds=chosen.longest_seconds,
    )


def limits_of(loaded: Loaded) -> CallerLimits:
    """How often each caller may ask, and how many streams it may hold."""
    try:
        from orchestrator.service.access.limits import CallerLimits
        from orchestrator.service.descriptors import most_streams
    except ImportError as error:
        raise missing_extra(error) from None
    chosen = loaded.settings.service
    return CallerLimits(
        learner_requests_per_minute=chosen.learner_requests_per_minute,
        key_requests_per_minute=chosen.key_requests_per_minute,
        most_streams=most_streams(chosen.most_streams),
    )
