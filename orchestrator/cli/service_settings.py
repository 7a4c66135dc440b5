"""The settings of ``relaunch serve``: where it listens, who is let in, and how much each may ask.

Lists may also be given as texts with commas in between, as an environment variable must.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _origin(text: str) -> str:
    """As a browser writes it; what no browser would ever send lets nobody in, so it is refused."""
    origin = text.strip().lower().rstrip("/")
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(
            "an origin is like https://lms.example or https://lms.example:8443, without a path; "
            "each is named, so neither `*` nor `null` is one"
        )
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

Origin = Annotated[str, AfterValidator(_origin)]
Listed = Annotated[list[str], BeforeValidator(_listed)]
SecretList = Annotated[list[SecretStr], BeforeValidator(_listed)]


class ServiceSettings(BaseModel):
    """The HTTP service."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: str = Field(description="The address to listen on.")
    port: int = Field(ge=0, le=65535, description="0 picks a free one.")
    public_url: str | None = Field(
        None, description="How pages and the platform reach the service, if not as it listens."
    )
    trusted_proxies: Listed = Field(
        description="Proxies whose word on who asks is believed (addresses or networks)."
    )
    allowed_origins: Annotated[list[Origin], BeforeValidator(_listed)] = Field(
        description="Origins of the pages that may embed the button, such as `https://lms.example`."
    )
    keys: SecretList = Field(
        description="Service keys, each `NAME:SCOPES:HASH` as `relaunch key` prints it."
    )
    webhook_secrets: SecretList = Field(
        description="What the platform's webhooks must bring as `Authorization`; two while one is "
        "being replaced."
    )
    learner_requests_per_minute: int = Field(ge=1, description="Of one learner.")
    key_requests_per_minute: int = Field(ge=1, description="Of one service key.")
    most_streams: int = Field(ge=1, description="Event streams open at a time.")
    heartbeat_seconds: float = Field(gt=0, description="A silent stream gives a sign this often.")


class TokenSettings(BaseModel):
    """Learner tokens, signed by the LMS's server; off unless there is a secret or a key set."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    secret: SecretStr | None = Field(
        None, min_length=32, description="For HS256; 32 characters or more."
    )
    jwks: str | None = Field(
        None, description="For RS256 and ES256: a file or an https URL with the public keys."
    )
    audience: str = Field(min_length=1, description="What `aud` must say.")
    issuer: str | None = Field(None, description="What `iss` must say, if anything.")
    leeway_seconds: float = Field(ge=0, le=300, description="How far clocks may differ.")
    longest_seconds: float = Field(gt=0, description="Tokens made for longer are refused.")
