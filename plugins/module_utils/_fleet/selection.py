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
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import DUE, did_you_mean

Clients = Mapping[str, Mapping[str, Any]]

#: Groups of the inventory that stand for clients, not for their servers.
CLIENT_GROUPS = ("client_", "plan_", "ring_")


def words_of(selection: str | Iterable[str]) -> list[str]:
    """The words of ``fleet_select``."""
    words = re.split(r"[,\s]+", selection) if isinstance(selection, str) else selection
    return [word for word in words if word]


def select(
    clients: Clients,
    selection: str | Iterable[str],
    broken: Collection[str] = (),
    due: Callable[[], Collection[str]] | None = None,
) -> set[str]:
    """The clients that ``fleet_select`` names: clients, ``plan_NAME``, ``ring_NAME``, servers, or
    ``due``.

    :param broken: clients that cannot be worked on; they may be named, and are not in the answer
    :param due: gives those that need a run because of the time; asked only if that word is there.
        None where nobody can say that
    :raises FleetError: a word that names nothing, or two different things
    """
    groups = _groups(clients)
    servers = _servers(clients)
    found: set[str] = set()
    for name in words_of(selection):
        meanings = [group for group in (f"client_{name}", name) if group in groups]
        members = [groups[group] for group in meanings]
        if name in servers:
            meanings.append(f"server {name}")
            members.append(servers[name])
        if name == DUE and due is not None:
            meanings.append("who is due")
            members.append(set(due()))
        if any(other != members[0] for other in members):
            raise FleetError(
                f"{name} may mean {' or '.join(meanings)}",
                "fleet_select",
                "say client_NAME for a client, and use --limit for a server",
            )
        if members:
            found |= members[0]
        elif name.removeprefix("client_") not in broken:
            shared = [group for group in groups if not group.startswith("client_")]
            known = [*clients, *broken, *shared, *servers]
            raise FleetError(
                f"{name} names no client, no server, and no plan or ring that a client has",
                "fleet_select",
                did_you_mean(name, known) or "name clients, plan_NAME, ring_NAME or servers",
            )
    return found


def limit(
    clients: Clients, terms: Iterable[str], hosts_of: Callable[[str], Iterable[str]]
) -> set[str]:
    """The clients that a ``--limit`` leaves in.

    A term means the clients whose client, plan or ring group it matches, and all clients of the
    hosts that it matches in any other way.

    :param terms: the pattern, split at commas and colons
    :param hosts_of: the hosts that a term matches when there are no groups that stand for clients
    """
    groups = _groups(clients)
    chosen: set[str] | None = None
    # Ansible unites plain terms first, then intersects, then takes away, in whatever order given.
    ordered = sorted(terms, key=lambda term: {"&": 1, "!": 2}.get(term[:1], 0))
    for term in ordered:
        sign, word = (term[0], term[1:]) if term[:1] in ("&", "!") else ("", term)
        hosts = set(hosts_of(word))
        members = {name for name, client in clients.items() if client["server"] in hosts}
        members.update(*(groups[group] for group in groups if _matches(word, group)))
        if sign == "!":
            chosen = (set(clients) if chosen is None else chosen) - members
        elif sign == "&":
            chosen = (set(clients) if chosen is None else chosen) & members
        else:
            chosen = (chosen or set()) | members
    return set(clients) if chosen is None else chosen


def _matches(word: str, group: str) -> bool:
    pattern = word[1:] if word.startswith("~") else fnmatch.translate(word)
    return re.match(pattern, group) is not None


def _groups(clients: Clients) -> dict[str, set[str]]:
    """The groups that stand for clients, as the inventory has them."""
    groups: dict[str, set[str]] = {f"client_{name}": {name} for name in clients}
    for name, client in clients.items():
        for group in shared_groups(client):
            groups.setdefault(group, set()).add(name)
    return groups


def shared_groups(client: Mapping[str, Any]) -> list[str]:
    """The groups in which a client is with others of its kind."""
    return [f"{kind}_{client[kind]}" for kind in ("plan", "ring") if client[kind]]


def _servers(clients: Clients) -> dict[str, set[str]]:
    servers: dict[str, set[str]] = {}
    for name, client in clients.items():
        servers.setdefault(client["server"], set()).add(name)
    return servers
