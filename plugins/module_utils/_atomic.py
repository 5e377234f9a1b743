# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Files that are either the old one or the new one, never something between."""

from __future__ import annotations

import contextlib
import os
import secrets


def write_atomically(path: str, data: bytes, mode: int, directory_mode: int = 0o700) -> None:
    """Write beside the target, flush, rename, flush the directory. Makes missing directories.

    :param mode: of the file, from its first byte on
    :raises OSError: nothing was changed
    """
    directory = os.path.dirname(os.path.abspath(path))
    _make(directory, directory_mode)
    temporary = os.path.join(directory, f".{os.path.basename(path)}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _flush(directory)


def append(path: str, offset: int, data: bytes, mode: int, directory_mode: int = 0o700) -> None:
    """Write at the offset, leave nothing behind it, and flush. Makes missing directories.

    :param offset: where the last whole record ends
    :raises OSError: there may be a part of the data
    """
    directory = os.path.dirname(os.path.abspath(path))
    _make(directory, directory_mode)
    is_new = not os.path.exists(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _flush(directory)


def _make(directory: str, mode: int) -> None:
    """The directory and what is missing above it, each on the disk before the next."""
    if os.path.isdir(directory):
        return
    parent = os.path.dirname(directory)
    _make(parent, 0o777)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, mode)
    _flush(parent)


def _flush(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
