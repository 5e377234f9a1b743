# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an export needs no instance to be seen; the rest is in tests/integration."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tarfile
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils._reconcile.export import _chats


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
