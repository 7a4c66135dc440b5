"""Service keys: only the hash is kept, any of several is good, what is wrong is not repeated."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.service.access.authority import Authority
from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.access.service_keys import ServiceKeys, new_key
from orchestrator.service.refusals import Unauthenticated


def caller(authority: Authority, credential: str | None) -> Caller:
    header = None if credential is None else f"Bearer {credential}"
    return asyncio.run(authority.caller(header))


def test_a_key_is_good_and_only_its_hash_is_kept() -> None:
    key, kept = new_key("provisioning", [Scope.START])
    assert kept.entry == f"provisioning:start:{hashlib.sha256(key.encode()).hexdigest()}"
    assert key not in repr(kept)
    found = caller(Authority(keys=ServiceKeys([kept.entry])), key)
    assert (found.may(Scope.READ), found.may(Scope.START)) == (True, True)
    assert not found.may(Scope.ADMIN)
    assert not found.is_learner
    assert found.is_for("anybody")
    assert found.may_use(1)


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_has_the_scopes_of_its_entry(scope: Scope) -> None:
    key, kept = new_key("k", [scope])
    found = caller(Authority(keys=ServiceKeys([kept.entry])), key)
    assert found.scopes == {scope}
    assert found.may(Scope.ADMIN) == (scope is Scope.ADMIN)


def test_scopes_are_joined() -> None:
    key, kept = new_key("k", [Scope.START, Scope.READ])
    assert kept.entry.startswith("k:read+start:")
    assert caller(Authority(keys=ServiceKeys([kept.entry])), key).may(Scope.START)


def test_while_a_key_is_replaced_both_are_good_and_share_a_limit() -> None:
    (old, old_kept), (new, new_kept) = (new_key("prov", [Scope.START]) for _ in "12")
    both = Authority(keys=ServiceKeys([old_kept.entry, new_kept.entry]))
    assert caller(both, old).name == caller(both, new).name
    after = Authority(keys=ServiceKeys([new_kept.entry]))
    assert caller(after, new).name == caller(both, new).name
    with pytest.raises(Unauthenticated):
        caller(after, old)


def test_no_two_keys_are_alike() -> None:
    assert len({new_key("k", [Scope.READ])[0] for _ in range(100)}) == 100


def test_all_entries_are_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_key(f"k{n}", [Scope.READ]) for n in range(5)]
    keys = ServiceKeys([kept.entry for _, kept in made])
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("orchestrator.service.access.service_keys.hmac.compare_digest", compare)
    for key, kept in made:
        compared.clear()
        found = keys.caller(key)
        assert found is not None
        assert found.name == f"key:{kept.name}"
        assert len(compared) == 5


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "prov",
        "prov:start",
        "prov:start:HASH:more",
        "prov:start:" + "g" * 64,
        "prov:start:" + "A" * 64,
        "prov:start:" + "0" * 63,
        "prov:start:" + "0" * 64 + "\n0",
        "prov:start:" + "٣" * 64,
        "prov::" + "0" * 64,
        "prov:start+:" + "0" * 64,
        "prov:root:" + "0" * 64,
        ":start:" + "0" * 64,
        "a b:start:" + "0" * 64,
        "x" * 65 + ":start:" + "0" * 64,
        "prov:start:lrk_" + "s" * 43,
    ],
)
def test_a_malformed_entry_is_named_by_its_position_and_not_repeated(entry: str) -> None:
    _, good = new_key("good", [Scope.READ])
    with pytest.raises(ConfigurationError, match="entry 2 ") as caught:
        ServiceKeys([good.entry, entry])
    for piece in entry.split(":"):
        assert len(piece) < 6 or piece not in str(caught.value)


def test_the_same_key_twice_is_refused() -> None:
    _, kept = new_key("one", [Scope.READ])
    other = kept.entry.replace("one:read", "two:admin")
    with pytest.raises(ConfigurationError, match="entries 1 and 2") as caught:
        ServiceKeys([kept.entry, other])
    assert kept.digest.hex() not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a,b", "ä", "x" * 65, "a\n"])
def test_no_key_is_made_for_a_name_that_could_not_stand_in_an_entry(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        new_key(name, [Scope.READ])


@pytest.mark.parametrize(
    "credential",
    [
        "lrk_" + "A" * 43,
        "lrk_",
        "lrk_" + "A" * 4000,
        "lrk_' OR 1=1 --",
        "LRK_" + "A" * 43,
        "letmein",
        "",
        None,
    ],
)
def test_a_wrong_key_is_refused_without_being_repeated(credential: str | None) -> None:
    _, kept = new_key("prov", [Scope.START])
    with pytest.raises(Unauthenticated) as caught:
        caller(Authority(keys=ServiceKeys([kept.entry])), credential)
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert not credential or credential == "lrk_" or credential not in str(caught.value)


def test_a_key_that_somebody_chose_is_not_taken_even_if_its_hash_is_there() -> None:
    chosen = "lrk_summer2024"
    keys = ServiceKeys([f"prov:start:{hashlib.sha256(chosen.encode()).hexdigest()}"])
    with pytest.raises(Unauthenticated):
        caller(Authority(keys=keys), chosen)


def test_where_nothing_is_set_up_nobody_is_let_in() -> None:
    for credential in (None, "", new_key("k", [Scope.ADMIN])[0], "a.b.c"):
        with pytest.raises(Unauthenticated):
            caller(Authority(), credential)


@pytest.mark.parametrize(
    "header",
    [
        "{key}",
        "Basic {key}",
        "Bearer",
        "Bearer ",
        "Bearer{key}",
        "Bearer {key} {key}",
        "Bearer {key},",
        "Bearer \t{key}",
        "Bearer {key}\x00",
        "Bearer {key}ä",
        "Bearer\xa0{key}",
        "Bearer " + " " * 8192 + "{key}",
    ],
)
def test_a_header_of_another_shape_is_refused(header: str) -> None:
    key, kept = new_key("k", [Scope.ADMIN])
    authority = Authority(keys=ServiceKeys([kept.entry]))
    with pytest.raises(Unauthenticated):
        asyncio.run(authority.caller(header.format(key=key)))


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_the_scheme_s_letters_and_blanks_do_not_matter(scheme: str) -> None:
    key, kept = new_key("k", [Scope.ADMIN])
    authority = Authority(keys=ServiceKeys([kept.entry]))
    assert asyncio.run(authority.caller(scheme + key)).may(Scope.ADMIN)
