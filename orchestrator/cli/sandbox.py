"""``relaunch sandbox``: the emulated platform on a port of this machine, until Ctrl-C."""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated, Any

import typer


def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8800,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    teardown: Annotated[
        str,
        typer.Option(help="fixed:S, lognormal:MEDIAN,SIGMA, bimodal:SHORT,LONG,CHANCE or never."),
    ] = "fixed:20",
    startup: Annotated[float, typer.Option(min=0.0, help="Seconds until a lab runs.")] = 0.0,
    max_active_per_user: Annotated[int, typer.Option(min=1)] = 1,
    max_active: Annotated[int | None, typer.Option(min=1, help="Of the whole consumer.")] = None,
    faults: Annotated[
        str, typer.Option(help="OPERATION:FAULT[=NUMBER][*TIMES][+AFTER], separated by commas.")
    ] = "",
    reading: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="One reading of an unknown.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Where Torn Down goes; {id} is the instance.")
    ] = None,
    give: Annotated[
        list[str] | None, typer.Option(metavar="USER:LAB", help="A lab that runs already.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same teardown times.")] = 0,
    api_key: Annotated[str, typer.Option(help="The key that it accepts.")] = "sandbox-key",
) -> int:
    """Run the sandbox: a faithful emulator of the platform's API."""
    from orchestrator.sandbox import Sandbox, Webhook
    from orchestrator.sandbox.server import SandboxServer

    try:
        emulator = Sandbox(
            readings=_readings(reading or []),
            max_active_per_user=max_active_per_user,
            max_active=max_active,
            teardown=teardown,
            startup_seconds=startup,
            faults=faults,
            seed=seed,
            api_key=api_key,
        )
        for text in give or []:
            user, _, lab = text.rpartition(":")
            emulator.world.give(user, int(lab))
    except (ValueError, KeyError) as error:
        raise typer.BadParameter(str(error)) from None
    hooks = [Webhook(event="Torn Down", url=webhook)] if webhook else []
    try:
        server = SandboxServer(emulator, host=host, port=port, webhooks=hooks)
    except OSError as error:
        raise typer.BadParameter(f"cannot listen on {host}:{port}: {error.strerror}") from None
    labs = ", ".join(f"{p.profile_id} ({p.name})" for p in emulator.world.profiles.values())
    print(f"Sandbox at {server.base_url} with the lab profiles {labs}. Try, in another terminal:")
    print(f"  export SKILLABLE_BASE_URL={server.base_url} SKILLABLE_API_KEY={api_key}")
    print("  relaunch run --user ada --lab 1001", flush=True)
    server.serve_forever()
    return 0


def _readings(texts: list[str]) -> Any:
    from orchestrator.sandbox import Readings

    kinds = typing.get_type_hints(Readings)
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in kinds:
            known = ", ".join(field.name for field in dataclasses.fields(Readings))
            raise ValueError(f"reading {name!r}: is none of {known}")
        choices = typing.get_args(kinds[name]) or ((True, False) if kinds[name] is bool else ())
        if choices:
            by_text = {str(choice).lower(): choice for choice in choices}
            if value.lower() not in by_text:
                raise ValueError(f"reading {name!r}: {value!r} is none of {', '.join(by_text)}")
            values[name] = by_text[value.lower()]
        else:
            values[name] = kinds[name](value)
    return Readings(**values)
