# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.stores import check_store
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import refuse
from ansible_collections.mai.fleet.plugins.plugin_utils._move import Move, note_move
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_home import Home
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.opening import (
    Settings,
    open_store,
    settings,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage


class ActionModule(Stage):
    STAGE = "move_secrets"
    OPTIONS = ("source",)

    def stage(self) -> dict[str, Any]:
        refuse(self.config, self._vars["fleet_errors"])
        store = self.store()
        store.refuse_fleeting()
        with contextlib.nullcontext() if self.check else store.lock():
            move = Move(
                Home(self.config),
                self._source(),
                lambda given: open_store(given, self.config, self._loader._vault),
                lambda client, way: note_move(store, client, way),
            )
            origin, target = move.way
            if move.forgotten:
                self._display.warning(f"{move.forgotten}: remove them there")
            if move.done:
                return self._say(False, f"All secrets are in {target} already.", [])
            names = move.plan()
            for name in names:
                store.can_note(name)
            names = self._going(move, names) if self.check else move.run()
        went = "would go" if self.check else "went"
        text = f"{len(names)} clients' secrets {went} from {origin} to {target}."
        return self._say(True, text, names)

    def _going(self, move: Move, names: list[str]) -> list[str]:
        """Those of whom a run would not say that they stay."""
        stuck = move.stuck()
        for name, error in stuck.items():
            self._warnings.append(f"client {name}: {error}")
        return [name for name in names if name not in stuck]

    def _source(self) -> Settings | None:
        given = self.option("source")
        if not given:
            return None
        for problem in check_store(given, "fleet_move_from"):
            raise FleetError(describe(problem.as_dict()), "fleet_move_from")
        return settings({**self.config, "secret_store": given})

    def _say(self, changed: bool, text: str, names: list[str]) -> dict[str, Any]:
        self._display.display(text)
        return {"changed": changed, "msg": text, "clients": names}
