"""The typed answers that only the client has; those that cross the ports are in ``labs``.

Frozen, allow-listed fields; no field for credentials. Times are Unix epoch seconds, ``None`` means
that the platform did not say. What the platform may add is kept out until somebody needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.labs import InstanceDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How many labs of the API consumer are active (tearing down ones included) and saved."""

    num_active: int | None
    num_saved: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveAnswer:
    """``result`` 1: saving began; 2: the instance is in the wrong state; 0: unknown error."""

    result: int | None
    foreign: bool = False
    expires_at: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswer:
    """``result`` 1: the teardown began; ``foreign``: another API consumer's instance."""

    result: int | None
    foreign: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerLab:
    """One lab of the whole API consumer; names are personal data and stay out of ``repr``."""

    instance_id: int
    user_id: str | None
    lab_profile_id: int | None
    lab_profile_name: str | None
    started_at: float | None
    expires_at: float | None
    is_exam: bool
    user_first_name: str | None = field(default=None, repr=False)
    user_last_name: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerLabs:
    """Every running and saved lab of the API consumer."""

    running: tuple[ConsumerLab, ...]
    saved: tuple[ConsumerLab, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabResult:
    """How one lab instance ended, or stands. ``completion_status`` is the platform's number."""

    instance_id: int | None
    lab_profile_id: int | None
    user_id: str | None
    class_id: str | None
    started_at: float | None
    ended_at: float | None
    last_activity_at: float | None
    completion_status: int | None
    total_run_time_seconds: float | None
    task_complete_percent: int | None
    is_exam: bool | None
    exam_passed: bool | None
    exam_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """One page of a search, by whatever mode: what the platform says of each instance."""

    page_index: int
    total_pages: int | None
    total_results: int | None
    instances: tuple[InstanceDetails, ...]
