# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Who this run is, and whether another one is still alive.

A run is the process of ``ansible-playbook``. Tasks run in its children, which come and go.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible_collections.mai.fleet.plugins.module_utils._api.lock import Owner
from ansible_collections.mai.fleet.plugins.plugin_utils._journal import operator

_PROC = Path("/proc")
#: States of a process that has ended, though its number is not free yet.
_ENDED = "ZX"
_DIGITS = 12


def this_run() -> Owner:
    parent = multiprocessing.parent_process()
    pid = os.getpid() if parent is None or parent.pid is None else parent.pid
    here = _here()
    started = _started(pid)
    return {
        **here,
        "run": _short(f"{socket.gethostname()} {here['boot']} {here['space']} {pid} {started}"),
        "who": operator(),
        "doing": " ".join(context.CLIARGS.get("args", ())) or "mai.fleet",
        "pid": pid,
        "started": started,
    }


def alive(owner: Mapping[str, Any]) -> bool | None:
    """Whether a run is still going on; None when that cannot be told from here.

    Another container of this machine has processes of its own. A machine that was started again
    has none of those that it had.
    """
    here = _here()
    if not here["boot"]:
        return None
    if owner["boot"] != here["boot"]:
        return False if here["machine"] and owner["machine"] == here["machine"] else None
    pid = owner["pid"]
    if owner["space"] != here["space"] or not isinstance(pid, int) or pid < 1:
        return None
    return _started(pid) == owner["started"] if _visible(pid) else None


def _here() -> dict[str, str]:
    identity = _text(Path("/etc/machine-id"))
    return {
        # Not the identity itself, which is to stay on its machine. Copies of a machine have the
        # same one, and hopefully another name.
        "machine": _short(f"{identity} {socket.gethostname()}") if identity else "",
        "boot": _text(_PROC / "sys/kernel/random/boot_id"),
        "space": _link(_PROC / "self/ns/pid"),
    }


def _visible(pid: int) -> bool:
    """False for a process that is there, while /proc hides what belongs to other users."""
    if (_PROC / str(pid)).exists():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _started(pid: int) -> str:
    """When a process was started, empty when there is none."""
    # The second field is a name in parentheses, which may contain anything.
    fields = _text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in _ENDED else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
