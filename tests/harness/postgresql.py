"""A PostgreSQL for the tests: its programs are found or installed, and its cluster is in a temporary folder.

Usage:
    PYTHONPATH=tests python -m harness.postgresql    print the folder of the programs; install them if needed

The variable POSTGRESQL may name that folder. On Debian and Ubuntu they are installed with apt-get, on macOS with brew.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from blockrun_magic.database.postgresql import PostgresDatabase
from blockrun_magic.payments.ledger.schema import migrate
from harness import PATIENCE
from harness.apt import apt_install, ran

__all__ = ["Cluster", "cluster", "find_programs", "install_programs", "server", "server_of_the_tests"]

_FOLDERS = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin")
_ADVICE = """There is no PostgreSQL, so its tests cannot run.
Install it (Debian: apt-get install postgresql; macOS: brew install postgresql@17; elsewhere from postgresql.org),
or let the variable POSTGRESQL name the folder of initdb and postgres."""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "150",
    "shared_buffers": "64MB",
    # The tests cut no power: the data must survive the processes, not the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "log_min_messages": "panic",
}
_GUARD = """
exec 3<&0
"$@" </dev/null &
server=$!
{ if read -r line <&3; then kill -QUIT $server; else kill -QUIT $server; sleep 1; rm -rf "$0"; fi; } &
exec 3<&-
wait $server
"""
"""A server that stops at once at a line of its input; if the test process ends, it also removes its folder."""
_DURABLE = {"fsync": "on", "full_page_writes": "on"}


def find_programs() -> Path | None:
    """Return the folder of the newest initdb and postgres, or None."""
    return next((folder for folder in _candidates() if (folder / "initdb").exists()), None)


def _candidates() -> Iterator[Path]:
    named = os.environ.get("POSTGRESQL")
    if named:
        yield Path(named)
        return
    found = [folder for pattern in _FOLDERS for folder in Path("/").glob(pattern[1:])]
    yield from sorted(found, key=lambda folder: [int(part) for part in folder.parts if part.isdigit()], reverse=True)
    initdb = shutil.which("initdb")
    if initdb:
        yield Path(initdb).resolve().parent


def install_programs() -> None:
    """Install PostgreSQL with apt-get or brew where possible."""
    if not apt_install("postgresql") and shutil.which("brew"):
        ran("brew", "install", "--quiet", "postgresql@17")


class Cluster:
    """A running server; with `durable`, it waits for the disk like a server in production.

    PostgreSQL refuses to run as root: then it runs as an unprivileged user.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._settings = {**_SETTINGS, **(_DURABLE if durable else {})}
        programs = find_programs()
        if programs is None:
            raise RuntimeError(_ADVICE)
        self._programs = programs
        atexit.register(self.close)  # also if a test ends with an error
        self._user = _unprivileged()
        self._folder = Path(tempfile.mkdtemp(prefix="blockrun-postgresql-"))
        self._server: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_urlsafe(12)
        self.port = _free_port()
        secret = self._folder / "password"
        secret.write_text(self.password)
        for path in (self._folder, secret):
            if self._user:
                os.chown(path, self._user, -1)
        options = ("--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username=tests")
        command = [programs / "initdb", *options, f"--pwfile={secret}", "--pgdata", self._data]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, env=self._environ(), cwd="/")
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}

    @property
    def pid(self) -> int:
        """The process id of the server's parent."""
        assert self._server is not None
        return self._server.pid

    def address(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://tests:{self.password}@127.0.0.1:{self.port}/{database}"

    def empty_database(self) -> str:
        """Return the address of a database without tables; every call empties and returns the same database."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'emptied'").fetchone() is None:
                connection.execute("CREATE DATABASE emptied")
        with psycopg.connect(self.address("emptied"), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS blockrun CASCADE")
        return self.address("emptied")

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        settings = self._settings | {"port": str(self.port), "unix_socket_directories": str(self._folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = ["sh", "-c", _GUARD, self._folder, self._programs / "postgres", "-D", self._data, *options]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, user=self._user, env=self._environ(), cwd="/", start_new_session=True
        )
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        end = time.monotonic() + PATIENCE
        while subprocess.run(ready, check=False, env=self._environ()).returncode != 0:
            if self._server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL in {self._folder} did not start.")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server like `pg_ctl stop -m immediate`: at once, without a checkpoint."""
        if self._server is not None:
            self._server.communicate(b"stop\n", timeout=PATIENCE)
            self._server = None

    def dump(self, database: str = "postgres", schema: str = "*") -> str:
        """Return a database or one of its schemas as SQL."""
        command = [self._programs / "pg_dump", f"--schema={schema}", self.address(database)]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=self._environ()).stdout

    def close(self) -> None:
        """Stop the server and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return the server of this test process; the first test that needs it starts it."""
    running = Cluster()
    yield running
    running.close()


@pytest.fixture(scope="session")
def server_of_the_tests(cluster: Cluster) -> Iterator[PostgresDatabase]:
    """Return a database with the tables of the ledger, which the tests use one after the other."""
    with closing(PostgresDatabase(cluster.address())) as database:
        migrate(database)
        yield database


@pytest.fixture
def server(server_of_the_tests: PostgresDatabase) -> PostgresDatabase:
    """Return the database of the tests, emptied."""
    with server_of_the_tests.transaction(durable=False) as connection:
        for table in _TABLES:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
    return server_of_the_tests


_TABLES = ("payloads", "reservations", "authorizations", "pictures", "purchases", "counters", "limits", "holds")
_TABLES += ("quotes", "settings")


def _unprivileged() -> int | None:
    """Return the user that runs the server, or None if this process is not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _free_port() -> int:
    """Return a free port that the system gives to no connection, even while the server is stopped."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as taken, suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port


def main() -> int:
    """Print the folder of PostgreSQL's programs, which are installed if needed; exit with an error if that fails."""
    folder = find_programs()
    if folder is None and not os.environ.get("POSTGRESQL"):
        sys.stderr.write("Installing PostgreSQL for the tests ...\n")
        install_programs()
        folder = find_programs()
    if folder is None:
        sys.exit(_ADVICE)
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
