# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts a rehearsal's host off the network just before the first task of a role."""

from __future__ import annotations

import os
import subprocess

from ansible.playbook.task import Task
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: cut
type: aggregate
short_description: Cuts a rehearsal's host off the network just before the first task of a role
description:
  - REHEARSAL_CUT names the host, REHEARSAL_CUT_BEFORE the role.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "cut"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._done = False

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        role = task._role.get_name() if task._role else ""
        if self._done or role != os.environ["REHEARSAL_CUT_BEFORE"]:
            return
        self._done = True
        name = os.environ["REHEARSAL_NAME"]
        host = f"mai-{name}-{os.environ['REHEARSAL_CUT']}"
        subprocess.run(["docker", "network", "disconnect", f"mai-{name}", host], check=True)
        self._display.display(f"{host} has no network from here on")
