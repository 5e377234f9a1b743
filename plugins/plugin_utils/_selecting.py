# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Which clients a run is about, as the command line says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import DUE
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import (
    CLIENT_GROUPS,
    limit,
    select,
    words_of,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage


class Selecting(Stage):
    """An action that a run begins with."""

    def selection(
        self,
        fleet: dict[str, dict[str, Any]],
        errors: list[dict[str, str]],
        words: Any,
        named: bool = False,
        due: Callable[[], set[str]] | None = None,
    ) -> set[str]:
        """The clients of the run. Those with a mistake in their file are not among them.

        :param words: what ``fleet_select`` says
        :param named: refuse a run that says of nobody that it is about them
        :param due: gives who needs a run because of the time, which may be nobody
        """
        chosen = set(fleet)
        pattern = self._vars.get("ansible_limit")
        if named and not words and pattern is None:
            raise FleetError(
                "this run says of nobody that it is about them",
                "the command line",
                "name clients with -e fleet_select=..., or everybody with --limit fleet",
            )
        if words:
            chosen &= select(fleet, words, {error["client"] for error in errors}, due)
        if pattern:
            chosen &= self._limited(fleet, pattern)
        if not chosen and DUE not in words_of(words or ""):
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
