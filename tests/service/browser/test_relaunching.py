"""From the click to the lab, and whatever comes in between."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from tests.service.browser.conftest import Camera
from tests.service.browser.school import School, token
from tests.service.browser.wire import Wire

pytestmark = pytest.mark.timeout(60)  # a browser, on whatever machine


def the_button(page: Page) -> Locator:
    return page.locator("relaunch-button").first


def press(page: Page, name: str) -> None:
    the_button(page).get_by_role("button", name=name, exact=True).click()


def relaunch(page: Page, school: School) -> Page:
    """Press, confirm, and wait until the old lab tears down; the lab's window."""
    page.goto(school.course())
    press(page, "Relaunch this lab")
    with page.context.expect_page() as opened:
        press(page, "End it and relaunch")
    says(page, "Tearing it down", "step")
    return opened.value


def says(page: Page, text: str, current: str | None = None) -> None:
    attributes = f"[aria-current={current}]" if current else "[part~=card]"
    expect(the_button(page).locator(attributes)).to_contain_text(text, timeout=12_000)


def is_one_relaunch(school: School, old: int) -> None:
    assert school.cancelled == [old]
    assert len(school.launched) == 1


def test_from_the_click_to_the_new_lab(page: Page, school: School, camera: Camera) -> None:
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    old = school.give()
    page.goto(school.demo)
    expect(page.get_by_text("1 of 1 places taken")).to_be_visible()
    camera(page, "1-before")
    press(page, "Relaunch Networking basics")
    says(page, "Networking basics, running since")
    says(page, "saved will be lost.")
    assert school.cancelled == []
    camera(page, "2-asks-once")
    with page.context.expect_page() as opened:
        press(page, "End it and relaunch")
    says(page, "Tearing it down", "step")
    says(page, "You can close this page")
    expect(page.get_by_role("cell", name="Tearing Down")).to_be_visible()
    camera(page, "3-tearing-down")
    expect(opened.value.locator("body")).to_contain_text("Your lab will open in this window")
    camera(opened.value, "3-window-waiting")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    opened.value.wait_for_url(re.compile("/launch/"))
    expect(opened.value.get_by_role("heading")).to_contain_text("A lab of the sandbox")
    camera(page, "4-ready")
    camera(opened.value, "4-window-lab")
    is_one_relaunch(school, old)
    assert wrong == []


def test_asks_nothing_where_nothing_would_end(page: Page, school: School) -> None:
    page.goto(school.course())
    with page.context.expect_page() as opened:
        press(page, "Relaunch this lab")
    says(page, "Your lab is ready")
    opened.value.wait_for_url(re.compile("/launch/"))
    assert len(school.launched) == 1


def test_returns_to_the_current_lab(page: Page, school: School) -> None:
    school.give()
    page.goto(school.course())
    press(page, "Relaunch this lab")
    with page.context.expect_page() as opened:
        press(page, "Return to current lab")
    opened.value.wait_for_url(re.compile("/access/"))
    says(page, "Your lab is ready")
    assert (school.launched, school.cancelled) == ([], [])


def test_by_keyboard_alone(page: Page, school: School) -> None:
    old = school.give()
    page.goto(school.course())
    idle = the_button(page).get_by_role("button", name="Relaunch this lab")
    idle.wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    says(page, "This ends a running lab")
    expect(the_button(page).locator("[part~=title]")).to_be_focused()
    page.keyboard.press("Escape")
    expect(idle).to_be_focused()
    assert school.cancelled == []
    page.keyboard.press("Space")
    says(page, "This ends a running lab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    says(page, "Tearing it down", "step")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    is_one_relaunch(school, old)


def test_a_double_click_is_one_relaunch(page: Page, school: School) -> None:
    page.goto(school.course())
    the_button(page).get_by_role("button").dblclick()
    says(page, "Your lab is ready")
    assert len(school.launched) == 1


def test_a_double_click_confirms_nothing_by_accident(page: Page, school: School) -> None:
    old = school.give()
    page.goto(school.course())
    the_button(page).get_by_role("button").dblclick()
    says(page, "This ends a running lab")
    assert school.cancelled == []
    the_button(page).get_by_role("button", name="End it and relaunch").dblclick()
    says(page, "Tearing it down", "step")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    is_one_relaunch(school, old)


def test_a_reload_takes_it_up_again(page: Page, school: School, camera: Camera) -> None:
    old = school.give()
    window = relaunch(page, school)
    page.reload()
    says(page, "Tearing it down", "step")
    assert window.is_closed()
    school.finish_teardowns()
    says(page, "Your lab is ready")
    camera(page, "5-ready-after-reload")
    with page.context.expect_page() as opened:
        press(page, "Open lab")
    opened.value.wait_for_url(re.compile("/access/"))
    is_one_relaunch(school, old)


def test_two_tabs_share_one_relaunch(page: Page, context: BrowserContext, school: School) -> None:
    old = school.give()
    window = relaunch(page, school)
    other = context.new_page()
    other.goto(school.course())
    says(other, "Tearing it down", "step")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    says(other, "Your lab is ready")
    window.wait_for_url(re.compile("/launch/"))
    with context.expect_page() as opened:
        press(other, "Open lab")
    opened.value.wait_for_url(re.compile("/access/"))
    expect(opened.value.get_by_role("heading")).not_to_contain_text("used")
    is_one_relaunch(school, old)


def test_another_device_joins_by_its_click(page: Page, school: School) -> None:
    old = school.give()
    relaunch(page, school)
    assert page.context.browser is not None
    second = page.context.browser.new_context()
    other = second.new_page()
    other.goto(school.course())
    with second.expect_page() as opened:
        press(other, "Relaunch this lab")
    says(other, "Tearing it down", "step")
    school.finish_teardowns()
    says(other, "Your lab is ready")
    opened.value.wait_for_url(re.compile("/access/"))
    second.close()
    is_one_relaunch(school, old)


def test_a_token_in_the_page_shows_what_is_in_flight_at_once(page: Page, school: School) -> None:
    school.give()
    relaunch(page, school)
    page.evaluate("localStorage.clear()")
    page.goto(school.course(f'token="{token()}"'))
    says(page, "Tearing it down", "step")


def test_a_restart_of_the_service_is_no_failure(page: Page, school: School, camera: Camera) -> None:
    old = school.give()
    window = relaunch(page, school)
    port = school.stop()
    says(page, "Connection lost; reconnecting. The relaunch goes on.")
    camera(page, "6-connection-lost")
    school.start(port)
    says(page, "You can close this page")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    window.wait_for_url(re.compile("/launch/"))
    is_one_relaunch(school, old)


def test_a_network_that_is_cut_is_no_failure(page: Page, school: School) -> None:
    old = school.give()
    with Wire(int(school.url.rpartition(":")[2])) as wire:
        page.goto(school.course(f'token-url="/token" service="{wire.url}"'))
        press(page, "Relaunch this lab")
        press(page, "End it and relaunch")
        says(page, "Tearing it down", "step")
        wire.cut()
        says(page, "Connection lost; reconnecting. The relaunch goes on.")
        wire.mend()
        says(page, "You can close this page")
        wire.cut()
        says(page, "Connection lost")
        school.finish_teardowns()
        wire.mend()
        says(page, "Your lab is ready")
    is_one_relaunch(school, old)


def test_polls_where_a_proxy_keeps_the_events_back(page: Page, school: School) -> None:
    old = school.give()
    page.route("**/events", lambda route: None)
    page.goto(school.course())
    press(page, "Relaunch this lab")
    press(page, "End it and relaunch")
    says(page, "Tearing it down", "step")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    is_one_relaunch(school, old)


def test_a_blocked_window_leaves_a_link(page: Page, school: School, camera: Camera) -> None:
    old = school.give()
    page.add_init_script("window.open = () => null")
    page.goto(school.course())
    press(page, "Relaunch this lab")
    press(page, "End it and relaunch")
    says(page, "Tearing it down", "step")
    school.finish_teardowns()
    says(page, "Your browser blocked the lab")
    camera(page, "7-blocked")
    with page.context.expect_page() as opened:
        the_button(page).get_by_role("link", name="Open lab").click()
    opened.value.wait_for_url(re.compile("/launch/"))
    is_one_relaunch(school, old)


def test_the_page_is_told_when_the_lab_is_done(page: Page, school: School, camera: Camera) -> None:
    page.goto(school.course())
    press(page, "Relaunch this lab")
    says(page, "Your lab is ready")
    school.end(school.launched[0])
    says(page, "Your lab has ended.")
    camera(page, "8-lab-done")
    expect(the_button(page).get_by_role("button", name="Relaunch this lab")).to_be_visible()


def test_nobody_else_can_say_that_the_lab_is_done(page: Page, school: School) -> None:
    page.goto(school.course())
    press(page, "Relaunch this lab")
    says(page, "Your lab is ready")
    page.evaluate("window.postMessage('labDone', '*')")
    page.wait_for_function("new Promise((done) => setTimeout(() => done(true), 100))")
    says(page, "Your lab is ready")


def test_tells_the_page_by_events(page: Page, school: School) -> None:
    page.goto(school.course())
    page.evaluate(
        """window.told = [];
        for (const name of ["progress", "outcome", "error"])
            document.addEventListener(`relaunch-${name}`, (e) => told.push([name, e.detail]))"""
    )
    press(page, "Relaunch this lab")
    says(page, "Your lab is ready")
    told = page.evaluate("told")
    assert [name for name, _ in told][-1] == "outcome"
    assert told[-1][1]["outcome"] == "launched"
    assert {"progress"} == {name for name, _ in told[:-1]}


def test_says_that_the_page_may_be_closed_only_once_it_is_true(page: Page, school: School) -> None:
    school.give()
    held: list[Route] = []
    page.route("**/relaunches", lambda route: held.append(route))
    page.goto(school.course())
    press(page, "Relaunch this lab")
    press(page, "End it and relaunch")
    says(page, "Relaunching this lab")
    says(page, "Checking your labs")
    expect(the_button(page)).not_to_contain_text("You can close this page")
    held[0].continue_()
    says(page, "You can close this page")
