# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage


class ActionModule(Stage):
    STAGE = "examine"
    OPTIONS = ("everything",)

    def stage(self) -> dict[str, Any]:
        """A server that fails is an answer too: the others are looked at all the same."""
        clients = self._raw(self.host).get("fleet_clients", {})
        result: dict[str, Any] = {"changed": False, "env": {}, "instances": {}, "problems": []}
        names = {"directory": self.config["directory"], "clients": sorted(clients)}
        self._ask(result, "env", "instance_keys", names)
        everything = boolean(self.option("everything", False))
        if everything or any(client["instance"] == "webui" for client in clients.values()):
            self._ask(result, "instances", "instance_discover", {})
        return result

    def _ask(self, result: dict[str, Any], part: str, module: str, options: dict[str, Any]) -> None:
        try:
            answer = self.call(module, options)
            result[part] = answer["clients" if part == "env" else part]
        except FleetError as error:
            result["problems"].append({"part": part, **error.failure()})
