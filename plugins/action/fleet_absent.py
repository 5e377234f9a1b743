# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import did_you_mean
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import SCHEMA
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import words_of
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import refuse
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import parse, shown

_STATE = re.compile(r"^state:[ \t]*[^\s#]+", re.MULTILINE)


class ActionModule(Stage):
    STAGE = "absent"
    OPTIONS = ("select",)

    def stage(self) -> dict[str, Any]:
        refuse(self.config, self._vars["fleet_errors"])
        words = words_of(self.option("select") or "")
        names = sorted({word.removeprefix("client_") for word in words})
        if not names:
            raise FleetError(
                "this run says of nobody that it is about them",
                "the command line",
                "name each client that goes: -e fleet_select=NAME",
            )
        fleet = self.fleet()
        # All of them are looked at before the first file is written.
        texts = {name: self._text(name, fleet) for name in names}
        changed = {name: pair for name, pair in texts.items() if pair[0] != pair[1]}
        if changed:
            # What keeps the run from doing it would leave it to another one that nobody thinks of.
            self.store().verify()
            self.managed()
        for name, (_before, after) in changed.items() if not self.check else []:
            path = self._path(name)
            mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
            write_atomically(path, after.encode("utf-8"), mode, 0o755)
        return {
            "changed": bool(changed),
            # Without a file, a client is in the inventory of no run but the next.
            "clients": [name for name in names if name in fleet or not self.check],
            "diff": [
                {
                    "before": before,
                    "after": after,
                    "before_header": self._path(name),
                    "after_header": self._path(name),
                }
                for name, (before, after) in changed.items()
            ],
        }

    def _path(self, name: str) -> str:
        return os.path.join(self.config["clients"], f"{name}.yml")

    def _text(self, name: str, fleet: dict[str, Any]) -> tuple[str, str]:
        """What the client's file says, and what it is to say.

        :raises FleetError: it names no client, or its file has to be mended by hand
        """
        path = self._path(name)
        problems = [error for error in self._vars["fleet_errors"] if error["client"] == name]
        if problems:
            lines = "".join(f"\n  {describe(problem)}" for problem in problems)
            raise FleetError(f"nothing was changed, because of{lines}", f"client {name}")
        if name in fleet:
            text = Path(path).read_text(encoding="utf-8")
            return text, _absent(text, path)
        record = self.store().record(name)
        if record is None:
            known = [*fleet, *self.store().records()]
            raise FleetError(
                f"{name} is no client, and none that was one is remembered",
                "fleet_select",
                did_you_mean(name, known) or "name clients, not plans or servers",
            )
        return "", _anew(record)


def _absent(text: str, path: str) -> str:
    """The file with ``state: absent``, and everything else in it as it was.

    :raises FleetError: it is written in a way that only a person can change
    """
    before = parse(text)
    after = _STATE.sub("state: absent", text, count=1)
    if after == text and before.get("state") != "absent":
        after = f"{text.rstrip()}\nstate: absent\n"
    try:
        understood = parse(after)
    except yaml.YAMLError:
        understood = None
    if understood != {**before, "state": "absent"}:
        raise FleetError(
            "its layout is too unusual to be changed here", shown(path), "write state: absent in it"
        )
    return after


def _anew(record: Record) -> str:
    """A file for a client whose own one is gone."""
    content = {
        "schema": SCHEMA,
        "organization": record.organization,
        "server": record.server,
        "state": "absent",
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    return "# Its file was gone. What is here is from state/, and enough for offboarding.\n" + text
