# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down what a run of converge.yml changed, or in check mode foretold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook import Playbook
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changes
type: aggregate
short_description: Writes down what a run of converge.yml changed, or in check mode foretold
description:
  - Files of REHEARSAL_HOME/changes, numbered in the order of the runs, C(NN-check.json) and
    C(NN-run.json), hold for each host the changed tasks, and what they made of a file's text.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changes"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._wanted = False
        self._hosts: dict[str, list[dict[str, Any]]] = {}

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        self._wanted = Path(playbook._file_name).name == "converge.yml"

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        changes = self._hosts.setdefault(result.host.get_name(), [])
        if result.is_changed():
            name = result.task.get_name().strip()
            changes.append({"task": name, "texts": texts(result.result.get("diff"))})

    def v2_playbook_on_stats(self, stats: object) -> None:
        if not self._wanted:
            return
        folder = Path(os.environ["REHEARSAL_HOME"]) / "changes"
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir()))
        kind = "check" if context.CLIARGS["check"] else "run"
        (folder / f"{number:02}-{kind}.json").write_text(json.dumps(self._hosts, indent=1))


def texts(diff: Any) -> list[str]:
    """The new texts in a result's diff; whoever prepares other words has no text to compare."""
    entries = diff if isinstance(diff, list) else [diff] if diff else []
    return [entry["after"] for entry in entries if isinstance(entry.get("after"), str)]
