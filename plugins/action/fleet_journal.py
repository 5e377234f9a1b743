# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import select, words_of
from ansible_collections.mai.fleet.plugins.plugin_utils._journal import Line
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage

_HEADERS = ("client", "lines", "first", "last", "ends", "journal")

#: What every line has, and is shown in its own place or not at all.
_FIXED = ("at", "who", "client", "what", "result", "after", "hash")


class ActionModule(Stage):
    STAGE = "journal"
    OPTIONS = ("select", "show")

    def stage(self) -> dict[str, Any]:
        self._store = self.store()
        rows = {name: self._verified(name) for name in sorted(self._chosen())}
        self._say(rows)
        if boolean(self.option("show", False)):
            self._tell(list(rows))
        damaged = [
            f"\n  {name}: {describe(row['failure'])}"
            for name, row in rows.items()
            if row["failure"]
        ]
        result: dict[str, Any] = {"changed": False, "journals": rows}
        if damaged:
            count = "a journal is" if len(damaged) == 1 else f"{len(damaged)} journals are"
            result.update(failed=True, msg=f"{count} damaged:{''.join(damaged)}")
        return result

    def _chosen(self) -> set[str]:
        """Clients with a file, and those that have only a journal or a record of one any more."""
        fleet = self.fleet()
        broken = {error["client"] for error in self._vars["fleet_errors"]} - {""}
        known = {*fleet, *broken, *self._store.journal.clients(), *self._store.records()}
        words = words_of(self.option("select") or "")
        if not words:
            return known
        gone = known - set(fleet)
        named = {word.removeprefix("client_") for word in words} & gone
        return named | select(fleet, [word for word in words if word not in gone], gone)

    def _verified(self, name: str) -> Row:
        row: Row = {"lines": 0, "first": None, "last": None, "ends": 0, "failure": None}
        try:
            chain = self._store.verify_journal(name)
        except FleetError as error:
            return {**row, "failure": error.failure()}
        times = [str(line.get("at", "")) for line in chain.lines]
        row.update(lines=len(times), ends=len(chain.heads))
        if times:
            row.update(first=min(times), last=max(times))
        return row

    def _say(self, rows: dict[str, Row]) -> None:
        table = [dict(zip(_HEADERS, _HEADERS, strict=True))]
        for name, row in rows.items():
            failure = row["failure"]
            cells = {field: str(row[field] or "-") for field in ("first", "last")}
            cells["lines"] = "?" if failure else str(row["lines"])
            cells["ends"] = "?" if failure else str(row["ends"])
            cells["journal"] = f"DAMAGED: {describe(failure)}" if failure else "ok"
            table.append({"client": name, **cells})
        widths = {header: max(len(line[header]) for line in table) for header in _HEADERS[:-1]}
        for line in table:
            cells = {header: line[header].ljust(widths.get(header, 0)) for header in _HEADERS}
            self._display.display("  ".join(cells.values()).rstrip())

    def _tell(self, names: list[str]) -> None:
        for name in names:
            self._display.display(f"\n{name}")
            for number, line in self._store.journal.readable(name):
                self._display.display(f"  {number:>4}  {_story(line)}")


def _story(line: Line) -> str:
    """One line of a journal for a person, whatever bytes it holds."""
    more = {field: value for field, value in line.items() if field not in _FIXED}
    said = ", ".join(f"{field} {_short(value)}" for field, value in sorted(more.items()))
    text = "{at}  {who}  {what}: {result}".format_map(dict.fromkeys(_FIXED, "?") | line)
    text = f"{text}  ({said})" if said else text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
