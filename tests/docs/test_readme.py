"""The README is checked: snippets run, tables are what the code says, named files exist."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.outcomes import ItemOutcome, plain_outcome
from orchestrator.cli.exits import BATCH_EXITS, EXITS
from orchestrator.cli.settings import settings_table
from orchestrator.durable.batches import Item, ItemResult
from orchestrator.plain import to_plain
from orchestrator.sandbox import Sandbox
from orchestrator.sandbox.server import SandboxServer
from tests.world import World

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    sandbox = Sandbox(teardown="fixed:0.1")
    with SandboxServer(sandbox) as running:
        sandbox.world.give("ada", 1001)
        yield running


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_each_python_snippet_runs(
    snippet: str, server: SandboxServer, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"api_key": "sandbox-key", "base_url": server.base_url}
    exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102 - our own README
    for outcome in names.get("outcomes") or [names["outcome"]]:
        assert (outcome.result if isinstance(outcome, ItemOutcome) else outcome).message
        if "skillable" in snippet:
            assert outcome.ok


def test_the_settings_table_is_the_code_s() -> None:
    assert settings_table() in README


def test_the_exit_codes_are_all_there() -> None:
    section = README[README.index("Exit codes:") :][:500]
    assert set(EXITS) <= {int(n) for n in re.findall(r"\b(\d{1,3}) [a-z]", section)}


def test_the_exit_codes_of_batches_are_told_in_the_code_s_words() -> None:
    told = "; ".join(f"{code} {when}" for code, when in BATCH_EXITS.items())
    assert f"Exit codes of batches: {told}." in " ".join(README.split())


def test_every_field_of_a_learner_of_a_batch_is_named() -> None:
    item = Item(number=1, user_id="ann", lab_profile_id=1001)
    result = ItemResult(outcome="launched", reason=None, message="")
    one = ItemOutcome(
        batch_id="b",
        item=item,
        attempt=1,
        relaunch_id="r",
        result=result,
        begun_at=None,
        ended_at=0.0,
    )
    described = README[README.index("`--json` prints one JSON object for each learner") :][:900]
    assert {field for field in plain_outcome(one) if f"`{field}`" not in described} == set()


def test_every_field_of_the_json_is_named() -> None:
    fields = set(to_plain(World().relaunch()))
    described = README[README.index("`--json` prints") :][:900]
    missing = {f for f in fields if f"`{f}`" not in described}
    assert missing <= {"expires_at", "ready_in_seconds"}


def test_every_named_file_exists() -> None:
    for name in re.findall(r"`((?:tests|orchestrator|config)/[\w/.]+)`", README):
        assert (ROOT / name).exists() or name == "config/local.toml", name


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"^relaunch ([\w-]+(?: [a-z]+)?)", README, re.MULTILINE)))
)
def test_every_named_command_and_option_exists(command: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in re.findall(rf"^relaunch {command} (-.*)$", README, re.MULTILINE):
        for option in re.findall(r"--[\w-]+", line.split("#")[0]):
            assert option in shown


def test_the_options_in_the_list_exist() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    choices = README[README.index("The choices that matter most") : README.index("### Settings")]
    for option in re.findall(r"`(--[\w-]+)", choices):
        assert option in shown
