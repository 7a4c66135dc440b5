"""``relaunch reset``: relaunch, or free, the labs of a whole class; its options, and no more.

What is wrong with the options, the rows or the places of the reports is told before the store or
the platform is touched; :mod:`orchestrator.cli.reset_flow` does the rest.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.batch.listing import ListedRow, read_rows
from orchestrator.batch.selection import Criteria, saves_what_it_launches
from orchestrator.cli.batch_driving import Telling, where_flags
from orchestrator.cli.batch_reports import places_of
from orchestrator.cli.confirming import unasked
from orchestrator.cli.connect import settings_for
from orchestrator.cli.durations import seconds_of
from orchestrator.cli.options import (
    BatchWaitOption,
    ConcurrencyOption,
    ConfigOption,
    DeadlineOption,
    OnErrorOption,
    RateOption,
    ReportOption,
    StoreOption,
    pace_given,
)
from orchestrator.cli.policy_options import (
    AllowExamOption,
    DetectOption,
    IfRunningOption,
    OnSavedOption,
    OverlapOption,
    ProbeOption,
)
from orchestrator.cli.reset_flow import Wanted, reset_batch
from orchestrator.cli.settings import Loaded
from orchestrator.cli.store_url import NONE
from orchestrator.errors import ConfigurationError
from orchestrator.machine.run import Policy

_WHO, _WHAT = "Whose labs", "What becomes of them"
#: What names the rows' place if they come from stdin.
STDIN = "-"


def reset(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE|-]", help="CSV or JSON Lines: user, lab, ...; - is stdin."),
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--all", help="Every running lab.", rich_help_panel=_WHO)
    ] = False,
    lab: Annotated[
        list[int] | None,
        typer.Option(
            help="Running labs of this lab profile (repeatable); with FILE: the lab of the rows "
            "without one.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    class_id: Annotated[
        str | None,
        typer.Option("--class", metavar="ID", help="Of this class.", rich_help_panel=_WHO),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Begun longer ago: 90m, 8h.", rich_help_panel=_WHO),
    ] = None,
    idle_for: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Without activity for so long.", rich_help_panel=_WHO),
    ] = None,
    user_glob: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Of users such as 'team-*' (repeatable).", rich_help_panel=_WHO
        ),
    ] = None,
    launch: Annotated[
        bool,
        typer.Option(
            "--launch/--no-launch",
            help="--no-launch only ends labs, and waits until the slots are free.",
            rich_help_panel=_WHAT,
        ),
    ] = True,
    save: Annotated[
        bool, typer.Option("--save", help="Save labs, not cancel.", rich_help_panel=_WHAT)
    ] = False,
    batch: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The batch's name, instead of a derived one."),
    ] = None,
    note: Annotated[
        str | None, typer.Option(help="A note that goes with each cancel.", rich_help_panel=_WHAT)
    ] = None,
    deadline: DeadlineOption = None,
    if_running: IfRunningOption = None,
    overlap: OverlapOption = None,
    allow_exam: AllowExamOption = None,
    probe: ProbeOption = None,
    on_saved: OnSavedOption = None,
    detect: DetectOption = None,
    concurrency: ConcurrencyOption = None,
    rate: RateOption = None,
    batch_wait: BatchWaitOption = None,
    on_error: OnErrorOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object for each learner, on stdout, as it ends."),
    ] = False,
    report: ReportOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> int:
    """Relaunch the labs of a whole class, or free their slots.

    Who that is says a FILE (or stdin), or the options that select from what is running. It shows
    the plan and asks once; the same command again goes on with what is left, and touches nobody who
    has succeeded.

    The API key is read from SKILLABLE_API_KEY or a settings file, never from the arguments.
    """
    selects = {
        "--all": everyone,
        "--class": class_id is not None,
        "--older-than": older_than is not None,
        "--idle-for": idle_for is not None,
        "--user-glob": bool(user_glob),
    }
    _check_who(file, lab or [], [option for option, given in selects.items() if given])
    pace = pace_given(concurrency, rate, batch_wait, on_error)
    flags = {
        "store.url": store,
        "policy.deadline_seconds": deadline,
        "policy.if_running": if_running,
        "policy.displace": "save" if save else None,
        "policy.overlap": overlap,
        "policy.allow_exam": allow_exam,
        "policy.probe": probe,
        "policy.on_saved": on_saved,
        "policy.detect": detect,
        **{f"batch.{name}": value for name, value in pace.items()},
    }
    telling = Telling(
        as_json=as_json, reports=places_of(report or ()), where=where_flags(config, store)
    )
    loaded = settings_for(config, flags)
    _check_store(loaded)
    if not yes and not dry_run and (why := unasked(reads_stdin=file == STDIN)) is not None:
        raise typer.BadParameter(
            f"{why}: say --yes to go on without a question, or --dry-run to see the plan; nothing "
            "was touched."
        )
    if file is None:
        who: Sequence[ListedRow] | Criteria = Criteria(
            everything=everyone,
            lab_profile_ids=tuple(lab or ()),
            class_id=class_id,
            older_than_seconds=_seconds("--older-than", older_than),
            idle_for_seconds=_seconds("--idle-for", idle_for),
            user_globs=tuple(user_glob or ()),
        )
    else:
        who = _listed(file, lab or [], launch=launch)
    policy = _policy(loaded, launch=launch)
    if file is None and saves_what_it_launches(policy):
        raise typer.BadParameter(
            "--save leaves a saved copy of the very lab that is to be launched again, and each "
            "launch would be refused for it: add --no-launch, or --on-saved resume or delete; "
            "nothing was touched."
        )
    wanted = Wanted(
        who=who,
        policy=policy,
        pace=loaded.pace(),
        batch_id=batch,
        note=note,
        dry_run=dry_run,
        yes=yes,
        telling=telling,
    )
    return asyncio.run(reset_batch(loaded, wanted))


def _check_who(file: str | None, labs: list[int], selecting: list[str]) -> None:
    """Rows are listed or selected; never both, never neither."""
    if file is None:
        if not labs and not selecting:
            raise typer.BadParameter(
                "name a FILE of learners (or - for stdin), or say whose running labs: --all, "
                "--lab, --class, --older-than, --idle-for, --user-glob; nothing was touched."
            )
        return
    if selecting:
        raise typer.BadParameter(
            f"{', '.join(selecting)} selects from what is running, and {file} lists the learners: "
            "give one of them; nothing was touched."
        )
    if len(labs) > 1:
        raise typer.BadParameter(
            "--lab: with a FILE it is the lab of the rows without one, so give one; nothing was "
            "touched."
        )


def _check_store(loaded: Loaded) -> None:
    if loaded.settings.store.url.get_secret_value() == NONE:
        raise ConfigurationError(
            "store.url: it is set to none, and a batch has to be kept somewhere, so that it can be "
            "gone on with; nothing was touched. Leave it at auto, or name a file."
        )


def _policy(loaded: Loaded, *, launch: bool) -> Policy:
    policy = loaded.policy()
    if policy.displace_instance_id is not None:
        raise ConfigurationError(
            "policy.displace_instance_id: one lab instance cannot make room for many learners; "
            "name theirs in the rows. Nothing was touched."
        )
    return dataclasses.replace(policy, launch=launch)


def _listed(file: str, labs: list[int], *, launch: bool) -> tuple[ListedRow, ...]:
    return read_rows(
        sys.stdin.buffer if file == STDIN else file,
        name="stdin" if file == STDIN else file,
        launch=launch,
        default_lab=labs[0] if labs else None,
    )


def _seconds(option: str, text: str | None) -> float | None:
    return None if text is None else seconds_of(option, text)
