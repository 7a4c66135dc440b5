"""``relaunch reset`` where workers of a fleet drive: it feeds them, and says if there is none."""

from __future__ import annotations

from pathlib import Path

from tests.cli.processes import await_line, running
from tests.cli.test_reset import a_class, each_once


def test_workers_drive_what_the_command_feeds_them(tmp_path: Path, postgres_url: str) -> None:
    with a_class(tmp_path) as (sandbox, env, file):
        env["RELAUNCH_STORE__URL"] = postgres_url
        with running(env, "reset", file, "--yes") as process:
            assert "relaunch worker" in await_line(process, "No worker has begun with anybody")
            assert sandbox.ledger.cancels() == []
            with running(env, "worker"):
                _, err = process.communicate(timeout=25)
        assert process.returncode == 0, err
        assert each_once(sandbox)
