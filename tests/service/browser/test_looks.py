"""Whoever looks at it, on whatever: assistive technology, languages, narrow and dark screens."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # has none
from playwright.sync_api import Browser, Page, expect

from orchestrator.service.button import assets
from tests.service.browser.conftest import Camera
from tests.service.browser.school import School
from tests.service.browser.test_relaunching import press, relaunch, says, the_button

pytestmark = pytest.mark.timeout(60)  # a browser, on whatever machine


def grave(page: Page) -> list[Any]:
    """What axe-core finds that is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        (v["id"], [node["html"] for node in v["nodes"]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_keeps_nobody_out_in_any_state(
    page: Page, school: School, camera: Camera, scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    school.give(1002)
    page.goto(school.demo)
    the_button(page).get_by_role("button", name="Relaunch Networking basics").wait_for()
    assert grave(page) == []
    press(page, "Relaunch Networking basics")
    says(page, "This ends a running lab")
    assert grave(page) == []
    camera(page, f"look-{scheme}-asks")
    press(page, "End it and relaunch")
    says(page, "Tearing it down", "step")
    assert grave(page) == []
    camera(page, f"look-{scheme}-running")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    assert grave(page) == []
    camera(page, f"look-{scheme}-ready")
    school.end(school.launched[0])
    says(page, "Your lab has ended.")
    assert grave(page) == []
    school.give(1003)
    press(page, "Relaunch Networking basics")
    says(page, "The relaunch was refused")
    assert grave(page) == []
    camera(page, f"look-{scheme}-refused")


def test_speaks_of_each_step_once_and_not_of_each_second(page: Page, school: School) -> None:
    school.give()
    page.goto(school.course())
    the_button(page).get_by_role("button").wait_for()
    page.evaluate(
        """window.said = [];
        const root = document.querySelector("relaunch-button").shadowRoot;
        const live = root.querySelector("[role=status]");
        const observer = new MutationObserver(() => said.push(live.textContent));
        observer.observe(live, { childList: true })"""
    )
    press(page, "Relaunch this lab")
    press(page, "End it and relaunch")
    says(page, "Tearing it down", "step")
    expect(the_button(page).locator("[part=time]")).to_have_text("00:02")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    said = page.evaluate("said")
    assert "Tearing it down" in said
    assert len(said) == len(set(said))
    assert not any(re.search(r"\d\d:\d\d", text) for text in said)


def test_tells_what_is_usual(page: Page, school: School, camera: Camera) -> None:
    school.give()
    page.route(
        "**/labs?*",
        lambda route: route.fulfill(
            response=(got := route.fetch()),
            json=got.json()
            | {"running": [lab | {"usual_seconds": [40, 70]} for lab in got.json()["running"]]},
        ),
    )
    page.goto(school.course())
    press(page, "Relaunch this lab")
    says(page, "Usually 40\N{EN DASH}70 sec")
    camera(page, "13-usual")


@pytest.mark.parametrize("language", ["en", "de", "es", "ja"])
def test_in_four_languages(page: Page, school: School, camera: Camera, language: str) -> None:
    texts = json.loads(assets.texts()[language].content)
    school.give()
    page.goto(school.course(f'token-url="/token" lang="{language}"'))
    press(page, texts["button"].replace("{lab}", texts["lab"]))
    says(page, texts["confirm"])
    camera(page, f"language-{language}-asks")
    press(page, texts["yes"])
    says(page, texts["teardown"], "step")
    says(page, texts["close"])
    camera(page, f"language-{language}-running")
    expect(the_button(page).locator("[part~=box]")).to_have_attribute("lang", language)


def test_any_language_can_be_added(page: Page, school: School) -> None:
    texts = '{"button": "Lancer {lab}", "lab": "ce labo", "done": "Prêt"}'
    page.goto(school.course(f'token-url="/token" lang="fr" texts=\'{texts}\''))
    press(page, "Lancer ce labo")
    says(page, "Prêt")
    school.page("/texts.json", '{"button": "Mulai {lab}", "lab": "lab ini"}')
    page.goto(school.course('token-url="/token" lang="id" texts="/texts.json"'))
    the_button(page).get_by_role("button", name="Mulai lab ini").wait_for()


def test_an_unknown_language_is_english(page: Page, school: School) -> None:
    page.goto(school.course('token-url="/token" lang="xx_nonsense"'))
    the_button(page).get_by_role("button", name="Relaunch this lab").wait_for()


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_fits_a_narrow_screen_in_either_direction(
    browser: Browser, school: School, camera: Camera, direction: str
) -> None:
    # 320 CSS pixels are also 1280 at a zoom of 400 %.
    context = browser.new_context(viewport={"width": 320, "height": 640})
    page = context.new_page()
    school.give()
    page.goto(school.course(html=f'dir="{direction}"'))
    press(page, "Relaunch this lab")
    says(page, "This ends a running lab")
    camera(page, f"narrow-{direction}-asks")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    press(page, "End it and relaunch")
    says(page, "Tearing it down", "step")
    camera(page, f"narrow-{direction}-running")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    mark, text = page.evaluate(
        """() => {
            const step = document.querySelector("relaunch-button").shadowRoot.querySelector("li");
            const style = getComputedStyle(step, "::before");
            return [parseFloat(style.left), parseFloat(style.right)];
        }"""
    )
    assert (mark < text) == (direction == "ltr")
    context.close()


def test_stands_still_for_those_who_ask_for_it(page: Page, school: School) -> None:
    page.emulate_media(reduced_motion="reduce")
    school.give()
    relaunch(page, school)
    moving = """getComputedStyle(document.querySelector("relaunch-button").shadowRoot
        .querySelector("[aria-current]"), "::before").animationName"""
    assert page.evaluate(moving) == "none"


def test_wears_the_colours_of_its_page(page: Page, school: School) -> None:
    style = "--relaunch-accent: rgb(90, 30, 120); --relaunch-radius: 0"
    page.goto(school.course(f'token-url="/token" style="{style}"'))
    button = the_button(page).get_by_role("button")
    expect(button).to_have_css("background-color", "rgb(90, 30, 120)")
    expect(button).to_have_css("border-radius", "0px")
    page.add_style_tag(content="relaunch-button::part(button) { text-transform: uppercase }")
    expect(button).to_have_css("text-transform", "uppercase")


def test_works_in_a_frame_of_another_site_without_storage(
    page: Page, school: School, camera: Camera
) -> None:
    old = school.give()
    page.add_init_script(
        """if (window !== top) Object.defineProperty(window, "localStorage", {
            get() { throw new DOMException("denied", "SecurityError"); } })"""
    )
    tool = school.course().replace("127.0.0.1", "localhost")
    sandbox = "allow-scripts allow-same-origin allow-popups allow-popups-to-escape-sandbox"
    frame = f'<iframe title="Lab" width="600" height="500" sandbox="{sandbox}" src="{tool}">'
    page.goto(school.page("/lms", f"<!doctype html><title>LMS</title><h1>LMS</h1>{frame}</iframe>"))
    button = page.frame_locator("iframe").locator("relaunch-button")
    button.get_by_role("button", name="Relaunch this lab").click()
    with page.context.expect_page() as opened:
        button.get_by_role("button", name="End it and relaunch").click()
    expect(button.locator("[aria-current]")).to_contain_text("Tearing it down")
    camera(page, "14-in-a-frame")
    school.finish_teardowns()
    opened.value.wait_for_url(re.compile("/launch/"))
    expect(button).to_contain_text("Your lab is ready")
    assert page.context.cookies() == []
    assert school.cancelled == [old]
