# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Stores that keep one file a client in a directory."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import is_name
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import SecretStore


class FileStore(SecretStore):
    is_local = True
    #: What comes after the client's name.
    SUFFIX = ""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def where(self, client: str) -> str:
        return str(self._directory / f"{client}{self.SUFFIX}")

    def remove(self, client: str) -> None:
        path = self.where(client)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise FleetError(
                f"cannot be removed: {error.strerror}", path, "mend its mode"
            ) from error

    def clients(self) -> list[str]:
        if not self._directory.is_dir():
            return []
        names = (path.name.removesuffix(self.SUFFIX) for path in self._files())
        return sorted(name for name in names if is_name(name))

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob(f"*{self.SUFFIX}"))

    def _content(self, client: str) -> bytes | None:
        """None when there is no such file."""
        path = self.where(client)
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FleetError(f"cannot be read: {error.strerror}", path, "mend its mode") from error

    def _replace(self, client: str, data: bytes) -> None:
        path = self.where(client)
        try:
            write_atomically(path, data, 0o600)
        except OSError as error:
            raise FleetError(
                f"cannot be written: {error.strerror}", path, "make room, or mend the mode"
            ) from error


def verify_writable(directory: Path) -> None:
    """:raises FleetError: files cannot be put there"""
    parent = next(path for path in (directory, *directory.parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise FleetError(
            "the directory cannot be written", str(parent), "mend its owner or its mode"
        )
