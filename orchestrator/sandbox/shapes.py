"""The documented shapes of the longer answers. Times are epoch seconds, twinned where documented.

The credentials are made up, and there so that tests can prove that they never leak.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.sandbox.world import Instance

Json = dict[str, Any]

#: Every password that the sandbox ever tells.
SANDBOX_PASSWORD = "sandbox-Pa55word-must-not-leak"  # noqa: S105 - made up, and named for its use

_COMPLETION_NUMBERS = {"Cancelled": 1, "Not Started": 2, "Incomplete": 3, "Complete": 4}


def _twin(name: str, at: float | None) -> Json:
    if at is None:
        return {name: None, f"{name}Time": None}
    return {name: int(at), f"{name}Time": f"/Date({int(at)}000)/"}


def details(now: float, instance: Instance, state: str, keeps_tags: bool) -> Json:
    """The answer of ``details``."""
    profile = instance.profile
    return {
        "Id": instance.instance_id,
        "LabProfileId": profile.profile_id,
        "LabProfileName": profile.name,
        "SeriesId": profile.series_id,
        "SeriesName": f"Series {profile.series_id}",
        "UserId": instance.user_id,
        "UserFirstName": instance.first_name,
        "UserLastName": instance.last_name,
        "ClassId": instance.class_id,
        "ClassName": None,
        **_twin("Start", instance.started_at),
        **_twin("Expires", instance.expires_at),
        **_twin("End", instance.ended_at),
        **_twin("LastActivity", instance.last_activity_at),
        **_twin("LastSave", instance.last_save_at),
        **_twin("SaveExpires", None),
        "State": state,
        "CompletionStatus": instance.completion_status,
        "PlatformId": 20,
        "TimeInSession": int(now - instance.started_at),
        "TotalRunTime": int(now - instance.started_at),
        "TimeRemaining": max(0, int(instance.expires_at - now)),
        "StartupDuration": int(profile.startup_seconds),
        "Errors": [],
        "Snapshots": [],
        "Sessions": [],
        "Notes": [],
        "HasContent": True,
        "NumTasks": 0,
        "NumCompletedTasks": 0,
        "TaskCompletePercent": 0,
        "Tag": instance.tag if keeps_tags else None,
        "IsExam": profile.is_exam,
        "IpAddress": None,
        "PublicIpAddresses": [],
        "CloudCredentials": [
            {
                "PropertiesJson": f'{{"Username": "u", "Password": "{SANDBOX_PASSWORD}"}}',
                "Expires": int(instance.expires_at),
                "DisplayName": "Cloud",
                "Message": None,
            }
        ],
        "CloudPortalCredentials": [
            {"CloudPlatform": 10, "PropertiesJson": f'{{"Password": "{SANDBOX_PASSWORD}"}}'}
        ],
        "VirtualMachineCredentials": [
            {"Id": 1, "Name": "VM", "Username": "Student", "Password": SANDBOX_PASSWORD}
        ],
        "CloudPlatformId": None,
        "ClientUrl": None,
        "ActivityResults": [],
        "ActivityGroupResults": [],
        "EstimatedReadySeconds": None,
        "InstructionsId": None,
        "Lang": "en",
        "Error": None,
        "Status": 1,
    }


def _listed(instance: Instance) -> Json:
    return {
        "LabProfileId": instance.profile.profile_id,
        "LabProfileName": instance.profile.name,
        "LabProfileNumber": instance.profile.number,
        "IsExam": instance.profile.is_exam,
        "Expires": int(instance.expires_at),
    }


def _frame(running: list[Json], saved: list[Json], null_if_empty: bool) -> Json:
    return {
        "RunningLabs": None if null_if_empty and not running else running,
        "SavedLabs": None if null_if_empty and not saved else saved,
        "Status": 1,
        "Error": None,
    }


def user_labs(instances: list[Instance], null_if_empty: bool) -> Json:
    """The answer of ``userrunningandsavedlabs``."""
    running = [
        _listed(i) | {"LabInstanceId": i.instance_id, "Start": int(i.started_at), "Url": None}
        for i in instances
        if i.state not in ("Saved", "Saving")
    ]
    saved = [
        _listed(i)
        | {
            "LabInstanceId": i.instance_id,
            "MinutesRemaining": int((i.expires_at - i.started_at) / 60),
            "Saved": int(i.last_save_at or i.started_at),
            "SaveInProgress": i.state == "Saving",
            "SubmittedForGrading": False,
        }
        for i in instances
        if i.state in ("Saved", "Saving")
    ]
    return _frame(running, saved, null_if_empty)


def consumer_labs(instances: list[Instance], null_if_empty: bool) -> Json:
    """The answer of ``runningandsavedlabs``."""
    rows = [
        (
            i.state,
            _listed(i)
            | {
                "Id": i.instance_id,
                "UserId": i.user_id,
                "UserFirstName": i.first_name,
                "UserLastName": i.last_name,
                "Start": int(i.started_at),
            },
        )
        for i in instances
    ]
    running = [row for state, row in rows if state not in ("Saved", "Saving")]
    saved = [row for state, row in rows if state in ("Saved", "Saving")]
    return _frame(running, saved, null_if_empty)


def result(now: float, instance: Instance) -> Json:
    """One row of ``Result`` and ``LatestResults``."""
    ended, active = instance.ended_at, instance.last_activity_at
    return {
        "LabProfileId": instance.profile.profile_id,
        "Start": int(instance.started_at),
        "End": None if ended is None else int(ended),
        "LastActivity": None if active is None else int(active),
        "UserId": instance.user_id,
        "ClassId": instance.class_id,
        "CompletionStatus": _COMPLETION_NUMBERS.get(instance.completion_status, 3),
        "TotalRunTimeSeconds": int((ended or now) - instance.started_at),
        "TaskCompletePercent": 0,
        "IsExam": instance.profile.is_exam,
        "ExamPassed": None,
        "ExamScore": None,
        "ExamMaxPossibleScore": None,
        "ExamPassingScore": None,
        "IpAddress": None,
        "Country": None,
        "Region": None,
        "City": None,
        "Latitude": None,
        "Longitude": None,
        "LabHostId": 1,
        "DatacenterId": 1,
        "DeliveryRegionId": 1,
    }


def search_entry(now: float, instance: Instance, state: str, mode: int) -> Json:
    """One row of a search: mode 0 as ``Result``, 5 concise, 10 as ``details``."""
    if mode == 0:
        return result(now, instance) | {"LabInstanceId": instance.instance_id}
    whole = details(now, instance, state, keeps_tags=True)
    if mode == 10:
        return whole
    concise = (
        "Id", "LabProfileId", "LabProfileName", "SeriesId", "SeriesName", "UserId",
        "UserFirstName", "UserLastName", "ClassId", "Start", "StartTime", "Expires", "ExpiresTime",
        "End", "EndTime", "LastActivity", "LastActivityTime", "State", "CompletionStatus",
        "PlatformId", "TotalRunTime", "TimeRemaining",
    )  # fmt: skip
    # The concise form knows no null: what there isn't is left out.
    return {name: whole[name] for name in concise if whole[name] is not None}


def sort_key(name: str) -> Callable[[Instance], Any]:
    """How a search sorts by a documented name."""
    keys: dict[str, Callable[[Instance], Any]] = {
        "end": lambda i: i.ended_at or 0.0,
        "userid": lambda i: i.user_id,
        "labseriesid": lambda i: i.profile.series_id,
        "labprofileid": lambda i: i.profile.profile_id,
    }
    return keys.get(name, lambda i: i.started_at)


def webhook_body(instance: Instance) -> Json:
    """The JSON body of a webhook. What its State numbers mean is explained nowhere."""
    return {
        "Id": instance.instance_id,
        "UserId": 5_000_000 + instance.instance_id % 1_000_000,
        "UserExternalId": instance.user_id,
        "LabProfileId": instance.profile.profile_id,
        "LabProfileName": instance.profile.name,
        "Tag": instance.tag,
        "State": 20,
        "CompletionStatus": _COMPLETION_NUMBERS.get(instance.completion_status, 3),
    }
