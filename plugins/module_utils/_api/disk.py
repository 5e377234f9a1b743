# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The directory of a client on its server, and the few files in it that are ours.

Everything in it is reached through a descriptor of the directory, which is opened without following
a symbolic link: what was looked at is what is written to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError

COMPOSE = "compose.yml"
ENV = ".env"
NAMES = (COMPOSE, ENV)

# Fixed names, so that what an interrupted run left behind is found and removed by the next.
_NEW = {COMPOSE: ".compose.yml.mai-new", ENV: ".env.mai-new"}
_CLIENT = re.compile(r"[a-z][a-z0-9_]{1,30}")
_TODO = {
    errno.ENOSPC: "make room on this filesystem and run again",
    errno.EDQUOT: "raise the quota or make room, and run again",
    errno.EROFS: "mount the filesystem for writing and run again",
    errno.EACCES: "run with become",
    errno.EPERM: "run with become",
}


@dataclass
class Found:
    """What lies in a client's directory.

    ``drift`` has modes and owners that are not as they should be, by file name, that of the
    directory under ``.``; ``leftovers`` are files that an interrupted run left, ``foreign`` those
    that somebody else put there.
    """

    exists: bool = False
    contents: dict[str, bytes] = field(default_factory=dict)
    drift: dict[str, str] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


class ClientDirectory:
    """One client's directory. All methods raise :class:`FleetError` only."""

    def __init__(self, base: Path, name: str) -> None:
        # A name such as ../x must not lead anywhere.
        if not _CLIENT.fullmatch(name):
            raise FleetError(f"expected a client's name, {_CLIENT.pattern}", repr(name))
        self._path = base / name

    def look(self) -> Found:
        """What is there now.

        :raises FleetError: also when the directory or one of our files is something else, a
            symbolic link for example
        """
        with _explained(self._path), contextlib.suppress(FileNotFoundError), self._open() as folder:
            return self._look(folder)
        return Found()

    def read(self, name: str) -> bytes | None:
        """The content of one of our files, None where it is not there."""
        path = self._path / name
        with _explained(path), contextlib.suppress(FileNotFoundError), self._open() as folder:
            return self._read(folder, name)[0]
        return None

    def write(self, wanted: dict[str, bytes]) -> None:
        """Make the directory contain ``wanted`` and none of the others of our files.

        All of it or nothing: everything new is on the disk before the first file is replaced.
        """
        with _explained(self._path):
            made = self._make()
            with self._locked() as folder:
                try:
                    changed = self._prepare(folder, wanted)
                except OSError:
                    _unlink(folder, _NEW.values())
                    if made:
                        self._path.rmdir()
                    raise
                for name in changed:
                    os.rename(_NEW[name], name, src_dir_fd=folder, dst_dir_fd=folder)
                _unlink(folder, [*_NEW.values(), *(set(NAMES) - set(wanted))])
                os.fsync(folder)
            if made:
                _sync(self._path.parent)

    def remove(self) -> None:
        """Remove our files, and the directory unless somebody else's files are in it."""
        with _explained(self._path):
            with self._locked() as folder:
                _unlink(folder, [*NAMES, *_NEW.values()])
                os.fsync(folder)
                empty = not os.listdir(folder)
            if empty:
                self._path.rmdir()
                _sync(self._path.parent)

    def _make(self) -> bool:
        try:
            self._path.mkdir(mode=0o700)
        except FileExistsError:
            return False
        return True

    def _prepare(self, folder: int, wanted: dict[str, bytes]) -> list[str]:
        """Write what differs beside its place; a wrong mode or owner makes a new file too."""
        found = self._look(folder)
        changed = [
            name
            for name, content in wanted.items()
            if found.contents.get(name) != content or name in found.drift
        ]
        for name in changed:
            _create(folder, _NEW[name], wanted[name])
        os.fchown(folder, *_owner())
        os.fchmod(folder, 0o700)
        return changed

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        try:
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise _not_ours("a directory", self._path) from None
            raise
        try:
            yield folder
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        with self._open() as folder:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FleetError(
                    "another run is at work on this client's files",
                    str(self._path),
                    "wait until it has ended and run again",
                ) from None
            yield folder

    def _look(self, folder: int) -> Found:
        found = Found(exists=True)
        _note_drift(found.drift, ".", os.fstat(folder), 0o700)
        for name in sorted(os.listdir(folder)):
            if name in _NEW.values():
                found.leftovers.append(name)
            elif name in NAMES:
                found.contents[name], status = self._read(folder, name)
                _note_drift(found.drift, name, status, 0o600)
            else:
                found.foreign.append(name)
        return found

    def _read(self, folder: int, name: str) -> tuple[bytes, os.stat_result]:
        try:
            # O_NONBLOCK: opening a FIFO does not wait for its writer.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise _not_ours("a regular file", self._path / name) from None
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _not_ours("a regular file", self._path / name)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(), status
        finally:
            os.close(descriptor)


def prepare_base(path: Path, create: bool) -> None:
    """Look at the directory of all clients, and make it where asked to.

    :raises FleetError: others could put something in our place there
    """
    with _explained(path), contextlib.suppress(FileNotFoundError):
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise _not_ours("a directory", path)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise FleetError(
                f"expected a directory of uid {os.geteuid()} that nobody else can write to, "
                f"found {_describe(status)}",
                str(path),
                f"chown {os.geteuid()} it and chmod go-w it, or choose another directory"
                if os.geteuid() == 0
                else "run with become, or choose another directory",
            )


def _note_drift(drift: dict[str, str], name: str, status: os.stat_result, mode: int) -> None:
    if stat.S_IMODE(status.st_mode) != mode or (status.st_uid, status.st_gid) != _owner():
        drift[name] = _describe(status)


def _describe(status: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}:{status.st_gid}"


def _owner() -> tuple[int, int]:
    return os.geteuid(), os.getegid()


def _create(folder: int, name: str, content: bytes) -> None:
    _unlink(folder, [name])
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), *_owner())
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())


def _unlink(folder: int, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _sync(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        todo = _TODO.get(error.errno or 0, "")
        raise FleetError(error.strerror or str(error), str(path), todo) from error


def _not_ours(expected: str, path: Path) -> FleetError:
    return FleetError(
        f"expected {expected}, found something else, a symbolic link perhaps; it was not touched",
        str(path),
        "look at it, move it away and run again",
    )
