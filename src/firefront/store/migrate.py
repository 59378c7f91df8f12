"""Brings a database to the tables of this version, when it is opened.

Knows no table: the steps are in `migrations/versions`. Invariants: one process at a time, all steps
in one transaction, so a crash leaves the tables as they were and the next start begins anew. The
tool (Alembic) is imported only where there is something to do.
"""

from pathlib import Path

import sqlalchemy as sa

from firefront.core.errors import RequestError
from firefront.store.database import Database

HEAD = "0006"  # the last step in migrations/versions
FOLDER = Path(__file__).with_name("migrations")
LOCK = 0x66697265_0001


def migrate(database: Database) -> None:
    """Take the steps that are missing; RequestError if the tables are a newer version's."""
    with database.read() as connection:
        if _revision(connection) == HEAD:
            return
    with database.write() as connection:
        database.lock(connection, LOCK)
        revision = _revision(connection)  # another process may have been quicker
        if revision == HEAD:
            return
        _upgrade(database, connection, revision)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return version


def _upgrade(database: Database, connection: sa.Connection, revision: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise RequestError(
            f"{database.name}: was written by a newer version of firefront; update this one, or "
            "name another database with --store",
            param="store",
        )
    command.upgrade(config, "head")
