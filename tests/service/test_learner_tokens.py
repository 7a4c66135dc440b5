"""Learner tokens: what a good one allows, and each way to forge, bend or overload one."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.labs import LaunchParameters
from orchestrator.service.access.authority import Authority
from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.access.key_sets import FileKeySet
from orchestrator.service.access.learner_tokens import LearnerTokens, minted
from orchestrator.service.refusals import TokenExpired, Unauthenticated
from tests.service.signing import (
    SECRET,
    claims,
    ec_key,
    jwk,
    jwks,
    part,
    pem,
    public_pem,
    raw,
    rsa_key,
    signed,
)


def caller(token: str, **options: Any) -> Caller:
    tokens = LearnerTokens(**({"secret": SECRET} | options))
    return asyncio.run(Authority(tokens=tokens).caller(f"Bearer {token}"))


def refusal(token: str, **options: Any) -> str:
    """The message of a token that is refused; nothing of the token may stand in it."""
    with pytest.raises(Unauthenticated) as caught:
        caller(token, **options)
    assert type(caught.value) is Unauthenticated
    message = str(caught.value)
    assert not any(piece in message for piece in token.split(".") if len(piece) > 5)
    assert message.endswith("Nothing was done.")
    return message


NOT_OURS = "none that this service can verify"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(jwks(jwk(rsa_key(), "r1"), jwk(ec_key(), "e1")), encoding="utf-8")
    return file


# What a good one allows


def test_a_learner_may_start_its_own_labs_and_nothing_else() -> None:
    found = caller(signed())
    assert found.user_id == "ada"
    assert found.is_learner
    assert found.lab_profile_ids == frozenset({1001, 1002})
    assert (found.may(Scope.READ), found.may(Scope.START)) == (True, True)
    assert not found.may(Scope.ADMIN)
    assert not found.is_for("bob")
    assert not found.may_use(1003)
    assert not found.may_use(None)
    assert "ada" not in repr(found)


@pytest.mark.parametrize(
    ("lab", "allowed"), [(7, {7}), ([7], {7}), ([7, 7], {7}), (2**31 - 1, {2**31 - 1}), ("*", None)]
)
def test_labs_are_a_number_a_list_or_all(lab: object, allowed: set[int] | None) -> None:
    assert caller(signed(claims(lab=lab))).lab_profile_ids == allowed


def test_what_goes_with_the_launch_comes_from_the_token() -> None:
    launch = {
        "first_name": "Äda",
        "can_be_marked_complete": True,
        "role_ids": [1, 2],
        "variables": {"greeting": "hello\nthere"},
        "lang": "de",
    }
    assert caller(signed(claims(launch=launch))).parameters == LaunchParameters(
        first_name="Äda",
        can_be_marked_complete=True,
        role_ids=(1, 2),
        variables={"greeting": "hello\nthere"},
        lang="de",
    )
    assert caller(signed(claims(launch={}))).parameters == LaunchParameters()


def test_an_audience_may_be_one_of_several() -> None:
    assert caller(signed(claims(aud=["other", "lab-relaunch"]))).user_id == "ada"


def test_an_issuer_is_asked_for_only_if_one_is_set() -> None:
    assert caller(signed(claims(iss="https://lms.example"))).user_id == "ada"
    assert caller(signed(claims(iss="lms")), issuer="lms").user_id == "ada"
    assert "issuer" in refusal(signed(claims(iss="lms2")), issuer="lms")
    assert "`iss`" in refusal(signed(), issuer="lms")
    assert "issuer" in refusal(signed(claims(iss="lm")), issuer="lms")


@pytest.mark.parametrize("kid", [None, "r1"])
def test_rs256_by_a_key_set(key_file: Path, kid: str | None) -> None:
    header: dict[str, Any] = {} if kid is None else {"kid": kid}
    token = signed(key=rsa_key(), algorithm="RS256", **header)
    assert caller(token, secret=None, key_set=FileKeySet(key_file)).user_id == "ada"


@pytest.mark.parametrize("kid", [None, "e1"])
def test_es256_by_a_key_set(key_file: Path, kid: str | None) -> None:
    header: dict[str, Any] = {} if kid is None else {"kid": kid}
    token = signed(key=ec_key(), algorithm="ES256", **header)
    assert caller(token, secret=None, key_set=FileKeySet(key_file)).user_id == "ada"


def test_without_a_key_id_each_key_of_the_algorithm_is_tried(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(jwks(*(jwk(rsa_key(which=n)) for n in (1, 2))))
    for n in (1, 2):
        token = signed(key=rsa_key(which=n), algorithm="RS256")
        assert caller(token, secret=None, key_set=FileKeySet(file)).user_id == "ada"
    assert NOT_OURS in refusal(
        signed(key=rsa_key(which=3), algorithm="RS256"), secret=None, key_set=FileKeySet(file)
    )


# Time


def test_it_runs_out() -> None:
    with freeze_time("2026-03-01 12:00:00", real_asyncio=True) as frozen:
        token = signed(claims(exp=int(time.time()) + 600))
        assert caller(token).expires_at == time.time() + 610
        frozen.tick(609.5)
        assert caller(token).user_id == "ada"
        frozen.tick(0.5)
        with pytest.raises(TokenExpired) as caught:
            caller(token)
        assert caught.value.code == "token_expired"
        assert "LMS can sign a new one" in str(caught.value)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_it_is_not_good_too_early(claim: str) -> None:
    with freeze_time("2026-03-01 12:00:00", real_asyncio=True) as frozen:
        token = signed(claims(**{claim: int(time.time()) + 60}))
        assert "not valid yet" in refusal(token)
        frozen.tick(49)
        assert "not valid yet" in refusal(token)
        frozen.tick(1)
        assert caller(token).user_id == "ada"


@pytest.mark.parametrize("iat", [0, None])
def test_it_may_not_be_made_for_too_long(iat: int | None) -> None:
    with freeze_time("2026-03-01 12:00:00", real_asyncio=True):
        now = int(time.time())
        begun = None if iat is None else now
        assert caller(signed(claims(iat=begun, exp=now + 3600))).user_id == "ada"
        assert "longer than the 3600 s" in refusal(signed(claims(iat=begun, exp=now + 3601)))
        assert "longer" in refusal(signed(claims(iat=begun, exp=10**11)))
        # A beginning long ago makes it longer, not shorter.
        assert "longer" in refusal(signed(claims(iat=1, exp=now + 10)))


def test_an_expired_one_that_is_forged_is_no_expired_one() -> None:
    assert NOT_OURS in refusal(signed(claims(exp=1), key=SECRET + "x"))


# Forged


def forged(header: dict[str, Any], secret: str = "", payload: dict[str, Any] | None = None) -> str:
    return raw(json.dumps(payload or claims()), json.dumps(header), secret)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"], {}])
def test_an_unsigned_one_is_refused(alg: object, key_file: Path) -> None:
    header = part(json.dumps({"alg": alg, "typ": "JWT"}).encode())
    body = part(json.dumps(claims()).encode())
    for signature in ("", part(b"x" * 32)):
        for options in ({}, {"secret": None, "key_set": FileKeySet(key_file)}):
            assert NOT_OURS in refusal(f"{header}.{body}.{signature}", **options)


@pytest.mark.parametrize("alg", ["HS384", "HS512", "hs256", "RS256", "ES256", "PS256", "EdDSA"])
def test_only_the_algorithm_of_the_key_that_is_set_is_taken(alg: str) -> None:
    assert NOT_OURS in refusal(forged({"alg": alg}, SECRET))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_well_signed_one_of_another_algorithm_is_refused(algorithm: str) -> None:
    assert NOT_OURS in refusal(signed(key=SECRET * 2, algorithm=algorithm), secret=SECRET * 2)


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_an_rsa_key_is_for_rs256_alone(algorithm: str, key_file: Path) -> None:
    token = signed(key=rsa_key(), algorithm=algorithm, kid="r1")
    assert NOT_OURS in refusal(token, secret=None, key_set=FileKeySet(key_file))


@pytest.mark.parametrize("kid", ["r1", "e1", None])
@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_public_key_is_no_secret(kid: str | None, secret: str | None, key_file: Path) -> None:
    texts = [public_pem(rsa_key()), public_pem(ec_key()), key_file.read_text("utf-8")]
    texts += [json.dumps(jwk(rsa_key(), "r1")), jwk(rsa_key())["n"], public_pem(rsa_key()).strip()]
    for text in texts:
        header = {"alg": "HS256"} | ({} if kid is None else {"kid": kid})
        token = forged(header, text)
        assert NOT_OURS in refusal(token, secret=secret, key_set=FileKeySet(key_file))


def test_a_key_of_one_kind_is_not_used_as_one_of_the_other(key_file: Path) -> None:
    key_set = FileKeySet(key_file)
    for token in (
        signed(key=rsa_key(), algorithm="RS256", kid="e1"),
        signed(key=ec_key(), algorithm="ES256", kid="r1"),
        forged({"alg": "RS256", "kid": "e1"}, SECRET),
    ):
        assert NOT_OURS in refusal(token, secret=None, key_set=key_set)


def test_somebody_else_s_signature_is_refused(key_file: Path) -> None:
    assert NOT_OURS in refusal(signed(key=SECRET.upper()))
    assert NOT_OURS in refusal(forged({"alg": "HS256"}, ""))
    for key, algorithm in ((rsa_key(which=9), "RS256"), (ec_key(9), "ES256")):
        token = signed(key=key, algorithm=algorithm)
        assert NOT_OURS in refusal(token, secret=None, key_set=FileKeySet(key_file))


def test_a_signature_of_zeros_is_refused(key_file: Path) -> None:
    start = signed(key=ec_key(), algorithm="ES256").rpartition(".")[0]
    for signature in (bytes(64), b"\xff" * 64, b"", b"0"):
        token = f"{start}.{part(signature)}"
        assert NOT_OURS in refusal(token, secret=None, key_set=FileKeySet(key_file))


@given(st.data())
def test_a_token_with_one_letter_changed_is_refused(data: st.DataObject) -> None:
    token = signed()
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCXYZabcxyz019-_.=/+"))
    bent = token[:at] + other + token[at + 1 :]
    if bent != token:
        refusal(bent)


@given(st.text(max_size=60))
def test_whatever_comes_is_refused_in_the_same_way(text: str) -> None:
    with pytest.raises(Unauthenticated):
        caller(text)
    with pytest.raises(Unauthenticated):
        caller(f"{part(b'{')}.{text}.{text}")


def test_claims_of_another_token_do_not_fit() -> None:
    (head, _, tail), body = signed().split("."), signed(claims(sub="bob")).split(".")[1]
    assert NOT_OURS in refusal(f"{head}.{body}.{tail}")


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/etc/passwd",
        "' UNION SELECT 'secret' --",
        "$(id)",
        "http://127.0.0.1:9/jwks",
        "",
        "r1\x00",
        "R1",
        "x" * 3000,
    ],
)
def test_a_key_id_is_only_compared(kid: str, key_file: Path) -> None:
    for key, algorithm in ((rsa_key(), "RS256"), ("", "HS256")):
        token = (
            signed(key=key, algorithm=algorithm, kid=kid)
            if key
            else forged({"alg": "HS256", "kid": kid}, "")
        )
        assert NOT_OURS in refusal(token, secret=None, key_set=FileKeySet(key_file))


@pytest.mark.parametrize("kid", [1, None, ["r1"], {"a": 1}])
def test_a_key_id_that_is_no_text_is_refused(kid: object) -> None:
    assert NOT_OURS in refusal(forged({"alg": "HS256", "kid": kid}, SECRET))


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": "b64"},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": ["b64"]},
    ],
)
def test_what_must_be_understood_and_is_not_is_refused(more: dict[str, Any]) -> None:
    assert NOT_OURS in refusal(forged({"alg": "HS256"} | more, SECRET))


def test_keys_that_a_token_brings_along_are_not_looked_at(key_file: Path) -> None:
    mine = rsa_key(which=7)
    for more in (
        {"jwk": jwk(mine, "mine")},
        {"jku": "http://127.0.0.1:9/jwks", "kid": "mine"},
        {"x5u": "http://127.0.0.1:9/cert"},
        {"x5c": [public_pem(mine)]},
    ):
        token = signed(key=mine, algorithm="RS256", **more)
        assert NOT_OURS in refusal(token, secret=None, key_set=FileKeySet(key_file))
        good = signed(key=rsa_key(), algorithm="RS256", **(more | {"kid": "r1"}))
        assert caller(good, secret=None, key_set=FileKeySet(key_file)).user_id == "ada"


def test_a_huge_one_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt, "get_unverified_header", None)  # would not survive being called
    assert "8192 bytes" in refusal(signed(claims(launch={"first_name": "x" * 9000})))


def test_deep_claims_are_refused() -> None:
    deep = "[" * 2500 + "]" * 2500
    assert NOT_OURS in refusal(raw('{"sub":"ada","x":' + deep + "}"))
    assert NOT_OURS in refusal(raw("{}", '{"alg":"HS256","x":' + deep + "}"))


# Claims that are wrong


@pytest.mark.parametrize("claim", ["sub", "lab", "exp", "aud", "jti"])
def test_a_claim_that_is_missing_is_refused(claim: str) -> None:
    assert f"`{claim}`" in refusal(signed(claims(**{claim: None})))
    without = json.dumps(claims(**{claim: None}) | {claim: None})
    assert f"`{claim}`" in refusal(raw(without))


def test_a_claim_that_stands_there_twice_is_refused() -> None:
    text = json.dumps(claims())
    assert caller(raw(text)).user_id == "ada"
    assert NOT_OURS in refusal(raw(text[:-1] + ', "sub": "bob"}'))
    assert NOT_OURS in refusal(raw(text[:-1] + ', "launch": {"lang": "de", "lang": "en"}}'))


@pytest.mark.parametrize("payload", ["[]", '"ada"', "null", "1", "", "{", b"\xff{}", "{}x"])
def test_claims_that_are_no_object_are_refused(payload: str | bytes) -> None:
    assert NOT_OURS in refusal(raw(payload))


@pytest.mark.parametrize(
    "sub",
    [
        "",
        "  ",
        "ada\n",
        "ada\r\nSet-Cookie: a=b",
        "\x00ada",
        "ada\x7f",
        "ada\x85",
        "a\ud800",
        "x" * 256,
        1,
        True,
        ["ada"],
        {},
    ],
)
def test_a_user_id_that_is_no_plain_text_is_refused(sub: object) -> None:
    assert "`sub`" in refusal(signed(claims(sub=sub)))


@pytest.mark.parametrize("jti", ["", " ", "a\nb", "x" * 256, 7, []])
def test_a_token_id_that_is_no_plain_text_is_refused(jti: object) -> None:
    assert "`jti`" in refusal(signed(claims(jti=jti)))


@pytest.mark.parametrize(
    "lab",
    [
        True,
        False,
        0,
        -1,
        2**31,
        2**63,
        10**40,
        1001.0,
        1.5,
        "1001",
        "",
        "**",
        [],
        ["*"],
        [1001, "1002"],
        [True],
        [[1001]],
        {"1001": 1},
        list(range(1, 1002)),
    ],
)
def test_labs_that_are_no_ids_are_refused(lab: object) -> None:
    assert "`lab`" in refusal(signed(claims(lab=lab)))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1e400", "-1e400", "NaN", "Infinity", '"soon"', "[1]", "{}"])
def test_times_that_are_none_are_refused(claim: str, value: str) -> None:
    text = json.dumps(claims(**{claim: None}))[:-1] + f', "{claim}": {value}}}'
    with pytest.raises(Unauthenticated):
        caller(raw(text))


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
def test_times_that_only_look_like_numbers_are_refused(claim: str) -> None:
    value = str(int(time.time()) + (600 if claim == "exp" else 0))
    assert f"`{claim}`" in refusal(signed(claims(**{claim: value})))
    assert "takes a number" in refusal(signed(claims(nbf=True)))


@pytest.mark.parametrize("aud", ["other", "", [], ["other"], "lab-relaunch2", {"a": 1}, 7])
def test_a_token_for_somebody_else_is_refused(aud: object) -> None:
    assert "`aud`" in refusal(signed(claims(aud=aud)))


@pytest.mark.parametrize(
    "launch",
    [
        {"tag": "mine"},
        {"max_active_labs": 5},
        {"max_saved_labs": 5},
        {"first_name": "Ada", "Tag": "x"},
        {"labid": 7},
        {"policy": {}},
        {"__class__": "x"},
        [],
        "first_name",
        7,
    ],
)
def test_what_a_token_may_not_set_is_refused(launch: object) -> None:
    message = refusal(signed(claims(launch=launch)))
    assert "no other fields than `first_name`" in message
    assert "tag" not in message
    assert "labs" not in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", 7),
        ("first_name", "Ada\r\nX: 1"),
        ("last_name", ["x"]),
        ("email", "a\x00"),
        ("lang", "\ud800"),
        ("can_be_marked_complete", 1),
        ("region_id", "7"),
        ("region_id", True),
        ("region_id", 2**31),
        ("region_id", -1),
        ("role_ids", 7),
        ("role_ids", [1.5]),
        ("role_ids", [2**40]),
        ("variables", {"a": 1}),
        ("variables", {"a\n": "x"}),
        ("variables", {"": "x"}),
        ("variables", {"a": "\x00"}),
        ("variables", []),
        ("duration_minutes", 1e3),
    ],
)
def test_a_launch_value_of_the_wrong_type_is_refused_by_name(field: str, value: object) -> None:
    assert f"`{field}` does not take" in refusal(signed(claims(launch={field: value})))


# Keys that are wrong


@pytest.mark.parametrize("secret", ["", "short", "x" * 31])
def test_a_short_secret_is_refused(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="32 characters") as caught:
        LearnerTokens(secret=secret)
    assert not secret or secret not in str(caught.value)


@pytest.mark.parametrize("kind", ["pem", "jwks", "jwk"])
def test_a_key_that_anybody_may_know_is_refused_as_a_secret(kind: str) -> None:
    one = jwk(ec_key(), "e1")
    secret = {"pem": public_pem(ec_key()), "jwks": jwks(one), "jwk": json.dumps(one)}[kind]
    with pytest.raises(ConfigurationError, match=r"tokens\.secret"):
        LearnerTokens(secret=secret)


# Minting


@pytest.mark.parametrize("labs", [[1001], [1001, 1002], "*"])
def test_what_is_minted_is_accepted(labs: list[int] | str) -> None:
    token = minted(SECRET, user_id="ada", labs=labs, launch={"lang": "ja"})
    found = caller(token)
    assert found.lab_profile_ids == (None if isinstance(labs, str) else frozenset(labs))
    assert found.parameters.lang == "ja"


def test_what_is_minted_with_a_private_key_is_accepted(key_file: Path) -> None:
    for key, algorithm, key_id in ((rsa_key(), "RS256", "r1"), (ec_key(), "ES256", None)):
        token = minted(pem(key), algorithm=algorithm, key_id=key_id, user_id="ada", labs=[1])
        assert caller(token, secret=None, key_set=FileKeySet(key_file)).user_id == "ada"


def test_what_would_be_refused_is_not_minted() -> None:
    with pytest.raises(Unauthenticated, match="`lab`"):
        minted(SECRET, user_id="ada", labs=[])
    with pytest.raises(Unauthenticated, match="`sub`"):
        minted(SECRET, user_id="a\n", labs=[1])
    with pytest.raises(Unauthenticated, match="`launch`"):
        minted(SECRET, user_id="ada", labs=[1], launch={"tag": "x"})
    with pytest.raises(ConfigurationError):
        minted("short", user_id="ada", labs=[1])
