# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State


class ActionModule(Stage):
    STAGE = "edge"
    NOTED = "change site"
    OPTIONS = ("state", "site_template", "addresses", "address")

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        render = self.template(self.option("site_template"))
        clients = []
        broken: dict[str, Row] = {}
        for name, client, row in self.mine(state, ("present", "suspended", "absent")):
            site = {"name": name}
            if client["domain"] and row["state"] != "absent" and row["instance"] == "webui":
                try:
                    text = render({"client": {**client, "name": name, "port": row["port"]}})
                except FleetError as error:
                    broken[name] = {"failed": True, "failure": error.failure()}
                    continue
                site.update(domain=client["domain"], site=text)
            clients.append(site)
        self.take(state, broken)
        answer = self.on_server(
            state,
            [client["name"] for client in clients],
            lambda: self.call(
                "instance_sites",
                {
                    "clients": clients,
                    "known": sorted(self.fleet()),
                    "addresses": self.option("addresses", []),
                    "address": self.option("address", "127.0.0.1"),
                },
            ),
        )
        for name, news in answer["clients"].items():
            row = state["clients"][name]
            row["gates"] = [*row.get("gates", []), *news.get("gates", [])]
        result = self.result(state, {**broken, **answer["clients"]}, answer.get("diff"))
        result["changed"] = result["changed"] or answer.get("loaded", False)
        result["unlisted"] = sorted({*state["unlisted"], *answer.get("unlisted", [])})
        return result
