"""Both readings of each thing that the vendor leaves unsaid, as switches.

The defaults are what is documented, or else the more plausible reading. A client that is right must
work with every combination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """One switch for each unknown.

    ``listing_drops``: a cancelled instance leaves the user's list at the cancel or when it is gone.
    ``details_when_gone``: what the details of a gone instance are: state Off, or an error.
    ``details_lag``: seconds by which the details' state runs behind the slot (negative: ahead).
    ``teardown_state``: the State text of a teardown; new texts occur.
    ``refusal_status``: the Status of a refused command (it is about the request, not the command).
    ``refusal_instance_id``: how a refused launch says that there is no instance.
    ``empty_lists``: an empty list is ``[]`` or null.
    ``unseen_user``: the list of a user never seen is empty or an error.
    ``same_profile_running``: launching a profile of which the user has an active instance hands
    that one back (documented default), makes a second one, or is refused as any other launch.
    ``same_profile_tearing_down``: the same during its teardown: Result 2, 120, or Result 1 with
    the dying instance.
    ``final_checks`` / ``capacity_checks``: before or after the user's limit is looked at.
    ``cancel_again``: the Result of cancelling an instance that is tearing down already.
    ``cancel_gone``: the Result of cancelling an instance that is gone.
    ``bad_key``: how a wrong API key is answered.
    ``user_limit``: Result 2, or a page on which the learner manages active labs (a URL, no id).
    ``page_result``: the Result that comes with that page.
    ``foreign_listed``: whether another API consumer's instances are listed.
    ``keeps_tags``: whether details tell the tag of a launch (documented: they do).
    ``extra_fields``: answers carry fields that nobody has documented.
    """

    listing_drops: Literal["at_cancel", "at_gone"] = "at_gone"
    details_when_gone: Literal["off", "error"] = "off"
    details_lag: float = 0.0
    teardown_state: str = "Tearing Down"
    refusal_status: Literal[0, 1] = 1
    refusal_instance_id: Literal["null", "zero", "absent"] = "absent"
    empty_lists: Literal["list", "null"] = "list"
    unseen_user: Literal["empty", "error"] = "empty"
    same_profile_running: Literal["hand_back", "second_instance", "refuse"] = "hand_back"
    same_profile_tearing_down: Literal["limit", "wrong_state", "hand_back"] = "limit"
    final_checks: Literal["before_limit", "after_limit"] = "before_limit"
    capacity_checks: Literal["before_limit", "after_limit"] = "after_limit"
    cancel_again: Literal[0, 1] = 1
    cancel_gone: Literal[0, 1] = 0
    bad_key: Literal["401", "403", "status_0"] = "401"
    user_limit: Literal["result_2", "active_labs_page"] = "result_2"
    page_result: Literal[0, 1, 2] = 1
    foreign_listed: bool = True
    keeps_tags: bool = True
    extra_fields: bool = False
