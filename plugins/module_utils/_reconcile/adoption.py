# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Which of the instances that were found become clients, under which names, and why others do not.

A key at OpenRouter is known by the SHA-256 of its secret. So an instance and a key belong together
when the instance holds a secret of that hash, whatever names people gave to either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import (
    NAME_RULE,
    KeyName,
    is_name,
    name_of,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of

#: Names that say nothing of whose an instance is.
_GENERIC = {"open_webui", "openwebui", "webui", "chat", "app", "ai", "open", "docker", "root", ""}
_NOISE = re.compile(r"(^|[_-])(open[_-]?webui|webui|app|chat|[0-9]+)(?=$|[_-])", re.IGNORECASE)
_LENGTH = 31

Row = Mapping[str, Any]


class Kind(str, Enum):
    """:cvar OURS: made by this fleet, whose inventory is lost

    :cvar FOREIGN: made by somebody else
    :cvar ADOPTED: adopted by an earlier run; its container is not the client's own one yet
    """

    OURS = "of this fleet"
    FOREIGN = "made by hand"
    ADOPTED = "adopted"


@dataclass(frozen=True)
class Match:
    """An instance that becomes a client, or why it cannot.

    :ivar key_hash: of the key at OpenRouter that it uses
    :ivar obstacle: why nothing is written of it
    """

    server: str
    container: str
    kind: Kind
    client: str = ""
    key_hash: str = ""
    obstacle: FleetError | None = None


@dataclass(frozen=True)
class Account:
    """:ivar keys: all keys of the account by hash

    :ivar url: of its API
    """

    keys: Mapping[str, Key]
    url: str


@dataclass(frozen=True)
class Known:
    """What the inventory knows already.

    :ivar names: what the operator calls instances, by container or SERVER/CONTAINER
    """

    fleet: str
    clients: Mapping[str, Row]
    records: Mapping[str, Record]
    names: Mapping[str, str]


def match(found: Mapping[str, Mapping[str, Row]], account: Account, known: Known) -> list[Match]:
    """:param found: instances by server and container"""
    places = [
        (server, name, found[server][name])
        for server in sorted(found)
        for name in sorted(found[server])
    ]
    keys = {(server, name): _key(row, account) for server, name, row in places}
    matches: list[Match] = []
    taken = set(known.clients)
    for server, name, row in places:
        key_hash = keys[server, name]
        kind = _kind(server, row, known)
        if kind is None or (kind is Kind.FOREIGN and not key_hash and not _asks(row, account)):
            continue
        sharing = [
            f"{other_server}/{other}"
            for (other_server, other), held in keys.items()
            if held and held == key_hash and (other_server, other) != (server, name)
        ]
        try:
            if kind is Kind.ADOPTED:
                client = _of_volume(server, row, known)
            else:
                _refuse(row, key_hash, sharing, account, known)
                client = _client(server, row, kind, account.keys[key_hash], known, taken)
                taken.add(client)
            matches.append(Match(server, name, kind, client, key_hash))
        except FleetError as error:
            error.where = error.where or f"server {server}, container {name}"
            matches.append(Match(server, name, kind, "", key_hash, error))
    return matches


def candidates(row: Row, key: str) -> Iterable[str]:
    """What an instance may be called after, best first."""
    yield str(row["webui_name"])
    yield str(row["organization_name"])
    yield str(row["project"])
    yield str(row["container"])
    host = re.sub(r"^https?://", "", str(row["webui_url"])).partition("/")[0].partition(":")[0]
    yield from (part for part in host.split(".")[:-1] if not host.replace(".", "").isdigit())
    yield key


def derive(row: Row, key: str, taken: set[str]) -> str:
    """A name for the client; one that is taken gets a number.

    :raises FleetError: nothing that it is called after gives a name
    """
    for text in candidates(row, key):
        name = name_of(_NOISE.sub(" ", text))
        if name in _GENERIC or not is_name(name):
            continue
        if name not in taken:
            return name
        for number in range(2, 1000):
            numbered = f"{name[: _LENGTH - 4]}_{number}"
            if numbered not in taken:
                return numbered
    raise FleetError(
        "nothing that it is called gives a client's name",
        todo=_name_it(row),
    )


def _name_it(row: Row) -> str:
    return f'name it: -e \'{{"fleet_adopt_names": {{"{row["container"]}": "NAME"}}}}\''


def _kind(server: str, row: Row, known: Known) -> Kind | None:
    """None for what is no matter of this run's."""
    if row.get("failed"):
        return Kind.FOREIGN
    if row["fleet"]:
        ours = row["fleet"] == known.fleet and row["client"] not in known.clients
        return Kind.OURS if ours else None
    if _of_volume(server, row, known):
        return Kind.ADOPTED
    return Kind.FOREIGN


def _of_volume(server: str, row: Row, known: Known) -> str:
    """The client whose file names the volume of this instance."""
    for name, client in known.clients.items():
        if row["volume"] and (client["server"], client["volume"]) == (server, row["volume"]):
            return name
    return ""


def _key(row: Row, account: Account) -> str:
    """The hash of the key of this account that the instance uses, empty when it uses none."""
    if row.get("failed"):
        return ""
    connections = sorted(row["connections"], key=lambda one: not _leads_to(one, account.url))
    hashes = [*(one["hash"] for one in connections), *row["key_hashes"].values()]
    return next((key_hash for key_hash in hashes if key_hash in account.keys), "")


def _leads_to(connection: Row, url: str) -> bool:
    return bool(connection["url"].rstrip("/") == url.rstrip("/"))


def _asks(row: Row, account: Account) -> bool:
    """Whether the instance uses OpenRouter at all, as far as that is known."""
    return bool(row.get("failed")) or any(
        one["hash"] and _leads_to(one, account.url) for one in row["connections"]
    )


def _refuse(row: Row, key_hash: str, sharing: list[str], account: Account, known: Known) -> None:
    """:raises FleetError: the instance cannot become a client as it is"""
    if row.get("failed"):
        raise FleetError(**row["failure"])
    if not key_hash:
        used = [one["fingerprint"] for one in row["connections"] if _leads_to(one, account.url)]
        raise FleetError(
            f"the key {', '.join(filter(None, used)) or '(none)'} that it uses is not one of this "
            "account's default workspace",
            todo="is it another organization's? Give the instance a key of this account, or leave "
            "it as it is",
        )
    if sharing:
        raise FleetError(
            f"it shares the key {fingerprint_of(key_hash)} with {', '.join(sharing)}",
            todo="give one of them a key of its own, because a cap and an allowlist are a key's",
        )
    key = account.keys[key_hash]
    mark = KeyName.parse(key.name)
    if mark is not None and mark.fleet != known.fleet:
        raise FleetError(
            f"its key {key.name} belongs to the fleet {mark.fleet}",
            todo="name that fleet in fleet.yml, or give the instance another key",
        )
    if mark is not None and mark.client in known.clients:
        raise FleetError(
            f"its key {key.name} is that of the client {mark.client}",
            todo="give the instance a key of its own; keys of two clients must never be mixed",
        )
    if not row["volume"]:
        raise FleetError(
            f"its data lies in the directory {row['source']}, not in a volume",
            todo="copy it into a volume of Docker's and start the instance with that",
        )
    if not row["version"]:
        raise FleetError(
            f"it does not say its version: {row['app']}",
            todo="start it, with its port published on this server, and run again",
        )
    if not row["admin_email"]:
        raise FleetError("nobody is its administrator", todo="claim it, and run again")


def _client(server: str, row: Row, kind: Kind, key: Key, known: Known, taken: set[str]) -> str:
    """:raises FleetError: there is no fitting name"""
    mark = KeyName.parse(key.name)
    if kind is Kind.OURS:
        name = str(row["client"])
        if mark is None or mark.client != name:
            raise FleetError(
                f"it is {name}'s, and its key is {key.name}",
                todo="put the client's own key back into its connection, and run again",
            )
        return name
    if mark is not None:
        # An earlier run was cut off after it had renamed the key.
        record = known.records.get(mark.client)
        if record is None or record.key_hash != key.hash:
            raise FleetError(
                f"its key bears the name of the client {mark.client}, {key.name}",
                todo="give the instance a key of its own",
            )
        return mark.client
    wanted = known.names.get(f"{server}/{row['container']}") or known.names.get(row["container"])
    if not wanted:
        return derive(row, key.name, taken)
    if not is_name(wanted):
        raise FleetError(f"{wanted} cannot be a client's name", "fleet_adopt_names", NAME_RULE)
    if wanted in taken:
        raise FleetError(f"another client is called {wanted}", "fleet_adopt_names", "choose again")
    return wanted
