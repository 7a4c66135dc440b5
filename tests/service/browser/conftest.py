"""One browser for all tests here, a school for each test, and a folder for pictures of each state.

``RELAUNCH_SCREENSHOTS`` names the folder; it is told at the end otherwise.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.service.browser.school import School

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",  # its own sandbox needs rights that containers don't give
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: Takes a picture of a page; its name.
Camera = Callable[[Page, str], None]


def running_browser() -> Iterator[Browser]:
    """The system's browser, while it is wanted; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"there is no browser here: none of {', '.join(_NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(_FLAGS))
        yield browser
        browser.close()


# Not for longer: while it runs, so does an event loop, and no other test could run its own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    yield from running_browser()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1100, "height": 820})
    context.set_default_timeout(12_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def school(browser: Browser, tmp_path: Path) -> Iterator[School]:
    with School(tmp_path) as school:
        yield school


@pytest.fixture(scope="session")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Camera:
    named = os.environ.get("RELAUNCH_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"pictures of each state: {folder}")

    def take(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return take
