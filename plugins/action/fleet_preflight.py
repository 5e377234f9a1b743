# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.due import reasons
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.expiry import lifetime_of
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import living
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.offboarding import is_due
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import now
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.retirement import Cap
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import Census, refuse, start
from ansible_collections.mai.fleet.plugins.plugin_utils._selecting import Selecting
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import ACCOUNT_TODO, explained


class ActionModule(Selecting):
    STAGE = "preflight"
    OPTIONS = ("select", "named", "grace")

    def stage(self) -> dict[str, Any]:
        errors = self._vars.get("fleet_errors", [])
        refuse(self.config, errors)
        fleet = self.fleet()
        named = boolean(self.option("named", False))
        chosen = self.selection(
            fleet, errors, self.option("select"), named, lambda: self._due(fleet)
        )
        store = self.store()
        store.verify()
        census = Census(self.config, fleet, {error["client"] for error in errors}, store)
        with explained():
            catalog = self._catalog(any(fleet[name]["state"] == "present" for name in chosen))
        batch = set(self._vars["ansible_play_batch"])
        clients = {
            name: start(name, fleet[name], census, catalog)[0]
            for name in fleet
            if name in chosen and fleet[name]["server"] in batch
        }
        used = {model for row in clients.values() for model in row.get("models", [])}
        shown = {
            model: catalog[model].name if model in catalog else model for model in sorted(used)
        }
        self.warn({"clients": clients}, clients)
        return {
            "changed": False,
            "clients": clients,
            "catalog": shown,
            "unlisted": census.unlisted(),
        }

    def _due(self, fleet: dict[str, dict[str, Any]]) -> set[str]:
        """Who needs a run because of the time; it says why."""
        with explained():
            keys = living(self.management(), self.config["name"])
        found = set()
        for name, client in sorted(fleet.items()):
            why = self._why(name, client, keys.get(name, []))
            if why:
                self._display.display(f"  {name} is due: {'; '.join(why)}")
                found.add(name)
        if not found:
            self._display.display("  nobody is due")
        return found

    def _why(self, name: str, client: dict[str, Any], keys: list[Key]) -> list[str]:
        try:
            record = self.store().record(name)
        except FleetError as error:
            return [str(error)]
        if record is None or client["state"] == "absent":
            held = record is not None and is_due(record, now())
            return ["its data was held for long enough"] if held else []
        # A key that is suspended is replaced when it is wanted again.
        lifetime = lifetime_of(client) if client["state"] == "present" else None
        cap = Cap(client["spending_limit"], client["limit_reset"])
        grace = float(self.option("grace") or 0)
        return reasons(record, lifetime, keys, grace, cap.reset, now())

    def _catalog(self, spends: bool) -> Catalog:
        """What can be sold, if the account can be worked with at all.

        :param spends: whether the run is about somebody who needs credit
        """
        api = self.managed()
        left = api.credits_left() if spends else 0
        if spends and left <= 0:
            raise FleetError(
                f"the account has no credit left ({left:.2f} USD), every client would fail",
                "OpenRouter",
                f"{ACCOUNT_TODO[402]}; clients that are suspended or leave need none: name them "
                "with -e fleet_select=...",
            )
        return Catalog(api.catalog())
