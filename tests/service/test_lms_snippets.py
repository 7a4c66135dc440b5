"""The README's lines for the LMS's server, in each language: run, and their tokens are accepted."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.service.access.authority import Authority
from orchestrator.service.access.learner_tokens import LearnerTokens
from tests.service.signing import SECRET

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def _python() -> str:
    return sys.executable


def _php() -> str | None:
    return shutil.which("php")


def _node() -> str | None:
    """The system's, or the one that the browser's driver brings along."""
    playwright = pytest.importorskip("playwright")
    brought = Path(playwright.__file__).parent / "driver" / "node"
    return shutil.which("node") or (str(brought) if brought.is_file() else None)


#: Language -> what runs it, the file's ending, what stands before, and what prints a token.
LANGUAGES: dict[str, tuple[Callable[[], str | None], str, str, str]] = {
    "py": (_python, "py", "", 'print(learner_token("ädä", [1001, 1002], first_name="Ädä"))'),
    "php": (
        _php,
        "php",
        "<?php\n",
        'echo learner_token("ädä", ["1001", 1002], ["first_name" => "Ädä"]);',
    ),
    "js": (
        _node,
        "mjs",
        "",
        'console.log(learnerToken("ädä", [1001, 1002], { first_name: "Ädä" }));',
    ),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_readme_s_lines_sign_is_accepted(language: str, tmp_path: Path) -> None:
    (snippet,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert len(snippet.splitlines()) <= 14
    find, ending, before, after = LANGUAGES[language]
    program = find()
    if program is None:
        pytest.skip(f"nothing here runs {language}")
    file = tmp_path / f"lms.{ending}"
    file.write_text(f"{before}{snippet}\n{after}\n", encoding="utf-8")
    done = subprocess.run(
        [program, str(file)],
        env=os.environ | {"LAB_RELAUNCH_SECRET": SECRET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    authority = Authority(tokens=LearnerTokens(secret=SECRET))
    found = asyncio.run(authority.caller(f"Bearer {done.stdout.strip()}"))
    assert (found.user_id, found.lab_profile_ids) == ("ädä", frozenset({1001, 1002}))
    assert found.parameters.first_name == "Ädä"
