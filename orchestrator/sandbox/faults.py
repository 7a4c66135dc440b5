"""Faults with names, put on operations: what a network and a tired platform do.

Text form, several separated by commas: ``OPERATION:FAULT[=NUMBER][*TIMES][+AFTER]``, where
OPERATION is a platform operation or ``*``, NUMBER a delay or Retry-After in seconds, TIMES how
often (once, unless told; ``*0`` for always), AFTER how many calls go well before. For example
``launch:lose_after, details:http_503=2*3, *:delay=0.5*0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: name -> what it does
FAULTS: dict[str, str] = {
    "lose_before": "the connection breaks before the call is carried out",
    "lose_after": "the call is carried out, then the connection breaks",
    "late_effect": "the connection breaks and the call is carried out NUMBER s later (default 3)",
    "hang": "the call is carried out, and no answer ever comes",
    "http_500": "HTTP 500, nothing carried out",
    "http_502": "HTTP 502 after carrying the call out",
    "http_503": "HTTP 503 with Retry-After NUMBER (none if 0), nothing carried out",
    "http_504": "HTTP 504 after carrying the call out",
    "rate_limit": "HTTP 429 with Retry-After NUMBER, nothing carried out",
    "rate_limit_date": "HTTP 429 with Retry-After as an HTTP date, NUMBER s from now",
    "rate_limit_bare": "HTTP 429 without Retry-After",
    "html": "HTTP 200 with an HTML page after carrying the call out",
    "login_redirect": "HTTP 302 to a login page, nothing carried out",
    "truncated": "JSON that breaks off, after carrying the call out",
    "huge": "a body of over 1 MiB, after carrying the call out",
    "wrong_types": "a JSON list where an object should be, after carrying the call out",
    "status_0": "HTTP 200 with Status 0 and an Error, nothing carried out",
    "delay": "the answer comes NUMBER s late (default 1)",
}


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault on one operation; ``times`` 0 means always."""

    operation: str
    name: str
    number: float | None = None
    times: int = 1
    after: int = 0

    def __post_init__(self) -> None:
        """Refuse a name that is none."""
        if self.name not in FAULTS:
            raise ValueError(f"fault {self.name!r}: is none of {', '.join(FAULTS)}")
        self.operation = self.operation.lower()


_FORM = re.compile(r"([\w/*]+):(\w+)(?:=(\d+(?:\.\d+)?))?(?:\*(\d+))?(?:\+(\d+))?")


def parse_faults(text: str) -> list[Fault]:
    """The faults that a text names; ``ValueError`` says what is wrong."""
    faults = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        found = _FORM.fullmatch(part)
        if found is None:
            raise ValueError(f"fault {part!r}: takes OPERATION:FAULT[=NUMBER][*TIMES][+AFTER]")
        operation, name, number, times, after = found.groups()
        faults.append(
            Fault(
                operation=operation,
                name=name,
                number=None if number is None else float(number),
                times=1 if times is None else int(times),
                after=int(after or 0),
            )
        )
    return faults


class FaultPlan:
    """Which fault, if any, the next call of an operation meets."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = list(faults)

    def add(self, text: str) -> None:
        """Put more faults on, in their text form."""
        self.faults.extend(parse_faults(text))

    def next(self, operation: str) -> Fault | None:
        """Take the fault for this call; the first that fits."""
        for fault in self.faults:
            if fault.operation not in ("*", operation.lower()):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times != 0:
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
            return fault
        return None
