"""The LMS's public keys: which are taken, from where, and what a bad day of the LMS changes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import RSAAlgorithm

from orchestrator.errors import ConfigurationError
from orchestrator.service.access.key_sets import (
    FileKeySet,
    UrlKeySet,
    key_set_of,
    read_key_set,
)
from orchestrator.service.refusals import KeySetUnavailable
from tests.service.signing import ec_key, jwk, jwks, rsa_key

T = TypeVar("T")
URL = "https://lms.example/jwks"


def run(waiting: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(waiting)


# Which keys are taken


def test_rsa_and_p256_keys_are_taken_each_for_one_algorithm() -> None:
    keys = read_key_set(jwks(jwk(rsa_key(), "r1"), jwk(ec_key(), "e1"), jwk(ec_key())))
    assert [(key.key_id, key.algorithm) for key in keys] == [
        ("r1", "RS256"),
        ("e1", "ES256"),
        (None, "ES256"),
    ]


def private() -> dict[str, Any]:
    found: dict[str, Any] = RSAAlgorithm.to_jwk(rsa_key(), as_dict=True)
    return found | {"key_ops": ["verify"]}


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"},
        lambda: {"kty": "oct", "k": "c2VjcmV0", "alg": "RS256"},
        lambda: jwk(rsa_key(1024)),
        lambda: jwk(rsa_key(), use="enc"),
        lambda: jwk(rsa_key(), key_ops=["encrypt"]),
        lambda: jwk(rsa_key(), key_ops="verify"),
        lambda: jwk(rsa_key(), alg="RS512"),
        lambda: jwk(rsa_key(), alg="HS256"),
        lambda: jwk(rsa_key(), alg="none"),
        lambda: jwk(rsa_key(), kid=7),
        lambda: jwk(ec_key(), alg="RS256"),
        lambda: jwk(ec.generate_private_key(ec.SECP384R1())),
        lambda: jwk(ec.generate_private_key(ec.SECP256K1())),
        lambda: {name: value for name, value in jwk(ec_key()).items() if name != "crv"},
        lambda: {name: value for name, value in jwk(ec_key()).items() if name != "y"},
        lambda: jwk(ec_key()) | {"x": jwk(ec_key())["y"]},
        lambda: jwk(rsa_key()) | {"n": "!"},
        lambda: jwk(rsa_key()) | {"n": 7},
        lambda: {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        },
        lambda: {"kty": ["RSA"]},
        lambda: {},
        lambda: "r1",
        private,
    ],
)
def test_any_other_key_is_left_out(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="none of its keys"):
        read_key_set(jwks(make()))
    (key,) = read_key_set(jwks(make(), jwk(ec_key(), "good")))
    assert key.key_id == "good"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"keys": {}}', "\xff", "[" * 100_000])
def test_what_is_no_key_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        read_key_set(text.encode("latin-1"))


def test_too_many_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 32"):
        read_key_set(jwks(*[jwk(ec_key())] * 33))


# From a file


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(jwks(jwk(ec_key(), "old")))
    key_set = key_set_of(str(file))
    assert len(run(key_set.keys("old"))) == 1
    assert run(key_set.keys("new")) == []
    replacement = tmp_path / "new.json"
    replacement.write_text(jwks(jwk(ec_key(1), "new")))
    os.replace(replacement, file)
    assert run(key_set.keys("old")) == []
    assert len(run(key_set.keys("new"))) == 1


def test_a_file_that_went_bad_or_away_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(jwks(jwk(ec_key(), "k1")))
    key_set = FileKeySet(file)
    file.write_text('{"keys": [')
    for _ in range(3):
        assert len(run(key_set.keys("k1"))) == 1
    assert len(caplog.records) == 1
    file.unlink()
    for _ in range(3):
        assert len(run(key_set.keys("k1"))) == 1
    assert len(caplog.records) == 2
    file.write_text(jwks(jwk(ec_key(1), "k2")))
    assert len(run(key_set.keys("k2"))) == 1


def test_a_file_must_be_good_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    for place in (file, tmp_path):
        with pytest.raises(ConfigurationError, match=r"tokens\.jwks: .* cannot be read"):
            key_set_of(str(place))
    file.write_text(jwks({"kty": "oct", "k": "c2VjcmV0"}))
    with pytest.raises(ConfigurationError, match=r"tokens\.jwks: .*none of its keys") as caught:
        key_set_of(str(file))
    assert "c2VjcmV0" not in str(caught.value)
    file.write_text(jwks(jwk(ec_key())) + " " * 300_000)
    with pytest.raises(ConfigurationError, match="larger"):
        key_set_of(str(file))


# From a URL


@pytest.mark.parametrize(
    "url",
    [
        "http://lms.example/jwks",
        "http://localhost.example/jwks",
        "http://127.0.0.1.example/jwks",
        "http://10.0.0.1/jwks",
        "http://0.0.0.0/jwks",
        "https://ann:s3cret@lms.example/jwks",
        "https:///jwks",
        "https://lms.example/jwks#k",
        "https://lms.example:port/jwks",
        "https://[::1/jwks",
        "ftp://lms.example/jwks",
        "file:///etc/passwd",
        "://",
    ],
)
def test_only_https_urls_and_this_machine_are_asked(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"tokens\.jwks: takes a file or an https") as no:
        key_set_of(url)
    assert "s3cret" not in str(no.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_this_machine_may_be_asked_over_http(host: str) -> None:
    assert isinstance(key_set_of(f"http://{host}:8080/jwks"), UrlKeySet)


@dataclass
class Lms:
    """Serves ``text`` and counts; ``now`` is its clock and that of whoever asks."""

    text: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    now: float = 1000.0
    down: bool = False

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await asyncio.sleep(0)
        assert request.headers["accept-encoding"] == "identity"
        if self.down:
            raise httpx.ConnectError("down")
        return httpx.Response(
            self.status, headers=self.headers, stream=httpx.ByteStream(self.text.encode())
        )

    def key_set(self) -> UrlKeySet:
        return UrlKeySet(URL, transport=httpx.MockTransport(self), clock=lambda: self.now)


def test_a_url_is_asked_once_in_ten_minutes() -> None:
    lms = Lms(jwks(jwk(ec_key(), "k1")))
    key_set = lms.key_set()
    assert lms.asked == 0
    for _ in range(5):
        assert len(run(key_set.keys("k1"))) == 1
    lms.now += 599
    run(key_set.keys("k1"))
    assert lms.asked == 1
    lms.now += 1
    run(key_set.keys(None))
    assert lms.asked == 2


def test_everybody_who_waits_for_the_first_keys_gets_them() -> None:
    lms = Lms(jwks(jwk(ec_key(), "k1")))
    key_set = lms.key_set()

    async def together(*wanted: str) -> list[int]:
        return [len(keys) for keys in await asyncio.gather(*map(key_set.keys, wanted))]

    async def main() -> None:
        assert await together(*["k1"] * 9) == [1] * 9
        assert lms.asked == 1
        # A new key: whoever brings it waits for it, whoever has an old one does not.
        lms.text = jwks(jwk(ec_key(), "k1"), jwk(ec_key(1), "k2"))
        lms.now += 31
        assert await together("k2", "k1", "k2", "k1", "k2") == [1] * 5
        assert lms.asked == 2

    run(main())


def test_made_up_key_ids_cost_the_lms_nothing() -> None:
    lms = Lms(jwks(jwk(ec_key(), "k1")))
    key_set = lms.key_set()
    for n in range(1000):
        assert run(key_set.keys(f"made-up-{n}")) == []
        lms.now += 0.09  # 90 s in all
    assert lms.asked <= 4
    lms.text = jwks(jwk(ec_key(1), "k2"))
    lms.now += 30
    assert len(run(key_set.keys("k2"))) == 1
    assert run(key_set.keys("k1")) == []


@pytest.mark.parametrize(
    "change",
    [
        {"down": True},
        {"status": 500},
        {"status": 404},
        {"status": 302, "headers": {"location": "https://evil.example/jwks"}},
        {"status": 204},
        {"text": "<html>"},
        {"text": json.dumps({"keys": []})},
        {"text": json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})},
        {"text": jwks(jwk(ec_key(1), "k9")) + " " * 300_000},
        {"headers": {"content-encoding": "gzip"}},
    ],
    # Keys are made anew in each process, which would make for other names.
    ids=lambda change: "-".join(change) + str(change.get("status", "")),
)
def test_what_cannot_be_fetched_leaves_the_keys_as_they_were(change: dict[str, Any]) -> None:
    lms = Lms(jwks(jwk(ec_key(), "k1")))
    key_set = lms.key_set()
    run(key_set.keys("k1"))
    lms.text = jwks(jwk(ec_key(1), "k9"))  # good in itself
    for name, value in change.items():
        setattr(lms, name, value)
    for n in range(1, 4):
        lms.now += 3600
        assert len(run(key_set.keys("k1"))) == 1
        assert lms.asked == 1 + n
        assert run(key_set.keys("k9")) == []
        assert lms.asked == 1 + n


def test_without_any_key_it_is_not_said_that_the_token_is_wrong() -> None:
    lms = Lms(jwks(jwk(ec_key(), "k1")), down=True)
    key_set = lms.key_set()
    for _ in range(100):
        with pytest.raises(KeySetUnavailable) as caught:
            run(key_set.keys("k1"))
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})
    assert lms.asked == 1
    lms.down = False
    lms.now += 5
    assert len(run(key_set.keys("k1"))) == 1
