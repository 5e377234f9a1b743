# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Breaks every step of every flow, runs once more, and looks at what is left.

After the broken run, whoever had service has it. After the next run, which nobody breaks, each
client has exactly one living key, its secret is stored and delivered, it is fenced and capped, and
nothing is left of other keys but what is disabled or waits for its deletion.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from simulator.simulator import Simulator
from unit.keys.bench import FLEET, Bench

from faults import flow as flows
from faults.flow import BEFORE, FLOWS, LIMIT, Break

#: What OpenRouter or the network may do to a request.
REQUEST_FAULTS: dict[str, dict[str, Any]] = {
    "cut before": {"cut": "before"},
    "reply lost": {"cut": "after"},
    "half a reply": {"cut": "middle"},
    "500": {"status": 500},
    "500 after acting": {"status": 500, "act": True},
    "503 after acting": {"status": 503, "act": True, "retry_after": 0},
    "524 after acting": {"status": 524, "act": True},
    "429": {"status": 429, "retry_after": 0},
    "401": {"status": 401},
}
LOCAL_FAULTS = ("kill before", "kill after", "full")
#: Seconds after which a run hangs.
PATIENCE = 120


@dataclass(frozen=True)
class Schedule:
    flow: str
    step: int
    kind: str

    def __str__(self) -> str:
        return f"{self.flow}, step {self.step}, {self.kind}"


class World:
    """An account and an operator's folder, which can be put back to how they were."""

    def __init__(self, simulator: Simulator, folder: Path, count: int) -> None:
        self.simulator = simulator
        self.bench = Bench(simulator, folder / "fleet")
        self.count = count
        self.clients = flows.names(count)
        self._kept = folder / "kept"
        self._state: Any = None
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["faults.flow"])

    def keep(self) -> None:
        shutil.rmtree(self._kept, ignore_errors=True)
        if self.bench.folder.exists():
            shutil.copytree(self.bench.folder, self._kept)
        self._state = copy.deepcopy(self.simulator.engine.state)

    def restore(self) -> None:
        shutil.rmtree(self.bench.folder, ignore_errors=True)
        if self._kept.exists():
            shutil.copytree(self._kept, self.bench.folder)
        self.simulator.engine.state = copy.deepcopy(self._state)
        self.simulator.clear_faults()
        self.simulator.clear_log()

    def run(self, flow: str, wanted: Break | None = None) -> list[str] | None:
        """The steps of a run, None if it was killed."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=flows.child,
            args=(
                self.simulator.url,
                self.simulator.management_key,
                str(self.bench.folder),
                flow,
                self.count,
                wanted,
                sender,
            ),
        )
        process.start()
        sender.close()
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"the run did not end within {PATIENCE} s")
        if process.exitcode == -9:
            self._settle()
            return None
        if process.exitcode != 0:
            raise AssertionError("the run crashed; its traceback is above")
        steps: list[str] = receiver.recv()
        return steps

    def _settle(self) -> None:
        """Until OpenRouter has done what a killed run has asked for, for it still reads that."""
        # Whoever came before this one has a thread by now.
        socket.create_connection((self.simulator.host, self.simulator.port)).close()
        while any("process_request_thread" in one.name for one in threading.enumerate()):
            time.sleep(0.005)

    # What is looked at

    def served(self) -> set[str]:
        """The clients whose instance has a key that works."""
        found = set()
        for client in self.clients:
            secret = flows.delivered(self.bench, client)
            key = next((k for k in self.bench.living(client) if k["hash"] == sha256(secret)), None)
            if secret and key and not key["disabled"] and key["guardrail_id"]:
                found.add(client)
        return found

    def wrong(self, flow: str) -> list[str]:
        """What is not as it has to be after a run that nobody broke."""
        return [text for client in self.clients for text in self._wrong(flow, client)]

    def _wrong(self, flow: str, client: str) -> Iterator[str]:
        try:
            self.bench.store.journal.verify(client)
        except FleetError as error:
            yield f"{client}: journal: {error}"
        yield from self._left(client) if flow == "offboard" else self._unserved(client)

    def _left(self, client: str) -> Iterator[str]:
        if living := self.bench.living(client):
            yield f"{client}: {len(living)} keys are left"
        if any(name.startswith("api_key") for name in self.bench.store.secrets(client)):
            yield f"{client}: a secret is left"
        if self._guardrails(client):
            yield f"{client}: a guardrail is left"

    def _unserved(self, client: str) -> Iterator[str]:
        living = self.bench.living(client)
        secrets, record = self.bench.store.secrets(client), self.bench.record(client)
        working = [key for key in living if not key["disabled"]]
        if len(working) != 1:
            yield f"{client}: {len(working)} working keys"
            return
        (key,) = working
        if len(living) != 1:
            yield f"{client}: {len(living) - 1} orphans are left"
        if sha256(secrets.get("api_key", "")) != key["hash"]:
            yield f"{client}: the secret of the key is not stored"
        if record.key_hash != key["hash"]:
            yield f"{client}: the record is of another key"
        if flows.delivered(self.bench, client) != secrets.get("api_key"):
            yield f"{client}: the key is not delivered"
        if self._guardrails(client) != [key["guardrail_id"]]:
            yield f"{client}: not fenced, or by the wrong guardrail"
        if key["limit"] != LIMIT:
            yield f"{client}: a cap of {key['limit']}"

    def _guardrails(self, client: str) -> list[str]:
        name = f"mai/{FLEET}/{client}"
        return [row["id"] for row in self.simulator.guardrails if row["name"] == name]


def schedules(world: World, flow: str) -> Iterator[Schedule]:
    """Every step of the flow, broken in every way."""
    world.restore()
    steps = world.run(flow)
    assert steps, f"{flow} does not run"
    requests = [name for name in steps if not name.startswith("write")]
    for step, name in enumerate(steps):
        yield from (
            Schedule(flow, step, kind)
            for kind in LOCAL_FAULTS
            if kind != "full" or name.startswith("write")
        )
    for step in range(len(requests)):
        yield from (Schedule(flow, step, kind) for kind in REQUEST_FAULTS)


def play(world: World, schedule: Schedule) -> list[str]:
    """What is wrong after this schedule, nothing if all is well."""
    world.restore()
    before = world.served()
    if schedule.kind in REQUEST_FAULTS:
        world.simulator.fault(skip=schedule.step, **REQUEST_FAULTS[schedule.kind])
        world.run(schedule.flow)
    else:
        world.run(schedule.flow, Break(schedule.step, schedule.kind))
    world.simulator.clear_faults()
    problems = []
    if schedule.flow != "offboard":
        problems = [f"{client} lost its service" for client in sorted(before - world.served())]
    # The next run is one of site, which asks for nothing but what the inventory says.
    after = "offboard" if schedule.flow == "offboard" else "provision"
    world.run(after)
    return problems + world.wrong(after)


def prepared(world: World, flow: str) -> None:
    """How things are when the flow begins."""
    world.simulator.reset()
    shutil.rmtree(world.bench.folder, ignore_errors=True)
    for earlier in BEFORE[flow]:
        world.run(earlier)
    world.keep()


def suite(flows_wanted: tuple[str, ...], count: int, sample: int, seed: int) -> int:
    """:param sample: how many schedules at random; 0 for all"""
    failures = 0
    with tempfile.TemporaryDirectory() as folder, Simulator() as simulator:
        world = World(simulator, Path(folder), count)
        for flow in flows_wanted:
            prepared(world, flow)
            planned = list(schedules(world, flow))
            if sample and sample < len(planned):
                planned = random.Random(seed).sample(planned, sample)  # noqa: S311
            started, counts = time.monotonic(), Counter(one.kind for one in planned)
            losses = 0
            for schedule in planned:
                problems = play(world, schedule)
                if problems:
                    losses += 1
                    print(f"LOST {schedule}: {'; '.join(problems)}", flush=True)
            failures += losses
            kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            print(
                f"{flow}, {count} clients: {len(planned)} schedules ({kinds}), {losses} losses, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
        if simulator.violations:
            failures += 1
            print("OpenRouter was asked for what it does not know:", simulator.violations)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flow", choices=FLOWS, action="append", help="default: all")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--sample", type=int, default=0, help="schedules by flow; 0 for all")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    flow = tuple(given.flow or FLOWS)
    return 1 if suite(flow, given.clients, given.sample, given.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
