# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The hold gate before an instance: while it is closed, the edge lets requests wait.

A gate is a file that says until when it is closed, so that one that nobody opens again opens by
itself. Where there is no edge there is no gate, and nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically

#: The edge makes it when it starts; it is gone after a restart of the server.
DIRECTORY = Path("/run/mai-edge/hold")

# A request that has passed the gate is at the instance by then, and an instance that is asked to
# stop answers what it has got.
_SETTLE = 0.3


@contextlib.contextmanager
def held(name: str, seconds: float, directory: Path = DIRECTORY) -> Iterator[None]:
    """Let requests to a client's instance wait in the meantime.

    :param seconds: after which the gate opens even if this process dies
    """
    if not directory.is_dir():
        yield
        return
    gate = directory / name
    deadline = f"{int(time.time() + seconds)}\n"
    write_atomically(str(gate), deadline.encode("ascii"), 0o644)
    time.sleep(_SETTLE)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(gate)
