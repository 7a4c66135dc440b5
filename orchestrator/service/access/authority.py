"""Turns the ``Authorization`` header into a caller, or refuses it.

Which kind of credential it is shows in its shape. Without keys and without tokens nobody is let
in. No message repeats anything of a credential.
"""

from __future__ import annotations

from orchestrator.service.access.callers import Caller
from orchestrator.service.access.learner_tokens import LearnerTokens
from orchestrator.service.access.service_keys import ServiceKeys, looks_like_a_key
from orchestrator.service.refusals import Unauthenticated

_LARGEST_HEADER = 8192


class Authority:
    """Knows the service keys and whose learner tokens are good."""

    def __init__(
        self, *, keys: ServiceKeys | None = None, tokens: LearnerTokens | None = None
    ) -> None:
        self._keys = keys or ServiceKeys()
        self._tokens = tokens

    async def caller(self, authorization: str | None) -> Caller:
        """Who calls. Raises :class:`~orchestrator.service.refusals.Unauthenticated`."""
        credential = _credential(authorization)
        if looks_like_a_key(credential):
            found = self._keys.caller(credential)
            if found is None:
                raise Unauthenticated("This is no key of this service. Nothing was done.")
            return found
        if self._tokens is None:
            raise Unauthenticated(
                "This is no key of this service, and learner tokens are not set up here. Nothing "
                "was done."
            )
        return await self._tokens.caller(credential)


def _credential(authorization: str | None) -> str:
    if authorization is None or not authorization.strip():
        raise Unauthenticated(
            "There is no credential: send `Authorization: Bearer` with a service key or a learner "
            "token. Nothing was done."
        )
    if len(authorization) > _LARGEST_HEADER:
        raise Unauthenticated(
            f"The credential is larger than {_LARGEST_HEADER} bytes. Nothing was done."
        )
    scheme, _, credential = authorization.strip().partition(" ")
    credential = credential.strip(" ")
    if scheme.lower() != "bearer" or not credential.isascii() or not credential.isprintable():
        raise Unauthenticated("This is no Bearer credential. Nothing was done.")
    if not credential or " " in credential:
        raise Unauthenticated("This is no Bearer credential. Nothing was done.")
    return credential
