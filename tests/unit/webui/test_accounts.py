# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.accounts import (
    PROBE,
    SERVICE,
    Instance,
    database,
    exists,
    stored_accounts,
)
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import Loopback


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database as Open WebUI has it open: in WAL mode, its changes not yet in the main file."""
    with closing(sqlite3.connect(tmp_path / "webui.db")) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute(
            'CREATE TABLE "user" (id VARCHAR, email VARCHAR, role VARCHAR, created_at BIGINT)'
        )
        connection.execute("CREATE TABLE auth (id VARCHAR, session_stamp TEXT)")
        connection.commit()
        yield connection


def _add(writer: sqlite3.Connection, user: str, email: str, role: str, created: int) -> None:
    writer.execute('INSERT INTO "user" VALUES (?, ?, ?, ?)', (user, email, role, created))
    writer.execute("INSERT INTO auth VALUES (?, ?)", (user, f"stamp-{user}"))


def test_the_database_is_read_beside_a_writer(writer: sqlite3.Connection, tmp_path: Path) -> None:
    _add(writer, "u3", SERVICE.email, "user", 30)
    _add(writer, "u1", "boss@acme.example", "admin", 10)
    _add(writer, "u2", "anna@acme.example", "user", 20)
    _add(writer, "u4", PROBE.email, "user", 40)
    writer.commit()
    assert (tmp_path / "webui.db-wal").stat().st_size > 0
    _add(writer, "u5", "late@acme.example", "admin", 50)  # not committed
    found = stored_accounts(tmp_path / "webui.db")
    assert [account.id for account in found] == ["u1", "u3", "u4"]
    assert found[0].role == "admin"
    assert found[0].stamp == "stamp-u1"
    # and the writer was not held up
    writer.commit()
    assert len(stored_accounts(tmp_path / "webui.db")) == 4


def test_reading_changes_nothing(writer: sqlite3.Connection, tmp_path: Path) -> None:
    _add(writer, "u1", "boss@acme.example", "admin", 10)
    writer.commit()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("webui.db*")}
    before.pop("webui.db-shm")
    stored_accounts(tmp_path / "webui.db")
    after = {path.name: path.read_bytes() for path in tmp_path.glob("webui.db*")}
    after.pop("webui.db-shm")
    assert after == before


def test_a_path_may_contain_what_a_url_may_not(tmp_path: Path) -> None:
    odd = tmp_path / "a b?c#d%41"
    odd.mkdir()
    with closing(sqlite3.connect(odd / "webui.db")) as connection:
        connection.execute('CREATE TABLE "user" (id, email, role, created_at)')
        connection.execute("CREATE TABLE auth (id, session_stamp)")
    assert stored_accounts(odd / "webui.db") == []


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="unable to open") as caught:
        stored_accounts(tmp_path / "webui.db")
    assert caught.value.where == str(tmp_path / "webui.db")
    assert list(tmp_path.iterdir()) == []


def test_without_docker_there_is_no_instance(tmp_path: Path) -> None:
    docker = f"unix://{tmp_path}/docker.sock"
    instance = Instance("acme", Loopback("http://127.0.0.1:1"), docker, {}, 0)
    assert not exists(instance)
    with pytest.raises(Unreachable) as caught:
        database(instance)
    assert "Docker" in caught.value.todo
