# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The volumes that clients left on one server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.mai.fleet.plugins.module_utils._api.docker import Docker, Volume, silent
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row


@dataclass(frozen=True)
class Wanted:
    """:ivar named: volumes that are the client's, whatever project they are of

    :ivar volumes: those that may be removed; None for all of the client's
    """

    name: str
    present: bool
    named: list[str]
    volumes: list[str] | None = None


def reconcile(docker_host: str, clients: Iterable[Wanted], check: bool) -> dict[str, Row]:
    """Remove the volumes of clients that are to have none, and list those of the others.

    :raises FleetError: Docker does not answer
    """
    docker = Docker(docker_host)
    try:
        volumes = docker.volumes()
    except Unreachable as error:
        raise silent(docker_host, error) from error
    rows: dict[str, Row] = {}
    for client in clients:
        found = sorted(volume.name for volume in volumes if _is_of(client, volume))
        rows[client.name] = _one(docker, client, found, check)
    return rows


def _is_of(client: Wanted, volume: Volume) -> bool:
    if volume.name in client.named:
        return True
    # One that was restored by hand is of no project, and an instance would take it all the same.
    restored = volume.name == f"{client.name}_data" and not volume.project
    return restored or (volume.project == client.name and volume.name.startswith(f"{client.name}_"))


def _one(docker: Docker, client: Wanted, found: list[str], check: bool) -> Row:
    view = {"volumes": found}
    row = Row(before=view, after=view)
    if client.present:
        return row
    going = found if client.volumes is None else [name for name in found if name in client.volumes]
    try:
        # Before the first of them goes.
        for name in going:
            _refuse_used(docker, name)
        for name in going if not check else []:
            docker.remove_volume(name)
    except FleetError as error:
        row.error = error
        return row
    row.after = {"volumes": [name for name in found if name not in going]}
    row.changed = bool(going)
    if row.changed:
        header = f"volumes of {client.name}"
        before, after = (
            "".join(f"{name}\n" for name in side["volumes"]) for side in (row.before, row.after)
        )
        row.diff = [
            {"before_header": header, "after_header": header, "before": before, "after": after}
        ]
    return row


def _refuse_used(docker: Docker, name: str) -> None:
    users = docker.users(name)
    if users:
        raise FleetError(
            f"it is in use by {', '.join(users)}",
            f"volume {name}",
            "stop and remove what uses it, and run again; or set state: present again",
        )
