# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""instance_export and instance_volumes on the real Docker, with a volume as Open WebUI leaves it.

The database is made here, with the tables that matter. The one of the real Open WebUI is exported
in test_site.py.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from integration.test_containers import FLEET, Server, busybox, call, engine, importable, tiny

__all__ = ["busybox", "engine", "importable", "tiny"]

pytestmark = pytest.mark.docker

OURS = "sk-or-v1-" + "0f" * 32
THEIRS = "sk-or-v1-" + "a0" * 32
WORDS = "What was said last, Łódź"
STAMP = "20260131T120000Z"


@pytest.fixture
def server(tmp_path: Path, engine: docker.DockerClient, tiny: str, capsys: Any) -> Iterator[Server]:
    server = Server(tmp_path, engine, tiny, capsys)
    yield server
    server.clean()


def database(folder: Path) -> dict[str, bytes]:
    """A database as it is found after its owner was killed: what is new is in the log."""
    path = folder / f"{secrets.token_hex(4)}.db"
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode = wal")
        base.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value JSON)")
        base.execute('CREATE TABLE "user" (id TEXT, email TEXT)')
        base.execute(
            "CREATE TABLE chat (id TEXT, user_id TEXT, title TEXT, chat JSON, created_at INT, "
            "updated_at INT)"
        )
        keys = json.dumps([OURS, THEIRS])
        base.execute("INSERT INTO config VALUES ('openai.api_keys', ?)", (keys,))
        base.execute("INSERT INTO \"user\" VALUES ('1', 'ewa@people.example')")
        chat = json.dumps({"messages": [{"role": "user", "content": WORDS}]})
        base.execute("INSERT INTO chat VALUES ('c', '1', 'Last words', ?, 1, 2)", (chat,))
        base.commit()
        files = {"webui.db": path, "webui.db-wal": Path(f"{path}-wal")}
        return {name: file.read_bytes() for name, file in files.items()}


def fill(server: Server, name: str, files: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    server.container(name).put_archive("/app/backend/data", buffer.getvalue())


def wanted(server: Server, name: str) -> dict[str, Any]:
    """The options of an export."""
    client = {
        "name": name,
        "archive": f"{name}-{STAMP}.tar.gz",
        "image": server.clients[name]["image"],
        "key_hashes": [hashlib.sha256(OURS.encode()).hexdigest()],
        "about": {"organization": "Łódź & Söhne"},
    }
    return {
        "directory": f"{server.directory}-exports",
        "fleet": FLEET,
        "clients": [client],
        "reserve": 1,
    }


def export(server: Server, name: str, check: bool = False, **more: Any) -> Any:
    options = {**wanted(server, name), **more}
    return call(server._capsys, "instance_export", options, check=check)["clients"][name]


def killed(server: Server, name: str, step: int) -> tuple[int, list[str]]:
    """An export that ends before a step, in a process of its own: its status, and its steps."""
    paths = [str(Path(__file__).resolve().parents[1]), *sys.path]
    run = subprocess.run(
        [sys.executable, "-m", "integration.killed"],
        input=json.dumps({"options": wanted(server, name), "step": step}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
        capture_output=True,
        encoding="utf-8",
    )
    return run.returncode, run.stderr.split()


def volumes(server: Server, name: str, check: bool = False, **more: Any) -> Any:
    options = {"clients": [{"name": name, **more}]}
    return call(server._capsys, "instance_volumes", options, check=check)["clients"][name]


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = [member for member in archive if member.isreg()]
        return {file.name: archive.extractfile(file).read() for file in files}  # type: ignore[union-attr]


@pytest.fixture
def client(server: Server, tmp_path: Path) -> str:
    """A client with a chat, an upload, and a running instance."""
    name = server.client("one")
    server.up(name)
    fill(server, name, {**database(tmp_path), "uploads/plan.pdf": b"pdf" * 100_000})
    return name


def test_an_export_has_everything_and_no_key_of_ours(
    server: Server, client: str, tmp_path: Path
) -> None:
    row = export(server, client)
    assert not row["failed"], row
    assert row["before"] == {"instance": "running", "archive": None}
    assert server.container(client).status == "exited"
    path = Path(f"{server.directory}-exports") / row["after"]["archive"]
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    files = unpacked(path)
    assert files["data/uploads/plan.pdf"] == b"pdf" * 100_000
    assert sorted(files) == [
        "chats/ewa@people.example.json",
        "data/uploads/plan.pdf",
        "data/webui.db",
    ]
    (chat,) = json.loads(files["chats/ewa@people.example.json"])
    assert chat["chat"]["messages"][0]["content"] == WORDS
    (tmp_path / "back.db").write_bytes(files["data/webui.db"])
    with contextlib.closing(sqlite3.connect(tmp_path / "back.db")) as base:
        said = "SELECT json_extract(chat, '$.messages[0].content') FROM chat"
        assert base.execute(said).fetchone() == (WORDS,)
        (keys,) = base.execute("SELECT value FROM config").fetchone()
    assert json.loads(keys) == ["", THEIRS]
    assert OURS.encode() not in gzip.decompress(path.read_bytes())
    manifest = json.loads(path.with_name(f"{client}-{STAMP}.json").read_text())
    assert manifest == row["export"]
    assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (manifest["chats"], manifest["users"], manifest["files"]) == (1, 1, 3)
    assert manifest["organization"] == "Łódź & Söhne"
    left = {file.name for file in path.parent.iterdir()}
    assert left == {path.name, f"{client}-{STAMP}.json"}
    assert server.engine.containers.list(all=True, filters={"name": f"{client}-export"}) == []


def test_without_room_nothing_is_taken_away(server: Server, client: str) -> None:
    before = server.container(client).attrs["State"]["StartedAt"]
    row = export(server, client, reserve=1 << 40)
    assert row["failed"] and "no room" in row["failure"]["what"]
    assert "fleet_export=false" in row["failure"]["todo"]
    found = server.container(client)
    # Its service was interrupted, and goes on.
    assert found.status == "running" and found.attrs["State"]["StartedAt"] != before
    assert list(Path(f"{server.directory}-exports").iterdir()) == []


def test_check_mode_stops_nothing(server: Server, client: str) -> None:
    foretold = export(server, client, check=True)
    assert server.container(client).status == "running"
    assert not Path(f"{server.directory}-exports").exists()
    real = export(server, client)
    assert {**foretold, "export": None} == {**real, "export": None}


@pytest.mark.parametrize("damage", ["no database", "broken database"])
def test_what_cannot_be_an_export_is_none(server: Server, tmp_path: Path, damage: str) -> None:
    name = server.client("one")
    server.up(name)
    if damage == "broken database":
        files = database(tmp_path)
        fill(server, name, {"webui.db": files["webui.db-wal"] + b"x" * 10_000})
    row = export(server, name)
    assert row["failed"], row
    assert server.container(name).status == "running"
    assert list(Path(f"{server.directory}-exports").iterdir()) == []


def test_an_export_needs_no_container(server: Server, client: str) -> None:
    """As it is after somebody removed it by hand, and after a run that was killed in between."""
    server.container(client).remove(force=True)
    folder = Path(f"{server.directory}-exports")
    folder.mkdir(mode=0o700)
    (folder / f"{client}-{STAMP}.tar.gz.part").write_bytes(b"half")
    (folder / f".{client}-old").mkdir()
    server.engine.containers.create(server.clients[client]["image"], name=f"{client}-export")
    row = export(server, client)
    assert row["export"]["chats"] == 1
    assert {file.suffix for file in folder.iterdir()} == {".gz", ".json"}


def test_an_export_may_be_killed_anywhere(server: Server, client: str) -> None:
    """At no moment is there half an archive under its name, and the next run makes a whole one."""
    folder = Path(f"{server.directory}-exports")
    archive, manifest = (folder / f"{client}-{STAMP}{end}" for end in (".tar.gz", ".json"))
    status, steps = killed(server, client, -1)
    assert status == 0, steps
    whole = unpacked(archive)
    # The lists of Docker, the stop, the reader; the archive; the database; the files' last steps.
    assert {*steps} >= {"_call", "tree", "write", "_database", "_read_back", "fsync", "replace"}
    for step in range(len(steps)):
        shutil.rmtree(folder)
        server.container(client).start()
        status, taken = killed(server, client, step)
        assert (status, taken) == (-signal.SIGKILL, steps[: step + 1])
        if archive.exists():
            assert unpacked(archive) == whole
            said = json.loads(manifest.read_text())
            assert said["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
        row = export(server, client)
        assert not row["failed"], (step, steps[step], row)
        assert row["after"] == {"instance": "exited", "archive": archive.name}
        assert unpacked(archive) == whole
        said = json.loads(manifest.read_text())
        assert said == row["export"]
        assert said["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
        assert {file.name for file in folder.iterdir()} == {archive.name, manifest.name}, step
        reader: dict[str, Any] = {"name": f"{client}-export"}
        assert server.engine.containers.list(all=True, filters=reader) == []


def test_without_a_volume_there_is_nothing_to_export(server: Server) -> None:
    name = server.client("one")
    row = export(server, name)
    assert (row["failed"], row["changed"], row["export"]) == (False, False, None)
    assert server.engine.volumes.list(filters={"name": name}) == []


def test_an_archive_that_was_fetched_goes(server: Server, client: str) -> None:
    archive = export(server, client)["after"]["archive"]
    gone = {"name": client, "archive": archive, "state": "absent"}
    assert export(server, client, clients=[gone])["changed"]
    assert list(Path(f"{server.directory}-exports").iterdir()) == []
    assert not export(server, client, clients=[gone])["changed"]


def test_a_volume_goes_when_nobody_uses_it(server: Server, client: str) -> None:
    name = f"{client}_data"
    assert volumes(server, client)["before"] == {"volumes": [name]}
    used = volumes(server, client, state="absent")
    assert used["failed"] and f"{client}-webui-1" in used["failure"]["what"]
    server.container(client).remove(force=True)
    assert not volumes(server, client, state="absent", volumes=["other"])["changed"]
    assert volumes(server, client, check=True, state="absent")["changed"]
    assert server.engine.volumes.get(name)
    assert volumes(server, client, state="absent")["after"] == {"volumes": []}
    assert server.engine.volumes.list(filters={"name": name}) == []
    assert not volumes(server, client, state="absent")["changed"]


def test_a_volume_that_was_restored_by_hand_is_the_clients(server: Server, client: str) -> None:
    """It is of no Compose project, and the next instance would have taken it."""
    server.container(client).remove(force=True)
    name = f"{client}_data"
    server.engine.volumes.get(name).remove()
    server.engine.volumes.create(name)
    assert volumes(server, client, state="absent")["before"] == {"volumes": [name]}
    assert server.engine.volumes.list(filters={"name": name}) == []


def test_a_volume_of_somebody_else_stays(server: Server, client: str) -> None:
    """Its name begins like that of a client, but it is of another project."""
    labels = {"com.docker.compose.project": f"{client}_data"}
    other = server.engine.volumes.create(f"{client}_data_too", labels=labels)
    plain = server.engine.volumes.create(f"{client}_plain")
    server.container(client).remove(force=True)
    assert volumes(server, client, state="absent")["before"] == {"volumes": [f"{client}_data"]}
    assert {one.name for one in server.engine.volumes.list(filters={"name": client})} == {
        other.name,
        plain.name,
    }
    assert volumes(server, client, state="absent", named=[plain.name])["after"] == {"volumes": []}
    assert server.engine.volumes.list(filters={"name": client})[0].name == other.name
