"""What a simulation draws of the platform and of the requests, and that it draws the same again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator import Policy
from orchestrator.sandbox import Readings
from tests.world import EXAM, NEW_LAB, OLD_LAB

__all__ = ["EXAM", "FAULTS", "NEW_LAB", "OLD_LAB", "policy_of", "readings", "reproducible"]

#: What the platform may do wrong; late effects are short of what a lost launch is looked for.
FAULTS = (
    "launch:lose_after", "launch:lose_before", "launch:late_effect=4", "launch:http_502",
    "launch:hang", "launch:rate_limit=8", "launch:http_500", "launch:truncated",
    "cancel:lose_after", "cancel:lose_before", "cancel:http_500", "cancel:hang",
    "cancel:late_effect=4", "details:http_503=2*2", "details:truncated", "details:status_0",
    "details:hang", "userrunningandsavedlabs:html", "userrunningandsavedlabs:lose_before",
    "userrunningandsavedlabs:delay=9", "*:http_504", "*:rate_limit=20*3", "LabAccessUrl:http_500",
    "save:lose_after",
)  # fmt: skip


def readings(rng: random.Random) -> Readings:
    """One reading of each thing that the vendor leaves unsaid."""
    return Readings(
        listing_drops=rng.choice(("at_cancel", "at_gone")),
        details_when_gone=rng.choice(("off", "error")),
        details_lag=rng.choice((0.0, 0.0, 4.0, -4.0)),
        same_profile_running=rng.choice(("hand_back", "second_instance", "refuse")),
        same_profile_tearing_down=rng.choice(("limit", "wrong_state", "hand_back")),
        cancel_again=rng.choice((0, 1)),
        cancel_gone=rng.choice((0, 1)),
        user_limit=rng.choice(("result_2", "active_labs_page")),
        unseen_user=rng.choice(("empty", "error")),
    )


def policy_of(rng: random.Random, deadline: float) -> Policy:
    """What a relaunch may do."""
    return Policy(
        probe=rng.random() < 0.8,
        if_running=rng.choice(("replace", "replace", "replace", "reuse", "refuse")),
        overlap=rng.random() < 0.15,
        detect=rng.choice(("details", "details", "listing", "launch")),
        displace="save" if rng.random() < 0.1 else "cancel",
        deadline_seconds=deadline,
    )


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Jitter draws from the module's generator: give it a seed, and put it back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
