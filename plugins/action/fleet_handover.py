# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import public_url
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import now
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State


class ActionModule(Stage):
    STAGE = "handover"
    OPTIONS = ("again",)

    def stage(self) -> dict[str, Any]:
        state: State = self.batch_state()
        store = self.store()
        shown = []
        for name, row in sorted(state["clients"].items()):
            if row["failure"] or row["state"] == "absent" or row["instance"] != "webui":
                continue
            client = self.client(name, row)
            record = store.record(name)
            password = store.secrets(name).get("admin_password")
            if record is None or not password:
                raise FleetError("there is no instance yet", f"client {name}", "run mai.fleet.site")
            if record.handed_over and not self.option("again", False):
                raise FleetError(
                    f"the first password was shown on {record.handed_over} already",
                    f"client {name}",
                    "add -e fleet_handover_again=true to show it again",
                )
            shown.append(name)
            if self.check:
                continue
            self._show(name, client, row, password)
            store.save_record(dataclasses.replace(record, handed_over=now()))
        return {"changed": bool(shown), "shown": shown}

    def _show(self, name: str, client: dict[str, Any], row: Row, password: str) -> None:
        lines = (
            f"client:   {name} ({client['organization']})",
            f"address:  {public_url(client, row['port'])}",
            f"user:     {client['admin_email']}",
            f"password: {password}",
            "It is the first password: ask for it to be changed.",
        )
        for line in lines:
            # On the screen only: with a log_path, Ansible writes what it displays to a file too.
            self._display.display(line, screen_only=True)
