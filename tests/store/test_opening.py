"""Opening: the tables of this version from nothing, from themselves, never from a newer one's."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from firefront.core.errors import RequestError
from firefront.store import migrate, tables
from firefront.store.store import Store
from tests.store.inside import add_completion, at_once, rows

SOURCE = Path(__file__).parent.parent.parent / "src"


def test_migrations_make_the_tables_that_the_code_uses(store: Store) -> None:
    with store._database.write() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    assert [account.id for account in rows(store, tables.accounts)] == [tables.LOCAL_ACCOUNT]


def test_the_newest_step_is_known_without_asking_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.HEAD]


def test_opening_again_changes_nothing(open_store: Callable[..., Store]) -> None:
    first = open_store()
    add_completion(first, "c")
    name = rows(first, tables.identity)
    first.close()
    again = open_store()
    assert rows(again, tables.identity) == name
    assert again.completions.get("local", "c").id == "c"


def test_opening_again_is_light(home: Path) -> None:
    """The migration tool is loaded only where there is something to do."""
    Store.open(None, home).close()
    code = (
        "import pathlib, sys\n"
        "from firefront.store.store import Store\n"
        f"Store.open(None, pathlib.Path({str(home)!r})).close()\n"
        "sys.exit('alembic' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0


def test_tables_of_a_newer_version_are_left_alone(
    open_store: Callable[..., Store], url: str | None
) -> None:
    store = open_store()
    with store._database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RequestError, match="newer version of firefront"):
        open_store()
    with store._database.read() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "9999"


def test_many_processes_open_an_empty_store(url: str | None, home: Path) -> None:
    def open_it() -> None:
        store = Store.open(url, home)
        assert len(rows(store, tables.accounts)) == 1
        store.close()

    at_once([open_it] * 4)


def test_everything_is_its_owners_alone(home: Path) -> None:
    old_mask = os.umask(0)
    try:
        store = Store.open(None, home)
        add_completion(store, "c")
        incoming = store.files.incoming()
        incoming.write(b"secret")
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")]}
        incoming.discard()
        store.close()
    finally:
        os.umask(old_mask)
    assert {path.name for path in modes} >= {"firefront.db", "firefront.db-wal", "incoming"}
    for path, mode in modes.items():
        assert mode == (0o700 if path.is_dir() or path == home else 0o600) or not path.exists()


def test_a_database_that_others_could_read_is_closed_to_them(home: Path) -> None:
    Store.open(None, home).close()
    path = home / "firefront.db"
    path.chmod(0o644)
    Store.open(None, home).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "url", ["", "mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:", "http://a:b@c/d"]
)
def test_other_urls_are_refused(home: Path, url: str) -> None:
    with pytest.raises(RequestError, match="^--store: must be postgresql://") as raised:
        Store.open(url, home)
    assert raised.value.param == "store"


def test_what_is_no_database_is_left_alone(home: Path) -> None:
    home.mkdir()
    path = home / "firefront.db"
    path.write_bytes(b"a letter to my aunt\n" * 100)
    with pytest.raises(RequestError, match="firefront.db"):
        Store.open(None, home)
    assert path.read_bytes().startswith(b"a letter")


def test_a_home_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match="FIREFRONT_HOME"):
        Store.open(None, tmp_path / "file" / "home")


def test_a_server_that_is_not_there_is_said_without_its_password(home: Path) -> None:
    pytest.importorskip("psycopg")
    from firefront.core.errors import FirefrontError

    with pytest.raises(FirefrontError) as raised:
        Store.open("postgresql://me:hunter2@127.0.0.1:1/db", home)
    assert "db at 127.0.0.1" in str(raised.value) and "hunter2" not in str(raised.value)
