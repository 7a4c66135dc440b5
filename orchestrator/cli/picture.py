"""A picture of what is known of one lab's teardowns: how likely each time is, and when to look."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from orchestrator.errors import ConfigurationError
from orchestrator.waiting import LearnedSchedule, Waited


def draw(name: str, schedule: LearnedSchedule, waits: tuple[Waited, ...], file: Path) -> None:
    """Write the picture to ``file``, in the format that its ending names."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise ConfigurationError(
            "--plot needs matplotlib; nothing was drawn. Install it with: "
            "pip install 'lab-relaunch[plot]'"
        ) from None
    looks, law = schedule.looks(), schedule.law
    end = law.quantile(0.95 * law.cdf[-1]) * 1.6
    cells = [c for c in zip(pairwise(law.times), pairwise(law.cdf), strict=True) if c[0][0] < end]
    figure, (top, bottom) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5), height_ratios=(3, 1))
    top.stairs(
        [100 * (above - below) / (stop - start) for (start, stop), (below, above) in cells],
        [cells[0][0][0], *(stop for (_, stop), _ in cells)],
        fill=True,
        alpha=0.4,
    )
    for look in looks:
        if look < end:
            top.axvline(look, linewidth=0.8, color="black")
    top.set_ylabel("ends, % of teardowns per second")
    top.set_title(f"Lab {name}: {law.observations} teardowns; a line is a look of the next wait")
    for n, waited in enumerate(waits[-40:]):
        bottom.plot([waited.low, min(waited.high, end)], [n, n], linewidth=1.5)
    bottom.set_ylabel("last waits")
    bottom.set_yticks([])
    bottom.set_xlabel("seconds since the teardown began")
    bottom.set_xlim(0, end)
    try:
        figure.savefig(file, dpi=120, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--plot: {file} cannot be written: {error}") from None
    finally:
        pyplot.close(figure)
