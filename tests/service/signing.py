"""What the LMS has: a secret, private keys, their public sides, and tokens signed with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

SECRET = "the secret of the LMS, forty letters long"


@cache
def rsa_key(bits: int = 2048, which: int = 0) -> rsa.RSAPrivateKey:
    """A key; another ``which``, another key."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(which: int = 0) -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> str:
    """A private key as PEM."""
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def public_pem(key: Any) -> str:
    """Its public side."""
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def jwk(key: Any, key_id: str | None = None, **more: object) -> dict[str, Any]:
    """The public side as it stands in a JWKS."""
    kind: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    found: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    found.pop("key_ops", None)
    if key_id is not None:
        found["kid"] = key_id
    return found | more


def jwks(*keys: Mapping[str, Any]) -> str:
    """A JWKS."""
    return json.dumps({"keys": keys})


def claims(**changed: object) -> dict[str, Any]:
    """Good claims, with changes; ``None`` takes one away."""
    now = int(time.time())
    good: dict[str, Any] = {
        "sub": "ada",
        "lab": [1001, 1002],
        "iat": now,
        "exp": now + 600,
        "aud": "lab-relaunch",
        "jti": "4f1c",
    }
    return {name: value for name, value in (good | changed).items() if value is not None}


def signed(
    payload: Mapping[str, Any] | None = None,
    key: Any = SECRET,
    algorithm: str = "HS256",
    **header: Any,
) -> str:
    """A token."""
    return jwt.encode(
        dict(claims() if payload is None else payload), key, algorithm=algorithm, headers=header
    )


def raw(payload: str | bytes, header: str = '{"alg":"HS256"}', secret: str | bytes = SECRET) -> str:
    """A token of whatever text, signed by hand with HMAC-SHA256."""
    payload = payload.encode() if isinstance(payload, str) else payload
    secret = secret.encode() if isinstance(secret, str) else secret
    start = f"{part(header.encode())}.{part(payload)}"
    return f"{start}.{part(hmac.new(secret, start.encode(), hashlib.sha256).digest())}"


def part(data: bytes) -> str:
    """One part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
