"""The rules that keep the code what it is: import contracts, types, lint, the agreed top level."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "check",
    [
        ["importlinter.cli", "lint"],
        ["mypy"],
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
    ],
    ids=" ".join,
)
def test_the_checks_pass(check: list[str]) -> None:
    program, *arguments = check
    command = [sys.executable, "-m", program, *arguments]
    if program == "importlinter.cli":
        command = [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as c; c()",
        ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_base_install_is_three_libraries() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {d.split(">")[0].split("<")[0] for d in project["dependencies"]}
    assert names == {"httpx", "structlog", "tenacity"}


def test_embedding_imports_nothing_of_the_extras() -> None:
    # click and rich are no proof: httpx and structlog import them where they find them.
    code = (
        "import sys, orchestrator, orchestrator.skillable, orchestrator.testing, "
        "orchestrator.waiting, orchestrator.sandbox\n"
        "found = {'pydantic', 'typer', 'starlette', 'uvicorn'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(found)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_have_one_subject_and_say_it_first() -> None:
    for file in (ROOT / "orchestrator").rglob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith('"""'), f"{file} does not say what it is about"
        assert len(lines) <= 400, f"{file} has {len(lines)} lines"
        assert file.stem not in {"utils", "helpers", "manager"}
