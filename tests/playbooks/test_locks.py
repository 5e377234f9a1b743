# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two operators at once, and what a run leaves that was killed."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playbooks.operator import Operator, Run
from unit.conftest import COLLECTIONS_PATH


class Underway:
    """A run of site that goes on in the background."""

    def __init__(self, operator: Operator) -> None:
        self._log = operator.home / "underway.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                ["ansible-playbook", "mai.fleet.site", *operator.SOURCES],
                cwd=operator.desk,
                env=operator.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Nothing but the main process: a child of it goes on with its task to the end."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def end(self, patience: float = 120) -> Run:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)
        return Run(self.process.wait(patience), self._log.read_text(encoding="utf-8"))


def until(condition: Callable[[], Any], patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


@contextlib.contextmanager
def at_work(operator: Operator) -> Iterator[Underway]:
    """A run in the middle: its locks are taken, and it goes no further than its next task."""
    run = Underway(operator)
    try:
        until((operator.server / ".lock").exists)
        run.pause()
        yield run
    finally:
        run.process.kill() if run.process.poll() is None else None
        run.process.wait()


def colleague(operator: Operator, home: Path) -> Operator:
    """Somebody with a clone of the inventory, who was up to date before the run that goes on."""
    other = Operator(home, operator.simulator, COLLECTIONS_PATH)
    pull(operator, other)
    return other


def pull(operator: Operator, other: Operator) -> None:
    shutil.copytree(operator.desk, other.desk, dirs_exist_ok=True)
    other.server = operator.server


def from_elsewhere(lock: Path) -> None:
    """A lock as if its run had been on a controller that is not this one."""
    owner = json.loads(lock.read_text())
    lock.write_text(json.dumps({**owner, "boot": "another", "machine": "another"}))


def test_two_operators_at_once_make_one_key_and_the_second_is_told(
    operator: Operator, tmp_path: Path
) -> None:
    operator.client("acme")
    other = colleague(operator, tmp_path / "colleague")
    lock = operator.server / ".lock"
    with at_work(operator) as first:
        owner = json.loads(lock.read_text())
        assert (owner["doing"], owner["pid"]) == ("mai.fleet.site", first.process.pid)
        second = other.site()
        assert second.failed
        assert second.says(
            f"acme (lock): server web1: locked by {owner['who']} since {owner['since']} (",
            "for mai.fleet.site (wait until that run has ended; if it has died, break its lock: "
            "ansible-playbook mai.fleet.unlock -e fleet_break=web1)",
        )
        assert operator.simulator.count("POST", "/keys") <= 1, "only the first one's"
        looked = other.run("mai.fleet.site", "--check")
        assert looked.status == 0
        assert looked.says("server web1: locked by", "what is foretold here may change meanwhile")
        shown = other.run("mai.fleet.unlock")
        assert shown.status == 0
        assert shown.says("web1: locked by", "it is running, as a process of this controller")
        refused = other.run("mai.fleet.unlock", "-e", "fleet_break=web1")
        assert refused.failed
        assert refused.says(f"at work, as process {first.process.pid} of this machine")
        assert json.loads(lock.read_text()) == owner
        done = first.end()
    assert done.status == 0, done.output
    assert set(operator.keys()) == {"acme"}
    assert not lock.exists()
    pull(operator, other)
    again = other.good()
    assert again.changed == 0
    assert [path.name for path in operator.server.iterdir()] == ["acme"]


def test_a_run_that_was_killed_is_taken_over_by_the_next_one_of_this_controller(
    operator: Operator,
) -> None:
    """Though a child of it is at work still, and makes the key after all."""
    operator.client("acme")
    operator.client("beta")
    # The next run comes so far as to make keys before this.
    operator.simulator.fault(method="POST", path="/keys", delay=20)
    run = Underway(operator)
    until(lambda: operator.simulator.count("POST", "/keys"))
    run.kill()
    assert (operator.server / ".lock").exists()
    healed = operator.good()
    assert healed.says("has ended without releasing its lock, which was taken over")
    assert set(operator.keys()) == {"acme", "beta"}
    assert not (operator.server / ".lock").exists()
    assert operator.good().changed == 0


def test_a_lock_of_another_controller_needs_a_person(operator: Operator) -> None:
    operator.client("acme")
    with at_work(operator) as run:
        run.kill()
        lock = operator.server / ".lock"
        from_elsewhere(lock)
        assert operator.site().says("acme (lock): server web1: locked by")
        shown = operator.run("mai.fleet.unlock")
        assert shown.says("web1: locked by", "it is a run of another controller")
        foretold = operator.run("mai.fleet.unlock", "-e", "fleet_break=web1", "--check")
        assert foretold.changed == 1
        assert lock.exists()
        wrong = operator.run("mai.fleet.unlock", "-e", "fleet_break=web2")
        assert wrong.failed
        assert wrong.says("web2 is no server of this run", "Did you mean web1?")
        broken = operator.run("mai.fleet.unlock", "-e", "fleet_break=web1")
        assert (broken.status, broken.changed) == (0, 1)
        assert not lock.exists()
        note = json.loads((operator.server / ".lock.broken").read_text())
        assert note["broken_by"] == note["who"]
        again = operator.run("mai.fleet.unlock", "-e", "fleet_break=web1")
        assert (again.status, again.changed) == (0, 0)
        assert again.says("web1: not locked")
    operator.good()
    assert set(operator.keys()) == {"acme"}


def test_a_run_whose_lock_was_broken_says_so(operator: Operator) -> None:
    operator.client("acme")
    with at_work(operator) as run:
        force = ("-e", "fleet_break=web1", "-e", "fleet_break_force=true")
        assert operator.run("mai.fleet.unlock", *force).status == 0
        done = run.end()
    assert done.status == 0, done.output
    assert done.says("server web1: the lock was broken by", "what both did may be mixed")


@pytest.mark.parametrize("place", ["server", "directory"])
def test_openrouter_is_locked_where_the_inventory_says(
    operator: Operator, tmp_path: Path, place: str
) -> None:
    shared = tmp_path / "shared"
    lock = {"server": {"server": "web2"}, "directory": {"directory": str(shared)}}[place]
    operator.servers("web1", "web2")
    operator.fleet(lock=lock)
    operator.client("acme")
    if place == "directory":
        run = operator.site()
        assert run.failed
        assert run.says("no such directory, in which runs see the lock of each other")
        assert operator.written() == []
        shared.mkdir()
    file = (shared if place == "directory" else operator.server) / ".hosting.lock"
    other = colleague(operator, tmp_path / "colleague")
    other.client("beta", server="web2")
    with at_work(operator) as first:
        assert file.exists()
        second = other.site("-e", "fleet_select=beta")
        assert second.failed
        assert second.says("OpenRouter, with its lock", ": locked by", "-e fleet_break=openrouter")
        assert operator.simulator.count("POST", "/keys") <= 1
        assert not (operator.server / "beta").exists()
        moved = other.run("mai.fleet.move_secrets")
        assert moved.failed
        assert moved.says("OpenRouter, with its lock", ": locked by")
        shown = other.run("mai.fleet.unlock")
        assert shown.says("openrouter: locked by", "web1: locked by")
        assert first.end().status == 0
    assert not file.exists()
    other.good("-e", "fleet_select=beta")
    assert other.run("mai.fleet.move_secrets").status == 0
    assert not file.exists()
    if place == "server":
        operator.servers("web1", gone=("web2",))
        operator.client("gamma")
        run = operator.site("--limit", "web1")
        assert run.failed
        assert run.says("fleet.yml: lock.server web2: nobody can see there who changes the fleet")
        assert set(operator.keys()) == {"acme", "beta"}


def test_a_server_that_is_locked_stops_its_own_clients_only(operator: Operator) -> None:
    """Each server has files of its own here: modules run in another directory on each."""
    hosts = {}
    for name in ("web1", "web2"):
        home = operator.home / name
        home.mkdir()
        python = home / "python"
        python.write_text(f'#!/bin/sh\ncd {home} && exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        hosts[name] = {"ansible_connection": "local", "ansible_python_interpreter": str(python)}
    operator.write("servers.yml", {"servers": {"hosts": hosts}})
    operator.fleet(directory="/proc/self/cwd/srv")
    operator.client("acme")
    operator.client("beta")
    operator.client("gamma", server="web2")
    (operator.home / "web1" / "srv").mkdir(mode=0o700)
    lock = operator.home / "web1" / "srv" / ".lock"
    lock.write_text(json.dumps({"run": "another", "who": "eve@elsewhere", "since": "yesterday"}))
    run = operator.site()
    assert run.failed
    assert run.says(
        "acme (lock): server web1: locked by eve@elsewhere since yesterday", "beta (lock)"
    )
    assert set(operator.keys()) == {"gamma"}
    assert (operator.home / "web2" / "srv" / "gamma" / ".env").exists()
    assert not (operator.home / "web2" / "srv" / ".lock").exists()
    assert lock.exists()
    assert operator.run("mai.fleet.verify", "-e", "fleet_select=gamma").status == 0


def test_a_key_is_switched_off_though_its_server_cannot_be_reached(operator: Operator) -> None:
    operator.client("acme")
    operator.good()
    operator.servers(gone=("web1",))
    operator.client("acme", state="suspended")
    operator.client("beta")
    run = operator.site()
    assert run.failed
    assert run.says("beta (lock): server web1: the server cannot be reached", "acme: not locked:")
    (key,) = operator.keys().values()
    assert key["disabled"]


def test_an_interrupted_run_leaves_a_lock_that_nobody_waits_for(operator: Operator) -> None:
    operator.client("acme")
    with at_work(operator) as run:
        run.process.send_signal(signal.SIGINT)
        run.end()
    operator.good()
    assert not (operator.server / ".lock").exists()
    assert set(operator.keys()) == {"acme"}


@pytest.mark.parametrize(
    ("lock", "phrase"),
    [
        ({"server": "web9"}, "fleet.yml: lock.server: unknown server web9 (Did you mean web1?)"),
        ({"folder": "/mnt"}, "fleet.yml: lock: expected a server that everybody reaches"),
    ],
)
def test_a_place_that_is_none(operator: Operator, lock: dict[str, str], phrase: str) -> None:
    operator.client("acme")
    operator.fleet(lock=lock)
    run = operator.site()
    assert run.failed
    assert run.says(phrase)
    assert operator.written() == []


def test_a_host_is_locked_while_it_becomes_a_server(operator: Operator) -> None:
    operator.client("acme")
    lock = operator.server / ".lock"
    role = {"name": "mai.fleet.lock", "tasks_from": "server"}
    tasks: list[dict[str, Any]] = [
        {"ansible.builtin.include_role": role},
        {"ansible.builtin.command": f"cat {lock}"},
        {"ansible.builtin.include_role": role, "vars": {"lock_release": True}},
    ]
    operator.write("own.yml", [{"hosts": "fleet", "gather_facts": False, "tasks": tasks}])
    run = operator.run("own.yml", "-v")
    assert run.status == 0
    assert run.says('"doing\\": \\"own.yml')
    assert not lock.exists()
    lock.write_text(json.dumps({"run": "another", "who": "eve@elsewhere", "since": "yesterday"}))
    refused = operator.run("own.yml")
    assert refused.failed
    assert refused.says("server web1: locked by eve@elsewhere since yesterday", "fleet_break=web1")
    looked = operator.run("own.yml", "--check")
    assert looked.status == 0
    assert looked.says("what is foretold here may change meanwhile")
    assert "eve" in lock.read_text()


def test_a_lock_of_openrouter_that_has_no_place(operator: Operator) -> None:
    operator.client("acme")
    run = operator.run("mai.fleet.unlock", "-e", "fleet_break=openrouter")
    assert run.failed
    assert run.says("fleet.yml: lock: fleet.yml names no place for the lock of OpenRouter")
