# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import (
    CONNECTION_TAGS,
    public_url,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import current
from ansible_collections.mai.fleet.plugins.plugin_utils._instance import (
    foreign_keys,
    keep_tokens,
    known_owners,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store


class ActionModule(Stage):
    STAGE = "settings"
    NOTED = "change settings"
    OPTIONS = ("state", "notice", "pool")

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        store = self.store()
        clients: list[dict[str, Any]] = []
        payload: dict[str, dict[str, str]] = {}
        broken: dict[str, Row] = {}
        for name, client, row in self.mine(state):
            if row["instance"] != "webui":
                continue
            try:
                payload[name] = current(store.secrets(name))
                record = store.record(name)
            except FleetError as error:
                broken[name] = {"failed": True, "failure": error.failure()}
                continue
            had = record.models if record else {}
            clients.append(
                {
                    "name": name,
                    "volume": client["volume"] or "",
                    "port": row["port"],
                    "webui_url": public_url(client, row["port"]),
                    "admin_email": client["admin_email"],
                    "admin_name": client["organization"],
                    "connection": {
                        "url": self.config["openrouter_url"],
                        "model_ids": row["models"],
                        "tags": [tag["name"] for tag in CONNECTION_TAGS],
                        "foreign_keys": foreign_keys(client, self.config),
                    },
                    "models": [
                        {"id": model, "name": state["catalog"][model]} for model in row["models"]
                    ],
                    "retired": sorted(set(had) - set(row["models"])),
                    "suspended": row["state"] == "suspended",
                    "starts": self.check and "containers" in row["changed"],
                    "notice": self.option("notice"),
                }
            )
        self.take(state, broken)
        answer = self.on_server(
            state,
            list(payload),
            lambda: self.call(
                "instance_settings",
                {
                    "clients": clients,
                    "owners": known_owners(store, payload),
                    "pool": self.option("pool"),
                    "secrets": json.dumps(payload),
                },
            ),
        )
        if not self.check:
            self.take(state, keep_tokens(store, payload, answer["clients"]))
            self.take(state, _note_replaced(store, answer["clients"]))
        return self.result(state, {**broken, **answer["clients"]}, answer.get("diff"))


def _note_replaced(store: Store, rows: Mapping[str, Row]) -> dict[str, Row]:
    """A line in the journal for each key that somebody typed in and that gave way.

    :returns: rows of the clients whose journals cannot be written
    """
    broken: dict[str, Row] = {}
    for name, row in rows.items():
        try:
            if row.get("replaced_key"):
                store.note(name, "replace key in connection", "done", **row["replaced_key"])
        except FleetError as error:
            broken[name] = {"failed": True, "failure": error.failure()}
    return broken
