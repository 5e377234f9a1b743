# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import public_url, usd
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import select
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, merge
from ansible_collections.mai.fleet.plugins.plugin_utils._table import lines_of

_UNLISTED = (
    "has no client file any more, and still a key or an instance; "
    "put the file back, or name it to mai.fleet.offboard, which removes them"
)

#: What the report needs to know of a client of which the run knows nothing.
_UNTOUCHED: Row = {
    "changed": [],
    "warnings": [],
    "failure": None,
    "instance": None,
    "port": None,
}


class ActionModule(Stage):
    STAGE = "report"
    OPTIONS = ("select",)

    def stage(self) -> dict[str, Any]:
        hosts = self._vars["ansible_play_hosts_all"]
        states = {host: self._raw(host).get("fleet_state") for host in hosts}
        state = merge(states)
        rows = state["clients"]
        rows.update(self._lost(states))
        problems = [
            {"client": error["client"], "stage": "inventory", **_failure(error)}
            for error in self._vars["fleet_errors"]
        ]
        for name, row in sorted(rows.items()):
            if row["failure"] is None and row["server"] not in self._vars["ansible_play_hosts"]:
                row["failure"] = {
                    "stage": "server",
                    "what": "the run stopped on this server before it came to an end",
                    "where": f"server {row['server']}",
                    "todo": "see its failed task above, then run again",
                }
            if row["failure"]:
                problems.append({"client": name, **row["failure"]})
        table = [self._line(name, row) for name, row in sorted(rows.items())]
        warnings = [
            f"{name}: {text}" for name, row in sorted(rows.items()) for text in row["warnings"]
        ]
        warnings += [f"{name}: {_UNLISTED}" for name in state["unlisted"]]
        self._say(table, warnings)
        return {
            "changed": False,
            "clients": {name: _public(row) for name, row in rows.items()},
            "table": table,
            "problems": problems,
            "verdict": _verdict(problems),
        }

    def _lost(self, states: Mapping[str, Any]) -> dict[str, Row]:
        """Rows of clients that the run did not come to: their server failed before."""
        fleet = self.fleet()
        known = any(state and "clients" in state for state in states.values())
        lost = {
            name
            for name, client in fleet.items()
            if known and client["server"] in states and not states[client["server"]]
        }
        if self.option("select"):
            broken = {error["client"] for error in self._vars["fleet_errors"]}
            # Of a server that was not come to, nobody knows who is due.
            lost &= select(fleet, self.option("select"), broken, tuple)
        return {
            name: {**_UNTOUCHED, "server": fleet[name]["server"], "state": fleet[name]["state"]}
            for name in lost
        }

    def _line(self, name: str, row: Row) -> dict[str, str]:
        try:
            record = self.store().record(name)
        except FleetError:
            # The client's failure says so, and the others are in the table too.
            record = None
        client = self.client(name, row)
        alive = row["state"] != "absent"
        served = alive and row["instance"] == "webui"
        gates = row.get("gates", [])
        passed = sum(gate["passed"] for gate in gates)
        limit = client["spending_limit"]
        listed = next((gate for gate in gates if gate["gate"] == "allowlist"), None)
        proven = len(row.get("models", [])) if listed and listed["passed"] else "?"
        return {
            "client": name,
            "state": _state(row),
            "url": public_url(client, row["port"]) if served and row.get("port") else "-",
            "admin password": self.store().secrets_place(name) if served else "-",
            "key": fingerprint_of(record.key_hash) if record and record.key_hash else "-",
            "limit": "unlimited" if limit is None else f"{usd(limit)} {client['limit_reset']}",
            "models": f"{proven}/{len(client['models'])}" if alive else "-",
            "gates": f"{passed}/{len(gates)}" if gates else "-",
        }

    def _say(self, table: list[dict[str, str]], warnings: list[str]) -> None:
        for warning in warnings:
            self._display.warning(warning)
        for line in lines_of(table):
            self._display.display(line)


def _state(row: Row) -> str:
    if row["failure"]:
        return "FAILED"
    if row.get("exhausted"):
        return "cap used up"
    return str(row["state"])


def _failure(error: Mapping[str, str]) -> dict[str, str]:
    return {"what": error["what"], "where": error["where"], "todo": error["todo"]}


def _public(row: Row) -> Row:
    keep = ("server", "state", "changed", "warnings", "failure", "gates", "exhausted")
    return {field: row[field] for field in keep if field in row}


def _verdict(problems: list[dict[str, str]]) -> str:
    """Why the run failed, empty when it did not."""
    if not problems:
        return ""
    lines = "".join(
        f"\n  {problem['client'] or 'fleet'} ({problem['stage']}): {describe(problem)}"
        for problem in problems
    )
    count = "a client needs" if len(problems) == 1 else f"{len(problems)} clients need"
    return f"{count} a person:{lines}"
