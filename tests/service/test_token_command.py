"""``relaunch key`` and ``relaunch token``: what they print is what the service lets in."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.app import run
from orchestrator.cli.service_access import authority_of, limits_of
from orchestrator.cli.settings import load, shown_values
from orchestrator.errors import ConfigurationError
from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.refusals import Unauthenticated
from tests.service.signing import SECRET, ec_key, jwk, jwks, pem, rsa_key, signed

TOKEN = ["token", "--user", "ada", "--lab", "1001"]
START = frozenset({Scope.START})
WITH_SECRET = {"RELAUNCH_TOKENS__SECRET": SECRET}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in ("RELAUNCH_CONFIG", *WITH_SECRET):
        monkeypatch.delenv(name, raising=False)


def known(environ: dict[str, str], credential: str) -> Caller:
    authority = authority_of(load(None, {}, environ))
    return asyncio.run(authority.caller(f"Bearer {credential}"))


def test_a_key_that_was_made_is_let_in(capsys: pytest.CaptureFixture[str]) -> None:
    made = []
    for arguments in (
        ["prov", "--scope", "start"],
        ["desk", "--scope", "read", "--scope", "admin"],
    ):
        assert run(["key", *arguments, "--json"]) == 0
        made.append(json.loads(capsys.readouterr().out))
    environ = {"RELAUNCH_SERVICE__KEYS": ", ".join(one["entry"] for one in made)}
    prov, desk = (known(environ, one["key"]) for one in made)
    assert (prov.scopes, desk.scopes) == (START, frozenset({Scope.READ, Scope.ADMIN}))
    shown = {key: value for key, value, _ in shown_values(load(None, {}, environ))}
    assert "prov" not in shown["service.keys"]


def test_a_key_is_shown_once_with_the_line_for_the_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["key", "prov"]) == 0
    lines = capsys.readouterr().out.splitlines()
    key, entry = lines[1].strip(), lines[3].strip()
    assert not any(key in line for line in (*lines[:1], *lines[2:]))
    file = tmp_path / "relaunch.toml"
    file.write_text(f"[service]\nkeys = [\n{entry},\n]\n", encoding="utf-8")
    authority = authority_of(load(file, {}, {}))
    assert asyncio.run(authority.caller(f"Bearer {key}")).scopes == START


@pytest.mark.parametrize("arguments", [["a b"], ["prov", "--scope", "root"], []])
def test_a_key_that_could_not_stand_in_an_entry_is_not_made(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["key", *arguments]) == 2
    printed = capsys.readouterr()
    assert "lrk_" not in printed.out + printed.err


def test_a_malformed_entry_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="entry 1 ") as caught:
        authority_of(load(None, {}, {"RELAUNCH_SERVICE__KEYS": "prov:start:lrk_mistake"}))
    assert "mistake" not in str(caught.value)


def test_a_token_and_nothing_else_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAUNCH_TOKENS__SECRET", SECRET)
    more = ["--lab", "1002", "--minutes", "5", "--first-name", "Äda", "--lang", "de"]
    assert run([*TOKEN, *more]) == 0
    printed = capsys.readouterr()
    (token,) = printed.out.splitlines()
    assert printed.err == ""
    found = known(WITH_SECRET, token)
    assert (found.user_id, found.lab_profile_ids) == ("ada", frozenset({1001, 1002}))
    assert (found.parameters.first_name, found.parameters.lang) == ("Äda", "de")
    with pytest.raises(Unauthenticated):
        known({}, token)


def test_a_token_for_any_lab(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAUNCH_TOKENS__SECRET", SECRET)
    assert run(["token", "--user", "ada", "--lab", "*"]) == 0
    assert known(WITH_SECRET, capsys.readouterr().out.strip()).lab_profile_ids is None


def test_the_audience_and_issuer_of_the_settings_are_in_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = WITH_SECRET | {"RELAUNCH_TOKENS__AUDIENCE": "ours", "RELAUNCH_TOKENS__ISSUER": "lms"}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    assert run(TOKEN) == 0
    token = capsys.readouterr().out.strip()
    assert known(ours, token).user_id == "ada"
    with pytest.raises(Unauthenticated, match="audience"):
        known(WITH_SECRET, token)


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_token_signed_with_a_private_key(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = rsa_key() if kind == "rsa" else ec_key()
    (tmp_path / "key.pem").write_text(pem(key))
    (tmp_path / "jwks.json").write_text(jwks(jwk(key, "k1"), jwk(ec_key(5), "k2")))
    environ = {"RELAUNCH_TOKENS__JWKS": str(tmp_path / "jwks.json")}
    for more in ([], ["--key-id", "k1"]):
        assert run([*TOKEN, "--private-key", "key.pem", *more]) == 0
        assert known(environ, capsys.readouterr().out.strip()).user_id == "ada"
    assert run([*TOKEN, "--private-key", "key.pem", "--key-id", "k2"]) == 0
    with pytest.raises(Unauthenticated):
        known(environ, capsys.readouterr().out.strip())


def test_both_kinds_of_signature_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(jwks(jwk(ec_key(), "k1")))
    environ = WITH_SECRET | {"RELAUNCH_TOKENS__JWKS": "jwks.json"}
    assert known(environ, signed()).user_id == "ada"
    assert known(environ, signed(key=ec_key(), algorithm="ES256")).user_id == "ada"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (TOKEN, "RELAUNCH_TOKENS__SECRET, or name a --private-key"),
        ([*TOKEN, "--minutes", "61"], "60 minutes at most"),
        ([*TOKEN, "--minutes", "0"], "--minutes"),
        ([*TOKEN, "--key-id", "k1"], "--private-key only"),
        ([*TOKEN, "--lab", "x"], "--lab"),
        ([*TOKEN, "--lab", "*"], "--lab"),
        ([*TOKEN, "--private-key", "absent.pem"], "absent.pem"),
        ([*TOKEN, "--private-key", "bad.pem"], "bad.pem: is no RSA key"),
        ([*TOKEN, "--private-key", "short.pem"], "short.pem: is no RSA key"),
        (["token", "--lab", "1"], "--user"),
        (["token", "--user", "ada"], "--lab"),
    ],
)
def test_what_is_missing_or_wrong_is_told(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.pem").write_text("no key at all")
    (tmp_path / "short.pem").write_text(pem(rsa_key(1024)))
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.out == ""


def test_what_the_service_would_refuse_is_not_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAUNCH_TOKENS__SECRET", SECRET)
    for arguments in (["--user", "ada", "--lab", "0"], ["--user", "a\nb", "--lab", "1"]):
        assert run(["token", *arguments]) == 2
        assert capsys.readouterr().out == ""


def test_the_limits_are_those_of_the_settings() -> None:
    environ = {
        "RELAUNCH_SERVICE__LEARNER_REQUESTS_PER_MINUTE": "1",
        "RELAUNCH_SERVICE__KEY_REQUESTS_PER_MINUTE": "2",
        "RELAUNCH_SERVICE__MOST_STREAMS": "3",
    }
    limits = limits_of(load(None, {}, environ))
    assert (limits._learner.amount, limits._key.amount, limits._most_streams) == (1, 2, 3)


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_without_the_extra_it_is_told_what_to_install(missing: str, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(pem(ec_key()))
    blocked = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from orchestrator.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )

    def done(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", blocked, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    told = done(*TOKEN, "--private-key", "key.pem")
    assert told.returncode == 2
    assert "pip install 'lab-relaunch[service]'" in told.stderr
    assert len(told.stderr.splitlines()) == 1
    # A key can be made without the service.
    assert "lrk_" in done("key", "prov").stdout


@pytest.mark.parametrize(("missing", "made"), [("jwt", "authority_of"), ("limits", "limits_of")])
def test_a_service_without_the_extra_is_told_what_to_install(missing: str, made: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from orchestrator.cli import service_access, settings\n"
        "from orchestrator.errors import ConfigurationError\n"
        f"try: service_access.{made}(settings.load(None, {{}}, {{}}))\n"
        "except ConfigurationError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'lab-relaunch[service]'" in told.stdout
