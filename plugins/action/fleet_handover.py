# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import public_url
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Record,
    now,
    stamp,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store


class ActionModule(Stage):
    STAGE = "handover"
    OPTIONS = ("select", "again")

    def stage(self) -> dict[str, Any]:
        if not self.option("select") and not self._vars.get("ansible_limit"):
            raise FleetError(
                "nothing was shown, because no client was named",
                "handover",
                "name the clients that you mean with -e fleet_select=NAME",
            )
        state: State = self.batch_state()
        again = boolean(self.option("again", False))
        store = self.store()
        ready: list[tuple[str, Record, str]] = []
        problems: list[dict[str, str]] = []
        for name, row in sorted(state["clients"].items()):
            try:
                if row["failure"]:
                    problems.append(row["failure"])
                elif row["state"] != "absent" and row["instance"] == "webui":
                    ready.append((name, *_secret(store, name, again)))
            except FleetError as error:
                problems.append(error.failure())
        if problems:
            lines = "".join(f"\n  {describe(problem)}" for problem in problems)
            raise FleetError(
                f"nothing was shown:{lines}",
                "handover",
                "do what is said there, or leave that client out of the selection",
            )
        if not ready:
            raise FleetError(
                "nothing was shown, because none of the selected clients has an instance",
                "handover",
                "name the clients that you mean with -e fleet_select=NAME",
            )
        for name, record, password in ready if not self.check else []:
            row = state["clients"][name]
            self._show(name, self.client(name, row), row, password)
            store.save_record(dataclasses.replace(record, handed_over=stamp(now())))
        return {"changed": True, "shown": [name for name, _record, _password in ready]}

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


def _secret(store: Store, name: str, again: bool) -> tuple[Record, str]:
    """:raises FleetError: there is nothing to hand over, or it was done already"""
    record = store.record(name)
    password = store.secrets(name).get("admin_password")
    if record is None or not password:
        raise FleetError("there is no instance yet", f"client {name}", "run mai.fleet.site")
    if record.handed_over and not again:
        raise FleetError(
            f"the first password was shown on {record.handed_over} already, or the client was "
            "adopted then, whose administrator has had one for long",
            f"client {name}",
            "add -e fleet_handover_again=true to show it again",
        )
    return record, password
