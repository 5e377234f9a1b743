# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens while no run looks: requests that are acted upon late, other clocks, a dashboard."""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from ansible_collections.mai.fleet.plugins.action import fleet_keys, fleet_proof
from ansible_collections.mai.fleet.plugins.module_utils._reconcile import changes, records
from unit.keys.bench import Bench, Row, desired
from unit.keys.stages import Stages

DAY = 86400.0


def clock(monkeypatch: pytest.MonkeyPatch, bench: Bench, **ahead: float) -> None:
    """The controller's, compared with OpenRouter's."""
    for module in (fleet_keys, fleet_proof):
        monkeypatch.setattr(module, "now", lambda: bench.now + datetime.timedelta(**ahead))


@pytest.fixture
def stages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Stages:
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", bench.simulator.management_key)
    clock(monkeypatch, bench)
    stages = Stages(bench)
    stages.client("acme")
    stages.run()
    return stages


@contextmanager
def unanswered(stages: Stages, method: str, path: str) -> Iterator[None]:
    """Requests that have no answer, and that OpenRouter may act upon when it likes."""
    stages.bench.simulator.fault(method=method, path=path, cut="before", times=0)
    yield
    stages.bench.simulator.clear_faults()


def retire(stages: Stages, grace: float = DAY) -> Row:
    return stages.once("fleet_keys", retire=True, grace=grace)


def go_on(stages: Stages, replace: str = "") -> None:
    stages.keys(replace=replace)
    stages.prove()
    retire(stages)
    assert stages.row()["failure"] is None


def working(stages: Stages) -> list[str]:
    return [row["hash"] for row in stages.bench.living() if not row["disabled"]]


def next_month(at: datetime.datetime) -> datetime.datetime:
    first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + datetime.timedelta(days=32)).replace(day=1)


# --- late ---------------------------------------------------------------------------------------


def test_nobody_goes_back_to_a_key_that_is_deleted_late(stages: Stages) -> None:
    go_on(stages, replace="acme")
    old, new = (row["hash"] for row in stages.bench.living())
    stages.bench.simulator.advance(hours=25)
    stages.keys()
    stages.prove()
    with unanswered(stages, "DELETE", "/keys/.*"):
        retire(stages)
    stages.keys(undo="acme")
    assert "there is no key to go back to" in stages.row()["failure"]["what"]
    stages.bench.quietly("DELETE", f"/keys/{old}")
    assert working(stages) == [new]


@pytest.mark.parametrize("behind", [0, 2])
def test_a_deletion_that_was_begun_is_finished_in_spite_of_grace_and_clocks(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    go_on(stages, replace="acme")
    stages.bench.simulator.advance(hours=24.5 if behind else 1)
    stages.keys()
    stages.prove()
    with unanswered(stages, "DELETE", "/keys/.*"):
        retire(stages, DAY if behind else 0)
    clock(monkeypatch, stages.bench, hours=-behind)
    go_on(stages)
    go_on(stages)
    assert len(stages.bench.living()) == 1
    assert stages.record().former == []


def test_a_key_that_is_made_late_is_known_to_a_client_that_went_and_came_back(
    stages: Stages,
) -> None:
    with unanswered(stages, "POST", "/keys"):
        stages.keys(replace="acme")
    name = stages.record().attempts[0].name
    stages.client("acme", state="absent")
    stages.keys()
    stages.client("acme", state="present")
    go_on(stages)
    stages.bench.quietly("POST", "/keys", {"name": name})
    go_on(stages)
    assert working(stages) == [stages.record().key_hash]


def test_undo_of_a_rotation_that_was_killed_before_it_was_written_down(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = stages.record().key_hash

    def killed(*_given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changes.Changes, "key_created", killed)
        with pytest.raises(KeyboardInterrupt):
            stages.keys(replace="acme")
    stages.keys(undo="acme")
    assert stages.row()["failure"] is None
    assert stages.record().key_hash == old
    # The next stage puts them right.
    store = stages.bench.store
    store.save_secrets("acme", records.chosen(store.secrets("acme"), old))
    go_on(stages)
    assert working(stages) == [old]


def test_a_fast_clock_takes_no_cap_of_the_next_month(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = stages.bench
    bench.simulator.advance(seconds=(next_month(bench.now) - bench.now).total_seconds() - 300)
    clock(monkeypatch, bench, minutes=10)
    bench.simulator.set_usage(stages.record().key_hash, 90)
    go_on(stages, replace="acme")
    bench.simulator.advance(days=0.5)
    clock(monkeypatch, bench)
    go_on(stages)
    assert bench.living()[-1]["limit"] == 100


# --- while keys are listed ----------------------------------------------------------------------


def second_page(bench: Bench, act: Callable[[], object]) -> Callable[[], None]:
    """Acts before the second page of keys is read."""
    pages = iter(range(1000))

    def look() -> None:
        if next(pages) == 1:
            act()

    return look


def test_a_key_that_is_listed_twice_is_one(bench: Bench) -> None:
    bench.one(desired())
    bench.simulator.set_usage(bench.key()["hash"], 30)
    for number in range(99):
        bench.quietly("POST", "/keys", {"name": f"another {number}"})
    made = second_page(bench, lambda: bench.quietly("POST", "/keys", {"name": "made meanwhile"}))
    with bench.watching("GET", "/keys", made):
        bench.one(desired())
    assert bench.key()["limit"] == 100


def test_what_a_key_spent_counts_though_it_slipped_past_the_listing(bench: Bench) -> None:
    bench.one(desired())
    bench.simulator.set_usage(bench.key()["hash"], 90)
    others = [
        bench.quietly("POST", "/keys", {"name": f"another {number}"})["data"]["hash"]
        for number in range(100)
    ]
    gone = second_page(bench, lambda: bench.quietly("DELETE", f"/keys/{others[-1]}"))
    with bench.watching("GET", "/keys", gone):
        bench.one(desired(replace=True))
    assert bench.living()[-1]["limit"] == 10


# --- in a dashboard, or by another record -------------------------------------------------------


def test_a_former_key_that_somebody_enabled_is_said_to_be_disabled_again(stages: Stages) -> None:
    go_on(stages, replace="acme")
    old = stages.bench.living()[0]["hash"]
    stages.bench.quietly("PATCH", f"/keys/{old}", {"disabled": False})
    stages.results = []
    stages.keys(check=True)
    assert any(result["changed"] for result in stages.results)
    stages.results = []
    stages.keys()
    assert any(result["changed"] for result in stages.results)
    assert working(stages) == [stages.record().key_hash]


def test_a_key_that_is_used_without_costs_is_used(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.keys(replace="acme")
    stages.prove()
    bench, old = stages.bench, stages.bench.living()[0]["hash"]
    keys = bench.simulator.engine.state.keys

    def chat(_quiet: float) -> None:
        keys[old] = dataclasses.replace(keys[old], last_used_at=bench.simulator.state["now"])

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(time, "sleep", chat)
        retire(stages)
    assert "is used still" in stages.row()["warnings"][-1]
    assert old in working(stages)


@pytest.mark.parametrize("how", ["suspended", "absent", "replaced"])
def test_a_record_that_names_another_clients_key_does_it_no_harm(stages: Stages, how: str) -> None:
    """As an adoption leaves it that was cut off and then done under another name."""
    key = stages.record().key_hash
    stale = dataclasses.replace(stages.record(), client="zebra", attempts=[], former=[])
    stages.bench.store.save_record(stale)
    stages.client("zebra", state="present" if how == "replaced" else how)
    stages.keys(replace="zebra" if how == "replaced" else "")
    stages.prove()
    retire(stages, 0)
    assert working(stages) == [key]


def test_a_mistake_in_one_record_is_that_clients_alone(stages: Stages) -> None:
    stages.client("beta")
    stages.keys()
    path = stages.bench.folder / "state" / "acme.json"
    record = json.loads(path.read_text())
    record["remainder"] = {"limit": 5, "until": "next month"}
    path.write_text(json.dumps(record))
    stages.keys()
    assert stages.row("acme")["failure"] and not stages.row("beta")["failure"]


def test_what_nobody_foresaw_ends_one_client(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench.store.secrets

    def secrets(client: str) -> dict[str, str]:
        if client == "acme":
            raise RuntimeError("sk-or-v1-planted")
        return real(client)

    monkeypatch.setattr(bench.store, "secrets", secrets)
    rows = bench.run(desired("acme"), desired("beta"))
    assert "unforeseen RuntimeError" in rows["acme"]["failure"]["what"]
    assert "planted" not in rows["acme"]["failure"]["what"]
    assert not rows["beta"].get("failed")


def test_a_suspended_clients_key_is_disabled_whatever_is_wrong_with_its_file(
    stages: Stages,
) -> None:
    stages.client("acme", state="suspended", models=["nobody/nothing"])
    stages.keys(check=True)
    assert working(stages) == [stages.record().key_hash]
    stages.keys()
    assert working(stages) == []
    assert stages.row()["failure"]["stage"] == "preflight"
    assert "all of its keys are disabled all the same" in stages.row()["warnings"]
