# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What the operator keeps of each client.

``state/NAME.json`` is in clear: what compares, and what was assigned once. ``secrets/NAME.yml`` is
an Ansible Vault file, so ``ansible-vault view`` shows it. Every write is atomic and flushed to the
disk before the call returns.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, match_encrypt_secret
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import Attempt, Record


class Store:
    """:param vault: with the secrets that the run was given"""

    def __init__(self, config: Mapping[str, Any], vault: VaultLib) -> None:
        self._secrets = Path(config["secrets"])
        self._state = Path(config["state"])
        self._vault = vault

    # Records, in clear

    def record(self, client: str) -> Record | None:
        """:raises FleetError: the file is there and is not a record"""
        path = self._state / f"{client}.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["attempt"] = Attempt(**data["attempt"]) if data["attempt"] else None
            return Record(**data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FleetError(
                f"not a record of this collection: {error}",
                str(path),
                "restore the file from the inventory's history",
            ) from error

    def records(self) -> Iterator[str]:
        """The names of all clients that have a record."""
        if self._state.is_dir():
            yield from sorted(path.stem for path in self._state.glob("*.json"))

    def save_record(self, record: Record) -> None:
        data = json.dumps(dataclasses.asdict(record), indent=2, sort_keys=True) + "\n"
        write_atomically(str(self._state / f"{record.client}.json"), data.encode(), 0o600)

    # Secrets, encrypted

    def secrets_path(self, client: str) -> str:
        return str(self._secrets / f"{client}.yml")

    def has_secrets(self, client: str) -> bool:
        return os.path.exists(self.secrets_path(client))

    def secrets(self, client: str) -> dict[str, str]:
        """Empty when there is no file.

        :raises FleetError: the file cannot be decrypted or is not a mapping
        """
        path = self.secrets_path(client)
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            return {}
        content = yaml.safe_load(self._decrypt(data, path))
        if not isinstance(content, dict):
            raise FleetError("not a mapping of secrets", path, "restore it from a backup")
        return content

    def save_secrets(self, client: str, secrets: Mapping[str, str]) -> None:
        text = yaml.safe_dump(dict(secrets), default_flow_style=False)
        _identity, secret = match_encrypt_secret(
            self._vault.secrets, C.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY")
        )
        data = self._vault.encrypt(text, secret, vault_id=_label(_identity))
        write_atomically(self.secrets_path(client), data, 0o600)

    def decrypt_value(self, ciphertext: str, where: str) -> str:
        """A value that a client file gives with ``!vault``."""
        return self._decrypt(ciphertext.encode(), where).decode()

    def verify(self) -> None:
        """Make sure that secrets can be read and stored, before anything is created.

        :raises FleetError: no vault password, a wrong one, or directories that cannot be written
        """
        if not self._vault.secrets:
            raise FleetError(
                "no vault password was given, so keys could not be stored",
                "Ansible Vault",
                "give --vault-password-file, or set ANSIBLE_VAULT_PASSWORD_FILE",
            )
        for file in sorted(self._secrets.glob("*.yml")) if self._secrets.is_dir() else []:
            # One file proves the password; the others are decrypted when they are needed.
            self._decrypt(file.read_bytes(), str(file))
            break
        for directory in (self._secrets, self._state):
            parent = next(path for path in (directory, *directory.parents) if path.exists())
            if not os.access(parent, os.W_OK | os.X_OK):
                raise FleetError("the directory cannot be written", str(parent), "mend its mode")

    def _decrypt(self, data: bytes, where: str) -> bytes:
        if not self._vault.secrets:
            self.verify()
        try:
            return bytes(self._vault.decrypt(data))
        except AnsibleError as error:
            raise FleetError(
                "the vault password does not open this file, or the file is damaged",
                where,
                "give the password that it was encrypted with; "
                "ansible-vault view tells when it is right",
            ) from error


def _label(identity: str | None) -> str | None:
    """The default identity is not written into files, as ansible-vault does."""
    return None if identity in (None, C.DEFAULT_VAULT_IDENTITY) else identity
