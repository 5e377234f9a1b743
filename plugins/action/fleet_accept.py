# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets as random
from collections.abc import Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import KeyName
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.changes import Changes
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.diagnosis import in_the_app
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import (
    ADOPT,
    Whose,
    classify,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Attempt,
    Record,
    now,
    stamp,
    succeeded,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import (
    fingerprint_of,
    sha256,
    unseal,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._instance import (
    foreign_keys,
    known_owners,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State

Typed = dict[str, tuple[Record, str, str]]


class ActionModule(Stage):
    STAGE = "keys"

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        self._store = self.store()
        willing = [
            name
            for name, client, row in self.mine(state)
            if row["instance"] == "webui" and foreign_keys(client, self.config) == ADOPT
        ]
        if not willing:
            return self.result(state, {})
        found: dict[str, Row] = {}
        try:
            typed = self._typed(state, willing)
            keys = {key.hash: key for key in self.management().list_keys()} if typed else {}
            secrets = self._secrets([container for _record, container, _found in typed.values()])
        except FleetError as error:
            self.fail(state, willing, error)
            return self.result(state, {name: {} for name in willing})
        for name, (record, container, fingerprint) in typed.items():
            try:
                key = _key(name, fingerprint, keys)
                with contextlib.nullcontext() if self.check else self._store.lock():
                    found[name] = self._accept(record, key, secrets.get(container, {}))
            except FleetError as error:
                found[name] = {"failed": True, "failure": error.failure()}
        self.take(state, found)
        return self.result(state, found)

    def _typed(self, state: State, willing: list[str]) -> Typed:
        """The clients in whose connection a foreign key stands: record, container, fingerprint."""
        typed: Typed = {}
        owners = known_owners(self._store, willing)
        self._instances = self.call("instance_discover", {})["instances"]
        instances = self._instances.values()
        for name in willing:
            label = (self.config["name"], name)
            mine = [one for one in instances if (one.get("fleet"), one.get("client")) == label]
            try:
                record = self._store.record(name)
            except FleetError as error:
                self.fail(state, [name], error)
                continue
            if record is None or not record.key_hash or not mine:
                continue
            current = fingerprint_of(record.key_hash)
            key = in_the_app(mine[0], self.config["openrouter_url"], current).key
            if classify(key, name, current, owners) is Whose.FOREIGN:
                typed[name] = (record, mine[0]["container"], key)
        return typed

    def _secrets(self, containers: list[str]) -> dict[str, Any]:
        """What is sealed of the instances, by container."""
        if not containers:
            return {}
        # A little more than was measured: something may be typed in meanwhile.
        sizes = {name: self._instances[name]["size"] + 4096 for name in containers}
        pads = {name: os.urandom(size).hex() for name, size in sizes.items()}
        answer = self.call("instance_discover", {"secrets": json.dumps(pads)})["instances"]
        return {name: json.loads(unseal(answer[name]["sealed"], pads[name])) for name in containers}

    def _accept(self, record: Record, key: Key, secret: Mapping[str, Any]) -> Row:
        """Make the key the client's: what comes after finds it like one whose create was cut off.

        Its cap and its guardrail, and what becomes of the key before it, are the keys stage's.
        """
        client = record.client
        text = f"the key {fingerprint_of(key.hash)}, which somebody typed in, is the client's now"
        row: Row = {"changed": True, "warnings": [text]}
        if self.check:
            return row
        marks = [KeyName.parse(former.name) for former in record.former]
        generation = max([record.generation, *(mark.generation for mark in marks if mark)]) + 1
        name = KeyName(self.config["name"], client, generation, random.token_hex(4))
        held = [one["key"] for one in secret.get("connections", [])]
        api_key = next((one for one in held if sha256(one) == key.hash), "")
        if not api_key:
            raise FleetError("its key has changed meanwhile", f"client {client}", "run again")
        attempts = [*record.attempts, Attempt(str(name), stamp(now()))]
        self._store.save_record(dataclasses.replace(record, attempts=attempts))
        self._store.save_secrets(client, succeeded(self._store.secrets(client), api_key))
        changes = Changes(self.management(), self._store, client)
        changes.update_key(key.hash, {"name": str(name)})
        return row


def _key(client: str, fingerprint: str, keys: Mapping[str, Key]) -> Key:
    """:raises FleetError: it is none that can be the client's"""
    key = next((one for one in keys.values() if fingerprint_of(one.hash) == fingerprint), None)
    where = f"{client}: Open WebUI's connections"
    if key is None:
        raise FleetError(
            f"the key {fingerprint} cannot be adopted: it is not one of this account's",
            where,
            "let the client's field foreign_keys say keep or revert",
        )
    if KeyName.parse(key.name) is not None:
        raise FleetError(
            f"the key {key.name} cannot be adopted: it is that of another client",
            where,
            "let the client's field foreign_keys say revert",
        )
    return key
