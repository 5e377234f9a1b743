# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret is shown once: what is on the disk at each step, and what is left when a step fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store
from simulator.simulator import Simulator
from unit.keys.bench import PASSWORD, Bench, desired, files, full_disk, vault

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture
def known(bench: Bench) -> Bench:
    """A client that has an instance already, and no key."""
    bench.store.save_secrets("acme", {"admin_password": "kept"})
    return bench


def healed(bench: Bench, generation: int = 1) -> None:
    """The client has one key, its secret is stored, it is fenced, and there is nothing to do."""
    record = bench.record("acme")
    (key,) = [key for key in bench.living() if not key["disabled"]]
    assert sha256(bench.secret() or "") == key["hash"] == record.key_hash
    assert record.generation == generation
    # An attempt is remembered as long as its key may show up.
    assert not {one.name for one in record.attempts} & {key["name"] for key in bench.living()}
    assert key["guardrail_id"] == bench.guardrail()["id"]
    assert bench.store.secrets("acme")["admin_password"] == "kept"
    assert not bench.one(desired())["changed"]


# --- what is on the disk when OpenRouter is asked -------------------------------------------------


def test_the_attempt_is_on_the_disk_before_anything_is_made(known: Bench) -> None:
    """Read by a store of its own, as the next run would."""
    seen: list[str] = []

    def look() -> None:
        record = Store(known.directories, vault()).record("acme")
        assert record is not None
        assert len(record.attempts) == 1
        assert (record.key_hash, record.generation) == ("", 0)
        assert Store(known.directories, vault()).secrets("acme") == {"admin_password": "kept"}
        seen.append(record.attempts[0].name)

    with known.watching("POST", "/guardrails", look), known.watching("POST", "/keys", look):
        known.one(desired())
    assert seen == [known.key()["name"]] * 2


def test_the_secret_is_on_the_disk_before_anything_else_is_asked(known: Bench) -> None:
    looks: list[str] = []

    def look() -> None:
        store = Store(known.directories, vault())
        record = store.record("acme")
        assert record is not None
        assert sha256(store.secrets("acme")["api_key"]) == known.key()["hash"] == record.key_hash
        assert record.attempts == []
        assert record.generation == 1
        looks.append("seen")

    with known.watching("POST", "/guardrails/.*/assignments/keys", look):
        known.one(desired())
    assert looks == ["seen"]


def test_the_old_secret_is_kept_until_there_is_a_new_one(known: Bench) -> None:
    known.one(desired())
    old = known.secret()
    looks: list[str] = []

    def look() -> None:
        assert Store(known.directories, vault()).secrets("acme")["api_key"] == old
        looks.append("seen")

    with known.watching("POST", "/keys", look):
        known.one(desired(replace=True))
    assert looks == ["seen"]
    assert known.secret() != old


# --- nothing is made that could not be stored -----------------------------------------------------


def block_secrets(bench: Bench) -> None:
    bench.folder.mkdir()
    (bench.folder / "secrets").write_text("a file where a directory belongs")


def wrong_password(bench: Bench) -> None:
    bench.store.save_secrets("acme", {"admin_password": "kept"})
    bench.store = Store(bench.directories, vault(("default", b"another")))


def no_password(bench: Bench) -> None:
    bench.store = Store(bench.directories, vault(("default", PASSWORD)))
    bench.store._vault.secrets = []


@pytest.mark.parametrize("block", [block_secrets, wrong_password, no_password])
def test_a_store_that_cannot_take_a_secret(bench: Bench, block: Callable[[Bench], None]) -> None:
    block(bench)
    failure = bench.failure(desired())
    assert bench.writes() == []
    assert failure["where"]
    assert failure["todo"]


@pytest.mark.parametrize(("room", "where"), [(0, "state/acme.json"), (1200, "secrets/acme.yml")])
def test_a_disk_that_is_full_before(known: Bench, room: int, where: str) -> None:
    """No room at all, and room for a record but not for the secrets."""
    known.store.save_secrets("acme", {"admin_password": "kept", "webui_secret_key": "x" * 500})
    with full_disk(room):
        failure = known.failure(desired())
    assert failure["where"].endswith(where)
    assert "make room" in failure["todo"]
    assert known.writes() == []
    known.one(desired())
    healed(known, generation=known.record("acme").generation)


class NoRoom:
    """The disk is full from the moment that OpenRouter is asked for a key."""

    def __init__(self) -> None:
        self._disk = full_disk(100)

    def __call__(self) -> None:
        self._disk.__enter__()

    def end(self) -> None:
        self._disk.__exit__(None, None, None)


def test_a_disk_that_is_full_after_leaves_no_key(known: Bench) -> None:
    before = known.store.secrets("acme")
    full = NoRoom()
    with known.watching("POST", "/keys", full):
        try:
            failure = known.failure(desired())
        finally:
            full.end()
    assert "cannot be written" in failure["what"]
    assert "secrets/acme.yml" in failure["where"]
    assert known.living() == []
    assert known.store.secrets("acme") == before
    known.one(desired())
    healed(known, generation=known.record("acme").generation)


def test_a_disk_that_is_full_after_and_a_key_that_cannot_be_taken_back(
    known: Bench, simulator: Simulator
) -> None:
    simulator.fault(method="DELETE", status=500, times=0)
    full = NoRoom()
    with known.watching("POST", "/keys", full):
        try:
            failure = known.failure(desired())
        finally:
            full.end()
    assert "cannot be written" in failure["what"]
    assert f"delete the key {known.key()['name']}" in failure["todo"]


def test_a_record_that_cannot_be_written_after(known: Bench) -> None:
    """The secret is stored, so the next run takes the key that it belongs to."""
    state = known.folder / "state"

    def lose_state() -> None:
        state.rename(known.folder / "gone")
        state.write_text("a file where a directory belongs")

    with known.watching("POST", "/keys", lose_state):
        failure = known.failure(desired())
    assert "state/acme.json" in failure["where"]
    assert sha256(known.secret() or "") == known.key()["hash"]
    state.unlink()
    (known.folder / "gone").rename(state)
    row = known.one(desired())
    assert "did not know the key" in row["warnings"][0]
    assert len(known.living()) == 1
    healed(known)


# --- OpenRouter fails in the middle ---------------------------------------------------------------

#: Where, how, and how many keys there are then.
CREATES: list[tuple[dict[str, Any], int]] = [
    ({"cut": "before"}, 0),
    ({"cut": "after"}, 1),
    ({"cut": "middle"}, 1),
    ({"status": 500}, 0),
    ({"status": 500, "act": True}, 1),
    ({"status": 503, "act": True, "retry_after": 0}, 1),
    ({"status": 524, "act": True}, 1),
    ({"status": 400}, 0),
    ({"status": 403}, 0),
]


@pytest.mark.parametrize(
    ("fault", "made"), CREATES, ids=[repr(fault) for fault, _ignored in CREATES]
)
def test_a_create_that_fails(
    known: Bench, simulator: Simulator, fault: dict[str, Any], made: int
) -> None:
    simulator.fault(method="POST", path="/keys", **fault)
    failure = known.failure(desired())
    assert failure["where"] == f"POST {simulator.url}/keys"
    assert len(known.living()) == made
    refused = fault.get("status") in (400, 403)
    assert len(known.record("acme").attempts) == (0 if refused else 1)
    row = known.one(desired())
    if not made:
        healed(known, generation=1 if refused else 2)
        return
    # A key that nobody has the secret of is recognised by its name, disabled and replaced.
    orphan = known.living()[0]
    (former,) = known.record("acme").former
    assert (former.hash, former.why.value) == (orphan["hash"], "orphan")
    assert orphan["disabled"] and former.since
    assert orphan["name"] in row["warnings"][0]
    healed(known, generation=2)


def test_a_replacement_whose_answer_is_lost(known: Bench, simulator: Simulator) -> None:
    """The client goes on with the key that it has."""
    known.one(desired())
    before = known.store.secrets("acme")
    simulator.fault(method="POST", path="/keys", cut="after")
    known.failure(desired(replace=True))
    current, orphan = known.living()
    row = known.one(desired())
    assert known.store.secrets("acme") == before
    assert orphan["name"] in row["warnings"][0]
    assert [key["disabled"] for key in known.living()] == [False, True]
    healed(known)
    known.one(desired(replace=True))
    former = {one.hash: one.why.value for one in known.record("acme").former}
    assert former == {current["hash"]: "replaced", orphan["hash"]: "orphan"}
    assert known.record("acme").generation == 3


@pytest.mark.parametrize("fault", [{"cut": "before"}, {"cut": "after"}, {"status": 500}], ids=repr)
@pytest.mark.parametrize("path", ["/guardrails", "/guardrails/.*/assignments/keys"])
def test_a_fence_that_fails_is_put_up_by_the_next_run(
    known: Bench, simulator: Simulator, path: str, fault: dict[str, Any]
) -> None:
    simulator.fault(method="POST", path=path, **fault)
    known.failure(desired())
    known.one(desired())
    assert len(known.living()) == 1
    healed(known, generation=known.record("acme").generation)


def test_429_on_the_create_is_waited_for(known: Bench, simulator: Simulator) -> None:
    simulator.fault(method="POST", path="/keys", status=429, times=2, retry_after=0)
    known.one(desired())
    healed(known)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", [{"cut": "after"}, {"status": 502, "act": True}], ids=repr)
def test_a_change_is_repeated(
    known: Bench, simulator: Simulator, fault: dict[str, Any], times: int
) -> None:
    known.one(desired())
    simulator.fault(method="PATCH", times=times, **fault)
    known.one(desired(limit=5))
    assert known.key()["limit"] == 5


# --- the controller dies in the middle ------------------------------------------------------------


class Killed(BaseException):
    """Not an error that anything could catch and act upon, as a power cut."""


class Dying:
    """A store that dies when so many of its calls have returned."""

    def __init__(self, store: Store, calls: int) -> None:
        self._store = store
        self._left = calls

    def save_record(self, record: Record) -> None:
        self._count()
        self._store.save_record(record)

    def secrets(self, client: str) -> dict[str, str]:
        self._count()
        return self._store.secrets(client)

    def save_secrets(self, client: str, secrets: Mapping[str, str]) -> None:
        self._count()
        self._store.save_secrets(client, secrets)

    def note(self, client: str, what: str, result: str, **details: Any) -> None:
        self._count()
        self._store.note(client, what, result, **details)

    def can_note(self, client: str) -> None:
        self._store.can_note(client)

    def _count(self) -> None:
        if not self._left:
            raise Killed
        self._left -= 1


@pytest.mark.parametrize("calls", range(9))
def test_a_death_between_any_two_steps_loses_no_key_silently(known: Bench, calls: int) -> None:
    """The steps: attempt, secrets read and written, guardrail made and noted, secrets read, POST,
    secret stored, create noted, record, and the fence noted.
    """
    with pytest.raises(Killed):
        known.run(desired(), store=Dying(known.store, calls))
    stored, made = known.secret(), known.living()
    attempted = len(known.record("acme").attempts)
    known.one(desired())
    lost = bool(made and not stored)
    assert lost == (calls == 5)
    assert len(known.living()) == 1 + lost
    healed(known, generation=1 if stored or not attempted else 2)


CHILD = """
import sys
sys.path[:0] = sys.argv[4:]
from pathlib import Path
from simulator.simulator import RemoteSimulator
from unit.keys.bench import Bench, desired
bench = Bench(RemoteSimulator(sys.argv[1], sys.argv[2]), Path(sys.argv[3]))
bench.run(desired())
"""


@pytest.mark.parametrize("path", ["/keys", "/guardrails/.*/assignments/keys"])
def test_a_process_that_is_killed(known: Bench, simulator: Simulator, path: str) -> None:
    """By the kernel, when OpenRouter has its request: it is acted upon, and nobody hears of it."""
    roots = [str(TESTS), *sys.path]
    arguments = [simulator.url, simulator.management_key, str(known.folder), *roots]
    process = subprocess.Popen([sys.executable, "-c", CHILD, *arguments])
    dead: list[int] = []

    def kill() -> None:
        os.kill(process.pid, signal.SIGKILL)
        dead.append(process.wait())

    with known.watching("POST", path, kill):
        process.wait(timeout=30)
    assert dead == [-signal.SIGKILL]
    row = known.one(desired())
    lost = path == "/keys"
    assert len(known.living()) == 1 + lost
    assert row["changed"] == lost
    healed(known, generation=1 + lost)


def test_what_a_killed_process_leaves_lying_does_no_harm(known: Bench) -> None:
    known.one(desired())
    for folder in ("secrets", "state"):
        for left in (".acme.yml.0123abcd", ".acme.json.0123abcd"):
            (known.folder / folder / left).write_bytes(b"half a fi")
    known.store.verify()
    assert list(known.store.records()) == ["acme"]
    before = files(known.folder)
    healed(known)
    assert files(known.folder) == before
