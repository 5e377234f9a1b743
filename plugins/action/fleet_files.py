# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import yaml
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import (
    SECRET,
    boot_digest,
    build,
)
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import external_user
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Record,
    chosen,
    unnamed,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of, sha256
from ansible_collections.mai.fleet.plugins.plugin_utils._instance import (
    image_reference,
    with_instance_secrets,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State


class ActionModule(Stage):
    STAGE = "files"
    NOTED = "change files"
    OPTIONS = ("state", "compose_template", "env_template")

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        self._store = self.store()
        self._compose = self.template(self.option("compose_template"))
        self._env = self.template(self.option("env_template"))
        clients = []
        payload: dict[str, dict[str, str]] = {}
        secret_names = set(SECRET)
        broken: dict[str, Row] = {}
        for name, client, row in self.mine(state, ("present", "suspended", "absent")):
            try:
                if row["state"] != "absent":
                    secrets = self._secrets(name, row)
                    payload[name] = self._render(name, client, row, secrets)
                    secret_names |= set(client["env"])
            except FleetError as error:
                broken[name] = {"failed": True, "failure": error.failure()}
                continue
            kind = "absent" if row["state"] == "absent" else "present"
            clients.append({"name": name, "state": kind})
        self.take(state, broken)
        answer = self.on_server(
            state,
            [client["name"] for client in clients],
            lambda: self.call(
                "instance_files",
                {
                    "directory": self.config["directory"],
                    "clients": clients,
                    "secret_names": sorted(secret_names),
                    "secrets": json.dumps(payload),
                },
            ),
        )
        return self.result(state, {**broken, **answer["clients"]}, answer.get("diff"))

    def _secrets(self, name: str, row: Row) -> dict[str, str]:
        """What the client's files carry. In check mode a new client has words in their place."""
        stored = self._store.secrets(name)
        record = self._store.record(name)
        if record is not None and not self.check:
            stored = self._current(name, stored, record.key_hash)
            row["warnings"] = [*row["warnings"], *self._unnamed(stored, record)]
        secrets = with_instance_secrets(stored) if row["instance"] == "webui" else dict(stored)
        if "api_key" not in secrets:
            if not self.check:
                raise FleetError(
                    "the store holds no key of this client",
                    self._store.secrets_path(name),
                    "run mai.fleet.site, which makes keys, without skipping stages",
                )
            secrets["api_key"] = ""
        elif record is not None:
            self._match(name, secrets["api_key"], record.key_hash)
        if self.check:
            new = {key: f"(new {key})" for key in secrets if key not in stored}
            return {**secrets, **new}
        if secrets != stored:
            self._store.save_secrets(name, secrets)
        return secrets

    def _current(self, name: str, stored: dict[str, str], key_hash: str) -> dict[str, str]:
        """What is stored, with the current key's secret in its place."""
        current = chosen(stored, key_hash) or stored
        if current != stored:
            self._store.save_secrets(name, current)
        return current

    def _unnamed(self, stored: dict[str, str], record: Record) -> list[str]:
        place = self._store.secrets_place(record.client)
        return [
            f"{place} holds the secret of the key {fingerprint_of(key_hash)}, which is none of the "
            "client's: it may be the only copy, so it is kept; mai.fleet.doctor knows more"
            for key_hash in unnamed(stored, record)
        ]

    def _match(self, name: str, api_key: str, key_hash: str) -> None:
        if sha256(api_key) != key_hash:
            raise FleetError(
                "the stored secret is not that of the client's current key",
                self._store.secrets_path(name),
                "an older file may have been restored: restore the newest one, or replace the key "
                f"with -e fleet_replace_keys={name}",
            )

    def _render(
        self, name: str, client: dict[str, Any], row: Row, secrets: dict[str, str]
    ) -> dict[str, str]:
        record = self._store.record(name)
        env = build(
            client,
            secrets,
            openrouter_url=self.config["openrouter_url"],
            external_user=(
                record.external_user if record else external_user(self.config["name"], name)
            ),
            port=row["port"],
            models=row["models"],
            extra={key: self._plain(value, key, client) for key, value in client["env"].items()},
        )
        variables = {
            "client": {**client, "port": row["port"]},
            "fleet": self.config["name"],
            "image": image_reference(self.config, client["version"]),
            "subnet": row["subnet"],
            "env": env,
            "digest": "",
        }
        text = self._env(variables)
        if client["instance"] == "none":
            return {".env": text}
        row["digest"] = boot_digest(_meaning(self._compose(variables), name), text)
        return {".env": text, "compose.yml": self._compose({**variables, "digest": row["digest"]})}

    def _plain(self, value: Any, name: str, client: dict[str, Any]) -> str:
        if isinstance(value, dict):
            return self._store.decrypt_value(value["vault"], f"{client['file']}: env.{name}")
        return str(value)


def _meaning(compose: str, name: str) -> str:
    """What a compose file says, whatever its comments and its layout."""
    try:
        return json.dumps(yaml.safe_load(compose), sort_keys=True)
    except (yaml.YAMLError, TypeError) as error:
        raise FleetError(
            f"the compose file that the template makes is not YAML: {error}",
            f"client {name}, compose.yml",
            "mend the template that files_compose_template names",
        ) from error
