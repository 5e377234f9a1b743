# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What the operator keeps of each client.

``state/NAME.json`` is in clear: what compares, and what was assigned once. The secrets are in the
store that ``fleet.yml`` names. ``journal/NAME.jsonl`` says what was done. Every write is atomic and
lasts before the call returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.vault import VaultLib
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Record,
    now,
    stamp,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._journal import Chain, Journal
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_home import Home
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.files import verify_writable
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.opening import open_store
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.vault_files import Cipher
from ansible_collections.mai.fleet.plugins.plugin_utils._turns import turn
from ansible_collections.mai.fleet.plugins.plugin_utils._workspace import refuse_fleeting
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import shown


class Store:
    """:param vault: with the secrets that the run was given"""

    def __init__(self, config: Mapping[str, Any], vault: VaultLib) -> None:
        self._config = config
        self._state = Path(config["state"])
        self._vault = vault
        self._home = Home(config)
        self._secrets = open_store(self._home.configured, config, vault)
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
        with turn(self._state, str(self._state), patience):
            yield

    # Secrets, wherever fleet.yml says that they are kept

    def secrets_path(self, client: str) -> str:
        return self._secrets.where(client)

    def secrets_place(self, client: str) -> str:
        """The same as a person is shown it."""
        where = self._secrets.where(client)
        return shown(where) if self._secrets.is_local else where

    def has_secrets(self, client: str) -> bool:
        return self._secrets.read(client) is not None

    def secrets(self, client: str) -> dict[str, str]:
        """Empty when there are none.

        :raises FleetError: they cannot be read, or are no mapping
        """
        return self._secrets.read(client) or {}

    def save_secrets(self, client: str, secrets: Mapping[str, str]) -> None:
        self._home.remember()
        self._secrets.write(client, secrets)

    def encrypt_value(self, text: str) -> str:
        """A value as a client file has it after ``!vault``."""
        cipher = Cipher(self._vault)
        return cipher.encrypt(text, *cipher.password()).decode()

    def remove_secrets(self, client: str) -> None:
        """For good: nothing that they open is there any more."""
        if self.has_secrets(client):
            self._secrets.remove(client)

    def decrypt_value(self, ciphertext: str, where: str) -> str:
        """A value that a client file gives with ``!vault``."""
        try:
            return Cipher(self._vault).decrypt(ciphertext.encode(), where)[0].decode()
        except UnicodeDecodeError:
            raise FleetError("what is encrypted in it is not text", where) from None

    def verify(self) -> None:
        """Make sure that secrets can be read and stored, before anything is created.

        :raises FleetError: also when they lie in another store, or where they would not last
        """
        self.refuse_fleeting()
        verify_writable(self._state)
        self.verify_place()
        self._secrets.verify()

    def verify_place(self) -> None:
        """:raises FleetError: the secrets lie in another store than ``fleet.yml`` names"""
        self._home.verify(self._secrets, self._has_keys())

    def refuse_fleeting(self) -> None:
        """:raises FleetError: what is stored would be thrown away after the run"""
        refuse_fleeting(self._config, self._secrets.is_local, os.environ)

    def _has_keys(self) -> set[str]:
        """The clients that have a key. A damaged record is found by whoever needs it."""
        found = set()
        for name in self.records():
            with contextlib.suppress(FleetError):
                record = self.record(name)
                if record is not None and record.key_hash:
                    found.add(name)
        return found

    def _write(self, path: str, data: bytes) -> None:
        try:
            write_atomically(path, data, 0o600)
        except OSError as error:
            raise FleetError(
                f"cannot be written: {error.strerror}", path, "make room, or mend the mode"
            ) from error
