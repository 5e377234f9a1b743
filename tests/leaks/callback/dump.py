# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down everything that a program beside Ansible gets to see of a run.

Every result as callbacks get it, and at the end every host's registered results.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: dump
type: notification
short_description: all results and registered variables, as lines of JSON
description: It writes to the file that the environment variable LEAKS_DUMP names.
options: {}
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "dump"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, kind: str, content: Any) -> None:
        with open(os.environ["LEAKS_DUMP"], "a", encoding="utf-8") as file:
            file.write(json.dumps({kind: content}, default=str, ensure_ascii=False) + "\n")

    def _result(self, result: Any, *_more: Any, **_options: Any) -> None:
        self._write("result", result._result)

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_unreachable = _result
    v2_runner_on_skipped = v2_runner_item_on_ok = v2_runner_item_on_failed = _result

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._manager = play.get_variable_manager()
        self._write("play", play.get_vars())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._write(
            "task", {"name": task.get_name(), "args": str(task.args), "vars": str(task.vars)}
        )

    def v2_playbook_on_stats(self, stats: Any) -> None:
        # Facts are in the cache's files.
        registered = self._manager._nonpersistent_fact_cache
        self._write("registered", {host: dict(known) for host, known in registered.items()})
