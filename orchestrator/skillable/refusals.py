"""What the platform's ``Error`` texts mean: a bad key, a foreign instance, an unseen user.

The texts are prose and may change, so the rules are wide, and they lean to the harmless side.
``Status`` is about the API request, ``Result`` about the command (documented): the text "Invalid
integration key" with ``Status`` 1 means that another API consumer launched the instance
(documented for cancel); with ``Status`` 0 it means our own key.
"""

from __future__ import annotations

import re

from orchestrator.skillable.reading import Json, filled_text, integer

_KEY = re.compile(r"\b(integration|api|access)[ _-]?key\b|\binvalid key\b", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(un|not )authori[sz]ed\b|\bauthenticat|\baccess denied\b|\bforbidden\b", re.IGNORECASE
)
_USER = re.compile(r"\b(user|account|student|learner)", re.IGNORECASE)
_UNSEEN = re.compile(
    r"not (be )?found|unknown|does ?n.t exist|does not exist|no such|invalid|not exist|no user"
    r"|could ?n.t find|cannot find|unable to find|unrecogni[sz]ed",
    re.IGNORECASE,
)


def own_word(data: Json) -> str | None:
    """The platform's own word for what went wrong, if it has one."""
    return filled_text(data, "Error")


def is_key_trouble(data: Json, *, about_instance: bool = False) -> bool:
    """Whether the answer says that our key is not accepted.

    In an answer about one instance, "access denied" is about that instance, and "Invalid
    integration key" with ``Status`` 1 means that another API consumer launched it.
    """
    error = own_word(data)
    if error is None or integer(data, "Result") not in (None, 0):
        return False
    if about_instance:
        return bool(_KEY.search(error)) and integer(data, "Status") != 1
    return bool(_KEY.search(error) or _DENIED.search(error))


def is_foreign(data: Json) -> bool:
    """Whether an answer about an instance says that another API consumer launched it."""
    error = own_word(data)
    if error is None or integer(data, "Result") not in (None, 0):
        return False
    return bool(_KEY.search(error)) and integer(data, "Status") == 1


def is_unseen_user(data: Json) -> bool:
    """Whether the answer says that the platform has never heard of the user."""
    error = own_word(data)
    if error is None or is_key_trouble(data):
        return False
    return bool(_USER.search(error)) and bool(_UNSEEN.search(error))
