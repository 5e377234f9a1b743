# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._errors import describe
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage
from ansible_collections.mai.fleet.plugins.plugin_utils._table import lines_of

_WAITS = (
    "still runs in the container that it was found in: give -e fleet_adopt_recreate=true, and that "
    "is made anew once, on the same volume; mai.fleet.site does not touch it before"
)


class ActionModule(Stage):
    STAGE = "adopted"
    OPTIONS = ("examined", "results", "recreate")

    def stage(self) -> dict[str, Any]:
        recreate = boolean(self.option("recreate", False))
        table: list[dict[str, str]] = []
        problems: list[dict[str, str]] = []
        replace: dict[str, str] = {}
        for host in self._vars["ansible_play_hosts_all"]:
            known = self._raw(host)
            looked = known.get(self.option("examined")) or {}
            problems += [
                {"client": "", **{part: problem[part] for part in ("what", "where", "todo")}}
                for problem in looked.get("problems", [])
                if problem["part"] == "instances"
            ]
            rows = (known.get(self.option("results")) or {}).get("rows", {})
            for container, row in sorted(rows.items()):
                table.append(self._line(host, container, row))
                if row["failure"]:
                    problems.append({"client": row["client"], **row["failure"]})
                if row["replace"]:
                    replace[row["client"]] = row["id"]
                self._tell(row, recreate)
        for line in lines_of(table):
            self._display.display(line)
        if not table:
            self._display.display("nothing was found that is not in the inventory")
        for problem in problems:
            self._display.display(f"{self._not()} adopted: {describe(problem)}", color="red")
        chosen = replace if recreate else {}
        return {
            "changed": False,
            "table": table,
            "problems": problems,
            "replace": chosen,
            # In check mode there is no file of a client that would be adopted.
            "site": [] if self.check else sorted(chosen),
            "verdict": self._verdict(problems),
        }

    def _tell(self, row: dict[str, Any], recreate: bool) -> None:
        for note in row["notes"]:
            self._display.display(f"note: {row['client']}: {note}")
        if row["replace"] and not recreate:
            self._display.display(f"note: {row['client']}: {_WAITS}")

    def _line(self, host: str, container: str, row: dict[str, Any]) -> dict[str, str]:
        done = "waits" if row["replace"] else "as it was"
        if row["changed"]:
            done = "would be adopted" if self.check else "adopted"
        return {
            "client": row["client"] or "-",
            "server": host,
            "container": container,
            "made": row["kind"],
            "key": row["key"] or "-",
            "result": f"{self._not()} adopted".upper() if row["failure"] else done,
        }

    def _not(self) -> str:
        return "would not be" if self.check else "not"

    def _verdict(self, problems: list[dict[str, str]]) -> str:
        if not problems:
            return ""
        one = len(problems) == 1
        what = "1 instance or server" if one else f"{len(problems)} instances or servers"
        verb = "would not be" if self.check else "was not" if one else "were not"
        return f"{what} {verb} adopted; why, and what to do, is said above"
