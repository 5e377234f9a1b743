# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The last copy of a client's data: one archive, read back before anybody relies on it.

The instance is stopped first and stays so: what is in the archive is all that there is. It is
started again where the export fails. The volume is read through the Engine, and goes piece by piece
into the archive; only the database is put down in between, because it has to be one file, without
our keys, that was looked at.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ansible_collections.mai.fleet.plugins.module_utils._api.disk import prepare_base
from ansible_collections.mai.fleet.plugins.module_utils._api.docker import (
    FLEET,
    Container,
    Docker,
    silent,
)
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import for_each
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256

#: Where the image has its data.
_DATA = "/app/backend/data"
_DATABASE = "webui.db"
_DATABASE_FILES = (_DATABASE, f"{_DATABASE}-wal", f"{_DATABASE}-shm")
_RUNNING = ("running", "restarting", "paused")
_CHUNK = 1 << 20
#: How often the free room of the disk is looked at, in bytes that were written.
_LOOK = 32 << 20
#: Client names, the time of the export, and nothing that leads elsewhere.
_ARCHIVE = re.compile(r"([a-z][a-z0-9_]{1,30})-[0-9]{8}T[0-9]{6}Z\.tar\.gz")
_GO_ON = "mend it and run again, or go on without an export: -e fleet_export=false"
#: What SQLite says of the place where the database is looked at, what it means, and what to do.
_PLACE = [
    ("locked", "something else uses it", "find out what does, such as a backup; then run again"),
    ("disk is full", "the disk is full", "make room there and run again"),
    ("unable to open", "it cannot be opened", "look at the directory's owner and mode"),
    ("readonly", "it cannot be written", "look at the directory's owner, mode and mount"),
    ("disk I/O error", "the disk fails", "look at the kernel's log, then run again"),
]
_DAMAGED = ("not a database", "malformed", "corrupt")


@dataclass(frozen=True)
class Wanted:
    """An export that is to be made.

    :ivar archive: its file name
    :ivar image: for reading the volume where the client has no container any more
    :ivar key_hashes: of keys that must not be in the archive
    :ivar about: what the manifest says besides what is found
    :ivar volume: empty for the one that Compose made for the client
    """

    name: str
    archive: str
    image: str
    key_hashes: frozenset[str]
    about: dict[str, Any]
    volume: str = ""


@dataclass(frozen=True)
class Settings:
    """What holds for all clients of the call.

    :ivar reader: a directory whose owner is to read the archives; None: nobody but this user is
    :ivar reserve: bytes of the disk that have to stay free
    """

    directory: Path
    docker_host: str
    fleet: str
    reader: Path | None
    reserve: int
    pool: int
    check: bool


class Exporter:
    """:raises FleetError: Docker does not answer, or the directory cannot be used"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._docker = Docker(settings.docker_host)
        try:
            self._containers = self._docker.containers()
            self._volumes = {volume.name: volume for volume in self._docker.volumes()}
        except Unreachable as error:
            raise silent(settings.docker_host, error) from error
        prepare_base(settings.directory, create=not settings.check)

    def run(self, clients: Sequence[Wanted]) -> dict[str, Row]:
        wanted = {client.name: client for client in clients}
        return for_each(list(wanted), self._settings.pool, lambda name: self._one(wanted[name]))

    def _one(self, client: Wanted) -> Row:
        mine = self._mine(client.name)
        running = [container for container in mine if container.state in _RUNNING]
        volume = self._volumes.get(client.volume or f"{client.name}_data")
        view = {"instance": _state(mine), "archive": None}
        row = Row(before=view, after=view, more={"export": None})
        if volume is None:
            return row
        # One that was restored by hand is of no project.
        if not client.volume and volume.project not in ("", client.name):
            raise FleetError("it is of another Compose project", f"volume {volume.name}", _GO_ON)
        row.changed = True
        row.after = {"instance": "exited" if mine else "absent", "archive": client.archive}
        row.diff = [_difference(client.name, row)]
        if self._settings.check:
            return row
        try:
            for container in running:
                self._docker.stop(container.id)
            image = next(iter(mine[0].image_ids - {""})) if mine else client.image
            row.more["export"] = self._export(client, volume.name, image)
        except Exception as error:
            # Whatever it is, who had service has it again.
            left = self._start(running)
            row.error, row.changed, row.after, row.diff = _explained(error, left), False, view, []
        return row

    def _start(self, containers: Sequence[Container]) -> str:
        """Why one of them does not run again, if so."""
        said = []
        for container in containers:
            try:
                self._docker.start(container.id)
            except FleetError as error:
                said.append(f"; and container {container.id[:12]} does not run again: {error.what}")
        return "".join(said)

    def _mine(self, name: str) -> list[Container]:
        """:raises FleetError: the project of that name is not this fleet's"""
        mine = [container for container in self._containers if container.project == name]
        if mine and not any(c.labels.get(FLEET) == self._settings.fleet for c in mine):
            raise FleetError(
                "a Compose project with this client's name is not of this fleet",
                f"docker compose --project-name {name} ps --all",
                "remove it, or give the client another name",
            )
        return mine

    def _export(self, client: Wanted, volume: str, image: str) -> dict[str, Any]:
        """The manifest of an archive that is there and was read back."""
        directory = self._settings.directory
        for left in directory.glob(f"{client.name}-*.part"):
            left.unlink()
        part = directory / f"{client.archive}.part"
        try:
            with (
                _scratch(directory, client.name) as scratch,
                self._docker.reader(f"{client.name}-export", image, volume, _DATA) as container,
            ):
                packed = self._pack(client, container, part, scratch)
                _read_back(part, packed, scratch)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            raise
        manifest = {
            "schema": 1,
            **client.about,
            "client": client.name,
            "fleet": self._settings.fleet,
            "volume": volume,
            "archive": client.archive,
            **packed,
        }
        path = directory / client.archive
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        write_atomically(str(manifest_of(path)), text.encode("utf-8"), 0o600)
        self._hand_over(part)
        os.replace(part, path)
        return manifest

    def _hand_over(self, path: Path) -> None:
        """Let whoever fetches the archive read it, and nobody else."""
        if self._settings.reader is None:
            return
        owner = self._settings.reader.stat()
        if owner.st_uid != os.geteuid():
            # Passing through is not listing.
            self._settings.directory.chmod(0o711)
            os.chown(path, owner.st_uid, owner.st_gid)

    def _pack(self, client: Wanted, container: str, path: Path, scratch: Path) -> dict[str, Any]:
        """Write the archive, and say what is in it."""
        with _Sink(path, self._settings.reserve) as sink:
            with (
                gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=6, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
            ):
                found = self._copy(container, archive, scratch, sink)
                counts = _database(scratch, client.key_hashes)
                found["files"] += 1
                found["bytes"] += (scratch / "clean.db").stat().st_size
                _add(archive, f"data/{_DATABASE}", scratch / "clean.db")
                found["files"] += _chats(archive, scratch)
            sink.flush()
        return {**found, **counts, "size": sink.size, "sha256": sink.digest.hexdigest()}

    def _copy(
        self, container: str, archive: tarfile.TarFile, scratch: Path, sink: _Sink
    ) -> dict[str, Any]:
        """Everything of the volume into the archive, but the database into a directory of ours."""
        found = {"files": 0, "bytes": 0}
        try:
            with (
                self._docker.tree(container, f"{_DATA}/.") as answer,
                tarfile.open(fileobj=cast(BinaryIO, answer), mode="r|") as volume,
            ):
                for member in volume:
                    name = os.path.normpath(member.name)
                    content = volume.extractfile(member) if member.isreg() else None
                    if name in _DATABASE_FILES and content is not None:
                        sink.look()
                        with open(scratch / name, "wb") as file:
                            shutil.copyfileobj(content, file, _CHUNK)
                        continue
                    member.name = os.path.normpath(f"data/{name}")
                    if member.islnk():
                        member.linkname = os.path.normpath(f"data/{member.linkname}")
                    archive.addfile(member, content)
                    found["files"] += member.isreg()
                    found["bytes"] += member.size
        except tarfile.TarError as error:
            raise FleetError(f"the volume was not read to its end: {error}", container) from error
        if not (scratch / _DATABASE).exists():
            raise FleetError(
                f"the volume has no {_DATABASE}, so this is not the data of an instance",
                f"container {container[:12]}",
                "look at what is in it; to go on without an export: -e fleet_export=false",
            )
        return found


class _Sink:
    """The file of an archive: counts, and leaves room on the disk for everybody else."""

    def __init__(self, path: Path, reserve: int) -> None:
        self._path = path
        self._reserve = reserve
        self._next = 0
        self.size = 0
        self.digest = hashlib.sha256()
        self.look()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file: BinaryIO = os.fdopen(os.open(path, flags, 0o600), "wb")

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        if self.size >= self._next:
            self.look()
            self._next = self.size + _LOOK
        self._file.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def look(self) -> None:
        """:raises FleetError: the disk is about to be full"""
        disk = os.statvfs(self._path.parent)
        free = disk.f_bavail * disk.f_frsize
        if free < self._reserve:
            raise FleetError(
                f"no room for the export: {free >> 20} MiB are free, and {self._reserve >> 20} MiB "
                "have to stay free for the instances",
                str(self._path.parent),
                "make room there and run again, or go on without an export: -e fleet_export=false",
            )


def discard(directory: Path, archive: str, check: bool) -> Row:
    """Remove an archive that was fetched, with its manifest."""
    if not _ARCHIVE.fullmatch(archive):
        raise FleetError("expected the name of an archive", repr(archive))
    path = directory / archive
    there = path.exists()
    if not check:
        for file in (manifest_of(path), path):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
    view = {"instance": None, "archive": archive if there else None}
    return Row(changed=there, before=view, after={**view, "archive": None})


def manifest_of(archive: Path) -> Path:
    return archive.with_name(archive.name.replace(".tar.gz", ".json"))


@contextlib.contextmanager
def _scratch(directory: Path, name: str) -> Iterator[Path]:
    """A directory for the database, at a place that the next run clears after a crash."""
    for left in directory.glob(f".{name}-*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            # Of a manifest that was being written.
            left.unlink()
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=directory) as folder:
        yield Path(folder)


def _database(scratch: Path, key_hashes: frozenset[str]) -> dict[str, Any]:
    """Make one file, ``clean.db``, of the database and its log, and say what is in it.

    It is written anew, so that nothing of a key is left between the rows.

    :raises FleetError: the database is damaged, or cannot be worked with where it was put
    """
    with _opened(scratch / _DATABASE, _DATABASE) as database:
        _check(database)
        _blank_keys(database, key_hashes)
        database.execute("VACUUM INTO ?", (str(scratch / "clean.db"),))
        return _counts(database)


@contextlib.contextmanager
def _opened(path: Path, where: str) -> Iterator[sqlite3.Connection]:
    """:param where: the database as a person knows it"""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            yield database
    except sqlite3.Error as error:
        raise _refused(error, where, path.parent.parent) from error


def _refused(error: sqlite3.Error, where: str, directory: Path) -> FleetError:
    """What SQLite complains of: of the database, or of the place that it was put in."""
    said = str(error)
    for words, what, todo in _PLACE:
        if words in said:
            text = f"the database was put there to be looked at, and {what}: {said}"
            return FleetError(text, str(directory), todo)
    if "no such" in said:
        todo = "let the client's version be the one that its data is of; else: " + _GO_ON
        return FleetError(f"it is not as Open WebUI makes it: {said}", where, todo)
    damaged = any(words in said for words in _DAMAGED)
    what = "the database is damaged" if damaged else "the database cannot be read"
    return FleetError(f"{what}: {said}", where, _GO_ON)


def _check(database: sqlite3.Connection) -> None:
    (result,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if result != "ok":
        raise FleetError(f"the database is damaged: {result}", _DATABASE, _GO_ON)


def _blank_keys(database: sqlite3.Connection, key_hashes: frozenset[str]) -> None:
    """Open WebUI keeps the keys of connections in clear. Ours are of no use to anybody but us."""
    rows = database.execute("SELECT value FROM config WHERE key = 'openai.api_keys'").fetchall()
    for (text,) in rows:
        keys = _parsed(text, "the setting openai.api_keys")
        left = ["" if sha256(str(key)) in key_hashes else key for key in keys]
        if left != keys:
            database.execute(
                "UPDATE config SET value = ? WHERE key = 'openai.api_keys'", (json.dumps(left),)
            )


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        # Not chained: there may be secrets in it.
        raise FleetError(f"{what} is no JSON", _DATABASE, _GO_ON) from None


def _counts(database: sqlite3.Connection) -> dict[str, Any]:
    users = database.execute('SELECT count(*) FROM "user"').fetchone()[0]
    chats = database.execute("SELECT count(*) FROM chat").fetchone()[0]
    return {"users": users, "chats": chats}


def _chats(archive: tarfile.TarFile, scratch: Path) -> int:
    """A file for each person who has chats, as Open WebUI imports them; how many there are."""
    made: set[str] = set()
    with _opened(scratch / "clean.db", _DATABASE) as database:
        people = database.execute(
            'SELECT DISTINCT chat.user_id, coalesce("user".email, chat.user_id) '
            'FROM chat LEFT JOIN "user" ON "user".id = chat.user_id'
        ).fetchall()
        for person, email in people:
            file = scratch / "chats.json"
            _write_chats(database, person, file)
            safe = _safe(email)
            # Two addresses may become one name, also on a disk that knows no capitals.
            name = f"{safe}-{_safe(person)}" if safe.lower() in made else safe
            _add(archive, f"chats/{name}.json", file)
            made.add(name.lower())
    return len(made)


def _safe(text: str) -> str:
    """As a part of a file's name."""
    return re.sub(r"[^\w.@+-]", "_", text)


def _write_chats(database: sqlite3.Connection, person: str, path: Path) -> None:
    fields = ("id", "user_id", "title", "chat", "created_at", "updated_at")
    rows = database.execute(
        f"SELECT {', '.join(fields)} FROM chat WHERE user_id = ? ORDER BY created_at",  # noqa: S608
        (person,),
    )
    with open(path, "w", encoding="utf-8") as file:
        file.write("[")
        for number, row in enumerate(rows):
            chat = dict(zip(fields, row))
            chat["chat"] = _parsed(chat["chat"], f"the chat {chat['id']}")
            file.write(",\n" if number else "\n")
            json.dump(chat, file, ensure_ascii=False)
        file.write("\n]\n")


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    info = archive.gettarinfo(str(path), name)
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o644
    with open(path, "rb") as file:
        archive.addfile(info, file)


def _read_back(path: Path, packed: dict[str, Any], scratch: Path) -> None:
    """Read the archive from the disk as somebody will who needs it.

    :raises FleetError: it is not what was written, or its database cannot be used
    """
    copy = scratch / "read-back.db"
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(_CHUNK), b""):
            digest.update(piece)
    try:
        with gzip.open(path, "rb") as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isreg() else None
                    if content is not None and member.name == f"data/{_DATABASE}":
                        with open(copy, "wb") as target:
                            shutil.copyfileobj(content, target, _CHUNK)
            # To its end, where the checksum is.
            while unpacked.read(_CHUNK):
                pass
    except (gzip.BadGzipFile, zlib.error, EOFError, tarfile.TarError) as error:
        raise FleetError(f"the archive cannot be read back: {error}", str(path), _GO_ON) from error
    with _opened(copy, str(path)) as database:
        _check(database)
        found = {**_counts(database), "sha256": digest.hexdigest()}
    if any(packed[field] != value for field, value in found.items()):
        raise FleetError("the archive is not what was written", str(path), _GO_ON)


def _state(containers: list[Container]) -> str:
    return containers[0].state if containers else "absent"


def _explained(error: Exception, left: str) -> FleetError:
    """For a person. What nobody foresaw goes on as it is.

    :param left: what is wrong besides
    """
    if isinstance(error, OSError):
        todo = "make room there and run again" if error.errno == errno.ENOSPC else ""
        error = FleetError(error.strerror or str(error), str(error.filename or ""), todo)
    if not isinstance(error, FleetError):
        raise error
    return FleetError(error.what + left, error.where, error.todo or _GO_ON)


def _difference(name: str, row: Row) -> dict[str, str]:
    before, after = (
        "".join(f"{field}: {value or ''}\n" for field, value in side.items())
        for side in (row.before, row.after)
    )
    header = f"export of {name}"
    return {"before_header": header, "after_header": header, "before": before, "after": after}
