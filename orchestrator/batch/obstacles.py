"""What concerns every learner of a batch and not only one: it pauses the batch, or stops it.

* While relaunches in flight wait for the platform, or for room that all share, none is begun: they
  would only wait as well, or fail one after the other.
* A relaunch that *ends* for such a reason has waited for its whole deadline: the batch stops, what
  was not begun is untouched, and it can be resumed.
* A refused key stops it at once. A platform that gave no usable answer stops it when several in a
  row have ended so; one alone may have had bad luck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from orchestrator.durable.batches import ItemResult
from orchestrator.machine.results import RESULTS, Disposition
from orchestrator.machine.vocabulary import State

#: Capacity that a learner shares with others; what only concerns their own labs is not in here.
SHARED = {
    reason: meaning
    for disposition, reason, meaning in RESULTS.values()
    if disposition is Disposition.CAPACITY
    and reason not in ("user_ram", "user_organization_active", "user_organization_ram")
    and reason != "wrong_state"
}
#: The platform gives no usable answer.
SILENT = frozenset(
    {
        "not_sent",
        "platform_unreachable",
        "platform_unavailable",
        "platform_paused",
        "answer_lost",
        "answer_unreadable",
    }
)
KEY_REJECTED = "key_rejected"
#: The gate lets nothing through: enough calls of late were not answered to be sure.
_PAUSED = "platform_paused"
#: So many items that end without a usable answer, with no success between them, stop the batch.
SILENCE = 3

#: Why a batch stops, in plain words, where it is neither capacity nor silence.
_WORDS = {
    KEY_REJECTED: "The platform does not accept the API key.",
    "on_error": "An item failed, and the batch is to stop then.",
    "batch_wait": "The time given to the batch is over.",
    "interrupted": "The batch was interrupted.",
    "stopped": "The batch was stopped.",
    "store_unavailable": "The store of relaunches is away.",
}


def word_of(code: str) -> str:
    """What a code of an obstacle, or of a stop, means, as a sentence."""
    if code in SHARED:
        return f"{SHARED[code][0].upper()}{SHARED[code][1:]}."
    if code in SILENT:
        return "The platform gives no usable answer."
    return _WORDS.get(code, f"The batch was stopped: {code}.")


def is_systemic(reason: str | None) -> bool:
    """Whether a batch that stopped for this reason met something that concerns every learner."""
    return reason is not None and (reason in SHARED or reason in SILENT or reason == KEY_REJECTED)


def in_the_way(blocked_by: Iterable[str | None]) -> str | None:
    """The code of what keeps new items from being begun; given what each flight waits for."""
    codes = Counter(
        code for code in blocked_by if code is not None and (code in SHARED or code == _PAUSED)
    )
    return codes.most_common(1)[0][0] if codes else None


class Judge:
    """Says of each item that ends whether the batch has to stop."""

    def __init__(self) -> None:
        self._silent = 0

    def stops(self, result: ItemResult) -> str | None:
        """The code of why the batch stops after this result, or ``None``."""
        reason = result.reason
        if result.ok:
            self._silent = 0
            return None
        if reason == KEY_REJECTED:
            return reason
        if reason in SHARED and result.outcome in (State.TIMED_OUT, State.FAILED):
            return reason
        if reason not in SILENT:
            # The platform has said no to this one, and so it answers.
            self._silent = 0
            return None
        self._silent += 1
        return reason if self._silent >= SILENCE else None
