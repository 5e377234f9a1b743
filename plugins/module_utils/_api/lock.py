# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""A lock that outlives processes: a file that says who has it.

The file comes into being by a hard link to a whole one, so a lock is never half made and only one
of many gets it. Whoever replaces or removes one that is there holds a kernel lock on it meanwhile,
and looks again first: what was read is what is replaced.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError

#: What an owner says of itself. ``since`` is the clock of the place.
FIELDS = ("who", "doing", "run", "since", "machine", "boot", "space", "pid", "started")

#: Seconds after which a file that was to become a lock is the remains of a process that was killed.
_REMAINS = 3600

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

Owner = dict[str, Any]


class Found(NamedTuple):
    owner: Owner
    inode: int


class Lock:
    """:param path: of the lock's file; its directory is there"""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._note = path.with_name(f"{path.name}.broken")

    def owner(self) -> Owner | None:
        """Who has the lock. Of a file that is not understood, only ``run`` and ``since`` are known.

        :raises FleetError: it cannot be read
        """
        with _explained(self._path):
            found = self._look()
        return found.owner if found else None

    @staticmethod
    def age(owner: Mapping[str, Any]) -> int:
        """Seconds, by the clock that the lock was taken by."""
        try:
            since = datetime.datetime.strptime(str(owner["since"]), _FORMAT)
        except ValueError:
            return 0
        since = since.replace(tzinfo=datetime.timezone.utc)
        return max(0, int(time.time() - since.timestamp()))

    def take(self, me: Owner, instead_of: str | None = None) -> Owner | None:
        """None when the lock is ours now, or was; else who has it.

        :param instead_of: the run whose lock is replaced, because it was seen to be dead
        :raises FleetError: it cannot be written
        """
        with _explained(self._path), self._prepared(me) as new:
            while True:
                found = self._look()
                if found is None:
                    with contextlib.suppress(FileExistsError):
                        os.link(new, self._path)
                        self._flush()
                        return None
                elif found.owner["run"] == me["run"]:
                    return None
                elif found.owner["run"] != instead_of:
                    return found.owner
                else:
                    with self._still(found) as same:
                        if same:
                            os.replace(new, self._path)
                            self._flush()
                            return None

    def release(self, run: str) -> Owner | None:
        """None, or who has our lock instead, or had it taken from us: then with ``broken_by``.

        :raises FleetError: it cannot be removed
        """
        with _explained(self._path):
            found = self._remove(run)
        if found:
            return None if found.owner["run"] == run else found.owner
        note = self.broken()
        return note if note and note["run"] == run else None

    def break_(self, run: str, by: str) -> bool:
        """Whether the run's lock was there to be removed. Who did it is written down first.

        :raises FleetError: it cannot be removed
        """
        with _explained(self._path):
            found = self._remove(run, by)
        return found is not None and found.owner["run"] == run

    def broken(self) -> Owner | None:
        """The last lock that was broken here, with ``broken_by`` and ``broken_at``."""
        try:
            note = json.loads(self._note.read_bytes())
        except (OSError, ValueError):
            return None
        return note if isinstance(note, dict) and "run" in note else None

    def _remove(self, run: str, by: str = "") -> Found | None:
        """What was there. It is removed if it was the run's."""
        while True:
            found = self._look()
            if found is None or found.owner["run"] != run:
                return found
            with self._still(found) as same:
                if same:
                    if by:
                        self._write_down({**found.owner, "broken_by": by, "broken_at": _now()})
                    os.unlink(self._path)
                    self._flush()
                    return found

    def _look(self) -> Found | None:
        try:
            descriptor = self._open()
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _not_ours(self._path)
            with open(descriptor, "rb", closefd=False) as file:
                return Found(_read(file.read(), status.st_mtime), status.st_ino)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _still(self, found: Found) -> Iterator[bool]:
        """Whether the file is the one that was found, which nobody else replaces meanwhile."""
        try:
            descriptor = self._open()
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            now = self._look()
            yield now == found and os.fstat(descriptor).st_ino == found.inode
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        # NFS locks only what is open for writing; other users' files may not be opened for that.
        # O_NONBLOCK: opening a FIFO does not wait for its writer.
        flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(self._path, os.O_RDWR | flags)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                raise _not_ours(self._path) from None
            if error.errno not in (errno.EACCES, errno.EROFS):
                raise
        return os.open(self._path, os.O_RDONLY | flags)

    @contextlib.contextmanager
    def _prepared(self, me: Owner) -> Iterator[str]:
        """A whole file that can become the lock."""
        temporary = self._write({**me, "since": _now()})
        try:
            self._sweep()
            yield temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def _write_down(self, note: Owner) -> None:
        os.replace(self._write(note), self._note)

    def _write(self, content: Owner) -> str:
        name = f"{self._path.name}.new-{secrets.token_hex(4)}"
        temporary = str(self._path.with_name(name))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        # Who shares the directory may share its group, and has to be able to break the lock.
        with os.fdopen(os.open(temporary, flags, 0o660), "wb") as file:
            os.fchmod(file.fileno(), 0o660)
            file.write(json.dumps(content, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return temporary

    def _sweep(self) -> None:
        for path in self._path.parent.glob(f"{self._path.name}.new-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _REMAINS:
                    path.unlink()

    def _flush(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(content: bytes, changed: float) -> Owner:
    try:
        owner = json.loads(content)
        if isinstance(owner, dict) and isinstance(owner.get("run"), str) and owner["run"]:
            return {name: owner.get(name, "") for name in FIELDS}
    except ValueError:
        pass
    unknown = dict.fromkeys(FIELDS, "")
    # So that it can be broken like any other, and only as what it was seen to be.
    run = hashlib.sha256(content).hexdigest()[:12]
    return {**unknown, "run": f"unknown-{run}", "since": _stamp(changed)}


def _now() -> str:
    return _stamp(time.time())


def _stamp(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(_FORMAT)


def _not_ours(path: Path) -> FleetError:
    return FleetError(
        "expected a regular file, found something else; it was not touched",
        str(path),
        "look at it, move it away and run again",
    )


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    todo = {
        errno.ENOSPC: "make room on this filesystem and run again",
        errno.EACCES: "run with become, or mend the mode of the directory",
        errno.EPERM: "locks need a filesystem with hard links",
        errno.EROFS: "mount the filesystem for writing and run again",
    }
    try:
        yield
    except OSError as error:
        what = f"the lock cannot be used: {error.strerror or error}"
        raise FleetError(what, str(path), todo.get(error.errno or 0, "")) from error
