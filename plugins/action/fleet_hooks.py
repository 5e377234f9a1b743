# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import (
    MANAGEMENT_KEY,
    Row,
    Stage,
    merge,
)

_KEPT_BACK = (*MANAGEMENT_KEY, *(f"{name}_FILE" for name in MANAGEMENT_KEY), "HCLOUD_TOKEN")
_EVENTS = ("before", "after", "failure")
#: Characters of a command's output that are worth showing: its end.
_SHOWN = 2000


class ActionModule(Stage):
    STAGE = "hooks"
    OPTIONS = ("events", "commands", "timeout", "verdict")

    def stage(self) -> dict[str, Any]:
        ran: list[dict[str, Any]] = []
        for event, commands in self._commands().items():
            document = json.dumps(self._document(event), ensure_ascii=False)
            ran += [{"event": event, **self._run(words, document)} for words in commands]
        problems = [_problem(hook) for hook in ran if hook["status"] != 0]
        if any(hook["status"] != 0 and hook["event"] == "before" for hook in ran):
            raise FleetError(
                problems[0],
                "fleet_hooks",
                "nothing was changed; mend what it complains of, or the hook",
            )
        for problem in problems:
            self._display.warning(problem)
        return {"changed": False, "hooks": ran, "problems": problems}

    def _commands(self) -> dict[str, list[list[str]]]:
        """The words of each command of the events that are now, none in check mode."""
        given = self.option("commands") or {}
        unknown = sorted(set(given) - set(_EVENTS))
        if unknown:
            raise FleetError(
                f"no such event: {', '.join(unknown)}", "fleet_hooks", f"use {', '.join(_EVENTS)}"
            )
        commands = {event: [_words(line) for line in given[event] or []] for event in given}
        return {event: commands.get(event, []) for event in self.option("events") if not self.check}

    def _document(self, event: str) -> dict[str, Any]:
        hosts = self._vars["ansible_play_hosts_all"]
        state = merge({host: self._raw(host).get("fleet_state") for host in hosts})
        return {
            "schema": 1,
            "event": event,
            "fleet": self.config["name"],
            "verdict": self.option("verdict", ""),
            "clients": {name: _public(row) for name, row in sorted(state["clients"].items())},
        }

    def _run(self, words: list[str], document: str) -> dict[str, Any]:
        """Run a command beside fleet.yml, without the keys that make keys and servers."""
        environment = {name: value for name, value in os.environ.items() if name not in _KEPT_BACK}
        timeout = int(self.option("timeout", 60))
        try:
            done = subprocess.run(
                words,
                input=document,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                check=False,
                cwd=os.path.dirname(os.path.abspath(self.config["file"])),
                env=environment,
                timeout=timeout,
            )
        except OSError as error:
            return _ran(words, error.errno or 1, f"cannot be run: {error.strerror}")
        except subprocess.TimeoutExpired:
            return _ran(words, 124, f"was ended after {timeout} s")
        return _ran(words, done.returncode, done.stdout)


def _words(command: Any) -> list[str]:
    try:
        words = shlex.split(command)
    except (AttributeError, ValueError) as error:
        raise FleetError(
            f"{command!r} is no command line: {error}", "fleet_hooks", "write it as for a shell"
        ) from error
    if not words:
        raise FleetError("an empty command", "fleet_hooks", "name a program, or take it out")
    return words


def _ran(words: list[str], status: int, output: str) -> dict[str, Any]:
    return {"command": shlex.join(words), "status": status, "output": output.strip()[-_SHOWN:]}


def _problem(hook: dict[str, Any]) -> str:
    return (
        f"the hook {hook['command']} ({hook['event']}) failed with status {hook['status']}: "
        f"{hook['output'] or 'it said nothing'}"
    )


def _public(row: Row) -> Row:
    return {field: row[field] for field in ("server", "state", "changed", "warnings", "failure")}
