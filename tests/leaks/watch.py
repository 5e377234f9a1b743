# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unprivileged user of the machine can see of a run while it goes on.

It is a program of its own, runs as that user with Python's standard library alone, and writes what
it sees as lines of JSON: the secrets are not known to it, and some of them do not exist yet.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import sys
import time

PAUSE = 0.05
#: Rounds between two looks at files, which take longer.
FILES_EVERY = 6
FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
LARGEST = 4_000_000
DEEPEST = 8


def tell(place: str, data: bytes, seen: set[int]) -> None:
    mark = hash(data)
    if data and mark not in seen:
        seen.add(mark)
        line = {"place": place, "data": base64.b64encode(data).decode()}
        print(json.dumps(line), flush=True)


def processes(seen: set[int]) -> int:
    """:returns: how many processes there were"""
    count = 0
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        count += 1
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    data = file.read()
            except OSError:
                continue
            # Numbers are used again, so the place is the kind of it.
            tell(f"/proc/PID/{name}", data.replace(b"\0", b" "), seen)
    return count


def files(known: set[str], times: dict[str, float], seen: set[int]) -> None:
    """What can be read below the folders for everybody, but for what was there at the beginning."""
    for folder in FOLDERS:
        for name in _listed(folder):
            path = f"{folder}/{name}"
            if path not in known:
                _look(path, 0, times, seen)


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _look(path: str, depth: int, times: dict[str, float], seen: set[int]) -> None:
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode) and depth < DEEPEST:
        for name in _listed(path):
            _look(f"{path}/{name}", depth + 1, times, seen)
    elif stat.S_ISREG(status.st_mode) and status.st_size < LARGEST:
        if times.get(path) == status.st_mtime:
            return
        times[path] = status.st_mtime
        try:
            with open(path, "rb") as file:
                tell(path, file.read(), seen)
        except OSError:
            return


def main() -> None:
    """Until a signal ends it, after the round that it is in."""
    ends: list[int] = []
    signal.signal(signal.SIGINT, lambda sign, _frame: ends.append(sign))
    known = {f"{folder}/{name}" for folder in FOLDERS for name in _listed(folder)}
    known -= set(sys.argv[1:])
    seen: set[int] = set()
    times: dict[str, float] = {}
    rounds = most = 0
    print(json.dumps({"ready": os.getuid()}), flush=True)
    while not ends:
        most = max(most, processes(seen))
        if rounds % FILES_EVERY == 0:
            files(known, times, seen)
        rounds += 1
        time.sleep(PAUSE)
    print(json.dumps({"rounds": rounds, "processes": most, "files": len(times)}), flush=True)


if __name__ == "__main__":
    main()
