# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Breaks every step of every flow, runs once more, and looks at what is left.

After a broken run, whoever had service has it. After the next run, which nobody breaks, each
client has exactly one living key, its secret is stored and delivered, it is fenced and capped, and
nothing is left of other keys but what is disabled or waits for its deletion.

With few clients every step is broken in every way. With many, schedules are drawn at random, in
which up to two of the runs that were to put things right are broken as well.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from simulator.simulator import Simulator
from unit.keys.bench import FLEET, Bench

from faults import flow as flows
from faults.flow import BEFORE, FLOWS, LIMIT, LOCAL_FAULTS, REQUEST_FAULTS, Break

#: How many runs in a row are broken at most, where that is drawn at random.
_ROW = 3
#: Seconds after which a run hangs.
PATIENCE = 120
#: Clients whose every step is broken, and those of the schedules that are drawn.
_FEW, _MANY = 3, 30
#: Schedules that are drawn, in all; and breaks a flow in the short form.
_DRAWN, _SHORT = 500, 60
#: The same schedules every time, so that what is lost can be looked at again.
_SEED = 1


@dataclass(frozen=True)
class Schedule:
    """:ivar breaks: of the flow, and of the runs after it that were to put things right"""

    flow: str
    breaks: tuple[Break, ...]

    def __str__(self) -> str:
        return f"{self.flow}, {', then '.join(map(str, self.breaks))}"


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

    def steps(self, flow: str) -> dict[str, list[str]]:
        """Those of a run that nobody breaks, by client."""
        ended = self._run(flow, None)
        assert ended
        return ended[0]

    def breaks(self, flow: str, wanted: Break) -> bool:
        """Run a flow, and break it. Whether it came as far as that."""
        ended = self._run(flow, wanted)
        self.simulator.clear_faults()
        return ended is None or ended[1]

    def _run(self, flow: str, wanted: Break | None) -> tuple[dict[str, list[str]], bool] | None:
        """The steps of a run, and whether it broke; None if it was killed."""
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
        ended: tuple[dict[str, list[str]], bool] = receiver.recv()
        return ended

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


def breaks(world: World, flow: str) -> list[Break]:
    """Every step of the flow, in every way."""
    world.restore()
    found = [
        (name, Break(step, kind, client))
        for client, names in world.steps(flow).items()
        for step, name in enumerate(names)
        for kind in (*LOCAL_FAULTS, *REQUEST_FAULTS)
    ]
    return [one for name, one in found if one.fits(name)]


def play(world: World, schedule: Schedule) -> tuple[int, list[str]]:
    """:return: how many of the runs came as far as where they were to break, and what is wrong in
    the end
    """
    world.restore()
    # The runs after that are of site, which asks for nothing but what the inventory says.
    after = "offboard" if schedule.flow == "offboard" else "provision"
    served, problems, reached = world.served(), [], 0
    for number, wanted in enumerate(schedule.breaks):
        reached += world.breaks(after if number else schedule.flow, wanted)
        now = world.served()
        if schedule.flow != "offboard":
            problems += [f"{client} lost its service" for client in sorted(served - now)]
        served = now
    world.steps(after)
    return reached, problems + world.wrong(after)


def prepared(world: World, flow: str) -> None:
    """How things are when the flow begins."""
    world.simulator.reset()
    shutil.rmtree(world.bench.folder, ignore_errors=True)
    for earlier in BEFORE[flow]:
        world.steps(earlier)
    world.keep()


def every(world: World, flow: str, sample: int) -> Iterator[Schedule]:
    """One break each: all of them, or so many from all over the flow."""
    found = breaks(world, flow)
    if 0 < sample < len(found):
        found = random.Random(_SEED).sample(found, sample)  # noqa: S311
    yield from (Schedule(flow, (one,)) for one in found)


def at_random(world: World, flow: str, count: int) -> Iterator[Schedule]:
    """Up to three runs in a row that break, anywhere."""
    found = breaks(world, flow)
    # Also a run that finds nothing to do has more steps than that.
    steps = 2 * world.count
    kinds = (*LOCAL_FAULTS, *REQUEST_FAULTS)
    dice = random.Random(f"{_SEED} {flow}")  # noqa: S311
    for first in dice.choices(found, k=count):
        later = [
            Break(dice.randrange(steps), dice.choice(kinds))
            for _again in range(dice.randrange(_ROW))
        ]
        yield Schedule(flow, (first, *later))


def suite(
    flows_wanted: Sequence[str], count: int, planned: Callable[[World, str], Iterator[Schedule]]
) -> int:
    """:return: in how many schedules something was lost"""
    failures = 0
    with tempfile.TemporaryDirectory() as folder, Simulator() as simulator:
        world = World(simulator, Path(folder), count)
        for flow in flows_wanted:
            prepared(world, flow)
            failures += _play_all(world, flow, list(planned(world, flow)))
        if simulator.violations:
            failures += 1
            print("OpenRouter was asked for what it does not know:", simulator.violations)
    return failures


def _play_all(world: World, flow: str, schedules: list[Schedule]) -> int:
    started, losses, reached = time.monotonic(), 0, 0
    for schedule in schedules:
        came, problems = play(world, schedule)
        if not came:
            problems.append("the run did not break")
        reached += came
        if problems:
            losses += 1
            print(f"LOST {schedule}: {'; '.join(problems)}", flush=True)
    kinds = Counter(one.kind for schedule in schedules for one in schedule.breaks)
    print(
        f"{flow}, {world.count} clients: {len(schedules)} schedules, {reached} broken runs "
        f"({', '.join(f'{number} {kind}' for kind, number in kinds.items())}), {losses} losses, "
        f"{time.monotonic() - started:.0f} s",
        flush=True,
    )
    return losses


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Every break of every flow for 3 clients, and 500 schedules at random for 30."
    )
    parser.add_argument("--short", action="store_true", help="some of the breaks, for 3 clients")
    parser.add_argument("--flow", choices=FLOWS, action="append", help="default: all")
    given = parser.parse_args()
    flow = given.flow or FLOWS
    if given.short:
        return int(suite(flow, _FEW, lambda world, one: every(world, one, _SHORT)) > 0)
    lost = suite(flow, _FEW, lambda world, one: every(world, one, 0))
    lost += suite(flow, _MANY, lambda world, one: at_random(world, one, _DRAWN // len(FLOWS)))
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
