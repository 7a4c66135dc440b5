"""Learner tokens: short-lived JWTs that the LMS's server signs, verified by PyJWT.

Which algorithm a token may use follows from the keys that are configured: HS256 from a secret,
RS256 and ES256 from public keys, each key for its one algorithm; what the token says of its
algorithm only picks among those, and what it says of where its key is (``jku``, ``x5u``, ``jwk``)
is not read. Until the signature is verified nothing is told but "no"; after that the LMS made the
mistake, and is told which. No message repeats anything of the token.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from orchestrator.errors import ConfigurationError
from orchestrator.service.access.callers import Caller
from orchestrator.service.access.claims import caller_of, check_times
from orchestrator.service.access.key_sets import KeySet
from orchestrator.service.refusals import TokenExpired, Unauthenticated

_NOT_OURS = "This credential is none that this service can verify. Nothing was done."
_REQUIRED = ["sub", "lab", "exp", "aud", "jti"]
_SHORTEST_SECRET = 32


class LearnerTokens:
    """Verifies learner tokens: by a shared ``secret``, by public keys, or by either."""

    def __init__(
        self,
        *,
        secret: str | None = None,
        key_set: KeySet | None = None,
        audience: str = "lab-relaunch",
        issuer: str | None = None,
        leeway_seconds: float = 10.0,
        longest_seconds: float = 3600.0,
    ) -> None:
        if secret is not None:
            check_secret(secret)
        self._secret = secret
        self._key_set = key_set
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway_seconds
        self._longest = longest_seconds

    async def caller(self, token: str) -> Caller:
        """Who calls with this token.

        Raises :class:`~orchestrator.service.refusals.Unauthenticated`, or ``TokenExpired``.
        """
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated(_NOT_OURS) from None
        if "crit" in header or "b64" in header:  # extensions, of which we know none
            raise Unauthenticated(_NOT_OURS)
        for key, algorithm in await self._keys_for(header):
            try:
                claims = self._verified(token, key, algorithm)
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError as error:
                raise _refusal(error) from None
            return caller_of(claims, leeway=self._leeway, longest=self._longest)
        raise Unauthenticated(_NOT_OURS)

    async def _keys_for(self, header: Mapping[str, Any]) -> Sequence[tuple[str | jwt.PyJWK, str]]:
        named = header.get("alg")
        if named == "HS256" and self._secret is not None:
            return [(self._secret, "HS256")]
        if named not in ("RS256", "ES256") or self._key_set is None:
            return []
        keys = await self._key_set.keys(header.get("kid"))
        return [(known.key, known.algorithm) for known in keys if known.algorithm == named]

    def _verified(self, token: str, key: str | jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        claims: dict[str, Any] = _reader.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._audience,
            issuer=self._issuer,
            leeway=self._leeway,
            options={"require": [*_REQUIRED, *(["iss"] if self._issuer else [])]},
        )
        return claims


def minted(
    key: str,
    *,
    algorithm: str = "HS256",
    key_id: str | None = None,
    user_id: str,
    labs: Sequence[int] | str,
    seconds: float = 600.0,
    audience: str = "lab-relaunch",
    issuer: str | None = None,
    launch: Mapping[str, Any] | None = None,
) -> str:
    """A token as the LMS's server makes it, for trying out and for the demo.

    ``key`` is the secret, or a private key as PEM. Refuses as the service would.
    """
    if algorithm == "HS256":
        check_secret(key)
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": user_id,
        "lab": labs if isinstance(labs, str) else list(labs),
        "iat": now,
        "exp": now + int(seconds),
        "aud": audience,
        "jti": secrets.token_hex(16),
    }
    if issuer is not None:
        claims["iss"] = issuer
    if launch:
        claims["launch"] = dict(launch)
    caller_of(claims, leeway=0.0, longest=seconds)
    headers = {"kid": key_id} if key_id is not None else None
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def check_secret(secret: str) -> None:
    """Refuse a secret that is none; raises ``ConfigurationError``."""
    problem = None
    if len(secret) < _SHORTEST_SECRET:
        problem = f"takes {_SHORTEST_SECRET} characters or more"
    else:
        try:
            jwt.get_algorithm_by_name("HS256").prepare_key(secret)
        except jwt.PyJWTError:
            problem = "is a public or private key or a key set, which anybody may know"
    if problem:
        raise ConfigurationError(
            f"tokens.secret: {problem}. Nothing was started; "
            "`python -c 'import secrets; print(secrets.token_urlsafe(48))'` makes a good one."
        )


class _StrictJWT(jwt.PyJWT):
    """Claims that say one thing twice, or have numbers that JSON has not, are refused."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        try:
            claims = json.loads(
                decoded["payload"], object_pairs_hook=_once, parse_constant=_no_number
            )
        except (ValueError, RecursionError):
            raise jwt.DecodeError from None
        if not isinstance(claims, dict):
            raise jwt.DecodeError
        check_times(claims)  # before they are converted, which is not always survived
        return claims


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_number(_: str) -> float:
    raise ValueError


_reader = _StrictJWT()


def _refusal(error: jwt.PyJWTError) -> Unauthenticated:
    """What is told; all but the last kind come only after the signature was found good."""
    match error:
        case jwt.ExpiredSignatureError():
            return TokenExpired(
                "The learner token has run out; the LMS can sign a new one. Nothing was done."
            )
        case jwt.MissingRequiredClaimError():
            wanted = "`sub`, `lab`, `exp`, `aud` and `jti`, and `iss` if the service expects one"
            problem = f"has not all of {wanted}"
        case jwt.InvalidAudienceError():
            problem = "is for another audience (`aud`)"
        case jwt.InvalidIssuerError():
            problem = "is from another issuer (`iss`)"
        case jwt.ImmatureSignatureError():
            problem = "is not valid yet (`iat`, `nbf`): compare the clocks of the LMS and of this"
        case jwt.InvalidIssuedAtError() | InvalidSubjectError() | InvalidJTIError():
            problem = "has a claim of the wrong type (`iat`, `sub`, `jti`)"
        case _:
            return Unauthenticated(_NOT_OURS)
    return Unauthenticated(f"The learner token {problem}. Nothing was done.")
