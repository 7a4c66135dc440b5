"""The client of the Skillable Lab API v3 ("Lab on Demand"), sync and async."""

from orchestrator.skillable.answers import (
    CancelAnswer,
    ConsumerLab,
    ConsumerLabs,
    LabResult,
    SaveAnswer,
    SearchPage,
    Stats,
)
from orchestrator.skillable.client import AsyncSkillableClient, SkillableClient
from orchestrator.skillable.connection import BASE_URL, ClientOptions
from orchestrator.skillable.platform import AsyncSkillablePlatform, SkillablePlatform
from orchestrator.skillable.webhooks import Webhook, parse_webhook

__all__ = [
    "BASE_URL",
    "AsyncSkillableClient",
    "AsyncSkillablePlatform",
    "CancelAnswer",
    "ClientOptions",
    "ConsumerLab",
    "ConsumerLabs",
    "LabResult",
    "SaveAnswer",
    "SearchPage",
    "SkillableClient",
    "SkillablePlatform",
    "Stats",
    "Webhook",
    "parse_webhook",
]
