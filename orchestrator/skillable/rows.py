"""From the platform's JSON rows to typed values: one function for each kind of row.

Allow-lists: what is not read here goes no further, credentials least of all.
"""

from __future__ import annotations

from orchestrator.labs import InstanceDetails
from orchestrator.labs import RunningInstance as Running
from orchestrator.labs import SavedInstance as Saved
from orchestrator.skillable import reading as read
from orchestrator.skillable.answers import ConsumerLab, LabResult
from orchestrator.skillable.reading import Json
from orchestrator.skillable.states import is_submitted, phase_of


def running(data: Json) -> Running | None:
    """A row of a user's running labs; ``None`` if it names no instance."""
    instance_id = read.identifier(data, "LabInstanceId", "Id")
    if instance_id is None:
        return None
    return Running(
        instance_id=instance_id,
        lab_profile_id=read.identifier(data, "LabProfileId"),
        lab_profile_name=read.text(data, "LabProfileName"),
        started_at=read.epoch(data, "Start"),
        expires_at=read.epoch(data, "Expires"),
        is_exam=bool(read.flag(data, "IsExam")),
    )


def saved(data: Json) -> Saved | None:
    """A row of a user's saved labs; ``None`` if it names no instance."""
    instance_id = read.identifier(data, "LabInstanceId", "Id")
    if instance_id is None:
        return None
    return Saved(
        instance_id=instance_id,
        lab_profile_id=read.identifier(data, "LabProfileId"),
        lab_profile_name=read.text(data, "LabProfileName"),
        saved_at=read.epoch(data, "Saved"),
        expires_at=read.epoch(data, "Expires"),
        minutes_remaining=read.integer(data, "MinutesRemaining"),
        save_in_progress=bool(read.flag(data, "SaveInProgress")),
        is_exam=bool(read.flag(data, "IsExam")),
        submitted_for_grading=bool(read.flag(data, "SubmittedForGrading")),
    )


def consumer_lab(data: Json) -> ConsumerLab | None:
    """A row of the consumer's labs; ``None`` if it names no instance."""
    instance_id = read.identifier(data, "Id", "LabInstanceId")
    if instance_id is None:
        return None
    return ConsumerLab(
        instance_id=instance_id,
        user_id=read.text(data, "UserId"),
        lab_profile_id=read.identifier(data, "LabProfileId"),
        lab_profile_name=read.text(data, "LabProfileName"),
        started_at=read.epoch(data, "Start"),
        expires_at=read.epoch(data, "Expires"),
        is_exam=bool(read.flag(data, "IsExam")),
        user_first_name=read.text(data, "UserFirstName"),
        user_last_name=read.text(data, "UserLastName"),
    )


def details(data: Json, instance_id: int) -> InstanceDetails:
    """What is told of an instance. A tag (or class) of null is none, a missing one is not told."""
    state, completion = read.text(data, "State"), read.text(data, "CompletionStatus")
    tag, class_id = read.text(data, "Tag"), read.text(data, "ClassId")
    return InstanceDetails(
        instance_id=instance_id,
        phase=phase_of(state),
        state=state,
        completion_status=completion,
        user_id=read.filled_text(data, "UserId"),
        lab_profile_id=read.identifier(data, "LabProfileId"),
        lab_profile_name=read.text(data, "LabProfileName"),
        kind=_kind(data),
        tag="" if tag is None and "Tag" in data else tag,
        is_exam=read.flag(data, "IsExam"),
        submitted_for_grading=is_submitted(completion)
        or bool(read.flag(data, "SubmittedForGrading")),
        started_at=read.epoch(data, "Start"),
        class_id="" if class_id is None and "ClassId" in data else class_id,
        last_activity_at=read.epoch(data, "LastActivity"),
    )


def _kind(data: Json) -> str | None:
    """What the lab runs on decides how it is torn down; else the series that it belongs to."""
    for word, field in (("platform", "PlatformId"), ("series", "SeriesId")):
        identifier = read.identifier(data, field)
        if identifier is not None:
            return f"{word} {identifier}"
    return None


def result(data: Json, instance_id: int | None) -> LabResult:
    """How an instance ended, or stands."""
    score = data.get("ExamScore")
    return LabResult(
        instance_id=read.identifier(data, "LabInstanceId", "Id") or instance_id,
        lab_profile_id=read.identifier(data, "LabProfileId"),
        user_id=read.text(data, "UserId"),
        class_id=read.text(data, "ClassId"),
        started_at=read.epoch(data, "Start"),
        ended_at=read.epoch(data, "End"),
        last_activity_at=read.epoch(data, "LastActivity"),
        completion_status=read.integer(data, "CompletionStatus"),
        total_run_time_seconds=read.seconds(data, "TotalRunTimeSeconds"),
        task_complete_percent=read.integer(data, "TaskCompletePercent"),
        is_exam=read.flag(data, "IsExam"),
        exam_passed=read.flag(data, "ExamPassed"),
        exam_score=float(score) if isinstance(score, int | float) else None,
    )
