"""``relaunch run``: relaunch one learner's lab."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Annotated, Literal

import typer

from orchestrator import LaunchParameters, Outcome
from orchestrator.cli.connect import connected, settings_for
from orchestrator.cli.display import summary
from orchestrator.cli.exits import exit_code
from orchestrator.cli.failures import no_relaunch
from orchestrator.cli.following import follow, follow_durable, say
from orchestrator.cli.interrupts import cancelling
from orchestrator.cli.options import (
    ConfigOption,
    DeadlineOption,
    JsonOption,
    StoreOption,
    variables,
)
from orchestrator.cli.policy_options import (
    POLICY,
    AllowExamOption,
    DetectOption,
    IfRunningOption,
    OnSavedOption,
    OverlapOption,
    ProbeOption,
)
from orchestrator.cli.settings import Loaded
from orchestrator.cli.store_url import NONE
from orchestrator.cli.stores import is_driven, prune
from orchestrator.durable.handle import AsyncDurableRelaunch
from orchestrator.durable.store import RunStore
from orchestrator.errors import RelaunchInFlight
from orchestrator.plain import to_plain
from orchestrator.requests import Options

_LAUNCH = "Launch parameters (passed on as they are)"
Str = str | None
Int = int | None
Bool = bool | None


def run(
    user: Annotated[str, typer.Option(help="The learner's id, as your systems know it.")],
    lab: Annotated[int, typer.Option(help="The lab profile's id.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    idempotency_key: Annotated[
        Str, typer.Option(help="Names this request: the same relaunch however often it comes.")
    ] = None,
    on_conflict: Annotated[
        Literal["refuse", "supersede"] | None,
        typer.Option(help="When another lab's relaunch is in flight for the learner."),
    ] = None,
    deadline: DeadlineOption = None,
    if_running: IfRunningOption = None,
    displace: Annotated[
        Literal["cancel", "save"] | None,
        typer.Option(help="How the old lab makes room.", rich_help_panel=POLICY),
    ] = None,
    overlap: OverlapOption = None,
    allow_exam: AllowExamOption = None,
    probe: ProbeOption = None,
    choose: Annotated[
        Literal["oldest", "ask", "named"] | None,
        typer.Option(help="Which lab makes room.", rich_help_panel=POLICY),
    ] = None,
    instance: Annotated[
        Int, typer.Option(help="This lab instance makes room.", rich_help_panel=POLICY)
    ] = None,
    on_saved: OnSavedOption = None,
    on_active_labs_page: Annotated[
        Literal["continue", "choose"] | None,
        typer.Option(help="When the platform answers with its page.", rich_help_panel=POLICY),
    ] = None,
    detect: DetectOption = None,
    max_recancels: Annotated[
        Int, typer.Option(help="How often a taken slot is freed again.", rich_help_panel=POLICY)
    ] = None,
    relaunch_id: Annotated[Str, typer.Option(help="Instead of a random one.")] = None,
    note: Annotated[Str, typer.Option(help="A note that goes with the cancel.")] = None,
    tag: Annotated[Str, typer.Option(help="Your own tag.", rich_help_panel=_LAUNCH)] = None,
    first_name: Annotated[Str, typer.Option(rich_help_panel=_LAUNCH)] = None,
    last_name: Annotated[Str, typer.Option(rich_help_panel=_LAUNCH)] = None,
    email: Annotated[Str, typer.Option(rich_help_panel=_LAUNCH)] = None,
    class_id: Annotated[Str, typer.Option(rich_help_panel=_LAUNCH)] = None,
    can_be_marked_complete: Annotated[
        Bool,
        typer.Option(
            "--can-be-marked-complete/--cannot-be-marked-complete", rich_help_panel=_LAUNCH
        ),
    ] = None,
    ip_address: Annotated[Str, typer.Option(rich_help_panel=_LAUNCH)] = None,
    region_id: Annotated[Int, typer.Option(rich_help_panel=_LAUNCH)] = None,
    role_id: Annotated[
        list[int] | None, typer.Option(help="Repeatable.", rich_help_panel=_LAUNCH)
    ] = None,
    variable: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Repeatable.", rich_help_panel=_LAUNCH),
    ] = None,
    max_saved_labs: Annotated[Int, typer.Option(rich_help_panel=_LAUNCH)] = None,
    max_active_labs: Annotated[Int, typer.Option(rich_help_panel=_LAUNCH)] = None,
    lang: Annotated[Str, typer.Option(rich_help_panel=_LAUNCH)] = None,
    instructions_id: Annotated[Str, typer.Option(rich_help_panel=_LAUNCH)] = None,
    duration_minutes: Annotated[Int, typer.Option(rich_help_panel=_LAUNCH)] = None,
    last_activity_timeout_minutes: Annotated[Int, typer.Option(rich_help_panel=_LAUNCH)] = None,
) -> int:
    """Relaunch one learner's lab.

    Ends the learner's old lab if it must, waits through its teardown, and launches the new one,
    once. It is stored at each step: a second command for the same learner and lab joins it, and
    after a crash or Ctrl-C the same command goes on with it.

    The API key is read from SKILLABLE_API_KEY or a settings file, never from the arguments.
    """
    flags = {
        "store.url": store,
        "policy.deadline_seconds": deadline,
        "policy.if_running": if_running,
        "policy.displace": displace,
        "policy.overlap": overlap,
        "policy.allow_exam": allow_exam,
        "policy.probe": probe,
        "policy.choose": choose,
        "policy.displace_instance_id": instance,
        "policy.on_saved": on_saved,
        "policy.on_active_labs_page": on_active_labs_page,
        "policy.detect": detect,
        "policy.max_recancels": max_recancels,
    }
    parameters = LaunchParameters(
        tag=tag,
        first_name=first_name,
        last_name=last_name,
        email=email,
        class_id=class_id,
        can_be_marked_complete=can_be_marked_complete,
        ip_address=ip_address,
        region_id=region_id,
        role_ids=tuple(role_id or ()),
        variables=variables(variable or []),
        max_saved_labs=max_saved_labs,
        max_active_labs=max_active_labs,
        lang=lang,
        instructions_id=instructions_id,
        duration_minutes=duration_minutes,
        last_activity_timeout_minutes=last_activity_timeout_minutes,
    )
    loaded = settings_for(config, flags)
    if loaded.settings.store.url.get_secret_value() == NONE:
        say(
            "Not durable (the store is none): if this process dies, nobody goes on with the "
            "relaunch, and no other request can join it."
        )
    options: Options = {"parameters": parameters, "note": note, "relaunch_id": relaunch_id}
    if idempotency_key is not None:
        options["idempotency_key"] = idempotency_key
    if on_conflict is not None:
        options["on_conflict"] = on_conflict
    try:
        outcome, joined = asyncio.run(relaunch(loaded, user, lab, options))
    except RelaunchInFlight as error:
        return _refused(error, user, lab, as_json)
    print(json.dumps({**to_plain(outcome), "joined": joined}) if as_json else summary(outcome))
    return exit_code(outcome.outcome, outcome.reason)


async def relaunch(
    loaded: Loaded,
    user: str,
    lab: int,
    options: Options,
    *,
    teardown_seconds: float | None = None,
) -> tuple[Outcome, bool]:
    """Relaunch with progress on stderr; the outcome, and whether another one was joined.

    Raises :class:`~orchestrator.errors.RelaunchInFlight`, saying what can be done about it here.
    """
    async with connected(loaded) as parts:
        handle = parts.relauncher.start(user, lab, **options)
        with cancelling() as task:
            if parts.store is None or not isinstance(handle, AsyncDurableRelaunch):
                return await follow(handle, task, teardown_seconds=teardown_seconds), False
            try:
                outcome = await follow_durable(parts, parts.store, handle, task)
            except RelaunchInFlight as error:
                raise await _explained(parts.store, error, user, lab) from None
            if outcome.outcome != "interrupted":
                with contextlib.suppress(asyncio.CancelledError):
                    await prune(parts.store, loaded)
            return outcome, handle.joined


async def _explained(
    store: RunStore, error: RelaunchInFlight, user: str, lab: int
) -> RelaunchInFlight:
    """The conflict in the words of the command line."""
    other = error.relaunch_id
    if await is_driven(store, await store.load(other)):
        text = f"{error} `relaunch runs abort {other}` aborts it."
    else:
        text = (
            f"User {user} has an unfinished relaunch of lab {error.lab_profile_id} ({other}) that "
            f"nobody is working on, so this one of lab {lab} was not begun; nothing was changed. "
            f"`relaunch runs resume {other}` goes on with it, `relaunch runs abort {other}` ends it"
        )
        text += ", and --on-conflict supersede takes its place." if error.harmless else "."
    return RelaunchInFlight(
        text, relaunch_id=other, lab_profile_id=error.lab_profile_id, harmless=error.harmless
    )


def _refused(error: RelaunchInFlight, user: str, lab: int, as_json: bool) -> int:
    if as_json:
        in_flight = {
            "relaunch_id": error.relaunch_id,
            "lab_profile_id": error.lab_profile_id,
        }
        told = no_relaunch(
            "refused", error.code, str(error), user_id=user, lab_profile_id=lab, in_flight=in_flight
        )
        print(json.dumps(told))
    else:
        print(error)
    return exit_code("refused", error.code)
