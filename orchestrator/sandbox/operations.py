"""The documented operations: parameters in, the answer's JSON object out.

Each function carries out one operation on the world for one API consumer and shapes the answer as
documented, or in the reading that is switched on. Parameter names come lower-cased.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from orchestrator.sandbox import shapes
from orchestrator.sandbox.readings import Readings
from orchestrator.sandbox.shapes import Json
from orchestrator.sandbox.world import Consumer, Instance, Profile, World

#: Parameters by lower-cased name; repeated ones keep all their values.
Parameters = dict[str, list[str]]
Operation = Callable[["Desk", Parameters], Json]

#: What is answered about another API consumer's instance: no Result, and Status 1 (documented).
FOREIGN: Json = {"Error": "Invalid integration key", "Status": 1}

_FINAL_RESULTS = (100, 110, 130, 140, 160)


def first(parameters: Parameters, name: str) -> str | None:
    """The first value of a parameter."""
    return next(iter(parameters.get(name, ())), None)


class Desk:
    """One API consumer's view of the world, in one set of readings."""

    def __init__(self, world: World, readings: Readings, consumer: Consumer, base: str) -> None:
        self.world = world
        self.readings = readings
        self.consumer = consumer
        self.base = base

    def instance(self, parameters: Parameters) -> Instance | None:
        """The instance that the call is about, whoever launched it."""
        value = first(parameters, "labinstanceid") or ""
        return self.world.instances.get(int(value)) if value.isdecimal() else None

    def is_foreign(self, instance: Instance) -> bool:
        """Whether another API consumer launched it."""
        return instance.consumer is not self.consumer

    def holding(self, user_id: str) -> list[Instance]:
        """The user's instances that count against the user's limit, foreign ones included."""
        return [i for i in self.world.of_user(user_id) if i.holds_slot]

    def url(self, kind: str, instance: Instance) -> str:
        """A fresh URL for a learner."""
        token = f"{self.world.rng.getrandbits(64):016x}"
        return f"{self.base}/{kind}/{instance.instance_id}-{token}"


def launch(desk: Desk, parameters: Parameters) -> Json:
    """Launch, or refuse with the Result that applies."""
    user_id = first(parameters, "userid") or ""
    lab_id = first(parameters, "labid") or ""
    profile = desk.world.profiles.get(int(lab_id)) if lab_id.isdecimal() else None
    if profile is None or not user_id:
        return refused(desk, 140, "Invalid request")
    for check in _checks(desk.readings):
        answer = check(desk, profile, user_id, parameters)
        if answer is not None:
            return answer
    tag = first(parameters, "tag")
    instance = desk.world.create(user_id, profile, desk.consumer, desk.world.now(), tag)
    instance.class_id = first(parameters, "classid")
    instance.first_name = first(parameters, "firstname") or instance.first_name
    instance.last_name = first(parameters, "lastname") or instance.last_name
    return _launched(desk, instance)


def _checks(readings: Readings) -> list[Callable[[Desk, Profile, str, Parameters], Json | None]]:
    order: list[Callable[[Desk, Profile, str, Parameters], Json | None]] = [
        _same_profile,
        _user_limit,
        _saved,
    ]
    if readings.capacity_checks == "before_limit":
        order.insert(0, _capacity)
    else:
        order.append(_capacity)
    if readings.final_checks == "before_limit":
        order.insert(0, _final)
    else:
        order.append(_final)
    return order


def _final(desk: Desk, profile: Profile, user_id: str, parameters: Parameters) -> Json | None:
    if profile.launches_per_user is not None:
        launched = sum(
            e.lab_profile_id == profile.profile_id
            for e in desk.world.ledger.of("launched", user_id=user_id)
        )
        if launched >= profile.launches_per_user:
            return refused(desk, 100, "The user has used up the launches of this lab")
    if profile.refuse_with in _FINAL_RESULTS:
        return _forced(desk, profile)
    return None


def _capacity(desk: Desk, profile: Profile, user_id: str, parameters: Parameters) -> Json | None:
    if desk.consumer.max_active is not None or profile.max_active is not None:
        active = [i for i in desk.world.instances.values() if i.holds_slot]
        ours = [i for i in active if i.consumer is desk.consumer]
        if desk.consumer.max_active is not None and len(ours) >= desk.consumer.max_active:
            return refused(desk, 5, "The API consumer has too many active labs")
        of_profile = [i for i in active if i.profile is profile]
        if profile.max_active is not None and len(of_profile) >= profile.max_active:
            return refused(desk, 40, "The lab has too many active instances")
    if profile.refuse_with is not None and profile.refuse_with not in _FINAL_RESULTS:
        return _forced(desk, profile)
    return None


def _forced(desk: Desk, profile: Profile) -> Json | None:
    if profile.refusals is not None:
        if profile.refusals <= 0:
            return None
        profile.refusals -= 1
    code = profile.refuse_with
    return None if code is None else refused(desk, code, f"Refused with {code}")


def _same_profile(
    desk: Desk, profile: Profile, user_id: str, parameters: Parameters
) -> Json | None:
    same = [i for i in desk.holding(user_id) if i.profile is profile]
    active = [i for i in same if i.is_active]
    if active and desk.readings.same_profile_running == "hand_back":
        return _launched(desk, active[0])
    if same and not active:
        if desk.readings.same_profile_tearing_down == "hand_back":
            return _launched(desk, same[0])
        if desk.readings.same_profile_tearing_down == "wrong_state":
            return refused(desk, 120, "The lab instance is in the wrong state")
    return None


def _user_limit(desk: Desk, profile: Profile, user_id: str, parameters: Parameters) -> Json | None:
    limit = float(desk.consumer.max_active_per_user)
    asked = first(parameters, "maxactivelabs") or ""
    if asked.isdecimal():
        limit = min(limit, int(asked))
    if len(desk.holding(user_id)) < limit:
        return None
    if desk.readings.user_limit == "active_labs_page":
        page: Json = {
            "Result": desk.readings.page_result,
            "Url": f"{desk.base}/active-labs/{desk.world.rng.getrandbits(64):016x}",
            "Status": 1,
            "Error": None,
        }
        return page
    return refused(desk, 2, "The user has too many active labs")


def _saved(desk: Desk, profile: Profile, user_id: str, parameters: Parameters) -> Json | None:
    if any(i.state == "Saved" and i.profile is profile for i in desk.world.of_user(user_id)):
        return refused(desk, 6, "The user has a saved instance of this lab")
    return None


def _launched(desk: Desk, instance: Instance) -> Json:
    return {
        "Result": 1,
        "Url": desk.url("launch", instance),
        "LabInstanceId": instance.instance_id,
        "Expires": int(instance.expires_at),
        "Status": 1,
        "Error": None,
    }


def refused(desk: Desk, result: int, error: str) -> Json:
    """A refused launch or resume, in the reading's shape."""
    answer: Json = {"Result": result, "Status": desk.readings.refusal_status, "Error": error}
    if desk.readings.refusal_instance_id != "absent":
        null = desk.readings.refusal_instance_id == "null"
        answer["LabInstanceId"] = None if null else 0
    return answer


def cancel(desk: Desk, parameters: Parameters) -> Json:
    """Begin a teardown; another consumer's instance is answered as documented, without Result."""
    instance = desk.instance(parameters)
    if instance is None:
        return {"Result": 0, "Status": 0, "Error": "Lab instance not found"}
    if desk.is_foreign(instance):
        return FOREIGN
    if instance.state == "Off":
        return _done(desk.readings.cancel_gone, "The lab instance has ended")
    if instance.state == "Tearing Down":
        return _done(desk.readings.cancel_again, "The lab instance is tearing down")
    desk.world.tear_down(instance)
    return _done(1, "")


def _done(result: int, error: str) -> Json:
    return {"Result": result, "Status": 1, "Error": None if result == 1 else error}


def details(desk: Desk, parameters: Parameters) -> Json:
    """Describe an instance; a gone one in the reading's way."""
    instance = desk.instance(parameters)
    if instance is None:
        return {"Status": 0, "Error": "Lab instance not found"}
    if desk.is_foreign(instance):
        return FOREIGN
    state = _told_state(desk, instance)
    if state == "Off" and desk.readings.details_when_gone == "error":
        return {"Status": 0, "Error": "Lab instance not found"}
    return shapes.details(desk.world.now(), instance, state, desk.readings.keeps_tags)


def _told_state(desk: Desk, instance: Instance) -> str:
    now, lag = desk.world.now(), desk.readings.details_lag
    state = instance.state
    if lag > 0 and instance.previous is not None and now < instance.previous[0] + lag:
        state = instance.previous[1]
    if lag < 0 and state == "Tearing Down" and now >= instance.changes_at + lag:
        state = "Off"
    return desk.readings.teardown_state if state == "Tearing Down" else state


def user_running_and_saved_labs(desk: Desk, parameters: Parameters) -> Json:
    """List what a user has."""
    user_id = first(parameters, "userid") or ""
    instances = desk.world.of_user(user_id)
    if not instances and desk.readings.unseen_user == "error":
        return {"Status": 0, "Error": "User not found"}
    visible = [i for i in instances if not desk.is_foreign(i) or desk.readings.foreign_listed]
    return shapes.user_labs(_listed(desk, visible), desk.readings.empty_lists == "null")


def _listed(desk: Desk, instances: list[Instance]) -> list[Instance]:
    dropped = desk.readings.listing_drops == "at_cancel"
    return [
        i for i in instances if i.state != "Off" and not (dropped and i.state == "Tearing Down")
    ]


def running_and_saved_labs(desk: Desk, parameters: Parameters) -> Json:
    """List what the API consumer has."""
    ours = [i for i in desk.world.instances.values() if not desk.is_foreign(i)]
    return shapes.consumer_labs(_listed(desk, ours), desk.readings.empty_lists == "null")


def search(desk: Desk, parameters: Parameters) -> Json:
    """Search the API consumer's instances, paged."""

    def number(name: str, default: float) -> float:
        value = first(parameters, name) or ""
        return float(value) if value.isdecimal() else default

    def fits(instance: Instance) -> bool:
        asked = {
            "userid": instance.user_id,
            "labprofileid": str(instance.profile.profile_id),
            "labseriesid": str(instance.profile.series_id),
            "classid": instance.class_id or "",
        }
        return (
            not desk.is_foreign(instance)
            and all(parameters.get(n, [v])[0] == v for n, v in asked.items())
            and number("start", -math.inf) <= instance.started_at
            and (instance.ended_at or instance.started_at) <= number("end", math.inf)
        )

    found = [i for i in desk.world.instances.values() if fits(i)]
    sort = (first(parameters, "sort") or "start desc").lower()
    found.sort(key=shapes.sort_key(sort.split()[0]), reverse=sort.endswith("desc"))
    size = max(1, int(number("pagesize", 100)))
    offset = int(number("pageindex", 0)) * size
    mode = int(number("mode", 10))
    now = desk.world.now()
    page = found[offset : offset + size]
    return {
        "TotalResults": len(found),
        "TotalPages": math.ceil(len(found) / size),
        "Results": [shapes.search_entry(now, i, _told_state(desk, i), mode) for i in page],
    }


def latest_results(desk: Desk, parameters: Parameters) -> Json:
    """Instances that changed lately."""
    minutes = first(parameters, "minutes") or "0"
    since = desk.world.now() - 60 * (int(minutes) if minutes.isdecimal() else 0)
    recent = [
        i
        for i in desk.world.instances.values()
        if not desk.is_foreign(i) and max(i.started_at, i.ended_at or 0) >= since
    ]
    rows = [shapes.result(desk.world.now(), i) | {"LabInstanceId": i.instance_id} for i in recent]
    return {"Results": rows, "Status": 1, "Error": None}


def result(desk: Desk, parameters: Parameters) -> Json:
    """How one instance stands."""
    instance = desk.instance(parameters)
    if instance is None:
        return {"Status": 0, "Error": "Lab instance not found"}
    if desk.is_foreign(instance):
        return FOREIGN
    return shapes.result(desk.world.now(), instance) | {"Status": 1, "Error": None}


def save(desk: Desk, parameters: Parameters) -> Json:
    """Begin to save."""
    instance = desk.instance(parameters)
    if instance is None:
        return {"Result": 0, "Status": 0, "Error": "Lab instance not found"}
    if desk.is_foreign(instance):
        return FOREIGN
    saved = sum(i.state in ("Saved", "Saving") for i in desk.world.of_user(instance.user_id))
    if instance.state != "Running" or saved >= desk.consumer.max_saved_per_user:
        return {"Result": 2, "Status": 1, "Error": "Invalid state"}
    desk.world.save(instance)
    expires = int(desk.world.now()) + 7 * 86400
    return {"Result": 1, "Expires": expires, "Status": 1, "Error": None}


def resume(desk: Desk, parameters: Parameters) -> Json:
    """Begin to resume; the same refusals as a launch."""
    instance = desk.instance(parameters)
    if instance is None:
        return refused(desk, 0, "Lab instance not found")
    if desk.is_foreign(instance):
        return FOREIGN
    if instance.state != "Saved":
        return refused(desk, 120, "The lab instance is in the wrong state")
    for check in (_user_limit, _capacity):
        answer = check(desk, instance.profile, instance.user_id, parameters)
        if answer is not None:
            return answer
    desk.world.resume(instance)
    return {
        "Result": 1,
        "Url": desk.url("launch", instance),
        "LabProfileId": instance.profile.profile_id,
        "Expires": int(instance.expires_at),
        "Status": 1,
        "Error": None,
    }


def lab_access_url(desk: Desk, parameters: Parameters) -> Json:
    """A single-use URL to enter."""
    instance = desk.instance(parameters)
    if instance is None or not instance.is_active:
        return {"Status": 0, "Error": "The lab instance is not running"}
    if desk.is_foreign(instance):
        return FOREIGN
    return {"Url": desk.url("access", instance), "Error": None, "Status": 1}


def stats(desk: Desk, parameters: Parameters) -> Json:
    """How many are active, tearing down included, and saved."""
    ours = [i for i in desk.world.instances.values() if not desk.is_foreign(i)]
    answer: dict[str, Any] = {
        "NumActive": sum(i.holds_slot for i in ours),
        "NumSaved": sum(i.state == "Saved" for i in ours),
        "Status": 1,
        "Error": None,
    }
    return answer


OPERATIONS: dict[str, Operation] = {
    "launch": launch,
    "cancel": cancel,
    "details": details,
    "userrunningandsavedlabs": user_running_and_saved_labs,
    "runningandsavedlabs": running_and_saved_labs,
    "labinstance/search": search,
    "latestresults": latest_results,
    "result": result,
    "save": save,
    "resume": resume,
    "labaccessurl": lab_access_url,
    "stats": stats,
}
