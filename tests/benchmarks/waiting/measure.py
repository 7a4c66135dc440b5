"""What is measured: each function makes one figure out of one seed, family and cost of a look.

All costs are relative to the optimum of Barlow and Proschan for the true law of that family.
"""

from __future__ import annotations

import math

import numpy as np

from orchestrator.waiting import LearnedSchedule
from tests.benchmarks.waiting.families import DEADLINE, Floats, cut, families
from tests.benchmarks.waiting.optimum import costs, optimal_looks
from tests.benchmarks.waiting.peers import PEERS, draws
from tests.benchmarks.waiting.simulator import looks_of, wait, wait_with_webhook

COSTS = (0.5, 2.0, 10.0)
SEEDS = (1, 2, 3)
#: The numbers of observations after which a schedule is measured.
OBSERVED = (0, 5, 20, 50, 200, 1000)
#: Siblings of a newcomer, how often each was observed, and how much their speeds differ (log).
SIBLINGS, TIMES_EACH, SPREAD = 8, 50, 0.25
#: The families that drift, and what drifts.
DRIFTING = ("container", "vm", "cloud", "grace_period")
DRIFTS = ("day rhythm", "sudden step", "slow walk")
#: The families that webhooks are tried on.
ANNOUNCED = ("container", "vm", "cloud", "lognormal", "exponential", "uniform", "grace_period")

Job = tuple[int, int, float]


def best(times: Floats, c: float) -> tuple[float, float, float]:
    """Cost, idle seconds and looks of the optimum, which looks at the deadline at the latest."""
    return costs(np.append(optimal_looks(times, c), DEADLINE), times, c)


def random_of(job: Job, purpose: int) -> np.random.Generator:
    """Random numbers of their own for each measurement."""
    seed, family, c = job
    return np.random.default_rng([seed, family, int(c * 10), purpose])


def learning(job: Job) -> tuple[str, float, list[float], list[tuple[float, float, float]]]:
    """The learned schedule after each of ``OBSERVED``: ratios; and cost, idle, looks."""
    seed, family, c = job
    law = families(seed)[family]
    times, drawn = law.times(), law.draw(random_of(job, 7), max(OBSERVED))
    optimum, schedule = best(times, c)[0], LearnedSchedule(c)
    ratios, shown, done = [], [], 0
    for number in OBSERVED:
        for time in drawn[done:number]:
            wait(schedule, float(time))
        done = number
        cost, idle, looks = costs(looks_of(schedule), times, c)
        ratios.append(cost / optimum)
        shown.append((cost, idle, looks))
    return law.name, c, ratios, shown


def peers(job: Job) -> tuple[str, float, dict[str, tuple[float, float, float]]]:
    """Each peer's ratio, idle seconds and looks."""
    seed, family, c = job
    law = families(seed)[family]
    times = law.times()
    optimum = best(times, c)
    found = {"optimum": (1.0, optimum[1], optimum[2])}
    for name in PEERS:
        each = np.mean([costs(looks, times, c) for looks in draws(name)], axis=0)
        found[name] = (float(each[0]) / optimum[0], float(each[1]), float(each[2]))
    return law.name, c, found


def siblings(job: Job) -> float:
    """The first wait of a lab whose siblings are known."""
    seed, family, c = job
    law = families(seed)[family]
    random = random_of(job, 11)
    speeds = np.exp(random.uniform(-SPREAD, SPREAD, SIBLINGS + 1))
    root = LearnedSchedule(c)
    others = [LearnedSchedule(c, relatives=root) for _ in range(SIBLINGS)]
    drawn = [law.scaled(float(s)).draw(random, TIMES_EACH) for s in speeds[1:]]
    for n in range(TIMES_EACH):
        for schedule, times in zip(others, drawn, strict=True):
            wait(schedule, float(times[n]))
    own = law.scaled(float(speeds[0])).times()
    newcomer = LearnedSchedule(c, relatives=root)
    return costs(looks_of(newcomer), own, c)[0] / best(own, c)[0]


def drift(job: Job, kind: str) -> float:
    """The mean ratio over 400 waits (every tenth from the 50th on) while the law drifts."""
    seed, family, c = job
    law = families(seed)[family]
    random = random_of(job, 9)
    walk = np.exp(np.cumsum(random.normal(0, 0.02, 400)))
    drawn, steady, schedule = law.draw(random, 400), law.times()[::4], LearnedSchedule(c)
    ratios = []
    for n in range(400):
        factor = {
            "day rhythm": math.exp(0.3 * math.sin(2 * math.pi * n / 200)),
            "sudden step": 1.0 if n < 200 else 2.0,
            "slow walk": float(walk[n]),
        }[kind]
        if n >= 50 and n % 10 == 0:
            now = cut(steady * factor)
            ratios.append(costs(looks_of(schedule), now, c)[0] / best(now, c)[0])
        wait(schedule, float(cut(drawn[n] * factor)))
    return float(np.mean(ratios))


def webhooks(job: Job, lost: float) -> tuple[float, float, float]:
    """Cost relative to the optimum without webhooks, idle seconds, looks: after 50 of them."""
    seed, family, c = job
    law = families(seed)[family]
    random = random_of(job, 13)
    schedule, drawn = LearnedSchedule(c), law.draw(random, 400)
    found = []
    for n, time in enumerate(drawn):
        arrives = bool(random.random() >= lost)
        done = wait_with_webhook(schedule, float(time), delay=1.0, arrives=arrives)
        if n >= 50:
            found.append(done)
    idle, looks = np.mean(found, axis=0)
    return float(idle + c * looks) / best(law.times(), c)[0], float(idle), float(looks)


def dead_webhooks(job: Job) -> tuple[float, float, float]:
    """A hundred webhooks, then none: the cost of the first wait, waits 2 to 5, waits 6 to 100."""
    seed, family, c = job
    law = families(seed)[family]
    schedule, drawn = LearnedSchedule(c), law.draw(random_of(job, 17), 200)
    for time in drawn[:100]:
        wait_with_webhook(schedule, float(time), delay=1.0, arrives=True)
    after = [wait(schedule, float(time)) for time in drawn[100:]]
    paid = np.array([idle + c * looks for idle, looks in after]) / best(law.times(), c)[0]
    return float(paid[0]), float(paid[1:5].mean()), float(paid[5:].mean())
