# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Where the locks of a run are, and what to say of somebody else's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.lock import Owner
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.locks import perform
from ansible_collections.mai.fleet.plugins.plugin_utils._owner import alive
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import shown

#: What stands for the lock of the fleet at OpenRouter where servers are named.
OPENROUTER = "openrouter"

#: That of servers, where no fleet.yml says another.
DIRECTORY = "/srv/mai"

#: Does to a lock what the options of M(mai.fleet.instance_lock) say, and gives its answer.
Perform = Callable[..., dict[str, Any]]


class LockStage(Stage):
    """An action on one lock: that of this server, or with ``place`` that of OpenRouter.

    The latter is for the whole fleet, and may lie on another server, to which the task is then
    delegated.
    """

    @property
    def host(self) -> str:
        return str(self._task.delegate_to or super().host)

    @property
    def name(self) -> str:
        """What the lock is called where locks are named to be broken."""
        return OPENROUTER if self.option("place") == OPENROUTER else self.host

    @property
    def place(self) -> str:
        """The same for a reader."""
        if self.option("place") != OPENROUTER:
            return f"server {self.host}"
        lock = self.config["lock"]
        where = f"on server {lock['server']}" if "server" in lock else f"in {lock['directory']}"
        return f"OpenRouter, with its lock {where}"

    def perform(self, **options: Any) -> dict[str, Any]:
        """Do to the lock what the options of M(mai.fleet.instance_lock) say.

        :raises FleetError: it cannot be read or written
        """
        if self.option("place") != OPENROUTER:
            return self.call("instance_lock", {"path": self._path("lock"), **options})
        file = f"{self.config['name']}.lock"
        if "server" in self.config["lock"]:
            try:
                return self.call("instance_lock", {"path": self._path(file), **options})
            except FleetError as error:
                raise FleetError(
                    f"nobody can see there who changes the fleet at OpenRouter: {error.what}",
                    f"{shown(self.config['file'])}: lock.{error.where}",
                    "bring it back, or name another server here, for all operators",
                ) from error
        directory = self.config["lock"]["directory"]
        if not os.path.isdir(directory):
            raise FleetError(
                "no such directory, in which runs see the lock of each other",
                f"{shown(self.config['file'])}: lock.directory",
                f"mount or make {directory}",
            )
        return perform(
            Path(directory, f".{file}"),
            options["state"],
            options.get("owner") or {},
            options.get("run"),
            self.check,
        )

    def _path(self, name: str) -> str:
        # Hosts become servers without a fleet, too.
        config = self._vars.get("fleet_config", {})
        return f"{config.get('directory', DIRECTORY)}/.{name}"


def take(perform: Perform, me: Owner) -> tuple[Owner | None, Owner | None]:
    """Who else has the lock, None when it is ours; and whose it was, if that run was dead."""
    answer = perform(state="taken", owner=me)
    if answer["held"] or alive(answer["lock"]) is not False:
        return (None if answer["held"] else answer["lock"]), None
    dead = answer["lock"]
    answer = perform(state="taken", owner=me, run=dead["run"])
    return (None, dead) if answer["held"] else (answer["lock"], None)


def held(owner: Mapping[str, Any], place: str, name: str) -> FleetError:
    """That somebody else has a lock.

    :param name: what the lock is called when it is broken
    """
    return FleetError(
        f"locked by {said(owner)}",
        place,
        "wait until that run has ended; if it has died, break its lock: "
        f"ansible-playbook mai.fleet.unlock -e fleet_break={name}",
    )


def said(owner: Mapping[str, Any]) -> str:
    """An owner in words: who, since when, doing what."""
    who = owner["who"] or "nobody knows whom (the file is not understood)"
    doing = f", for {owner['doing']}" if owner["doing"] else ""
    return f"{who} since {owner['since']} ({_age(owner['age'])}){doing}"


def lost(owner: Mapping[str, Any]) -> str:
    """What became of a lock that should have been ours."""
    if owner.get("broken_by"):
        how = f"was broken by {owner['broken_by']} at {owner['broken_at']}"
    else:
        how = f"is {owner['who']}'s since {owner['since']}"
    return (
        f"the lock {how}, while this run was at work: what both did may be mixed. Run"
        " mai.fleet.site again when nobody else does"
    )


def _age(seconds: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
