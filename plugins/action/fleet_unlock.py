# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import did_you_mean
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import words_of
from ansible_collections.mai.fleet.plugins.plugin_utils._locks import OPENROUTER, LockStage, said
from ansible_collections.mai.fleet.plugins.plugin_utils._owner import alive, this_run
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import shown

#: What is known of a run, by what :func:`alive` says.
_LIFE = {
    True: "it is running, as a process of this controller",
    False: "it has died: the next run on this controller takes the lock over by itself",
    None: "it is a run of another controller",
}


class ActionModule(LockStage):
    OPTIONS = ("place", "break", "force")

    def stage(self) -> dict[str, Any]:
        wanted = self._wanted()
        if self.option("place") == OPENROUTER and not self.config["lock"]:
            if OPENROUTER in wanted:
                raise FleetError(
                    "fleet.yml names no place for the lock of OpenRouter, so there is none",
                    f"{shown(self.config['file'])}: lock",
                    "name servers only",
                )
            return {"changed": False, "lock": None}
        owner = self.perform(state="seen")["lock"]
        life = alive(owner) if owner else None
        if owner:
            self._display.display(f"{self.name}: locked by {said(owner)}; {_LIFE[life]}")
        else:
            self._display.display(f"{self.name}: not locked")
        if not owner or self.name not in wanted:
            return {"changed": False, "lock": owner}
        if life and not boolean(self.option("force", False)):
            raise FleetError(
                f"the run that has the lock is at work, as process {owner['pid']} of this machine",
                self.place,
                "wait for it or end it; -e fleet_break_force=true breaks its lock all the same",
            )
        self.perform(state="broken", owner=this_run(), run=owner["run"])
        return {"changed": True, "lock": owner}

    def _wanted(self) -> set[str]:
        """:raises FleetError: something is named that cannot have a lock here"""
        wanted = set(words_of(self.option("break") or ""))
        known = [OPENROUTER, *self._vars["ansible_play_hosts_all"]]
        unknown = sorted(wanted - set(known))
        if unknown:
            raise FleetError(
                f"{', '.join(unknown)} is no server of this run",
                "fleet_break",
                did_you_mean(unknown[0], known) or f"name some of: {', '.join(known)}",
            )
        return wanted
