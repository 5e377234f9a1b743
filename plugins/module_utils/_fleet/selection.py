# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Which clients a run is about.

Ansible's ``--limit`` selects hosts, and a server carries many clients: ``--limit client_acme``
must not touch acme's neighbours. So the limit is read again here, over clients.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import did_you_mean

Clients = Mapping[str, Mapping[str, Any]]


def select(clients: Clients, words: str | Iterable[str]) -> set[str]:
    """The clients that ``fleet_select`` names: clients, ``plan_NAME`` or servers.

    :raises FleetError: a word that names nothing
    """
    names = re.split(r"[,\s]+", words) if isinstance(words, str) else list(words)
    groups = _groups(clients)
    found: set[str] = set()
    for name in filter(None, names):
        word = name if name in groups else f"client_{name}"
        if word not in groups:
            plain = [group.removeprefix("client_") for group in groups]
            raise FleetError(
                f"{name} names no client, plan or server of this fleet",
                "fleet_select",
                did_you_mean(name, plain) or "name clients, plan_NAME or servers",
            )
        found |= groups[word]
    return found


def limit(
    clients: Clients, terms: Iterable[str], hosts_of: Callable[[str], Iterable[str]]
) -> set[str]:
    """The clients that a ``--limit`` leaves in.

    A term that names client or plan groups means those clients; any other term means all clients
    of the hosts that it matches.

    :param terms: the pattern, split at commas and colons
    :param hosts_of: the inventory's hosts for a term
    """
    groups = _groups(clients)
    chosen: set[str] | None = None
    # Ansible unites plain terms first, then intersects, then takes away, in whatever order given.
    ordered = sorted(terms, key=lambda term: {"&": 1, "!": 2}.get(term[:1], 0))
    for term in ordered:
        sign, word = (term[0], term[1:]) if term[:1] in ("&", "!") else ("", term)
        members = _members(clients, groups, word, hosts_of)
        if sign == "!":
            chosen = (set(clients) if chosen is None else chosen) - members
        elif sign == "&":
            chosen = (set(clients) if chosen is None else chosen) & members
        else:
            chosen = (chosen or set()) | members
    return set(clients) if chosen is None else chosen


def _members(
    clients: Clients,
    groups: Mapping[str, set[str]],
    word: str,
    hosts_of: Callable[[str], Iterable[str]],
) -> set[str]:
    pattern = word[1:] if word.startswith("~") else fnmatch.translate(word)
    named = [
        members
        for group, members in groups.items()
        if group.startswith(("client_", "plan_")) and re.match(pattern, group)
    ]
    if named and word not in ("all", "*"):
        return set().union(*named)
    hosts = set(hosts_of(word))
    return {name for name, client in clients.items() if client["server"] in hosts}


def _groups(clients: Clients) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for name, client in clients.items():
        groups.setdefault(f"client_{name}", set()).add(name)
        groups.setdefault(client["server"], set()).add(name)
        if client["plan"]:
            groups.setdefault(f"plan_{client['plan']}", set()).add(name)
    return groups
