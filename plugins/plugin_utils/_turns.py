# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Processes of one computer that make keys take turns, also those that a killed run left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError


@contextlib.contextmanager
def turn(directory: Path, where: str, patience: float) -> Iterator[None]:
    """Keep others that ask for the same directory waiting.

    :param where: what an error is to name
    :param patience: seconds to wait for another run to get done with it
    :raises FleetError: it did not
    :raises OSError: there is no such directory
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + patience
    try:
        while not _locked(handle):
            if time.monotonic() > deadline:
                raise FleetError(
                    f"another run has been making keys for {patience:.0f} s",
                    where,
                    "wait until it has ended, then run again",
                )
            time.sleep(0.5)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
