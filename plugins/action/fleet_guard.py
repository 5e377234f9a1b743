# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import refuse
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage


class ActionModule(Stage):
    OPTIONS = ()

    def stage(self) -> dict[str, Any]:
        refuse(self.config, self._vars["fleet_errors"])
        clients = self.fleet()
        if not clients:
            raise FleetError(
                "no client is fit to be worked on"
                + "".join(f"\n  {describe(error)}" for error in self._vars["fleet_errors"]),
                self.config["clients"],
                "write a client file, or mend those that are named",
            )
        limit = self._vars.get("ansible_limit")
        if limit and not {*self._vars["ansible_play_hosts_all"]} & {*self._vars["groups"]["fleet"]}:
            raise FleetError(
                "none of the servers that it leaves has a client",
                f"--limit {limit}",
                "ansible-inventory --graph fleet shows what can be named",
            )
        return {"changed": False, "clients": len(clients)}
