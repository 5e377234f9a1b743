# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An export in a process of its own that kills itself at a step: ``-m integration.killed``.

A step is a request to Docker or something that the disk keeps. On standard input are the options
of instance_export and the number of the step at which to end; -1 for none. On standard error are
the names of the steps, one a line, each before it is taken.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ansible.module_utils.testing import patch_module_args
from ansible_collections.mai.fleet.plugins.module_utils._api.docker import Docker
from ansible_collections.mai.fleet.plugins.module_utils._reconcile import export
from ansible_collections.mai.fleet.plugins.modules import instance_export


def main() -> None:
    given = json.load(sys.stdin)
    step = Steps(int(given["step"]))
    for thing, name in (
        (Docker, "_call"),
        (Docker, "tree"),
        (export._Sink, "write"),
        (export._Sink, "flush"),
        (export, "_database"),
        (export, "_chats"),
        (export, "_read_back"),
        (os, "fsync"),
        (os, "replace"),
    ):
        setattr(thing, name, step.before(name, getattr(thing, name)))
    with patch_module_args({**given["options"], "_ansible_check_mode": False}):
        instance_export.main()


class Steps:
    def __init__(self, last: int) -> None:
        self._last = last
        self._count = 0

    def before(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*given: Any, **more: Any) -> Any:
            sys.stderr.write(f"{name}\n")
            sys.stderr.flush()
            if self._count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            self._count += 1
            return act(*given, **more)

        return taken


if __name__ == "__main__":
    main()
