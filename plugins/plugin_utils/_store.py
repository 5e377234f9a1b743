# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What the operator keeps of each client.

``state/NAME.json`` is in clear: what compares, and what was assigned once. ``secrets/NAME.yml`` is
an Ansible Vault file, so ``ansible-vault view`` shows it. ``journal/NAME.jsonl`` says what was
done. Every write is atomic and flushed to the disk before the call returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.parsing.vault import (
    VaultLib,
    VaultSecret,
    is_encrypted,
    match_encrypt_secret,
    parse_vaulttext_envelope,
)
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Record,
    now,
    stamp,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._journal import Chain, Journal


class Store:
    """:param vault: with the secrets that the run was given"""

    def __init__(self, config: Mapping[str, Any], vault: VaultLib) -> None:
        self._secrets = Path(config["secrets"])
        self._state = Path(config["state"])
        self._vault = vault
        self._journal = Journal(config["journal"])
        # Ends of journals as the records know them.
        self._ends: dict[str, list[str]] = {}

    # The journal

    @property
    def journal(self) -> Journal:
        return self._journal

    def note(self, client: str, what: str, result: str, **details: Any) -> None:
        self.can_note(client)
        self._journal.add(client, stamp(now()), what, result, **details)

    def can_note(self, client: str) -> None:
        """:raises FleetError: the journal is damaged, so nothing is to be changed"""
        self.verify_journal(client)

    def verify_journal(self, client: str) -> Chain:
        """:raises FleetError: the journal is damaged, or does not go as far as it did once"""
        return self._journal.verify(client, self._known_end(client))

    def keep_end(self, client: str) -> None:
        """Let the client's record know where the journal ends now."""
        record = self.record(client)
        if record is not None and record.journal != self._end(client):
            self.save_record(record)

    def _known_end(self, client: str) -> list[str]:
        if client not in self._ends:
            record = self.record(client)
            self._ends[client] = list(record.journal) if record else []
        return self._ends[client]

    def _end(self, client: str) -> list[str]:
        """What a record is to know. Where lines were taken away, it goes on knowing them."""
        known = self._known_end(client)
        try:
            return self.verify_journal(client).heads
        except FleetError:
            return known

    # Records, in clear

    def record(self, client: str) -> Record | None:
        """:raises FleetError: the file is there and is not a record"""
        path = self._state / f"{client}.json"
        try:
            record = Record.read(json.loads(path.read_text(encoding="utf-8")))
            if record.client != client:
                # It would be written back into that client's file.
                raise ValueError(f"it is client {record.client}'s")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FleetError(
                f"not this client's record: {error}",
                str(path),
                "restore the file from the inventory's history",
            ) from error
        return record

    def records(self) -> Iterator[str]:
        """The names of all clients that have a record."""
        if self._state.is_dir():
            yield from sorted(path.stem for path in self._state.glob("*.json"))

    def save_record(self, record: Record) -> None:
        end = self._end(record.client)
        data = {**dataclasses.asdict(record), "journal": end}
        text = json.dumps(data, indent=2, sort_keys=True) + "\n"
        self._write(str(self._state / f"{record.client}.json"), text.encode())
        self._ends[record.client] = end

    @contextlib.contextmanager
    def lock(self, patience: float = 120) -> Iterator[None]:
        """Keep other runs on this controller from making keys at the same time.

        The lock of a run that was killed is taken over, while a child of it may be at work still.

        :param patience: seconds to wait for another run to get done with it
        :raises FleetError: it did not
        """
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + patience
        handle = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while not _locked(handle):
                if time.monotonic() > deadline:
                    raise FleetError(
                        f"another run has been making keys for {patience:.0f} s",
                        str(self._state),
                        "wait until it has ended, then run again",
                    )
                time.sleep(0.5)
            yield
        finally:
            os.close(handle)

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
        data = self._read(path)
        if data is None:
            return {}
        todo = f"mend it with ansible-vault edit {path}, or restore it from a backup"
        try:
            content = yaml.safe_load(self._decrypt(data, path)[0])
        except yaml.YAMLError:
            # Not chained: that error quotes the line that it does not understand.
            raise FleetError("what is encrypted in it is not YAML", path, todo) from None
        if not isinstance(content, dict):
            raise FleetError("not a mapping of secrets", path, todo)
        odd = [str(name) for name, secret in content.items() if not isinstance(secret, str)]
        if odd:
            raise FleetError(
                f"expected text, which may need quotes, in {', '.join(odd)}", path, todo
            )
        return content

    def save_secrets(self, client: str, secrets: Mapping[str, str]) -> None:
        """A file that exists keeps the password and the label that it has."""
        path = self.secrets_path(client)
        text = yaml.safe_dump(dict(secrets), default_flow_style=False)
        old = self._read(path)
        if old is None:
            label, password = self._password()
        else:
            password = self._decrypt(old, path)[1]
            label = parse_vaulttext_envelope(old)[3]
        self._write(path, self._vault.encrypt(text, password, vault_id=_label(label)))

    def decrypt_value(self, ciphertext: str, where: str) -> str:
        """A value that a client file gives with ``!vault``."""
        try:
            return self._decrypt(ciphertext.encode(), where)[0].decode()
        except UnicodeDecodeError:
            raise FleetError("what is encrypted in it is not text", where) from None

    def verify(self) -> None:
        """Make sure that secrets can be read and stored, before anything is created.

        :raises FleetError: no vault password, a wrong one, or directories that cannot be written
        """
        self._password()
        for file in sorted(self._secrets.glob("*.yml")) if self._secrets.is_dir() else []:
            # One file proves the password; the others are decrypted when they are needed.
            self._decrypt(self._read(str(file)) or b"", str(file))
            break
        for directory in (self._secrets, self._state):
            parent = next(path for path in (directory, *directory.parents) if path.exists())
            if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                raise FleetError(
                    "the directory cannot be written", str(parent), "mend its owner or its mode"
                )

    def _password(self) -> tuple[str, VaultSecret]:
        """What new files are encrypted with, and its label."""
        if not self._vault.secrets:
            raise FleetError(
                "no vault password was given, so keys could not be stored",
                "Ansible Vault",
                "give --vault-password-file, or set ANSIBLE_VAULT_PASSWORD_FILE",
            )
        wanted = C.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY")
        try:
            label, password = match_encrypt_secret(self._vault.secrets, wanted)
        except AnsibleError as error:
            raise FleetError(
                f"no password was given for the vault id {wanted}, with which to encrypt",
                "Ansible Vault: vault_encrypt_identity",
                f"give --vault-id {wanted}@FILE",
            ) from error
        return label, password

    def _decrypt(self, data: bytes, where: str) -> tuple[bytes, VaultSecret]:
        """What is encrypted, and with what."""
        self._password()
        if not is_encrypted(data):
            raise FleetError(
                "the file is not encrypted", where, f"ansible-vault encrypt {where}, or remove it"
            )
        try:
            plain, _identity, password = self._vault.decrypt_and_get_vault_id(data)
        except AnsibleError as error:
            raise FleetError(
                "the vault password does not open this file, or the file is damaged",
                where,
                "give the password that it was encrypted with; "
                "ansible-vault view tells when it is right",
            ) from error
        return bytes(plain), password

    def _read(self, path: str) -> bytes | None:
        """None when there is no such file."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FleetError(f"cannot be read: {error.strerror}", path, "mend its mode") from error

    def _write(self, path: str, data: bytes) -> None:
        try:
            write_atomically(path, data, 0o600)
        except OSError as error:
            raise FleetError(
                f"cannot be written: {error.strerror}", path, "make room, or mend the mode"
            ) from error


def _label(identity: str | None) -> str | None:
    """The default identity is not written into files, as ansible-vault does."""
    default = C.config.get_config_value("DEFAULT_VAULT_IDENTITY")
    return None if identity in (None, default) else identity


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
