"""One table that sorts the platform's launch and resume Result codes by what to do about them.

The codes and their meanings are documented by the vendor; whether a code is answered before or
after the user's own limit is looked at is not, so no decision may rest on their order.
"""

from __future__ import annotations

from enum import StrEnum


class Disposition(StrEnum):
    """What a Result code asks for."""

    ACCEPTED = "accepted"
    USER_LIMIT = "user_limit"
    CAPACITY = "capacity"
    SAVED_INSTANCE = "saved_instance"
    FINAL = "final"
    ERROR = "error"


_D = Disposition

#: Result code -> (what to do, stable reason code, what it means in plain words)
RESULTS: dict[int, tuple[Disposition, str, str]] = {
    0: (_D.ERROR, "launch_error", "the platform answered with an error"),
    1: (_D.ACCEPTED, "accepted", "accepted"),
    2: (_D.USER_LIMIT, "user_limit", "the learner already holds as many labs as they may"),
    3: (_D.CAPACITY, "host_resources", "the platform has no room on its hosts"),
    5: (_D.CAPACITY, "consumer_active", "the API consumer has too many active labs"),
    6: (_D.SAVED_INSTANCE, "saved_instance_exists", "the learner has a saved copy of this lab"),
    7: (_D.CAPACITY, "consumer_ram", "the API consumer has used up its memory"),
    10: (_D.CAPACITY, "user_ram", "the learner's labs have used up their memory"),
    20: (_D.CAPACITY, "user_organization_active", "the learner's organization has too many labs"),
    30: (_D.CAPACITY, "user_organization_ram", "the learner's organization is out of memory"),
    40: (_D.CAPACITY, "lab_profile_active", "too many copies of this lab are active"),
    50: (_D.CAPACITY, "lab_organization_ram", "the lab's organization is out of memory"),
    60: (_D.CAPACITY, "lab_organization_active", "the lab's organization has too many labs"),
    70: (_D.CAPACITY, "lab_series_active", "too many labs of this series are active"),
    80: (_D.CAPACITY, "lab_series_ram", "this lab series is out of memory"),
    90: (_D.CAPACITY, "class_active", "too many labs of this class are active"),
    100: (_D.FINAL, "launch_limit_reached", "the learner has used up the launches of this lab"),
    110: (_D.FINAL, "security_review", "the launch awaits a security review"),
    120: (_D.CAPACITY, "wrong_state", "the lab instance is in the wrong state for this"),
    130: (_D.FINAL, "security_review", "the launch awaits a security review"),
    140: (_D.FINAL, "launch_invalid", "the platform calls the launch request invalid"),
    150: (_D.CAPACITY, "class_environment", "the shared class environment isn't available now"),
    160: (_D.FINAL, "user_information_required", "the learner must give more information first"),
}

#: Capacity codes towards which the learner's own lab may count: ending it may be what clears them.
OWN_LAB_MAY_COUNT = frozenset({5, 7, 20, 30, 40, 50, 60, 70, 80, 90})

#: Codes that only the learner's own labs can cause; for these, ending one is the remedy.
ONLY_OWN_LABS_COUNT = frozenset({10})

#: Codes that the teardown of the learner's own old lab may cause: they clear when it ends.
TEARDOWN_MAY_CAUSE = OWN_LAB_MAY_COUNT | ONLY_OWN_LABS_COUNT | {120}

#: Codes about the lab profile itself: with an instance of it running that is to be replaced
#: anyway, ending that one is the remedy.
ABOUT_THE_PROFILE = frozenset({40, 120})


def disposition(result: int | None) -> Disposition:
    """Sort a Result code; a missing one is an error, one never heard of is final."""
    if result is None:
        return Disposition.ERROR
    entry = RESULTS.get(result)
    return entry[0] if entry else Disposition.FINAL


def reason(result: int | None) -> str:
    """The stable reason code of a Result code."""
    if result is None:
        return "launch_error"
    entry = RESULTS.get(result)
    return entry[1] if entry else "unknown_result"


def meaning(result: int | None) -> str:
    """A Result code in plain words, the code beside it."""
    if result is None:
        return "the platform answered without a Result"
    entry = RESULTS.get(result)
    return f"{entry[2] if entry else 'a Result that this version does not know'} (Result {result})"
