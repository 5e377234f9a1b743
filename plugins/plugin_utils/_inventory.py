# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""From what the inventory says to where every selected client starts."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog, in_effect
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import external_user
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store

#: Addresses in a client's subnet: the network, the gateway, the instance, room to grow.
_SUBNET = 28

_LAST_PORT = 65535

Client = Mapping[str, Any]


def refuse(config: Mapping[str, Any], errors: Iterable[Mapping[str, str]]) -> None:
    """:raises FleetError: a mistake that concerns the fleet as a whole"""
    whole = [dict(error) for error in errors if not error["client"]]
    if not whole:
        return
    lines = "".join(f"\n  {describe(error)}" for error in whole)
    raise FleetError(
        f"nothing was done, because of{lines}", f"fleet {config.get('name', '')}".rstrip()
    )


class Census:
    """All clients of the fleet and what is remembered of them.

    :param clients: those that can be worked on
    :param broken: those with a mistake in their file
    :raises FleetError: two clients want one port of one server
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        clients: Mapping[str, Client],
        broken: set[str],
        store: Store,
    ) -> None:
        self._config = config
        self._clients = clients
        self._records: dict[str, Record] = {}
        self._damaged: dict[str, FleetError] = {}
        for name in store.records():
            try:
                record = store.record(name)
            except FleetError as error:
                self._damaged[name] = error
                continue
            if record is not None:
                self._records[name] = record
        self._listed = set(clients) | broken
        self._slots = self._free_slots(self._taken_ports())

    def unlisted(self) -> list[str]:
        """Clients that were served once and whose file is gone."""
        return sorted(
            name
            for name, record in self._records.items()
            if name not in self._listed and record.state != "absent"
        )

    def record(self, name: str) -> Record:
        """The client's record, with what is assigned once assigned.

        :raises FleetError: the client seems to have moved or to have been renamed
        """
        if name in self._damaged:
            raise self._damaged[name]
        client = self._clients[name]
        old = self._records.get(name)
        if old is None or old.state == "absent":
            self._refuse_rename(name, client)
        else:
            self._refuse_move(client, old)
        base = old or Record(
            client=name,
            server=client["server"],
            organization=client["organization"],
            external_user=external_user(self._config["name"], name),
        )
        record = dataclasses.replace(
            base,
            server=client["server"],
            organization=client["organization"],
            domain=client["domain"] or "",
            state=client["state"],
            # Whoever comes back finds what was held.
            offboarding=base.offboarding if client["state"] == "absent" else None,
        )
        if self._moved(name):
            record = dataclasses.replace(record, slot=0, port=0)
        if client["instance"] == "none" or client["state"] == "absent":
            return record
        slot = record.slot or self._slot(name)
        port = client["port"] or record.port or self._config["first_port"] + slot
        if port > _LAST_PORT:
            raise FleetError(
                f"there is no port left for it, {port} would be the next",
                f"{self._config['file']}: first_port",
                "give the fleet a lower one, or the client a port",
            )
        return dataclasses.replace(record, slot=slot, port=port)

    def subnet(self, record: Record) -> str:
        network = ipaddress.IPv4Network(self._config["subnets"])
        size = 2 ** (32 - _SUBNET)
        first = int(network.network_address) + record.slot * size
        if first + size - 1 > int(network.broadcast_address):
            raise FleetError(
                f"the network {network} has no subnet left for this client",
                f"{self._config['file']}: subnets",
                "give the fleet a larger network; clients keep the subnets that they have",
            )
        return f"{ipaddress.IPv4Address(first)}/{_SUBNET}"

    def _refuse_move(self, client: Client, record: Record) -> None:
        if record.server != client["server"]:
            raise FleetError(
                f"the server changed from {record.server} to {client['server']}, and the client's "
                "data would not follow",
                f"{client['file']}: server",
                f"set it back to {record.server}; to move the client: state: absent there (its "
                "volume is kept), copy the volume, then state: present here",
            )

    def _refuse_rename(self, name: str, client: Client) -> None:
        for other in self.unlisted():
            record = self._records[other]
            same_domain = client["domain"] and client["domain"] == record.domain
            same_company = (client["organization"], client["server"]) == (
                record.organization,
                record.server,
            )
            if same_domain or same_company:
                raise FleetError(
                    f"this looks like client {other} under another name, and its key, instance and "
                    "data would not follow",
                    client["file"],
                    f"rename the file back to {other}.yml; to start anew, offboard {other} first "
                    "(state: absent)",
                )

    def _moved(self, name: str) -> bool:
        """Whether what was assigned on another server is void. It is refused but for the absent."""
        record = self._records.get(name)
        return record is not None and record.server != self._clients[name]["server"]

    def _taken_ports(self) -> set[tuple[str, int]]:
        taken: dict[tuple[str, int], str] = {
            (record.server, record.port): name
            for name, record in self._records.items()
            if record.port and record.state != "absent" and name not in self._clients
        }
        for name, client in self._clients.items():
            record = self._records.get(name)
            port = client["port"] or (record.port if record and not self._moved(name) else 0)
            if not port or client["state"] == "absent" or client["instance"] == "none":
                continue
            other = taken.setdefault((client["server"], port), name)
            if other != name:
                raise FleetError(
                    f"port {port} of {client['server']} is {other}'s and {name}'s",
                    f"{client['file']}: port",
                    f"give {name} another port; {other} was first",
                )
        return set(taken)

    def _free_slots(self, taken: set[tuple[str, int]]) -> dict[str, int]:
        """A slot for every client without one, whatever becomes of the others in this run.

        Every stage works this out anew and has to come to the same answer. Slot 0 is nobody's, so
        that 0 can mean that none was assigned. The absent keep theirs.
        """
        used: dict[str, set[int]] = {}
        for record in self._records.values():
            used.setdefault(record.server, set()).add(record.slot)
        slots: dict[str, int] = {}
        for name in sorted(self._clients):
            client, own = self._clients[name], self._records.get(name)
            if client["instance"] == "none" or client["state"] == "absent":
                continue
            if own and own.slot and not self._moved(name):
                continue
            here = used.setdefault(client["server"], set())
            slot = 1
            while slot in here or (client["server"], self._config["first_port"] + slot) in taken:
                slot += 1
            here.add(slot)
            slots[name] = slot
        return slots

    def _slot(self, name: str) -> int:
        if self._damaged:
            other, error = min(self._damaged.items())
            raise FleetError(
                f"no port can be assigned before it is known which ones are {other}'s",
                error.where,
                error.todo,
            )
        return self._slots[name]


def start(
    name: str, client: Client, census: Census, catalog: Catalog
) -> tuple[dict[str, Any], Record | None]:
    """The client's first row of the run. A mistake in it is in the row, not raised."""
    row: dict[str, Any] = {
        "server": client["server"],
        "state": client["state"],
        "instance": client["instance"],
        "changed": [],
        "warnings": [],
        "failure": None,
    }
    try:
        record = assign(name, client, census, row)
        if client["state"] != "absent":
            _allowlist(client, record, catalog, row)
    except FleetError as error:
        row["failure"] = {"stage": "preflight", **error.failure()}
        return row, None
    return row, record


def assign(name: str, client: Client, census: Census, row: dict[str, Any]) -> Record:
    """The client's record. What is assigned to it once is in its row then.

    :raises FleetError: the client seems to have moved or to have been renamed
    """
    record = census.record(name)
    row["port"] = record.port
    row["subnet"] = census.subnet(record) if client["instance"] == "webui" else ""
    return record


def _allowlist(client: Client, record: Record, catalog: Catalog, row: dict[str, Any]) -> None:
    allowed = in_effect(client["models"], record.models, catalog)
    if allowed.unknown:
        lines = [
            f"{model} (near: {', '.join(near) or 'nothing'})"
            for model, near in allowed.unknown.items()
        ]
        raise FleetError(
            f"OpenRouter has no model {'; '.join(lines)}",
            f"{client['file']}: models",
            "name models of OpenRouter's catalog, in the client's file or in its plan",
        )
    chat = catalog.cheapest(among=allowed.models)
    fence = catalog.cheapest(without=allowed.slugs)
    row.update(
        models=allowed.models,
        slugs=allowed.slugs,
        warnings=[*row["warnings"], *allowed.warnings],
        chat_model=chat.id if chat else None,
        fence_model=fence.id if fence else None,
        cost=float(sum(model.cost(20, 16) or 0 for model in (chat, fence) if model)),
    )


def digest(client: Client, row: Mapping[str, Any], record: Record) -> str:
    """What a client's proof is a proof of. Another digest has to be proven anew."""
    subject = [dict(client), row.get("slugs"), record.key_hash, record.port]
    text = json.dumps(subject, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
