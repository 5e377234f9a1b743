# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What can be done to a lock, on a server and in a directory of the controller alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.lock import Lock, Owner
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError

STATES = ("seen", "taken", "released", "broken")


def perform(path: Path, state: str, owner: Owner, run: str | None, check: bool) -> dict[str, Any]:
    """Do it, and say who had the lock before, and whether the owner has it now.

    :param state: one of :data:`STATES`
    :param owner: who does it; its ``run`` says whether a lock is its own
    :param run: the run whose lock is taken over or broken
    :raises FleetError: the lock cannot be read or written
    """
    lock = Lock(path)
    before = lock.owner()
    now, lost = before, None
    if state == "taken" and (before is None or before["run"] in (owner["run"], run)):
        now = (None if check else lock.take(owner, run)) or owner
    elif state == "released":
        now = None if before is not None and before["run"] == owner["run"] else before
        if not check:
            lost = lock.release(owner["run"])
    elif state == "broken":
        now = _broken(lock, before, owner["who"], run, check)
    held = now is not None and now["run"] == owner.get("run")
    shown = now if now and not held else before
    return {
        "changed": (before and before["run"]) != (now and now["run"]),
        "held": held,
        "lock": {**shown, "age": lock.age(shown)} if shown else None,
        "lost": lost,
    }


def _broken(
    lock: Lock, before: Owner | None, who: str, run: str | None, check: bool
) -> Owner | None:
    """Who has the lock then.

    :raises FleetError: it is another run's than the one that was meant
    """
    if before is not None and before["run"] != run:
        raise FleetError(
            f"the lock is run {before['run']}'s, not run {run}'s", "", "look who has it now"
        )
    if before is not None and run is not None and not check:
        lock.break_(run, who)
        return lock.owner()
    return None
