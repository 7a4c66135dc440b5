"""``relaunch run``: relaunch one learner's lab."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Literal

import typer

from orchestrator import AsyncRelauncher, LaunchParameters, Outcome
from orchestrator.cli.connect import client_of, close, knowledge_file_of, schedules_of, settings_for
from orchestrator.cli.display import display, summary
from orchestrator.cli.exits import exit_code
from orchestrator.cli.interrupts import cancelling
from orchestrator.cli.options import ConfigOption, DeadlineOption, JsonOption, variables
from orchestrator.cli.settings import Loaded
from orchestrator.plain import to_plain
from orchestrator.requests import Options
from orchestrator.skillable import AsyncSkillablePlatform

_POLICY, _LAUNCH = "What may be done", "Launch parameters (passed on as they are)"
Str = str | None
Int = int | None
Bool = bool | None


def run(
    user: Annotated[str, typer.Option(help="The learner's id, as your systems know it.")],
    lab: Annotated[int, typer.Option(help="The lab profile's id.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    deadline: DeadlineOption = None,
    if_running: Annotated[
        Literal["replace", "reuse", "refuse"] | None,
        typer.Option(help="When this lab is running already.", rich_help_panel=_POLICY),
    ] = None,
    displace: Annotated[
        Literal["cancel", "save"] | None,
        typer.Option(help="How the old lab makes room.", rich_help_panel=_POLICY),
    ] = None,
    overlap: Annotated[
        Bool,
        typer.Option(
            "--overlap/--no-overlap",
            help="New lab first, then end the old.",
            rich_help_panel=_POLICY,
        ),
    ] = None,
    allow_exam: Annotated[
        Bool,
        typer.Option(
            "--allow-exam/--no-allow-exam", help="Leave to end an exam.", rich_help_panel=_POLICY
        ),
    ] = None,
    probe: Annotated[
        Bool,
        typer.Option(
            "--probe/--no-probe", help="Try the launch before any harm.", rich_help_panel=_POLICY
        ),
    ] = None,
    choose: Annotated[
        Literal["oldest", "ask"] | None,
        typer.Option(help="Which lab makes room.", rich_help_panel=_POLICY),
    ] = None,
    instance: Annotated[
        Int, typer.Option(help="This lab instance makes room.", rich_help_panel=_POLICY)
    ] = None,
    on_saved: Annotated[
        Literal["refuse", "resume", "delete"] | None,
        typer.Option(help="When a saved copy is in the way.", rich_help_panel=_POLICY),
    ] = None,
    on_active_labs_page: Annotated[
        Literal["continue", "choose"] | None,
        typer.Option(help="When the platform answers with its page.", rich_help_panel=_POLICY),
    ] = None,
    detect: Annotated[
        Literal["details", "listing", "launch"] | None,
        typer.Option(help="What a look during the teardown is.", rich_help_panel=_POLICY),
    ] = None,
    max_recancels: Annotated[
        Int, typer.Option(help="How often a taken slot is freed again.", rich_help_panel=_POLICY)
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
    once. The API key is read from SKILLABLE_API_KEY or a settings file, never from the arguments.
    """
    flags = {
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
    options: Options = {"parameters": parameters, "note": note, "relaunch_id": relaunch_id}
    outcome = asyncio.run(relaunch(loaded, user, lab, options))
    print(json.dumps(to_plain(outcome)) if as_json else summary(outcome))
    return exit_code(outcome.outcome, outcome.reason)


async def relaunch(
    loaded: Loaded,
    user: str,
    lab: int,
    options: Options,
    *,
    teardown_seconds: float | None = None,
) -> Outcome:
    """Relaunch with progress on stderr; a signal ends it with an outcome that says what is left."""
    client, file = client_of(loaded), knowledge_file_of(loaded)
    schedules = schedules_of(loaded, file)
    relauncher = AsyncRelauncher(
        AsyncSkillablePlatform(client),
        policy=loaded.policy(),
        schedules=schedules,
    )
    handle = relauncher.start(user, lab, **options)
    with cancelling() as task, display(teardown_seconds=teardown_seconds) as shown:
        try:
            async for progress in handle.events():
                shown.show(progress)
        except asyncio.CancelledError:
            task.uncancel()
    await close(client)
    if file is not None and schedules.knowledge.changed:
        file.save(schedules.knowledge)
    if handle.outcome is None:
        # The signal came before the first step.
        handle.abort()
        return await handle.result()
    return handle.outcome
