"""The settings of the command line, in layers: defaults < file < environment < flags.

Unknown keys and wrong values are refused, naming where they stand. Every value knows which layer it
came from. The API key is a secret that shows itself to nobody.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.batch.requests import MOST_AT_A_TIME, MOST_PER_MINUTE
from orchestrator.cli.service_settings import ServiceSettings, TokenSettings
from orchestrator.cli.store_url import StoreUrl, checked
from orchestrator.durable.batches import OnError, Pace
from orchestrator.errors import ConfigurationError, InvalidRequest
from orchestrator.machine.run import (
    Choose,
    Detect,
    DisplaceBy,
    IfRunning,
    OnActiveLabsPage,
    OnSaved,
    Policy,
)
from orchestrator.ports import Schedule
from orchestrator.waiting.named import PATTERN, named_schedule

PREFIX = "RELAUNCH_"
#: The environment variables that have names of their own.
ALIASES = {"SKILLABLE_API_KEY": "platform.api_key", "SKILLABLE_BASE_URL": "platform.base_url"}
#: The first of these that exists is read if no file is named.
DEFAULT_FILES = (Path("config/local.toml"), Path("relaunch.toml"))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class PlatformSettings(_Section):
    """Where the platform is and how we are let in."""

    api_key: SecretStr | None = Field(None, description="The API consumer's key.")
    base_url: str = Field(description="The platform's API, without or with a trailing slash.")
    allow_http: bool = Field(description="Allow plain HTTP to hosts other than this machine.")


class PolicySettings(_Section):
    """What a relaunch may do; see ``orchestrator.Policy``."""

    probe: bool = Field(description="Try the launch before any lab is ended.")
    if_running: IfRunning = Field(description="When the wanted lab runs already.")
    choose: Choose = Field(
        description="Which lab makes room: the `oldest`, `ask`, or only a `named` one."
    )
    displace_instance_id: int | None = Field(None, description="The lab instance to end.")
    displace: DisplaceBy = Field(description="Cancel or save the lab that makes room.")
    overlap: bool = Field(description="Launch first where the limit allows it, then end the old.")
    allow_exam: bool = Field(description="Leave to end exams and labs that are being graded.")
    on_saved: OnSaved = Field(description="When a saved copy of the lab stands in the way.")
    on_active_labs_page: OnActiveLabsPage = Field(
        description="When the platform answers with its page of active labs."
    )
    detect: Detect = Field(description="What a look during the teardown is.")
    max_recancels: int = Field(ge=0, description="How often a taken slot is freed again.")
    deadline_seconds: float = Field(gt=0, description="The relaunch ends by then.")


class ScheduleSettings(_Section):
    """When to look during a teardown."""

    teardown: str = Field(
        pattern=PATTERN,
        description="`learned`, `square_root`, `fixed:SECONDS` or `exponential:LONGEST`.",
    )
    cost_per_look: float = Field(gt=0, description="One call is worth so many seconds of waiting.")
    longest: float = Field(gt=0, description="The longest gap of `square_root` (seconds).")


class KnowledgeSettings(_Section):
    """Where what was learned of the teardowns is kept."""

    file: str = Field(
        min_length=1,
        description="`auto` (one for each platform, in your state folder), `none`, or a path.",
    )


class StoreSettings(_Section):
    """Where relaunches are kept, so that none is lost."""

    url: StoreUrl = Field(
        description="`auto` (a file in your state folder), `none`, a path, `sqlite:///PATH` or "
        "`postgresql://...`; may hold a password, which is never shown."
    )
    consumer: str = Field(
        min_length=1,
        description="The label of the API consumer whose relaunches these are; `auto`: the "
        "platform's host.",
    )
    keep_days: float = Field(
        ge=0,
        description="Relaunches and batches that ended longer ago are forgotten; 0 keeps them for "
        "ever.",
    )

    @field_validator("url")
    @classmethod
    def _checked(cls, url: StoreUrl) -> StoreUrl:
        return StoreUrl(checked(url.get_secret_value()))


class TrafficSettings(_Section):
    """How much the platform is asked to take, by all processes that share a store together."""

    calls_per_second: float | None = Field(
        None, ge=0.001, le=100_000, description="So many calls at most; if unset, any number."
    )
    burst: int = Field(ge=1, description="So many at once after a calm time.")
    most_in_flight: int | None = Field(
        None,
        ge=1,
        description="So many relaunches at a time; the others stand in line. Of a batch, three "
        "quarters as many at most.",
    )


class BatchSettings(_Section):
    """How fast batches go; see ``orchestrator.durable.batches.Pace``."""

    concurrency: int = Field(
        ge=1, le=MOST_AT_A_TIME, description="How many learners of a batch are in work at a time."
    )
    per_minute: float | None = Field(
        None,
        gt=0,
        le=MOST_PER_MINUTE,
        description="So many learners are begun a minute at most; if unset, as fast as the "
        "platform's limit lets them.",
    )
    wait_seconds: float | None = Field(
        None, gt=0, description="A batch stops after that; if unset, when it is done."
    )
    on_error: OnError = Field(
        description="When a learner's relaunch fails: `continue` with the others, or `stop`."
    )


class WorkerSettings(_Section):
    """A worker of a fleet (PostgreSQL)."""

    concurrency: int = Field(ge=1, description="How many relaunches a worker of a fleet drives.")
    heartbeat_seconds: float = Field(gt=0, description="How often it says that it lives.")
    stalled_after_seconds: float = Field(gt=0, description="When it counts as dead if it has not.")


class LoggingSettings(_Section):
    """What goes to stderr besides the progress."""

    level: str = Field(
        pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR."
    )
    format: str = Field(pattern="^(console|json)$", description="console or json.")
    hash_user_ids: SecretStr | None = Field(
        None, description="A secret; if set, user ids in logs are hashed with it."
    )


class Settings(BaseSettings):
    """All sections."""

    model_config = SettingsConfigDict(extra="forbid", hide_input_in_errors=True)

    platform: PlatformSettings
    policy: PolicySettings
    schedule: ScheduleSettings
    knowledge: KnowledgeSettings
    store: StoreSettings
    traffic: TrafficSettings
    batch: BatchSettings
    worker: WorkerSettings
    service: ServiceSettings
    tokens: TokenSettings
    logging: LoggingSettings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what :func:`load` has merged; it keeps track of where each value came from."""
        return (init_settings,)


@dataclass(frozen=True)
class Loaded:
    """The settings, and for each ``section.key`` the layer that it came from."""

    settings: Settings
    sources: Mapping[str, str]

    def policy(self) -> Policy:
        """The policy; ``ConfigurationError`` names a value that it refuses."""
        try:
            return Policy(**self.settings.policy.model_dump())
        except InvalidRequest as error:
            raise ConfigurationError(str(error)) from None

    def pace(self) -> Pace:
        """How fast batches go."""
        return Pace(**self.settings.batch.model_dump())

    def schedule(self) -> Schedule | None:
        """The schedule that was chosen; ``None``: what was learned of each lab profile."""
        chosen = self.settings.schedule
        if chosen.teardown == "learned":
            return None
        try:
            return named_schedule(
                chosen.teardown, cost_per_look=chosen.cost_per_look, longest=chosen.longest
            )
        except InvalidRequest as error:
            raise ConfigurationError(str(error)) from None

    def api_key(self) -> str:
        """The key; ``ConfigurationError`` if there is none."""
        key = self.settings.platform.api_key
        if key is None or not key.get_secret_value():
            raise ConfigurationError(
                "platform.api_key: no API key is set; nothing was called. "
                "Put it in the environment variable SKILLABLE_API_KEY."
            )
        return key.get_secret_value()


def load(
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read all layers. ``flags`` by ``section.key``, without those that were not given.

    Raises :class:`~orchestrator.errors.ConfigurationError` naming the layer and the key.
    """
    environ = os.environ if environ is None else environ
    if file is None and environ.get(f"{PREFIX}CONFIG"):
        file = Path(environ[f"{PREFIX}CONFIG"])
    if file is None:
        file = next((name for name in DEFAULT_FILES if name.is_file()), None)
    layers: list[tuple[str, dict[str, Any]]] = [("default", _toml(_default_file()))]
    if file is not None:
        layers.append((str(file), _toml(file)))
    layers.append(("environment", _environment(environ)))
    layers.append(("flag", dict(flags or {})))
    merged: dict[str, Any] = {}
    sources: dict[str, str] = dict.fromkeys(known_keys(), "default")
    for layer, values in layers:
        for key, value in values.items():
            if key not in sources:
                raise ConfigurationError(f"{layer}: {key}: no such setting; nothing was called.")
            section, _, name = key.partition(".")
            merged.setdefault(section, {})[name] = value
            sources[key] = layer
    try:
        return Loaded(Settings(**merged), sources)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        raise ConfigurationError(
            f"{sources.get(key, 'default')}: {key}: {first['msg'].removeprefix('Value error, ')}; "
            "nothing was called."
        ) from None


def known_keys() -> Iterator[str]:
    """Every ``section.key`` there is."""
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (f"{section}.{name}" for name in kind.model_fields)


def shown_values(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    """(key, value, source) of each setting, secrets masked."""
    for key in known_keys():
        section, _, name = key.partition(".")
        value = getattr(getattr(loaded.settings, section), name)
        yield key, "" if value is None else str(value), loaded.sources[key]


def environment_name(key: str) -> str:
    """The environment variable of a setting."""
    own = {setting: variable for variable, setting in ALIASES.items()}
    return own.get(key, PREFIX + key.replace(".", "__").upper())


def settings_table() -> str:
    """Every setting as a Markdown table, for the README."""
    rows = ["| setting | default | environment | meaning |", "| --- | --- | --- | --- |"]
    defaults = _toml(_default_file())
    for key in known_keys():
        section, _, name = key.partition(".")
        kind = Settings.model_fields[section].annotation
        meaning = kind.model_fields[name].description if kind is not None else ""
        default = defaults.get(key, "")
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        variable = environment_name(key)
        rows.append(f"| `{key}` | {shown if default != '' else ''} | `{variable}` | {meaning} |")
    return "\n".join(rows)


def _default_file() -> Path:
    """Inside the wheel beside this file; in a checkout at ``config/``."""
    inside = Path(__file__).with_name("default.toml")
    return inside if inside.is_file() else Path(__file__).parents[2] / "config" / "default.toml"


def _toml(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: cannot be read: {error}") from None
    flat: dict[str, Any] = {}
    for section, values in data.items():
        if not isinstance(values, dict):
            raise ConfigurationError(f"{file}: {section}: no such setting; nothing was called.")
        flat.update({f"{section}.{name}": value for name, value in values.items()})
    return flat


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {environment_name(key): key for key in known_keys()}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in (*names, f"{PREFIX}CONFIG"):
            raise ConfigurationError(f"environment: {variable}: no such setting.")
    return {key: environ[name] for name, key in names.items() if environ.get(name)}
