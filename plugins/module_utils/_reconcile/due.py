# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What time alone makes necessary, without anybody having changed anything."""

from __future__ import annotations

import datetime
from collections.abc import Collection

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.caps import counts
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.expiry import Lifetime, expired
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Former,
    Record,
    parse,
)


def reasons(
    record: Record,
    lifetime: Lifetime | None,
    keys: Collection[Key],
    grace: float,
    reset: str,
    at: datetime.datetime,
) -> list[str]:
    """Why a client needs a run; empty when it does not.

    :param lifetime: of the client's key; None when it does not matter how long it lives
    :param keys: all of the client's at OpenRouter
    :param grace: seconds between the disabling of a former key and its deletion
    :param reset: when the client's cap is full again
    """
    found = []
    if record.remainder and record.remainder.until and parse(record.remainder.until) <= at:
        found.append("its cap is full again")
    if record.attempts:
        found.append("a run ended while it made a key")
    key = next((key for key in keys if key.hash == record.key_hash), None)
    if key and lifetime:
        found += _of_key(key, lifetime, at)
    living = {key.hash for key in keys}
    found += [
        reason for former in record.former if (reason := _of(former, living, grace, reset, at))
    ]
    return found


def _of_key(key: Key, lifetime: Lifetime, at: datetime.datetime) -> list[str]:
    try:
        if expired(key, at):
            return [f"its key ended on {key.expires_at}"]
        if lifetime.renews(key, at):
            return ["its key is to be replaced by its age"]
    except FleetError as error:
        # The run says it again, of this client alone.
        return [str(error)]
    return []


def _of(
    former: Former, living: Collection[str], grace: float, reset: str, at: datetime.datetime
) -> str:
    if not former.since:
        return "a key that was replaced is not disabled"
    is_due = former.hash in living if former.deleted else former.is_deletable(grace, at)
    if is_due:
        return "a former key is past its grace"
    if former.deleted and not counts(former, reset, at):
        return "what a former key spent counts no more"
    return ""
