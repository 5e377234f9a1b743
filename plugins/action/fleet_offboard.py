# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.offboarding import (
    begun,
    held_until,
    is_due,
    needs_export,
    told,
    unclaimed,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Offboarding,
    Record,
    now,
    parse,
    stamp,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import (
    Row,
    Stage,
    State,
    days_of,
    difference,
)

#: What the server would say of a client without a volume.
_NOTHING: Row = {"before": {"volumes": []}}


class ActionModule(Stage):
    STAGE = "offboard"
    NOTED = "hold volumes"
    OPTIONS = ("state", "select", "hold", "show")

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        self._store = self.store()
        self._at = now()
        self._hold = self._given_hold()
        leaving = self._leaving(state)
        vanished = self._vanished()
        records = {**leaving, **vanished}
        steps = {name: self._next(record) for name, record in records.items()}
        open_steps = [name for name, record in records.items() if steps[name] != record.offboarding]
        # Whoever never had an instance has no volume, and maybe a server without Docker.
        calls = [
            self._volumes(records[name], steps[name]) for name in open_steps if records[name].slot
        ]
        answer = self._ask(state, calls, leaving)
        answer["clients"].update({name: _NOTHING for name in open_steps if not records[name].slot})
        found: dict[str, Row] = {}
        diff = list(answer.get("diff", []))
        for name, row in answer["clients"].items():
            news = self._settle(records[name], steps[name], row)
            diff += news.pop("diff", [])
            if name in leaving:
                found[name] = news
            elif news.get("failed"):
                self._warnings.append(f"{name}: {describe(news['failure'])}")
        self.take(state, found)
        if boolean(self.option("show", False)) and not self.check:
            self._show(leaving)
        result = self.result(state, found, diff)
        result["changed"] = result["changed"] or bool(answer.get("changed"))
        return result

    def line(self, client: str, row: Row, news: Row) -> Row | None:
        # What was done has lines with the volumes' names.
        return super().line(client, row, news) if news.get("failed") else None

    def _given_hold(self) -> float | None:
        """Days that the command line gives, for clients that it names.

        :raises FleetError: it names none
        """
        given = self.option("hold", "")
        if given in ("", None):
            return None
        if not (self.option("select") or self._vars.get("ansible_limit")):
            raise FleetError(
                "another time for which data is held is given only to clients that are named",
                "fleet_hold",
                "name them, too: -e fleet_select=NAME",
            )
        return days_of(given, "fleet_hold")

    def _leaving(self, state: State) -> dict[str, Record]:
        """This server's clients that are gone, or would be in this run."""
        leaving = {}
        for name, _client, _row in self.mine(state, ("absent",)):
            try:
                record = self._store.record(name)
            except FleetError as error:
                self.fail(state, [name], error)
                continue
            if record is None:
                continue
            going = self.check and (record.state != "absent" or needs_export(record))
            if record.offboarding or going:
                leaving[name] = dataclasses.replace(
                    record, state="absent", offboarding=begun(record, self._at)
                )
        return leaving

    def _vanished(self) -> dict[str, Record]:
        """Those whose file is gone, too, and whose volumes were held for long enough."""
        if self.option("select") not in (None, "", "due"):
            return {}
        known = {*self.fleet(), *(error["client"] for error in self._vars["fleet_errors"])}
        found = {}
        for name in self._store.records():
            if name in known:
                continue
            try:
                record = self._store.record(name)
            except FleetError as error:
                self._warnings.append(str(error))
                continue
            if record and record.server == self.host and is_due(record, self._at):
                found[name] = record
        return found

    def _next(self, record: Record) -> Offboarding:
        """What is to be written down of a client when this run is through with it."""
        leaving = record.offboarding or begun(record, self._at)
        if leaving.volumes_removed:
            return leaving
        removed = leaving.removed or stamp(self._at)
        until = leaving.held_until or held_until(removed, self._days(record.client))
        if self._hold is not None:
            until = held_until(removed, self._hold)
        over = stamp(self._at) if parse(until) <= self._at else ""
        return dataclasses.replace(leaving, removed=removed, held_until=until, volumes_removed=over)

    def _days(self, name: str) -> float:
        days = self.fleet().get(name, {}).get("volume_hold_days")
        return float(self.config["volume_hold_days"] if days is None else days)

    def _ask(
        self, state: State, calls: list[dict[str, Any]], leaving: dict[str, Record]
    ) -> dict[str, Any]:
        """What the server says of the volumes. Of those that vanished the run has no rows."""
        try:
            return self.call("instance_volumes", {"clients": calls}) if calls else {"clients": {}}
        except FleetError as error:
            self.fail(state, [call["name"] for call in calls if call["name"] in leaving], error)
            return {"clients": {}}

    def _volumes(self, record: Record, step: Offboarding) -> dict[str, Any]:
        leaving = record.offboarding
        own = self.fleet().get(record.client, {}).get("volume")
        wanted: dict[str, Any] = {"name": record.client, "named": [own] if own else []}
        if leaving and leaving.removed:
            own = unclaimed(leaving.volumes, record, self.fleet())
            wanted.update(named=own, volumes=own)
        # In check mode the instance may be there still, which uses them.
        there = self.check and not (leaving and leaving.removed)
        wanted["state"] = "absent" if step.volumes_removed and not there else "present"
        return wanted

    def _settle(self, record: Record, step: Offboarding, row: Row) -> Row:
        """Write down what was done."""
        if not row or row.get("failed"):
            return row
        before = record.offboarding or begun(record, self._at)
        found = before.volumes if before.removed else row["before"]["volumes"]
        found = unclaimed(found, record, self.fleet())
        after = dataclasses.replace(step, volumes=found)
        if not found:
            after = dataclasses.replace(
                after, held_until="", volumes_removed=after.volumes_removed or stamp(self._at)
            )
        news = {"changed": True, "diff": [difference(record.client, _view(before), _view(after))]}
        if self.check:
            return news
        try:
            self._note(record.client, before, after)
            if after.volumes_removed:
                self._store.remove_secrets(record.client)
                # Whoever comes back after that gets another first password.
                record = dataclasses.replace(record, handed_over="")
            self._store.save_record(dataclasses.replace(record, offboarding=after))
        except FleetError as error:
            return {"failed": True, "failure": error.failure()}
        return news

    def _note(self, client: str, before: Offboarding, after: Offboarding) -> None:
        if not after.volumes:
            return
        if after.volumes_removed:
            self._store.note(client, "remove volumes", "done", volumes=after.volumes)
        elif after.held_until != before.held_until:
            self._store.note(
                client, "hold volumes", "done", volumes=after.volumes, until=after.held_until
            )

    def _show(self, leaving: dict[str, Record]) -> None:
        for name in sorted(leaving):
            record = self._store.record(name)
            if record is not None:
                self._display.display(f"{name} ({record.organization}, {record.server})")
                for line in told(record):
                    self._display.display(f"  {line}")


def _view(leaving: Offboarding) -> dict[str, Any]:
    return {
        "removed": bool(leaving.removed),
        "volumes": leaving.volumes if not leaving.volumes_removed else [],
        "held until": leaving.held_until,
        "volumes removed": bool(leaving.volumes_removed),
    }
