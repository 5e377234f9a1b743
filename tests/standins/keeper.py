# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command as an operator writes one to keep secrets: ``keeper DIRECTORY VERB``.

It notes how it was called, and does as it is told in DIRECTORY/order: fail, lie, garble, hang, die.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main(folder: Path, verb: str) -> int:
    given = json.load(sys.stdin)
    note(folder, verb)
    order = folder / "order"
    wanted = order.read_text().split() if order.exists() else []
    file = folder / f"{given.get('client', '')}.json"
    if verb == "put" and "hang-first" in wanted:
        time.sleep(60)
    if wanted == ["fail", verb]:
        print(f"no room for {json.dumps(given)}", file=sys.stderr)
        return 3
    answer = act(folder, verb, given, file)
    if verb == "put" and "die-after" in wanted:
        os.kill(os.getpid(), signal.SIGKILL)
    if wanted == ["garble", verb]:
        print(f"oops {json.dumps(answer)}")
        return 0
    print(json.dumps(answer))
    return 0


def act(folder: Path, verb: str, given: dict[str, Any], file: Path) -> dict[str, Any]:
    if verb == "list":
        return {"clients": [path.stem for path in folder.glob("*.json")]}
    if verb == "get":
        return {"secrets": json.loads(file.read_text()) if file.exists() else None}
    if verb == "put":
        new = file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(json.dumps(given["secrets"]))
        new.replace(file)
    if verb == "delete":
        file.unlink(missing_ok=True)
    return {}


def note(folder: Path, verb: str) -> None:
    """What others can see of this process, and what it was given beside the document."""
    seen = {
        "verb": verb,
        "argv": Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1],
        "environment": dict(os.environ),
        "directory": os.getcwd(),
    }
    with (folder / "calls").open("a") as log:
        log.write(json.dumps(seen, default=bytes.decode) + "\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
