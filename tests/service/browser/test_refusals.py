"""What the button may not do, and what it says then."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, Route, expect

from tests.service.browser.conftest import Camera
from tests.service.browser.school import School, token
from tests.service.browser.test_relaunching import press, relaunch, says, the_button

pytestmark = pytest.mark.timeout(60)  # a browser, on whatever machine


def test_an_exam_is_never_ended(page: Page, school: School, camera: Camera) -> None:
    school.give(1003)
    page.goto(school.course())
    press(page, "Relaunch this lab")
    says(page, "The relaunch was refused")
    says(page, "Your running lab is an exam")
    says(page, "No lab was ended.")
    says(page, "Reference: ")
    camera(page, "9-exam")
    assert (school.launched, school.cancelled) == ([], [])


def test_a_refused_launch_says_why(page: Page, school: School, camera: Camera) -> None:
    school.sandbox.world.profiles[1001].refuse_with = 100
    page.goto(school.course())
    press(page, "Relaunch this lab")
    says(page, "The relaunch failed")
    says(page, "You have used up the launches of this lab.")
    says(page, "No lab was ended.")
    expect(the_button(page)).not_to_contain_text("in a few minutes")  # it would not help
    camera(page, "10-failed")
    school.sandbox.world.profiles[1001].refuse_with = None
    press(page, "Try again")
    says(page, "Your lab is ready")


def test_while_there_is_no_room_it_says_so_and_goes_on(page: Page, school: School) -> None:
    school.sandbox.world.profiles[1001].refuse_with = 3
    page.goto(school.course())
    press(page, "Relaunch this lab")
    says(page, "The lab platform has no room or")
    school.sandbox.world.profiles[1001].refuse_with = None
    says(page, "Your lab is ready")


def test_a_lab_that_another_tab_has_begun_meanwhile_is_not_ended(
    page: Page, school: School
) -> None:
    seen = {"user_id": "ada", "running": [], "saved": []}

    def stale(route: Route) -> None:
        route.fulfill(json=seen)
        school.give(1002)

    page.route("**/users/*/labs*", stale, times=1)
    page.goto(school.course())
    press(page, "Relaunch this lab")
    says(page, "A lab of yours has started meanwhile. Nothing was ended")
    assert school.cancelled == []


def test_an_expired_token_is_fetched_anew(page: Page, school: School) -> None:
    old = school.give()
    now = int(time.time())
    school.tokens = [lambda: token(exp=now - 60, iat=now - 600), token]
    page.goto(school.course())
    press(page, "Relaunch this lab")
    press(page, "End it and relaunch")
    says(page, "Tearing it down", "step")
    school.finish_teardowns()
    says(page, "Your lab is ready")
    assert school.cancelled == [old]
    assert school.tokens_given >= 2


def test_a_token_that_runs_out_during_the_relaunch_is_fetched_anew(
    page: Page, school: School
) -> None:
    old = school.give()
    school.tokens = [lambda: token(exp=int(time.time()) + 4), token]
    relaunch(page, school)
    deadline = time.monotonic() + 20
    while school.tokens_given < 2 and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    school.finish_teardowns()
    says(page, "Your lab is ready")
    assert school.tokens_given >= 2
    assert school.cancelled == [old]


def test_an_expired_token_in_the_page_asks_for_a_reload(
    page: Page, school: School, camera: Camera
) -> None:
    school.give()
    now = int(time.time())
    page.goto(school.course(f'token="{token(exp=now - 60, iat=now - 600)}"'))
    press(page, "Relaunch this lab")
    says(page, "Reload the page")
    camera(page, "11-expired")
    assert (school.launched, school.cancelled) == ([], [])


def test_a_token_for_another_lab_starts_nothing(page: Page, school: School) -> None:
    school.tokens = [lambda: token(lab=[1002])]
    page.goto(school.course())
    press(page, "Relaunch this lab")
    says(page, "This page may not do that.")
    assert (school.launched, school.cancelled) == ([], [])


def test_a_forged_token_starts_nothing(page: Page, school: School) -> None:
    school.give()
    header, _, signature = token().split(".")
    forged = ".".join([header, token("bob").split(".")[1], signature])
    page.goto(school.course(f'token="{forged}"'))
    press(page, "Relaunch this lab")
    says(page, "This page may not do that.")
    assert (school.launched, school.cancelled) == ([], [])


def test_the_next_learner_at_this_machine_sees_nothing_of_the_last(
    page: Page, school: School
) -> None:
    school.give()
    relaunch(page, school)
    school.tokens = [lambda: token("bob")]
    page.goto(school.course())
    expect(the_button(page).get_by_role("button", name="Relaunch this lab")).to_be_visible()
    page.wait_for_function("!Object.keys(localStorage).some((key) => key.startsWith('relaunch'))")
    assert the_button(page).locator("[part~=card]").count() == 0


def test_another_labs_relaunch_is_waited_for(page: Page, school: School, camera: Camera) -> None:
    school.give()
    relaunch(page, school)
    other = page.context.new_page()
    other.goto(school.course(lab=1002))
    press(other, "Relaunch this lab")
    says(other, "Another lab of yours is being relaunched.")
    camera(other, "12-another-lab")


def test_a_service_that_is_away_is_said_so(page: Page, school: School) -> None:
    page.goto(school.course())
    the_button(page).get_by_role("button").wait_for()
    port = school.stop()
    press(page, "Relaunch this lab")
    says(page, "The relaunch service doesn")
    school.start(port)
    press(page, "Try again")
    says(page, "Your lab is ready")


def test_a_dangerous_url_is_not_opened(page: Page, school: School) -> None:
    page.goto(school.course())
    school.sandbox.base_url = "javascript:alert(1)//"
    press(page, "Relaunch this lab")
    says(page, "Your lab is ready")
    assert "javascript:" not in the_button(page).evaluate("(b) => b.shadowRoot.innerHTML")
    assert all(p.url != "javascript:alert(1)//" for p in page.context.pages)


def test_texts_are_never_markup(page: Page, school: School) -> None:
    name = "&lt;img src=x onerror=document.title=1&gt;"
    page.goto(school.course(f'token-url="/token" lab-name="{name}"'))
    press(page, "Relaunch <img src=x onerror=document.title=1>")
    says(page, "Your lab is ready")
    assert the_button(page).locator("img").count() == 0
