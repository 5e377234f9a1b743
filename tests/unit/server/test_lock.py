# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks in real directories, between real processes."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api import lock as lock_module
from ansible_collections.mai.fleet.plugins.module_utils._api.lock import Found, Lock, Owner
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError

FORK = multiprocessing.get_context("fork")
ROUNDS = 100


def owner(run: str) -> Owner:
    return {"run": run, "who": f"{run}@control", "doing": "mai.fleet.site", "pid": 7}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def test_one_has_it_and_the_other_is_told_who(path: Path) -> None:
    assert Lock(path).take(owner("a")) is None
    other = Lock(path).take(owner("b"))
    assert other is not None
    assert (other["who"], other["doing"], other["run"]) == ("a@control", "mai.fleet.site", "a")
    assert 0 <= Lock.age(other) < 60
    assert Lock(path).take(owner("a")) is None, "it is a's own"
    assert Lock(path).release("a") is None
    assert Lock(path).owner() is None
    assert Lock(path).take(owner("b")) is None
    assert names(path.parent) == [".lock"]


class Slow(Lock):
    """Leaves time for others between looking and doing."""

    def _look(self) -> Found | None:
        found = super()._look()
        time.sleep(0.002)
        return found


def race(work: Callable[[int, str], bool]) -> list[list[bool]]:
    """Two processes do the same work at the same moment, many times over; who of them won."""

    def run(name: str, barrier: Barrier, results: Any) -> None:
        won = []
        for number in range(ROUNDS):
            barrier.wait(30)
            won.append(work(number, name))
        results.put((name, won))

    barrier, results = FORK.Barrier(2), FORK.Queue()
    processes = [FORK.Process(target=run, args=(name, barrier, results)) for name in "ab"]
    for process in processes:
        process.start()
    won = dict(results.get(timeout=60) for _process in processes)
    for process in processes:
        process.join()
    return [[won["a"][number], won["b"][number]] for number in range(ROUNDS)]


def test_of_two_that_take_it_at_once_one_wins(tmp_path: Path) -> None:
    def work(number: int, name: str) -> bool:
        return Slow(tmp_path / f"{number}").take(owner(name)) is None

    assert all(sorted(won) == [False, True] for won in race(work))


def test_of_two_that_take_it_over_at_once_one_wins(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        Lock(tmp_path / f"{number}").take(owner("dead"))

    def work(number: int, name: str) -> bool:
        return Slow(tmp_path / f"{number}").take(owner(name), instead_of="dead") is None

    assert all(sorted(won) == [False, True] for won in race(work))


def test_what_is_taken_over_is_not_broken_and_the_other_way_round(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        Lock(tmp_path / f"{number}").take(owner("dead"))

    def work(number: int, name: str) -> bool:
        lock = Slow(tmp_path / f"{number}")
        if name == "a":
            return lock.break_("dead", by="a person")
        return lock.take(owner("b"), instead_of="dead") is None

    # b gets it in any case, over the dead one's or where that was broken; a never breaks b's.
    assert all(won[1] for won in race(work))
    for number in range(ROUNDS):
        found = Lock(tmp_path / f"{number}").owner()
        assert found is not None
        assert found["run"] == "b"


def steps(work: Callable[[], Any], at: int) -> bool:
    """A process that does the work, killed before its ``at``-th step; whether it came so far."""

    def run() -> None:
        left = at

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def step(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return step

        for name in ("open", "link", "replace", "unlink", "fsync", "fchmod"):
            setattr(os, name, counted(getattr(os, name)))
        work()

    process = FORK.Process(target=run)
    process.start()
    process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("before", "work", "owners"),
    [
        (None, lambda lock: lock.take(owner("a")), {None, "a"}),
        ("dead", lambda lock: lock.take(owner("a"), instead_of="dead"), {"dead", "a"}),
        ("a", lambda lock: lock.release("a"), {"a", None}),
        ("a", lambda lock: lock.break_("a", by="b"), {"a", None}),
    ],
    ids=["take", "take over", "release", "break"],
)
def test_a_process_that_is_killed_leaves_a_whole_lock_or_none(
    tmp_path: Path, before: str | None, work: Callable[[Lock], Any], owners: set[str | None]
) -> None:
    """At every step, and the next one can go on from there."""
    seen = set()
    for at in range(100):
        path = tmp_path / str(at) / ".lock"
        path.parent.mkdir()
        if before:
            Lock(path).take(owner(before))
        killed = steps(functools.partial(work, Lock(path)), at)
        found = Lock(path).owner()
        seen.add(found["run"] if found else None)
        assert Lock(path).take(owner("next"), found["run"] if found else None) is None
        if not killed:
            break
    else:
        raise AssertionError("it never came to its end")
    assert at > 3
    assert seen == owners


def test_what_a_killed_process_left_is_removed_after_an_hour(path: Path) -> None:
    old, young = (path.with_name(f".lock.new-{name}") for name in ("old", "young"))
    for file in (old, young):
        file.write_text("{")
    os.utime(old, (time.time() - 3700,) * 2)
    Lock(path).take(owner("a"))
    assert names(path.parent) == [".lock", young.name]


def test_who_broke_it_is_told_to_whom_it_belonged(path: Path) -> None:
    Lock(path).take(owner("a"))
    assert not Lock(path).break_("b", by="somebody")
    assert Lock(path).break_("a", by="c@control")
    lost = Lock(path).release("a")
    assert lost is not None
    assert lost["broken_by"] == "c@control"
    assert Lock(path).release("b") is None, "it never had one"
    Lock(path).take(owner("b"))
    lost = Lock(path).release("a")
    assert lost is not None
    assert lost["run"] == "b"
    assert Lock(path).owner() is not None, "b's lock is still there"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"run": 1}', '{"run": ""}'])
def test_a_file_that_is_not_understood_is_a_lock_of_nobody_knows_whom(
    path: Path, content: str
) -> None:
    path.write_text(content)
    other = Lock(path).take(owner("a"))
    assert other is not None
    assert other["who"] == ""
    assert Lock.age(other) < 60
    assert path.read_text() == content
    assert Lock(path).break_(other["run"], by="a person")
    assert Lock(path).take(owner("a")) is None


def test_a_lock_that_was_not_looked_at_is_not_broken(path: Path) -> None:
    path.write_text("{")
    seen = Lock(path).owner()
    assert seen is not None
    path.write_text("[")
    assert not Lock(path).break_(seen["run"], by="a person")
    assert path.exists()


def test_something_else_in_its_place_is_not_touched(path: Path) -> None:
    makers: list[Callable[[], Any]] = [
        lambda: path.symlink_to("/etc/passwd"),
        path.mkdir,
        lambda: os.mkfifo(path),
    ]
    for make in makers:
        make()
        with pytest.raises(FleetError, match="expected a regular file") as raised:
            Lock(path).take(owner("a"))
        assert raised.value.where == str(path)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_a_directory_that_is_not_there(path: Path) -> None:
    lock = Lock(path.parent / "gone" / ".lock")
    assert lock.owner() is None
    with pytest.raises(FleetError, match="the lock cannot be used: No such file"):
        lock.take(owner("a"))


def test_it_holds_what_people_and_their_controllers_need(path: Path) -> None:
    Lock(path).take({**owner("a"), "boot": "b", "space": "s", "machine": "m", "started": "1"})
    content = json.loads(path.read_text())
    assert set(content) == set(lock_module.FIELDS)
    assert path.stat().st_mode & 0o777 == 0o660


# The module


def test_the_module_takes_and_releases(run_module: Any, tmp_path: Path) -> None:
    path = tmp_path / "srv" / "mai" / ".lock"
    me, other = {"run": "a", "who": "a@control"}, {"run": "b", "who": "b@control"}

    def do(state: str, who: Any = None, **options: Any) -> Any:
        check = options.pop("check", False)
        given = {"path": str(path), "state": state, **options}
        return run_module("instance_lock", given | ({"owner": who} if who else {}), check=check)

    assert do("seen")["lock"] is None
    assert not path.parent.exists()
    foretold = do("taken", me, check=True)
    assert (foretold["changed"], foretold["held"], path.exists()) == (True, True, False)
    assert {**do("taken", me), "invocation": None} == {**foretold, "invocation": None}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    again = do("taken", me)
    assert (again["changed"], again["held"]) == (False, True)
    refused = do("taken", other)
    assert (refused["changed"], refused["held"], refused["lock"]["run"]) == (False, False, "a")
    assert do("taken", other, run="a", check=True)["held"]
    assert do("seen")["lock"]["who"] == "a@control"
    assert do("released", other)["lost"]["run"] == "a"
    assert do("broken", other, run="x")["failure"]["what"].startswith("the lock is run a's")
    assert do("broken", other, run="a", check=True)["changed"]
    assert do("taken", other, run="a")["held"]
    broken = do("broken", me, run="b")
    assert (broken["changed"], broken["lock"]["run"]) == (True, "b")
    assert do("released", other)["lost"]["broken_by"] == "a@control"
    assert not do("broken", me, run="b")["changed"]
    assert do("taken", me)["held"]
    assert do("released", me, check=True)["changed"]
    assert path.exists()
    assert do("released", me)["changed"]
    assert not path.exists()
    assert not do("released", me)["changed"]
    assert "owner" in do("taken")["msg"]
