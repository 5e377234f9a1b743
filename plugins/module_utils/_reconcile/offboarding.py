# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What a record says of a client's departure: what comes next, and what a person reads of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Offboarding,
    Record,
    parse,
    stamp,
)


def needs_export(record: Record) -> bool:
    """Whether an absent client has data that nothing was decided about yet."""
    leaving = record.offboarding
    return bool(record.slot) and not (leaving and leaving.exported)


def is_due(record: Record, at: datetime.datetime) -> bool:
    """Whether the client's volumes have been held for long enough."""
    leaving = record.offboarding
    if record.state != "absent" or leaving is None or leaving.volumes_removed:
        return False
    return bool(leaving.held_until) and parse(leaving.held_until) <= at


def held_until(removed: str, days: float) -> str:
    return stamp(parse(removed) + datetime.timedelta(days=days))


def told(record: Record) -> list[str]:
    """The dated record, a line a step."""
    leaving = record.offboarding
    if leaving is None:
        return []
    export = f"data exported: {leaving.archive}, {leaving.size} bytes, SHA-256 {leaving.sha256}"
    if leaving.without:
        export = f"no export: {leaving.without}"
    names = ", ".join(leaving.volumes) or "none"
    steps = [
        (leaving.begun, "offboarding began"),
        (leaving.exported, export),
        (leaving.refused, "key disabled, and a call with it refused"),
        (leaving.keys_deleted, "key and guardrail deleted"),
        (leaving.removed, f"containers and files removed; volumes left: {names}"),
        (leaving.volumes_removed, f"volumes removed: {names}"),
    ]
    lines = [f"{at}  {text}" for at, text in steps if at]
    if leaving.held_until and not leaving.volumes_removed:
        lines.append(f"{leaving.held_until}  until then the volumes are held; site removes them")
    return lines


def begun(record: Record, at: datetime.datetime) -> Offboarding:
    """The client's departure as far as it is, from the beginning if nothing was written down."""
    return record.offboarding or Offboarding(stamp(at))


def unclaimed(
    volumes: list[str], record: Record, clients: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Those of a client's volumes that no other client's file names by now.

    :param clients: the fleet's, by name
    """
    claimed = {
        client["volume"]
        for name, client in clients.items()
        if name != record.client
        and client["server"] == record.server
        and client["state"] != "absent"
    }
    return [volume for volume in volumes if volume not in claimed]
