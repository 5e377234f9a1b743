# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Secrets of keys that belong to no fleet: a file each, in clear or encrypted by Ansible Vault.

``DIRECTORY/NAME`` holds the secret of the key NAME. ``DIRECTORY/.openrouter/`` holds in clear what
is remembered of it, and the secrets of keys that were replaced, until those are deleted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, is_encrypted, match_encrypt_secret
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.named_keys import Remembered
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Attempt, Former
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from ansible_collections.mai.fleet.plugins.plugin_utils._turns import turn

#: Of what is remembered, as it is written.
_SCHEMA = 1
_LONGEST_NAME = 200


class KeyFiles:
    """:param vault: with the passwords that the run was given

    :param encrypt: whether secrets are encrypted that are stored from now on
    """

    def __init__(self, directory: str, vault: VaultLib, encrypt: bool) -> None:
        self._directory = Path(os.path.abspath(os.path.expanduser(directory)))
        self._memory = self._directory / ".openrouter"
        self._vault = vault
        self._encrypt = encrypt

    def shown(self, name: str) -> str:
        return str(self._directory / file_name(name))

    @contextlib.contextmanager
    def lock(self, patience: float = 120) -> Iterator[None]:
        """Keep other runs on this computer from making keys in this directory at the same time.

        :param patience: seconds to wait for another run to get done with it
        :raises FleetError: it did not, or the directory cannot be made
        """
        try:
            self._directory.parent.mkdir(parents=True, exist_ok=True)
            for directory in (self._directory, self._memory):
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise FleetError(
                f"the directory cannot be made: {error.strerror}",
                str(self._memory),
                "mend the owner or the mode of what is above it",
            ) from error
        with turn(self._memory, str(self._directory), patience):
            yield

    # What is remembered, in clear

    def remembered(self, name: str) -> Remembered:
        path = self._memory / f"{file_name(name)}.json"
        data = _read(path)
        if data is None:
            return Remembered(name)
        try:
            content = json.loads(data)
            if (content["schema"], content["name"]) != (_SCHEMA, name):
                raise ValueError("it is of another key, or of a newer version")
            return Remembered(
                name,
                content["key_hash"],
                tuple(Attempt(**row) for row in content["attempts"]),
                tuple(Former.read(row) for row in content["former"]),
                content.get("limit"),
                tuple(content.get("reduced", ())),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise FleetError(
                f"not what is remembered of this key: {error}",
                str(path),
                "restore the file from a backup",
            ) from error

    def remember(self, remembered: Remembered) -> None:
        data = {"schema": _SCHEMA, **dataclasses.asdict(remembered)}
        text = json.dumps(data, indent=2, sort_keys=True) + "\n"
        _write(self._memory / f"{file_name(remembered.name)}.json", text.encode())

    def forget(self, name: str) -> None:
        beside = re.compile(rf"{re.escape(file_name(name))}\.[0-9a-f]{{12}}")
        for path in self._memory.iterdir() if self._memory.is_dir() else ():
            if beside.fullmatch(path.name):
                _remove(path)
        # The memory last: until then the next run knows what is left to do.
        _remove(self._directory / file_name(name))
        _remove(self._memory / f"{file_name(name)}.json")

    # Secrets

    def secret(self, name: str) -> str:
        path = self._directory / file_name(name)
        data = _read(path)
        if data is None:
            return ""
        return self._decrypted(data, path).decode("utf-8", "replace").strip()

    def in_clear(self, name: str) -> bool:
        data = _read(self._directory / file_name(name))
        return data is not None and not is_encrypted(data)

    def ready(self, name: str) -> None:
        self.secret(name)
        if self._encrypt:
            self._encrypted("")
        parent = next(path for path in (self._directory, *self._directory.parents) if path.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise FleetError(
                "the directory cannot be written", str(parent), "mend its owner or its mode"
            )

    def save(self, name: str, secret: str) -> None:
        path = self._directory / file_name(name)
        old = _read(path)
        if old is not None:
            old_hash = sha256(self.secret(name))
            _write(self._beside(name, old_hash), old)
        text = f"{secret}\n"
        _write(path, self._encrypted(text) if self._encrypt else text.encode())

    def drop(self, name: str, key_hash: str) -> None:
        _remove(self._beside(name, key_hash))

    def _beside(self, name: str, key_hash: str) -> Path:
        return self._memory / f"{file_name(name)}.{key_hash[:12]}"

    def _encrypted(self, text: str) -> bytes:
        wanted = C.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY")
        try:
            if not self._vault.secrets:
                raise AnsibleError("no vault password was given")
            _label, password = match_encrypt_secret(self._vault.secrets, wanted)
        except AnsibleError as error:
            raise FleetError(
                f"{error}, so the secret could not be encrypted",
                "Ansible Vault",
                "give --vault-password-file, or set encrypt: false to store secrets in clear",
            ) from error
        return bytes(self._vault.encrypt(text, password))

    def _decrypted(self, data: bytes, path: Path) -> bytes:
        if not is_encrypted(data):
            return data
        try:
            return bytes(self._vault.decrypt(data))
        except AnsibleError as error:
            raise FleetError(
                "the file cannot be decrypted",
                str(path),
                "give the vault password that it was encrypted with",
            ) from error


def file_name(name: str) -> str:
    """The file of a key's secret: its name, with what no file name should have as ``%`` and hex.

    :raises FleetError: it would be too long
    """
    text = quote(name, safe=" @+=,()~")
    text = f"%2E{text[1:]}" if text.startswith(".") else text
    if len(text) > _LONGEST_NAME:
        raise FleetError("the name is too long for a file", f"key {name}", "give it a shorter one")
    return text


def _read(path: Path) -> bytes | None:
    """None when there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FleetError(f"cannot be read: {error.strerror}", str(path), "mend its mode") from error


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(str(path), data, 0o600)
    except OSError as error:
        raise FleetError(
            f"cannot be written: {error.strerror}", str(path), "make room, or mend the mode"
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FleetError(
            f"cannot be removed: {error.strerror}", str(path), "mend the mode of its directory"
        ) from error
