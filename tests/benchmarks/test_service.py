"""The benchmark of the service measures what it says: each measurement in small, and the page."""

from __future__ import annotations

import pytest

from tests.benchmarks.service import following, pressing
from tests.benchmarks.service.__main__ import QUICK, results


@pytest.mark.parametrize("kind", ["floor", "ours", "fastapi"])
def test_streams_are_opened_rest_and_end(kind: str) -> None:
    found = following.follow(kind, relaunches=3, streams=30, rest=0.1)
    assert found.opening > 0
    assert found.idle > 0
    assert found.ending > 0
    assert found.told_within > 0


@pytest.mark.parametrize("how", ["library", "service"])
def test_whole_relaunches_are_measured(how: str) -> None:
    found = pressing.measure(how, 3)
    assert found.cpu > 0
    assert found.memory > 10_000_000


def test_the_page_tells_ratios_to_ours_and_who_is_left_out() -> None:
    def stream(times: float) -> following.Found:
        return following.Found(
            memory=40_000 * times, opening=2 * times, idle=4 * times, ending=times, told_within=3
        )

    def press(cpu: float, memory: float) -> pressing.Found:
        return pressing.Found(cpu=cpu, memory=memory)

    page = results(
        {"ours": stream(1), "fastapi": stream(1.5)},
        {
            "library": [press(4, 70e6), press(9, 80e6), press(3, 75e6)],
            "service": [press(6, 90e6), press(6, 85e6), press(7, 80e6)],
        },
        "Somewhere.",
        QUICK,
    )
    assert "Left out, since it is not installed: uvicorn alone" in page
    assert "| ours | 40.0 (1.00 x) | 2.00 (1.00 x) | 4.0 (1.00 x) | 1.00 (1.00 x) | 3.0 |" in page
    assert "| 60.0 (1.50 x) | 3.00 (1.50 x) |" in page
    assert "followed to its end | 4.00 (1.00 x) | 80 |" in page
    assert "stream to its end | 6.00 (1.50 x) | 90 |" in page
