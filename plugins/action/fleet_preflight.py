# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import ApiError, FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import (
    CLIENT_GROUPS,
    limit,
    select,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import Census, refuse, start
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import MANAGEMENT_KEY, Stage

#: What to do about answers that concern the whole account.
_TODO = {
    401: f"check the key in {MANAGEMENT_KEY[0]}; was it deleted or mistyped?",
    402: "add credit at https://openrouter.ai/settings/credits",
    403: f"{MANAGEMENT_KEY[0]} has to be a management key with write access, used from an "
    "address that the organization allows",
    429: "OpenRouter goes on refusing for the number of requests; run again in some minutes",
}


class ActionModule(Stage):
    STAGE = "preflight"
    OPTIONS = ("select", "named")

    def stage(self) -> dict[str, Any]:
        errors = self._vars.get("fleet_errors", [])
        refuse(self.config, errors)
        fleet = self.fleet()
        chosen = self._selection(fleet, errors)
        store = self.store()
        store.verify()
        census = Census(self.config, fleet, {error["client"] for error in errors}, store)
        catalog = self._account(self.management())
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

    def _selection(
        self, fleet: dict[str, dict[str, Any]], errors: list[dict[str, str]]
    ) -> set[str]:
        """The clients of the run. Those with a mistake in their file are not among them."""
        chosen = set(fleet)
        words = self.option("select")
        pattern = self._vars.get("ansible_limit")
        if boolean(self.option("named", False)) and not words and pattern is None:
            raise FleetError(
                "this run says of nobody that it is about them",
                "the command line",
                "name clients with -e fleet_select=..., or everybody with --limit fleet",
            )
        if words:
            chosen &= select(fleet, words, {error["client"] for error in errors})
        if pattern:
            chosen &= self._limited(fleet, pattern)
        if not chosen:
            given = [f"fleet_select={words}"] if words else []
            given += [f"--limit {pattern}"] if pattern else []
            raise FleetError(
                f"no client is selected by {' and '.join(given)}",
                "the selection",
                "ansible-inventory --graph fleet shows what can be named; clients with a mistake "
                "in their files cannot be worked on",
            )
        return chosen

    def _limited(self, fleet: dict[str, dict[str, Any]], pattern: str) -> set[str]:
        """The clients that ``--limit`` names.

        :raises FleetError: Ansible, which knows servers only, leaves out a server of theirs
        """
        chosen = limit(fleet, self._terms(pattern), self._hosts_of)
        everything = self._inventory(self._vars["groups"])
        everything.subset(pattern)
        hosts = {host.name for host in everything.get_hosts()}
        lost = sorted(name for name in chosen if fleet[name]["server"] not in hosts)
        if lost:
            servers = sorted({fleet[name]["server"] for name in lost})
            raise FleetError(
                f"it leaves in {', '.join(lost)}, and takes away {', '.join(servers)}, where they "
                "are: Ansible takes away servers, never single clients",
                f"--limit {pattern}",
                f"name the clients instead: -e fleet_select={','.join(sorted(chosen))}",
            )
        return chosen

    def _terms(self, pattern: str) -> Iterable[str]:
        for term in split_host_pattern(pattern):
            if term.startswith("@"):
                with open(term[1:], encoding="utf-8") as file:
                    yield from filter(None, map(str.strip, file))
            else:
                yield term

    def _hosts_of(self, term: str) -> list[str]:
        """The hosts that a term matches otherwise than through groups that stand for clients."""
        groups = {
            group: [] if group.startswith(CLIENT_GROUPS) else hosts
            for group, hosts in self._vars["groups"].items()
        }
        return [host.name for host in self._inventory(groups).get_hosts(term)]

    def _inventory(self, groups: Mapping[str, Iterable[str]]) -> InventoryManager:
        inventory = InventoryManager(self._loader, parse=False)
        for group, hosts in groups.items():
            inventory.add_group(group)
            for host in hosts:
                inventory.add_host(host, group=group)
        return inventory

    def _account(self, api: OpenRouter) -> Catalog:
        """Whether the account can be worked with at all, and its catalog."""
        try:
            if not api.current_key().get("is_management_key"):
                raise FleetError(
                    "the key is an ordinary API key, which cannot manage keys",
                    MANAGEMENT_KEY[0],
                    "make a management key at https://openrouter.ai/settings/management-keys",
                )
            left = api.credits_left()
            if left <= 0:
                raise FleetError(
                    f"the account has no credit left ({left:.2f} USD), every client would fail",
                    "OpenRouter",
                    _TODO[402],
                )
            return Catalog(api.catalog())
        except ApiError as error:
            error.todo = error.todo or _TODO.get(error.status, "")
            raise
