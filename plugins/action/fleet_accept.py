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


@dataclasses.dataclass(frozen=True)
class Typed:
    """A foreign key in a client's connection to OpenRouter.

    :ivar size: bytes of a pad for the instance's secrets
    """

    record: Record
    container: str
    size: int
    fingerprint: str


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
        found = self._found(willing) if willing else {}
        self.take(state, found)
        return self.result(state, found)

    def _found(self, willing: list[str]) -> dict[str, Row]:
        """Rows of the clients for whom there is something to do, or who failed."""
        try:
            instances = self.call("instance_discover", {})["instances"]
            owners = known_owners(self._store, willing)
        except FleetError as error:
            return {name: _failed(name, error) for name in willing}
        rows: dict[str, Row] = {}
        typed: dict[str, Typed] = {}
        for name in willing:
            try:
                one = self._typed(name, instances, owners)
            except FleetError as error:
                rows[name] = _failed(name, error)
                continue
            if one is not None:
                typed[name] = one
        return {**rows, **(self._accept_all(typed) if typed else {})}

    def _typed(
        self, name: str, instances: Mapping[str, Row], owners: Mapping[str, str]
    ) -> Typed | None:
        label = (self.config["name"], name)
        mine = [one for one in instances.values() if (one.get("fleet"), one.get("client")) == label]
        record = self._store.record(name)
        if record is None or not record.key_hash or not mine:
            return None
        current = fingerprint_of(record.key_hash)
        key = in_the_app(mine[0], self.config["openrouter_url"], current).key
        if classify(key, name, current, owners) is not Whose.FOREIGN:
            return None
        return Typed(record, mine[0]["container"], mine[0]["size"], key)

    def _accept_all(self, typed: Mapping[str, Typed]) -> dict[str, Row]:
        # A little more than was measured: something may be typed in meanwhile.
        pads = {one.container: os.urandom(one.size + 4096).hex() for one in typed.values()}
        try:
            api = self.management()
            keys = {fingerprint_of(key.hash): key for key in api.list_keys()}
            sealed = self.call("instance_discover", {"secrets": json.dumps(pads)})["instances"]
        except FleetError as error:
            return {name: _failed(name, error) for name in typed}
        rows = {}
        for name, one in typed.items():
            try:
                key = keys.get(one.fingerprint)
                if self._is_begun(one, key):
                    continue
                key = _takeable(one, key)
                _refuse_shared(one, typed)
                secret = _opened(sealed.get(one.container), pads[one.container], one.container)
                with contextlib.nullcontext() if self.check else self._store.lock():
                    # Another server's client may have got it since.
                    key = _takeable(one, api.key(key.hash))
                    rows[name] = self._accept(one.record, key, secret)
            except FleetError as error:
                rows[name] = _failed(name, error)
        return rows

    def _is_begun(self, one: Typed, key: Key | None) -> bool:
        """Whether a run that was cut off has given it the client's name already."""
        mark = KeyName.parse(key.name) if key else None
        if key is None or mark is None:
            return False
        mine = (mark.fleet, mark.client) == (self.config["name"], one.record.client)
        return mine and key.name in {attempt.name for attempt in one.record.attempts}

    def _accept(self, record: Record, key: Key, secret: Mapping[str, Any]) -> Row:
        """Make the key the client's: what comes after finds it like one whose create was cut off.

        Its cap and its guardrail, and what becomes of the key before it, are the keys stage's.
        """
        client = record.client
        text = f"the key {fingerprint_of(key.hash)}, which somebody typed in, is the client's now"
        row: Row = {"changed": True, "warnings": [text]}
        held = [one["key"] for one in secret["connections"]]
        api_key = next((one for one in held if sha256(one) == key.hash), "")
        if not api_key:
            raise FleetError("its key has changed meanwhile", f"client {client}", "run again")
        if self.check:
            return row
        marks = [KeyName.parse(former.name) for former in record.former]
        generation = max([record.generation, *(mark.generation for mark in marks if mark)]) + 1
        name = KeyName(self.config["name"], client, generation, random.token_hex(4))
        attempts = [*record.attempts, Attempt(str(name), stamp(now()))]
        self._store.save_record(dataclasses.replace(record, attempts=attempts))
        self._store.save_secrets(client, succeeded(self._store.secrets(client), api_key))
        changes = Changes(self.management(), self._store, client)
        changes.update_key(key.hash, {"name": str(name)})
        return row


def _opened(row: Row | None, pad: str, container: str) -> dict[str, Any]:
    """What an instance's row has under its pad.

    :raises FleetError: it has nothing, which is this instance's trouble and no other's
    """
    where, todo = f"container {container}", "run again"
    if row is None:
        raise FleetError("it went while its key was read", where, todo)
    if row["failed"]:
        failure = row["failure"]
        raise FleetError(failure["what"], failure["where"] or where, failure["todo"] or todo)
    try:
        return dict(json.loads(unseal(row["sealed"], pad)))
    except (KeyError, ValueError):
        # Not chained: there are secrets in it.
        raise FleetError("its key did not come whole", where, todo) from None


def _failed(client: str, error: FleetError) -> Row:
    failure = error.failure()
    failure["where"] = failure["where"] or f"client {client}"
    return {"failed": True, "failure": failure}


def _takeable(one: Typed, key: Key | None) -> Key:
    """:raises FleetError: it is none that can be the client's"""
    where = f"{one.record.client}: Open WebUI's connections"
    if key is None:
        raise FleetError(
            f"the key {one.fingerprint} cannot be adopted: it is not one of this account's",
            where,
            "let the client's field foreign_keys say keep or revert",
        )
    if key.disabled:
        raise FleetError(
            f"the key {one.fingerprint} cannot be adopted: somebody disabled it at OpenRouter",
            where,
            "enable it there, or let the client's field foreign_keys say keep or revert",
        )
    if KeyName.parse(key.name) is not None:
        raise FleetError(
            f"the key {key.name} cannot be adopted: it is that of another client",
            where,
            "let the client's field foreign_keys say revert",
        )
    return key


def _refuse_shared(one: Typed, typed: Mapping[str, Typed]) -> None:
    """:raises FleetError: it would be the key of several clients"""
    names = [name for name, other in typed.items() if other.fingerprint == one.fingerprint]
    if len(names) > 1:
        raise FleetError(
            f"the key {one.fingerprint} cannot be adopted: it is typed in at {', '.join(names)}, "
            "and a key is one client's",
            f"{one.record.client}: Open WebUI's connections",
            "ask their administrators whose it is; let the field foreign_keys of the others say "
            "revert, and run again",
        )
