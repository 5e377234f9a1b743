# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that end: replaced ahead of it, by whatever run comes, as if somebody had asked for it."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.action import fleet_keys, fleet_proof
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import parse, stamp
from unit.keys.bench import Bench, Row
from unit.keys.stages import Stages

#: Replaced from the 23rd day on.
MONTH = {"key_lifetime_days": 30, "key_renew_days": 7}


@pytest.fixture
def stages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """One client with a key of thirty days, on a clock that the test can put forward."""
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", bench.simulator.management_key)
    for module in (fleet_keys, fleet_proof):
        monkeypatch.setattr(module, "now", lambda: bench.now)
    stages = Stages(bench)
    stages.client("acme", **MONTH)
    stages.run()
    return stages


def run(stages: Stages, **options: Any) -> bool:
    """What site does, with nothing asked. Whether it changed anything."""
    stages.results = []
    stages.keys(**options)
    if not options.get("check"):
        stages.prove()
        stages.once("fleet_keys", retire=True, grace=86400)
    return any(result["changed"] for result in stages.results)


def after(stages: Stages, days: float) -> bool:
    stages.bench.simulator.advance(days=days)
    return run(stages)


def generations(stages: Stages) -> list[tuple[int, bool]]:
    """Which keys there are, and whether each works."""
    return [
        (int(row["name"].split("/")[3][1:]), not row["disabled"]) for row in stages.bench.living()
    ]


def days_left(stages: Stages) -> float:
    """Of the newest key."""
    end: str = stages.bench.living()[-1]["expires_at"]
    return (parse(end) - stages.bench.now) / datetime.timedelta(days=1)


def gate(stages: Stages, name: str) -> Row:
    (found,) = [gate for gate in stages.row()["gates"] if gate["gate"] == name]
    return dict(found)


def test_a_new_key_has_its_end(stages: Stages) -> None:
    assert days_left(stages) == pytest.approx(30, abs=0.01)
    lines = (stages.bench.folder / "journal" / "acme.jsonl").read_text(encoding="utf-8")
    assert f'"expires_at": "{stages.bench.key()["expires_at"]}"' in lines
    assert not run(stages)


def test_it_is_replaced_ahead_of_its_end(stages: Stages) -> None:
    assert not after(stages, 22.9)
    assert after(stages, 0.2)
    assert generations(stages) == [(1, False), (2, True)]
    assert days_left(stages) == pytest.approx(30, abs=0.01)
    assert stages.row()["warnings"] == []
    assert not run(stages)
    after(stages, 1.1)
    assert generations(stages) == [(2, True)]


def test_one_that_has_expired_is_replaced_with_a_warning(stages: Stages) -> None:
    end = stages.bench.key()["expires_at"]
    assert after(stages, 31)
    (warning,) = stages.row()["warnings"]
    assert f"/g1/{stages.bench.living()[0]['name'][-8:]} ended on {end}" in warning
    assert stages.row()["failure"] is None
    assert generations(stages) == [(1, False), (2, True)]


@pytest.mark.parametrize("days", [24, 31])
def test_check_mode_foretells_it(stages: Stages, days: float) -> None:
    stages.bench.simulator.advance(days=days)
    before, written = stages.record(), stages.bench.writes()
    assert run(stages, check=True)
    end = stamp(stages.bench.now + datetime.timedelta(days=30))
    (diff,) = stages.results[-1]["diff"]
    assert "key: a new key\n" in diff["after"]
    assert f"ends: {end[:16]}" in diff["after"]
    assert f"ends: {stages.bench.key()['expires_at']}\n" in diff["before"]
    assert bool(stages.row()["warnings"]) == (days == 31)
    assert (stages.record(), stages.bench.writes()) == (before, written)


@pytest.mark.parametrize(("age", "waits"), [(10, 13), (40, 0)])
def test_turned_on_a_key_without_an_end_is_replaced_by_its_age(
    stages: Stages, age: float, waits: float
) -> None:
    stages.client("beta")
    run(stages)
    stages.bench.simulator.advance(days=age)
    stages.client("beta", **MONTH)
    run(stages)
    if waits:
        assert stages.record("beta").generation == 1
        assert after(stages, waits + 0.1)
    assert stages.record("beta").generation == 2
    assert stages.bench.living("beta")[-1]["expires_at"]


def test_turned_off_the_last_key_with_an_end_is_replaced_by_one_without(stages: Stages) -> None:
    stages.client("acme")
    assert not after(stages, 20)
    assert generations(stages) == [(1, True)]
    assert after(stages, 4)
    assert generations(stages) == [(1, False), (2, True)]
    assert stages.bench.living()[-1]["expires_at"] is None
    assert not after(stages, 0.5)


def test_a_shorter_life_is_one_for_keys_that_exist_too(stages: Stages) -> None:
    stages.client("acme", key_lifetime_days=10)
    assert after(stages, 4)
    assert generations(stages) == [(1, False), (2, True)]
    assert days_left(stages) == pytest.approx(10, abs=0.01)


def test_a_suspended_client_gets_another_key_when_it_comes_back(stages: Stages) -> None:
    stages.client("acme", state="suspended", **MONTH)
    after(stages, 31)
    assert generations(stages) == [(1, False)]
    stages.client("acme", **MONTH)
    run(stages)
    assert generations(stages) == [(1, False), (2, True)]
    assert stages.row()["failure"] is None


def test_one_that_is_asked_back_stays_until_the_next_run(stages: Stages) -> None:
    after(stages, 24)
    for _again in range(2):
        stages.keys(undo="acme")
        assert stages.record().generation == 1
    stages.keys()
    assert stages.record().generation == 3


def test_one_that_has_expired_cannot_be_had_back(stages: Stages) -> None:
    after(stages, 29.5)
    stages.bench.simulator.advance(days=0.7)
    stages.keys(undo="acme")
    assert "or has expired" in stages.row()["failure"]["what"]


def test_what_nobody_knows_stops_it_as_it_stops_everything(stages: Stages) -> None:
    """Nobody asked for a replacement, so it does not settle what a person has to."""
    name = f"mai/hosting/acme/g7/{'0' * 8}"
    stages.bench.quietly("POST", "/keys", {"name": name})
    after(stages, 24)
    assert "another key of this client is alive" in stages.row()["failure"]["what"]
    assert generations(stages) == [(1, True), (7, True)]


def test_a_successor_is_replaced_too_although_its_predecessor_is_in_use(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else uses the first key without an end, so its replacement does not come to one."""
    simulator = stages.bench.simulator
    stages.client("beta")
    run(stages)
    first = stages.bench.living("beta")[0]["hash"]
    spent = iter(range(1, 99))
    monkeypatch.setattr(time, "sleep", lambda _quiet: simulator.set_usage(first, next(spent)))
    stages.client("beta", **MONTH)
    after(stages, 23.5)
    assert after(stages, 24)
    rows = [(row["name"].split("/")[3], row["disabled"]) for row in stages.bench.living("beta")]
    assert rows == [("g1", False), ("g2", True), ("g3", False)]


def test_the_gate_says_when_it_ends(stages: Stages) -> None:
    end = stages.bench.key()["expires_at"]
    assert gate(stages, "end")["seen"] == f"ends {end}"
    stages.client("beta")
    run(stages)
    assert "end" not in {gate["gate"] for gate in stages.row("beta")["gates"]}


@pytest.mark.parametrize(("left", "passes"), [(4, True), (3, False)])
def test_the_gate_fails_when_nothing_replaces_it(stages: Stages, left: float, passes: bool) -> None:
    stages.bench.simulator.advance(days=30 - left)
    stages.once("fleet_preflight", select="")
    stages.prove(scope="all")
    found = gate(stages, "end")
    assert found["passed"] == passes
    if not passes:
        assert found["expected"] == "another key 7 days before the end"
        assert "mai.fleet.site -e fleet_select=acme" in found["todo"]
