# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an export needs no instance to be seen; the rest is in tests/integration."""

from __future__ import annotations

import contextlib
import json
import resource
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.export import _chats, _database

Trouble = Callable[[Path], AbstractContextManager[None]]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where an export has put the database."""
    folder = tmp_path / "exports" / ".acme-1"
    folder.mkdir(parents=True)
    return folder


def fill(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "webui.db")) as database:
        database.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value JSON)")
        database.execute('CREATE TABLE "user" (id, email)')
        database.execute("CREATE TABLE chat (id, user_id, title, chat, created_at, updated_at)")
        for number in range(500):
            row = (str(number), "id1", "Hello", json.dumps("word " * 100), 1, 2)
            database.execute("INSERT INTO chat VALUES (?, ?, ?, ?, ?, ?)", row)
        database.commit()


@contextlib.contextmanager
def busy(folder: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(folder / "webui.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    size = (folder / "webui.db").stat().st_size
    disk = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size + 40_000}", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if disk.returncode != 0:
        pytest.skip("a disk of its own cannot be mounted here")
    try:
        fill(folder)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def failing(_folder: Path) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def no_file(folder: Path) -> Iterator[None]:
    (folder / "webui.db").unlink()
    (folder / "webui.db").mkdir()
    yield


@contextlib.contextmanager
def garbage(folder: Path) -> Iterator[None]:
    (folder / "webui.db").write_bytes(b"garbage " * 1000)
    yield


@contextlib.contextmanager
def holed(folder: Path) -> Iterator[None]:
    whole = (folder / "webui.db").read_bytes()
    (folder / "webui.db").write_bytes(whole[:8192] + bytes(len(whole) - 8192))
    yield


@contextlib.contextmanager
def another_release(folder: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(folder / "webui.db")) as database:
        database.execute("DROP TABLE config")
    yield


@pytest.mark.parametrize(
    ("trouble", "what", "todo", "in_the_place"),
    [
        (busy, "something else uses it", "run again", True),
        (full, "the disk is full", "make room", True),
        (failing, "the disk fails", "kernel's log", True),
        (no_file, "it cannot be opened", "owner and mode", True),
        (garbage, "the database is damaged", "fleet_export=false", False),
        (holed, "the database is damaged", "fleet_export=false", False),
        (another_release, "not as Open WebUI makes it", "the client's version", False),
    ],
)
def test_what_is_wrong_with_a_database_is_told_apart(
    scratch: Path, trouble: Trouble, what: str, todo: str, in_the_place: bool
) -> None:
    fill(scratch)
    with trouble(scratch), pytest.raises(FleetError) as raised:
        _database(scratch, frozenset())
    error = raised.value
    assert what in error.what and todo in error.todo
    assert error.where == (str(scratch.parent) if in_the_place else "webui.db")
    assert in_the_place == ("damaged" not in str(error) and "Open WebUI" not in str(error))


def test_a_setting_that_is_no_json_is_named(scratch: Path) -> None:
    fill(scratch)
    with contextlib.closing(sqlite3.connect(scratch / "webui.db")) as database:
        database.execute("INSERT INTO config VALUES ('openai.api_keys', '[')")
        database.commit()
    with pytest.raises(FleetError, match=r"openai\.api_keys is no JSON \(mend it"):
        _database(scratch, frozenset())


@pytest.mark.parametrize("content", [None, "{"])
def test_a_chat_that_is_no_json_is_named(tmp_path: Path, content: str | None) -> None:
    fill(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "webui.db")) as database:
        database.execute("UPDATE chat SET chat = ? WHERE id = '7'", (content,))
        database.commit()
    (tmp_path / "webui.db").rename(tmp_path / "clean.db")
    with tarfile.open(tmp_path / "chats.tar", "w") as archive, pytest.raises(FleetError) as raised:
        _chats(archive, tmp_path)
    assert str(raised.value).startswith("webui.db: the chat 7 is no JSON (mend it")


def test_two_people_never_share_a_file_of_chats(tmp_path: Path) -> None:
    people = {"id1": "a&b@acme.example", "id2": "a+b@acme.example", "id3": "A_B@acme.example"}
    with contextlib.closing(sqlite3.connect(tmp_path / "clean.db")) as database:
        database.execute('CREATE TABLE "user" (id, email)')
        database.execute("CREATE TABLE chat (id, user_id, title, chat, created_at, updated_at)")
        for person, email in people.items():
            database.execute('INSERT INTO "user" VALUES (?, ?)', (person, email))
            chat = (f"chat of {person}", person, "Hello", "{}", 1, 1)
            database.execute("INSERT INTO chat VALUES (?, ?, ?, ?, ?, ?)", chat)
        database.commit()
    with tarfile.open(tmp_path / "chats.tar", "w") as archive:
        assert _chats(archive, tmp_path) == len(people)
    with tarfile.open(tmp_path / "chats.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    files = list((tmp_path / "chats").iterdir())
    owners = {json.loads(file.read_text())[0]["user_id"] for file in files}
    assert len({file.name.lower() for file in files}) == len(owners) == len(people)
