# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import Census, assign
from ansible_collections.mai.fleet.plugins.plugin_utils._locks import (
    OPENROUTER,
    LockStage,
    held,
    lost,
    said,
    take,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._owner import this_run
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, State


class ActionModule(LockStage):
    STAGE = "lock"
    OPTIONS = ("state", "place", "release")

    def stage(self) -> dict[str, Any]:
        release = boolean(self.option("release", False))
        if self.option("place") == OPENROUTER and not self.config["lock"]:
            return {"changed": False, "held": False}
        state: State | None = self.option("state")
        if state is None:
            return self._release_whole() if release else self._take_whole()
        return self._release(state) if release else self._take(state)

    def _take_whole(self) -> dict[str, Any]:
        """:raises FleetError: somebody else has it, and it is not about single clients"""
        if self.check:
            self._look()
            return {"changed": False, "held": False}
        other, dead = take(self.perform, this_run())
        if other:
            raise held(other, self.place, self.name)
        self._taken_over(dead)
        return {"changed": False, "held": True}

    def _take(self, state: State) -> dict[str, Any]:
        found: dict[str, Row] = {
            name: {} for name, _client, _row in self.mine(state, ("present", "suspended", "absent"))
        }
        if not found:
            return self.result(state, {})
        try:
            if self.check:
                self._look()
            else:
                other, dead = take(self.perform, this_run())
                if other:
                    self.fail(state, found, held(other, self.place, self.name))
                else:
                    self._taken_over(dead)
                    self._renew(state, found)
        except FleetError as error:
            self._without(state, found, error)
        self.take(state, found)
        return self.result(state, found)

    def _renew(self, state: State, found: dict[str, Row]) -> None:
        """What was assigned before the lock was ours may have gone to another client meanwhile."""
        fleet = self.fleet()
        broken = {error["client"] for error in self._vars.get("fleet_errors", [])}
        census = Census(self.config, fleet, broken, self.store())
        for name in found:
            row = state["clients"][name]
            row["locked"] = True
            try:
                assign(name, fleet[name], census, row)
            except FleetError as error:
                found[name] = {"failed": True, "failure": error.failure()}

    def _without(self, state: State, found: dict[str, Row], error: FleetError) -> None:
        """The server cannot be asked. A key can be switched off all the same, but none be made."""
        for name in found:
            if state["clients"][name]["state"] == "present":
                found[name] = {"failed": True, "failure": error.failure()}
            else:
                found[name] = {"warnings": [f"not locked: {describe(error.failure())}"]}

    def _release(self, state: State) -> dict[str, Any]:
        rows = state["clients"].values()
        if any(row["server"] == self.host and row.get("locked") for row in rows):
            self._give_back()
        return {"changed": False}

    def _release_whole(self) -> dict[str, Any]:
        if not self.check:
            self._give_back()
        return {"changed": False}

    def _give_back(self) -> None:
        try:
            gone = self.perform(state="released", owner=this_run())["lost"]
        except FleetError as error:
            self._warnings.append(
                f"the lock could not be released: {describe(error.failure())}; the next run of "
                "this controller takes it over"
            )
            return
        if gone:
            self._warnings.append(f"{self.place}: {lost(gone)}")

    def _look(self) -> None:
        owner = self.perform(state="seen")["lock"]
        if owner:
            self._warnings.append(
                f"{self.place}: locked by {said(owner)}; what is foretold here may change meanwhile"
            )

    def _taken_over(self, dead: Row | None) -> None:
        if dead:
            self._warnings.append(
                f"{self.place}: the run of {said(dead)} has ended without releasing its lock, "
                "which was taken over"
            )
