"""The button's files: small, complete in each language, and what the snippet says they are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from importlib.resources import files

import httpx
from fastapi import FastAPI

from orchestrator.service.button import assets, routes
from orchestrator.service.demo.routes import demo_router


def get(path: str, **headers: str) -> httpx.Response:
    app = FastAPI()
    app.include_router(routes.router)
    app.include_router(demo_router(mint=lambda who: who, platform_view=lambda who: {}))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def test_the_module_is_under_fifteen_thousand_bytes_and_stands_alone() -> None:
    content = assets.module().content
    assert len(content) < 15_000
    assert b"innerHTML" not in content
    assert b"eval(" not in content
    assert re.search(rb"^import |import\(|document\.cookie", content, re.MULTILINE) is None


def test_each_language_has_the_same_texts_with_the_same_places_in_them() -> None:
    languages = {name: json.loads(asset.content) for name, asset in assets.texts().items()}
    assert set(languages) == {"en", "de", "es", "ja"}
    places = {
        name: {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in texts.items()}
        for name, texts in languages.items()
    }
    for name in languages:
        assert places[name] == places["en"], name


def test_every_text_that_the_module_names_is_there() -> None:
    module = assets.module().content.decode()
    texts = json.loads(assets.texts()["en"].content)
    named = re.findall(r'(?:text|card|title|note|act|again)\("(\w+)"', module)
    assert {"button", "confirm", "running", "lost_work", "trouble"} <= set(named)
    chosen = re.findall(r'(?:\?|&&|: (?=.*;)) "([a-z_]+)"', module)
    for key in {*named, *chosen} - {"step", "omit", "second", "x"}:
        assert key in texts, key


def test_the_snippet_names_the_module_by_its_hash() -> None:
    snippet = assets.snippet("https://relaunch.example")
    integrity = re.search(r'integrity="sha384-([^"]+)"', snippet)
    assert integrity is not None
    content = get(f"/button/{assets.module().hashed_name}").content
    assert base64.b64decode(integrity[1]) == hashlib.sha384(content).digest()
    assert f"https://relaunch.example/button/{assets.module().hashed_name}" in snippet


def test_the_hashed_name_is_kept_for_good_by_any_page() -> None:
    answer = get(f"/button/{assets.module().hashed_name}")
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["content-type"].startswith("text/javascript")


def test_the_plain_name_leads_to_the_hashed_one() -> None:
    answer = get("/button/relaunch-button.js")
    assert answer.status_code == 302
    assert answer.headers["location"] == assets.module().hashed_name
    assert "immutable" not in answer.headers["cache-control"]


def test_texts_and_style_are_asked_for_again_by_their_tag() -> None:
    for path in ("/button/texts/de.json", "/button/relaunch-button.css"):
        answer = get(path)
        assert answer.status_code == 200
        again = get(path, **{"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_language_that_is_not_there_is_not_found_for_any_page() -> None:
    answer = get("/button/texts/tlh.json")
    assert answer.status_code == 404
    assert answer.headers["access-control-allow-origin"] == "*"


def test_the_demos_page_has_a_strict_policy_and_nothing_inline() -> None:
    answer = get("/demo")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = answer.text
    assert re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page) is None
    assert assets.module().hashed_name in page
    assert assets.module().integrity in page


def test_the_demo_takes_only_made_up_learners() -> None:
    assert get("/demo/token?learner=ada").json() == {"token": "ada"}
    assert get("/demo/token?learner=../x").status_code == 422
    assert get("/demo/token").status_code == 422


def test_the_package_has_all_its_files() -> None:
    for package, names in (
        ("orchestrator.service.button", ["relaunch-button.js", "relaunch-button.css"]),
        ("orchestrator.service.demo", ["page.html", "demo.css", "demo.js"]),
    ):
        for name in names:
            assert files(package).joinpath(name).is_file()
