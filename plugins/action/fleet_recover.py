# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import KeyName
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256, unseal
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State

_PAD_BYTES = 512

#: Names in the store of what a server's .env holds of an instance.
_INSTANCE = {"WEBUI_SECRET_KEY": "webui_secret_key", "WEBUI_ADMIN_PASSWORD": "admin_password"}


class ActionModule(Stage):
    STAGE = "keys"
    NOTED = "put back secrets"

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        self._store = self.store()
        lost = self._lost(state)
        pads = {name: os.urandom(_PAD_BYTES).hex() for name in lost}
        answer = self.on_server(
            state,
            lost,
            lambda: self.call(
                "instance_keys",
                {
                    "directory": self.config["directory"],
                    "clients": lost,
                    "secrets": json.dumps(pads),
                },
            ),
        )
        found: dict[str, Row] = {}
        for name, row in answer["clients"].items():
            if row.get("sealed"):
                env = json.loads(unseal(row["sealed"], pads[name]))
                found[name] = self._recover(name, state["clients"][name], env)
        self.take(state, found)
        return self.result(state, {**answer["clients"], **found})

    def line(self, client: str, row: Row, news: Row) -> Row | None:
        # To look for a secret in vain is no change.
        return None if news.get("failed") else super().line(client, row, news)

    def _lost(self, state: State) -> list[str]:
        """The clients of which no secret is in the store, whatever their records say.

        Their rows have ``held``: the hash of the secret that the server has, empty for none.
        """
        lost = []
        for name, _client, row in self.mine(state):
            try:
                if "api_key" not in self._store.secrets(name):
                    row["held"] = ""
                    lost.append(name)
            except FleetError as error:
                self.fail(state, [name], error)
        return lost

    def _recover(self, name: str, row: Row, env: dict[str, str]) -> Row:
        """Put back what the server has: the instance's secrets, and the key if it is living."""
        try:
            stored = self._store.secrets(name)
            found = {
                secret: env[variable]
                for variable, secret in _INSTANCE.items()
                if variable in env and secret not in stored
            }
            row["held"] = self._held(name, env.get("OPENROUTER_API_KEY", ""))
            if row["held"]:
                found["api_key"] = env["OPENROUTER_API_KEY"]
            if not found:
                return {}
            if not self.check:
                with self._store.lock():
                    self._store.save_secrets(name, {**stored, **found})
            text = f"not in the store, and put back from the server: {', '.join(sorted(found))}"
            names = {"secrets": sorted(found)}
            return {"changed": True, "after": names, "warnings": [text]}
        except FleetError as error:
            return {"failed": True, "failure": error.failure()}

    def _held(self, name: str, secret: str) -> str:
        """The hash of the secret if it is that of a living key of this client, else empty.

        :raises FleetError: it is another client's
        """
        key = self.management().key(sha256(secret)) if secret else None
        mark = KeyName.parse(key.name) if key else None
        if key is None or mark is None:
            return ""
        if (mark.fleet, mark.client) != (self.config["name"], name):
            raise FleetError(
                f"the server's .env holds the key {key.name}, which is not this client's",
                f"client {name}, {self.config['directory']}/{name}/.env",
                "find out how it came there; keys of two clients must never be mixed",
            )
        return key.hash
