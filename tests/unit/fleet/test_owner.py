# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run is alive, asked of real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.lock import Owner
from ansible_collections.mai.fleet.plugins.plugin_utils import _owner
from ansible_collections.mai.fleet.plugins.plugin_utils._owner import alive, this_run

#: A process that says who it is and stays until it is killed.
RUN = """
import json, sys, time
from ansible_collections.mai.fleet.plugins.plugin_utils._owner import this_run
print(json.dumps(this_run()), flush=True)
time.sleep(60)
"""


class Process:
    def __init__(self, *prefix: str) -> None:
        self.popen = subprocess.Popen(
            [*prefix, sys.executable, "-c", RUN],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.environ["ANSIBLE_COLLECTIONS_PATH"]},
        )
        assert self.popen.stdout
        self.owner: Owner = json.loads(self.popen.stdout.readline() or "{}")


@pytest.fixture
def other() -> Iterator[Process]:
    process = Process()
    yield process
    process.popen.kill()
    process.popen.communicate()


def test_a_run_is_alive_until_it_is_killed(other: Process) -> None:
    assert other.owner["pid"] == other.popen.pid
    assert other.owner["run"] != this_run()["run"]
    assert alive(other.owner) is True
    other.popen.kill()
    os.waitid(os.P_PID, other.popen.pid, os.WEXITED | os.WNOWAIT)
    assert alive(other.owner) is False, "it is a zombie"
    other.popen.wait()
    assert alive(other.owner) is False


def test_the_owner_is_the_run_and_not_the_child_that_does_a_task() -> None:
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=lambda: queue.put((os.getpid(), this_run())))
    child.start()
    pid, said = queue.get(timeout=30)
    child.join()
    assert pid != os.getpid()
    assert said == this_run()
    assert said["pid"] == os.getpid()
    assert alive(said) is True


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"started": "1"}, False),
        ({"pid": 2**22 + 1}, False),
        ({"boot": "another"}, False),
        ({"boot": "another", "machine": "another"}, None),
        ({"boot": "another", "machine": ""}, None),
        ({"space": "pid:[1]"}, None),
        ({"pid": 0}, None),
        ({"pid": ""}, None),
    ],
    ids=[
        "another process has its number",
        "nobody has its number",
        "this machine was started again",
        "another machine",
        "a machine without a name",
        "another container",
        "no number",
        "not understood",
    ],
)
def test_what_can_be_told_of_a_run(changes: dict[str, Any], expected: bool | None) -> None:
    me = {**this_run(), "machine": _owner._here()["machine"]}
    assert me["machine"], "this machine has no /etc/machine-id"
    assert alive(me) is True
    assert alive({**me, **changes}) is expected


def test_a_process_that_proc_hides_may_be_alive(
    other: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hidepid, /proc shows nobody the processes of others."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text(boot_id)
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to(os.readlink("/proc/self/ns/pid"))
    monkeypatch.setattr(_owner, "_PROC", tmp_path)
    assert alive(other.owner) is None
    other.popen.kill()
    other.popen.wait()
    assert alive(other.owner) is False


def test_another_container_of_this_machine() -> None:
    """Its first process has the number that ours has, and cannot be told from dead."""
    inside = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    process = Process(*inside, "--mount-proc")
    try:
        if not process.owner:
            pytest.skip("this machine does not let processes have a space of their own")
        assert process.owner["pid"] == 1
        assert process.owner["boot"] == this_run()["boot"]
        assert alive(process.owner) is None
    finally:
        process.popen.kill()
        process.popen.communicate()
