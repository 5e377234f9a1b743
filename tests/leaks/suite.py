# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plants secrets, runs every playbook in every way, and searches whatever was written or printed.

It ends with 1 and the places when it finds one, and also when it does not find what was put there
to be found. No secret is ever printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from integration.fleet import bridge_address
from simulator.simulator import Simulator

from leaks import runs
from leaks.controls import KINDS, NAME, Controls
from leaks.places import KEPT_BY_DOCKER, Search, everything, kept
from leaks.world import WEBUI, World, recorded, watcher


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer ways to fail")
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("it needs root: it looks at servers as root, and at root as somebody else")
        return 1
    if runs.unknown():
        print(f"nobody has said how to run, or why not: {', '.join(sorted(runs.unknown()))}")
        return 1
    made: list[str] = []
    # As a home is: others may enter it, and read what may be read.
    home = Path(tempfile.mkdtemp(prefix="leaks-"))
    home.chmod(0o755)
    collections = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"])
    with recorded(made), Simulator(host=bridge_address()) as simulator:
        world = World(home, simulator, collections)
        world.made = made
        try:
            return 1 if searched(world, not given.short) else 0
        finally:
            world.clean()
            shutil.rmtree(home)


def searched(world: World, full: bool) -> list[str]:
    """What is wrong."""
    since = time.time()
    other = watcher(world.home)
    try:
        there = runs.playbooks()
        for name, run in runs.PLAYBOOKS.items():
            if name not in there:
                continue
            print(name, flush=True)
            run(world, full)
    finally:
        other.end()
    search = Search(world.needles)
    search.through(everything(world, other, since))
    problems = [f"LEAK {kind}: {place}: {needle}" for kind, place, needle in search.leaks]
    problems += _docker_keeps(world)
    problems += _controlled(world, since)
    _told(world, search, other.summary)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems")
    return problems


def _docker_keeps(world: World) -> list[str]:
    """What remains in containers' environments is what is known to, and nothing else."""
    problems = []
    for client in WEBUI:
        names = kept(world, client)
        if set(names) != set(KEPT_BY_DOCKER):
            problems.append(f"Docker keeps other variables of {client}: {', '.join(names)}")
    return problems


def _controlled(world: World, since: float) -> list[str]:
    """Whether the search finds a leak of each kind."""
    controls = Controls(world)
    before = len(world.done)
    other = watcher(world.home)
    try:
        controls.leak()
        other.end()
        search = Search(world.needles)
        search.through(everything(world, other, since))
    finally:
        controls.clean()
        del world.done[before:]
    found = {kind for kind, _place, needle in search.leaks if needle.startswith(NAME)}
    print(f"controls: {len(found)} of {len(KINDS)} kinds of leaks on purpose were found")
    return [f"a leak on purpose was not found: {kind}" for kind in sorted(KINDS - found)]


def _told(world: World, search: Search, watched: dict[str, int]) -> None:
    secrets = len(world.needles.secrets)
    print(
        f"{len(world.done)} runs of {len(runs.PLAYBOOKS)} playbooks; {secrets} secrets in "
        f"{len(world.needles.all)} forms; {sum(search.kinds.values())} pieces, "
        f"{search.size / 1e6:.1f} MB:"
    )
    for kind, count in sorted(search.kinds.items()):
        print(f"  {count:5} {kind}")
    print(
        f"somebody else looked {watched['rounds']} times at up to {watched['processes']} "
        f"processes, and read {watched['files']} files"
    )
    for playbook, reason in sorted(runs.LEFT_OUT.items()):
        print(f"not run: {playbook}: {reason}")


if __name__ == "__main__":
    sys.exit(main())
