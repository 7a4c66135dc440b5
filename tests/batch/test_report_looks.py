"""The report's page in a browser: it keeps nobody out, fits narrow screens, asks for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # has none
from playwright.sync_api import Browser, Page

from orchestrator.batch.report import report
from orchestrator.durable.batches import Batch, BatchState, StoredItem
from tests.batch.reported import BEGUN, batch, class_of, freeing
from tests.service.browser.conftest import running_browser

pytestmark = pytest.mark.timeout(60)  # a browser, on whatever machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from running_browser()


def opened(
    browser: Browser, tmp_path: Path, asked: Batch, items: Iterator[StoredItem], **options: Any
) -> tuple[Page, list[str]]:
    file = tmp_path / "report.html"
    at = BEGUN + 250
    file.write_text("".join(report(asked, items, format="html", at=at)), encoding="utf-8")
    page = browser.new_page(**options)
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: told.append(request.url))
    page.goto(file.as_uri())
    assert told.pop(0) == file.as_uri()
    return page, told


CASES: dict[str, Callable[[], tuple[Batch, Iterator[StoredItem]]]] = {
    "thirty": lambda: (batch(30), class_of(30, labs=(1, 2), trouble=0.2)),
    "unfinished": lambda: (
        batch(60, BatchState.RUNNING, held_until=BEGUN + 900),
        class_of(60, until=200.0),
    ),
    "stopped": lambda: (
        batch(60, BatchState.STOPPED, reason="consumer_active"),
        class_of(60, until=200.0),
    ),
    "paused": lambda: (batch(60), class_of(60, concurrency=8, pause=(200.0, 40_000.0))),
    "freed": lambda: (freeing(3), class_of(3, frees=True, trouble=0)),
    "none": lambda: (batch(0), iter(())),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("case", CASES)
def test_keeps_nobody_out(browser: Browser, tmp_path: Path, case: str, scheme: Any) -> None:
    page, told = opened(browser, tmp_path, *CASES[case](), color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
    # Neither a blocked style nor a request to anywhere.
    assert told == []
    page.close()


def test_fits_a_narrow_screen(browser: Browser, tmp_path: Path) -> None:
    page, _ = opened(browser, tmp_path, *CASES["thirty"](), viewport={"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.close()


def test_wears_its_style_and_prints_on_paper(browser: Browser, tmp_path: Path) -> None:
    page, _ = opened(browser, tmp_path, *CASES["thirty"](), color_scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(ground) == "rgb(18, 23, 29)"
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    # A4 without its margins, in CSS pixels: nothing sticks out.
    page.set_viewport_size({"width": 703, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 703
    page.close()
