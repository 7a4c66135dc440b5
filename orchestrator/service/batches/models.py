"""What goes over the wire of a batch: the request, how it stands, and its learners.

Every learner of a request who is wrong is named, with what is wrong, at once: the field's own
errors, the lab that nobody names, and who is there twice.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from orchestrator.batch.requests import MOST_AT_A_TIME, MOST_PER_MINUTE
from orchestrator.durable.batches import OnError, Pace
from orchestrator.service.representations import (
    LARGEST_INT32,
    LARGEST_INT64,
    LONGEST,
    PLAIN,
    USER_ID,
    Asked,
    LaunchParametersAsked,
    PolicyAsked,
)

#: Learners of one request; a batch of more is for the command line.
MOST_LEARNERS = 20_000
BATCH_ID = r"^[A-Za-z0-9_-]{1,40}$"

LabProfileId = Annotated[int, Field(gt=0, le=LARGEST_INT32)]


class LearnerAsked(Asked):
    """A learner of a batch, and the lab."""

    user_id: str = Field(min_length=1, max_length=LONGEST, pattern=USER_ID)
    lab_profile_id: LabProfileId | None = Field(
        None, description="The lab; that of the batch if left out."
    )
    displace_instance_id: int | None = Field(
        None,
        gt=0,
        le=LARGEST_INT64,
        description="The lab instance that makes room; no other one is ended.",
    )
    parameters: LaunchParametersAsked | None = None


class SelectAsked(Asked):
    """Which of the labs that run: all of these must hold, of several in a list one."""

    everything: bool = Field(
        False, description="True: nothing more than that it runs; never meant by leaving all out."
    )
    lab_profile_ids: list[LabProfileId] = Field(default_factory=list, max_length=100)
    class_id: str | None = Field(None, max_length=LONGEST)
    older_than_seconds: float | None = Field(None, ge=0, le=10**9, description="Since its start.")
    idle_for_seconds: float | None = Field(
        None, ge=0, le=10**9, description="Since it was last used, where that is known."
    )
    user_globs: list[Annotated[str, Field(max_length=LONGEST)]] = Field(
        default_factory=list, max_length=100, description="Such as `team-*`, in the case as given."
    )


class PaceAsked(Asked):
    """How fast a batch goes, where it differs from the service's settings."""

    concurrency: int | None = Field(
        None, ge=1, le=MOST_AT_A_TIME, description="Learners in flight at a time, at most."
    )
    per_minute: float | None = Field(
        None,
        gt=0,
        le=MOST_PER_MINUTE,
        description="Learners begun a minute, at most; as fast as the platform lets them if left "
        "out.",
    )
    wait_seconds: float | None = Field(
        None,
        gt=0,
        le=30 * 86_400,
        description="After so long no new one is begun; what is in flight goes on by itself.",
    )
    on_error: OnError | None = Field(None, description="When a learner's relaunch fails.")

    def over(self, pace: Pace) -> Pace:
        """The pace that is asked for, where ``pace`` is the usual one."""
        return Pace(
            concurrency=pace.concurrency if self.concurrency is None else self.concurrency,
            per_minute=pace.per_minute if self.per_minute is None else self.per_minute,
            wait_seconds=pace.wait_seconds if self.wait_seconds is None else self.wait_seconds,
            on_error=self.on_error or pace.on_error,
        )

    @property
    def says_something(self) -> bool:
        """Whether any of it is given."""
        return any(getattr(self, name) is not None for name in PaceAsked.model_fields)


class ResumeAsked(PaceAsked):
    """To resume a batch, at another pace where one is given."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"concurrency": 50}]})


class BatchAsked(PaceAsked):
    """A batch to be begun, or gone on with."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "batch_id": "networks-monday",
                    "lab_profile_id": 1001,
                    "learners": [
                        {"user_id": "ada"},
                        {"user_id": "bob", "parameters": {"lang": "de"}},
                        {"user_id": "eve", "lab_profile_id": 1002},
                    ],
                    "policy": {"displace": "save"},
                    "note": "before the Monday class",
                    "concurrency": 50,
                },
                {"select": {"lab_profile_ids": [1001], "idle_for_seconds": 7200}, "launch": False},
            ]
        }
    )

    batch_id: str | None = Field(
        None,
        pattern=BATCH_ID,
        description="Names the batch: with the same one (and the same learners) it is the same "
        "batch, which goes on. Made of what is asked for if left out.",
    )
    lab_profile_id: LabProfileId | None = Field(
        None, description="The lab of every learner who has none of their own."
    )
    learners: list[LearnerAsked] | None = Field(
        None, min_length=1, max_length=MOST_LEARNERS, description="Who; or else `select`."
    )
    select: SelectAsked | None = Field(
        None,
        description="The labs that run now, by what the platform says of them; each is launched "
        "anew, or only ended. Exams are left alone.",
    )
    launch: bool | None = Field(
        None, description="False: only end the labs, and wait until the slots are free."
    )
    policy: PolicyAsked | None = None
    note: str | None = Field(
        None, max_length=LONGEST, pattern=PLAIN, description="Goes with every cancel."
    )
    dry_run: bool = Field(
        False, description="Only tell what would be done; nothing is stored, or changed."
    )

    @field_validator("learners", mode="wrap")
    @classmethod
    def _all_that_is_wrong(
        cls, value: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> list[LearnerAsked] | None:
        problems: list[InitErrorDetails] = []
        learners: list[LearnerAsked] | None = None
        try:
            learners = read(value)
        except ValidationError as error:
            problems = [_problem(e["msg"], e["loc"]) for e in error.errors(include_url=False)]
        if (
            isinstance(value, list)
            and len(value) <= MOST_LEARNERS
            and "lab_profile_id" in info.data
        ):
            problems += _among(value, info.data["lab_profile_id"])
        if problems:
            problems.sort(key=lambda one: [str(part).zfill(9) for part in one["loc"][:1]])
            raise ValidationError.from_exception_data("learners", problems, hide_input=True)
        return learners

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if (self.learners is None) == (self.select is None):
            raise _both("either learners or select", "must be given, and not both")
        if self.select is not None and self.lab_profile_id is not None:
            raise _both("lab_profile_id", "goes with learners; select has lab_profile_ids")
        return self


def _both(name: str, said: str) -> PydanticCustomError:
    return PydanticCustomError("batch_request", "{name} {said}", {"name": name, "said": said})


def _among(rows: list[Any], lab_profile_id: int | None) -> list[InitErrorDetails]:
    """What no learner's own fields can tell: who has no lab, and who is there twice."""
    problems = []
    first: dict[tuple[Any, Any, Any], int] = {}
    for position, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("user_id"), str):
            continue
        lab, named = row.get("lab_profile_id"), row.get("displace_instance_id")
        if lab is None and lab_profile_id is None:
            said = "there is none, and no lab_profile_id for all"
            problems.append(_problem(said, (position, "lab_profile_id")))
        key = (row["user_id"], str(lab_profile_id if lab is None else lab), str(named))
        if key in first:
            said = f"asks for the same as learners[{first[key]}]"
            problems.append(_problem(said, (position,)))
        first.setdefault(key, position)
    return problems


def _problem(said: str, where: tuple[int | str, ...]) -> InitErrorDetails:
    error = PydanticCustomError("batch_row", "{said}", {"said": said})
    return InitErrorDetails(type=error, loc=where, input=None)
