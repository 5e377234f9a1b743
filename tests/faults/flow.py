# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows that are broken, on the real engine and store, and how they are broken.

A flow runs in a process of its own, because a kill has to be a real one. What it does to the world
is counted in steps: requests to OpenRouter and writes to the disk, in the order in which they come
for each client.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from ansible_collections.mai.fleet.plugins.module_utils import _atomic
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile import records
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import Desired, Keys, living
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
#: What OpenRouter or the network may do to a request.
REQUEST_FAULTS: dict[str, dict[str, Any]] = {
    "cut before": {"cut": "before"},
    "reply lost": {"cut": "after"},
    "half a reply": {"cut": "middle"},
    "cut for good": {"cut": "before", "times": 0},
    "replies lost for good": {"cut": "after", "times": 0},
    "500": {"status": 500},
    "500 after acting": {"status": 500, "act": True},
    "503 after acting": {"status": 503, "act": True, "retry_after": 0},
    "524 after acting": {"status": 524, "act": True},
    "429": {"status": 429, "retry_after": 0},
    "401": {"status": 401},
}
#: What becomes of the process, or of the disk when something is written.
LOCAL_FAULTS = ("kill before", "kill after", "full")
#: What the names of writes begin with.
_WRITE = "write"


@dataclass(frozen=True)
class Break:
    """What happens at one step.

    It is the first one from there on to which such a thing can happen, so that a schedule means the
    same in whatever order the threads of a run come.

    :ivar step: the how-manieth it is of this client's steps, from 0 on
    :ivar kind: one of ``LOCAL_FAULTS`` or ``REQUEST_FAULTS``
    :ivar client: empty for the steps that are about the fleet, None for all steps of the run
    """

    step: int
    kind: str
    client: str | None = None

    def __str__(self) -> str:
        whose = {None: "the run", "": "the fleet"}.get(self.client, self.client)
        return f"{self.kind} at step {self.step} of {whose}"

    def fits(self, name: str) -> bool:
        if self.kind in REQUEST_FAULTS:
            return not name.startswith(_WRITE)
        return self.kind != "full" or name.startswith(_WRITE)


class Steps:
    """Counts the steps of this process, and breaks one.

    :ivar names: the steps of each client, and those of the fleet, whose client is empty
    :ivar broken: whether it came to that
    """

    def __init__(self, wanted: Break | None, simulator: RemoteSimulator) -> None:
        self.names: dict[str, list[str]] = {}
        self.broken = False
        self._wanted = wanted
        self._simulator = simulator
        self._total = 0
        self._now = threading.local()
        self._turn = threading.Condition()
        self._under_way = 0

    @contextmanager
    def about(self, client: str) -> Iterator[None]:
        """Whose steps those of this thread are meanwhile."""
        self._now.client = client
        try:
            yield
        finally:
            self._now.client = ""

    def take(self, name: str, act: Callable[[], Any]) -> Any:
        with self._turn:
            mine = self._count(name)
            if mine and mine.kind in REQUEST_FAULTS:
                # Nobody else's request may meet what is meant for this one.
                self._turn.wait_for(lambda: not self._under_way)
                self._simulator.fault(**REQUEST_FAULTS[mine.kind])
                return act()
            self._under_way += 1
        try:
            return self._take(mine, act)
        finally:
            with self._turn:
                self._under_way -= 1
                self._turn.notify_all()

    def _take(self, mine: Break | None, act: Callable[[], Any]) -> Any:
        if mine and mine.kind == "kill before":
            die()
        if mine and mine.kind == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        result = act()
        if mine and mine.kind == "kill after":
            die()
        return result

    def _count(self, name: str) -> Break | None:
        """The break, if it is this step that is to break."""
        client = getattr(self._now, "client", "")
        mine = self.names.setdefault(client, [])
        number = {client: len(mine), None: self._total}
        mine.append(name)
        self._total += 1
        wanted = self._wanted
        if wanted is None or self.broken or number.get(wanted.client, -1) < wanted.step:
            return None
        self.broken = wanted.fits(name)
        return wanted if self.broken else None


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def instrument(steps: Steps) -> None:
    """Every request and every write of this process is a step."""
    send, apply = Controller._send, Keys.apply
    write, append = _atomic.write_atomically, _atomic.append

    def sent(self: Controller, method: str, url: str, *rest: Any) -> Any:
        name = f"{method} {url.removeprefix(self.base)}"
        return steps.take(name, lambda: send(self, method, url, *rest))

    def written(path: str, *rest: Any, **more: Any) -> None:
        steps.take(f"{_WRITE} {Path(path).parent.name}", lambda: write(path, *rest, **more))

    def appended(*given: Any, **more: Any) -> None:
        steps.take(f"{_WRITE} journal", lambda: append(*given, **more))

    def applied(self: Keys, desired: Desired, record: records.Record) -> Any:
        with steps.about(desired.client):
            return apply(self, desired, record)

    Controller._send = sent  # type: ignore[method-assign, assignment]
    Keys.apply = applied  # type: ignore[method-assign]
    _store.write_atomically = written  # type: ignore[attr-defined]
    files.write_atomically = written  # type: ignore[attr-defined]
    _journal.append = appended  # type: ignore[attr-defined]
    # The disk is not what is tested here, and a busy one takes seconds.
    os.fsync = lambda _descriptor: None  # type: ignore[assignment]


def names(count: int) -> list[str]:
    return [f"c{number:02}" for number in range(count)]


def run(bench: Bench, steps: Steps, flow: str, clients: list[str]) -> None:
    """One run of site with what the flow asks for: keys, delivery, proof, retirement."""
    state = "absent" if flow == "offboard" else "present"
    asked = {"replace": flow in ("rotate", "replace"), "undo": flow == "undo"}
    wanted = [desired(name, limit=LIMIT, state=state, **asked) for name in clients]
    rows = bench.run(*wanted)
    alive = [one for one in wanted if not rows[one.client].get("failed") and state == "present"]
    proven = []
    for one in alive:
        with steps.about(one.client):
            if deliver(bench, one.client) and prove(bench, one):
                proven.append(one)
    retire(bench, steps, proven, _GRACE if flow == "replace" else 0)


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


def retire(bench: Bench, steps: Steps, proven: list[Desired], grace: float) -> None:
    waiting = [bench.record(one.client) for one in proven]
    waiting = [record for record in waiting if record.former]
    if not waiting:
        return
    api = bench.api()
    live = living(api, FLEET)
    now = {key.hash: key for keys in live.values() for key in keys}
    retirement = Retirement(api, bench.store, grace, bench.now, False)
    for record in waiting:
        with steps.about(record.client), suppress(FleetError):
            keys = live.get(record.client, [])
            retirement.apply(record, Cap(LIMIT, "monthly"), now, keys)


def child(
    url: str,
    management_key: str,
    folder: str,
    flow: str,
    count: int,
    wanted: Break | None,
    result: Any,
) -> None:
    """A process: one run of a flow. Unless it is killed, its steps go back, and whether it broke.

    Nothing but a break ends a run before its time.
    """
    simulator = RemoteSimulator(url, management_key)
    steps = Steps(wanted, simulator)
    instrument(steps)
    bench = Bench(cast(Simulator, simulator), Path(folder))
    try:
        run(bench, steps, flow, names(count))
    except FleetError:
        if not steps.broken:
            raise
    result.send((steps.names, steps.broken))
