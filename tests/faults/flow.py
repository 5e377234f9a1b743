# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows that are broken, on the real engine and store, and how they are broken.

A flow runs in a process of its own, because a kill has to be a real one. What it does to the world
is counted in steps: requests to OpenRouter and writes to the disk, in the order in which they come.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ansible_collections.mai.fleet.plugins.module_utils import _atomic
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile import records
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import Desired, living
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.retirement import (
    Cap,
    Retirement,
)
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller
from ansible_collections.mai.fleet.plugins.plugin_utils import _journal, _store
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores import files
from simulator.simulator import RemoteSimulator, Simulator
from unit.keys.bench import FLEET, Bench, desired

LIMIT = 100.0
#: Each flow, and the runs before it. The key that ``replace`` leaves can be had back.
BEFORE = {
    "provision": (),
    "rotate": ("provision",),
    "undo": ("provision", "replace"),
    "offboard": ("provision",),
}
FLOWS = tuple(BEFORE)
_GRACE = 86400.0


@dataclass(frozen=True)
class Break:
    """What happens at one step.

    :ivar kind: ``kill before``, ``kill after``, or ``full`` (a write finds no room)
    """

    step: int
    kind: str


class Steps:
    """Counts the steps of this process, and breaks one."""

    def __init__(self, wanted: Break | None) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()
        self.names: list[str] = []

    def take(self, name: str, act: Callable[[], Any]) -> Any:
        with self._lock:
            number = len(self.names)
            self.names.append(name)
        mine = self._wanted if self._wanted and self._wanted.step == number else None
        if mine and mine.kind == "kill before":
            die()
        if mine and mine.kind == "full" and name.startswith("write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        result = act()
        if mine and mine.kind == "kill after":
            die()
        return result


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def instrument(steps: Steps) -> None:
    """Every request and every write of this process is a step."""
    send, write, append = Controller._send, _atomic.write_atomically, _atomic.append

    def sent(self: Controller, method: str, url: str, *rest: Any) -> Any:
        name = f"{method} {url.removeprefix(self.base)}"
        return steps.take(name, lambda: send(self, method, url, *rest))

    def written(path: str, *rest: Any, **more: Any) -> None:
        steps.take(f"write {Path(path).parent.name}", lambda: write(path, *rest, **more))

    def appended(*given: Any, **more: Any) -> None:
        steps.take("write journal", lambda: append(*given, **more))

    Controller._send = sent  # type: ignore[method-assign, assignment]
    _store.write_atomically = written  # type: ignore[attr-defined]
    files.write_atomically = written  # type: ignore[attr-defined]
    _journal.append = appended  # type: ignore[attr-defined]
    # The disk is not what is tested here, and a busy one takes seconds.
    os.fsync = lambda _descriptor: None  # type: ignore[assignment]


def names(count: int) -> list[str]:
    return [f"c{number:02}" for number in range(count)]


def run(bench: Bench, flow: str, clients: list[str]) -> None:
    """One run of site with what the flow asks for: keys, delivery, proof, retirement."""
    state = "absent" if flow == "offboard" else "present"
    asked = {"replace": flow in ("rotate", "replace"), "undo": flow == "undo"}
    wanted = [desired(name, limit=LIMIT, state=state, **asked) for name in clients]
    rows = bench.run(*wanted)
    alive = [one for one in wanted if not rows[one.client].get("failed") and state == "present"]
    served = [one for one in alive if deliver(bench, one.client)]
    proven = [one for one in served if prove(bench, one)]
    retire(bench, proven, _GRACE if flow == "replace" else 0)


def deliver(bench: Bench, client: str) -> bool:
    """What the stages of files and settings do with a key: the instance has it from here on."""
    try:
        _deliver(bench, client)
    except (FleetError, OSError):
        return False
    return True


def _deliver(bench: Bench, client: str) -> None:
    record, secrets = bench.record(client), bench.store.secrets(client)
    current = records.chosen(secrets, record.key_hash)
    if current != secrets:
        bench.store.save_secrets(client, current)
    secret = current["api_key"]
    if delivered(bench, client) != secret:
        path = bench.folder / "delivered" / client
        _store.write_atomically(str(path), secret.encode(), 0o600)  # type: ignore[attr-defined]


def delivered(bench: Bench, client: str) -> str:
    """The secret with which the client's instance works, empty for none."""
    path = bench.folder / "delivered" / client
    return path.read_text() if path.exists() else ""


def prove(bench: Bench, wanted: Desired) -> bool:
    """The free gates: the delivered key is alive, capped and fenced."""
    record = bench.record(wanted.client)
    try:
        api = bench.api(delivered(bench, wanted.client))
        cap = api.current_key()["limit"]
        allowed = {row["canonical_slug"] for row in api.user_models()}
    except FleetError:
        return False
    good = cap == record.cap(wanted.limit, bench.now) and allowed == set(wanted.slugs)
    if good and not record.proven:
        bench.store.save_record(replace(record, proven="proven"))
    return good


def retire(bench: Bench, proven: list[Desired], grace: float) -> None:
    waiting = [bench.record(one.client) for one in proven]
    waiting = [record for record in waiting if record.former]
    if not waiting:
        return
    api = bench.api()
    live = living(api, FLEET)
    now = {key.hash: key for keys in live.values() for key in keys}
    retirement = Retirement(api, bench.store, grace, bench.now, False)
    for record in waiting:
        try:
            keys = live.get(record.client, [])
            retirement.apply(record, Cap(LIMIT, "monthly"), now, keys)
        except FleetError:
            continue


def child(
    url: str,
    management_key: str,
    folder: str,
    flow: str,
    count: int,
    wanted: Break | None,
    result: Any,
) -> None:
    """A process: one run of a flow. The names of its steps go back, unless it is killed."""
    steps = Steps(wanted)
    instrument(steps)
    simulator = cast(Simulator, RemoteSimulator(url, management_key))
    bench = Bench(simulator, Path(folder))
    try:
        run(bench, flow, names(count))
    except FleetError:
        # What is wrong with the whole account ends a run.
        result.send([])
    else:
        result.send(steps.names)
