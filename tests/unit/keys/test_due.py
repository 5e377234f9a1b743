# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``fleet_select=due``: who needs a run because of the time, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.action import fleet_keys, fleet_preflight, fleet_proof
from unit.keys.bench import Bench, Row
from unit.keys.stages import SERVERS, Stages

DAY = 86400.0
MONTH = {"key_lifetime_days": 30, "key_renew_days": 7}


@pytest.fixture
def stages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Two clients with keys, of whom acme's ends, on a clock that the test can put forward."""
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", bench.simulator.management_key)
    for module in (fleet_keys, fleet_preflight, fleet_proof):
        monkeypatch.setattr(module, "now", lambda: bench.now)
    stages = Stages(bench)
    stages.client("acme", **MONTH)
    stages.client("beta")
    stages.run()
    return stages


def due(stages: Stages) -> set[str]:
    stages.once("fleet_preflight", select="due", grace=DAY)
    return set(stages.state["clients"])


def run(stages: Stages, **options: Any) -> None:
    """A run for those that are due."""
    due(stages)
    stages.everywhere("fleet_recover")
    stages.once("fleet_keys", **options)
    stages.prove()
    stages.once("fleet_keys", retire=True, grace=DAY)


def rotate(stages: Stages, spent: float = 30) -> None:
    """Give beta another key, in a window in which it has spent something."""
    stages.bench.simulator.set_usage(stages.bench.living("beta")[-1]["hash"], spent)
    stages.keys(replace="beta")
    stages.prove()
    stages.once("fleet_keys", retire=True, grace=DAY)


def limit(stages: Stages) -> float | None:
    found: float | None = stages.bench.living("beta")[-1]["limit"]
    return found


def test_nobody_and_nothing_is_done(stages: Stages) -> None:
    modules, writes = list(stages.modules), stages.bench.writes()
    run(stages)
    assert stages.state["clients"] == {}
    assert (stages.modules, stages.bench.writes()) == (modules, writes)


def test_a_cap_that_is_full_again(stages: Stages) -> None:
    rotate(stages)
    stages.client("beta", limit_reset="weekly")
    stages.run()
    assert limit(stages) == 70
    stages.bench.simulator.advance(hours=1)
    assert due(stages) == set()
    stages.bench.simulator.advance(days=7)
    assert due(stages) == {"beta"}
    run(stages)
    assert limit(stages) == 100
    stages.bench.simulator.advance(days=2)
    run(stages)
    assert due(stages) == set()


def test_a_key_that_ends(stages: Stages) -> None:
    stages.bench.simulator.advance(days=22)
    assert due(stages) == set()
    stages.bench.simulator.advance(days=1.1)
    assert due(stages) == {"acme"}
    run(stages)
    assert stages.record().generation == 2
    assert due(stages) == set()


def test_one_that_has_ended(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    end = stages.bench.key()["expires_at"]
    stages.bench.simulator.advance(days=31)
    assert due(stages) == {"acme"}
    assert f"acme is due: its key ended on {end}" in capsys.readouterr().out


@pytest.mark.parametrize("state", ["suspended", "absent"])
def test_who_is_not_served_waits(stages: Stages, state: str) -> None:
    stages.client("acme", state=state, **MONTH)
    stages.run()
    stages.bench.simulator.advance(days=31)
    assert due(stages) == set()


def test_a_former_key_past_its_grace(stages: Stages) -> None:
    rotate(stages, spent=0)
    stages.bench.simulator.advance(hours=23)
    assert due(stages) == set()
    stages.bench.simulator.advance(hours=2)
    assert due(stages) == {"beta"}
    run(stages)
    assert len(stages.bench.living("beta")) == 1
    assert due(stages) == set()


def test_a_rotation_that_was_begun(stages: Stages) -> None:
    stages.keys(replace="beta")
    assert due(stages) == {"beta"}
    run(stages)
    assert due(stages) == set()


def test_a_create_of_which_nobody_knows(stages: Stages) -> None:
    stages.client("gamma")
    stages.bench.simulator.fault(method="POST", path="/keys", cut="after")
    stages.keys()
    assert stages.row("gamma")["failure"]
    assert due(stages) == {"gamma"}


def test_a_client_that_was_never_deployed_is_not(stages: Stages) -> None:
    stages.client("gamma")
    assert due(stages) == set()


def test_a_record_that_cannot_be_read_is_for_a_person(stages: Stages) -> None:
    (stages.bench.folder / "state" / "beta.json").write_text("{", encoding="utf-8")
    assert due(stages) == {"beta"}
    assert "not this client's record" in stages.row("beta")["failure"]["what"]


def test_other_words_beside_it(stages: Stages) -> None:
    stages.bench.simulator.advance(days=24)
    stages.once("fleet_preflight", select="due,beta", grace=DAY)
    assert set(stages.state["clients"]) == {"acme", "beta"}


def test_it_is_no_word_for_what_a_person_decides(stages: Stages) -> None:
    state = stages.once("fleet_preflight", select="")
    failed = stages.attempt("fleet_keys", SERVERS[0], {"replace": "due", "state": state})
    assert "due names no client" in failed["msg"]


# --- the management key in a file -----------------------------------------------------------------


def attempt(stages: Stages) -> Row:
    return stages.attempt("fleet_preflight", SERVERS[0], {"select": "due"})


def test_the_management_key_may_be_in_a_file(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "management-key"
    file.write_text(f"{stages.bench.simulator.management_key}\n", encoding="utf-8")
    monkeypatch.delenv("OPENROUTER_MANAGEMENT_KEY")
    assert "OPENROUTER_MANAGEMENT_KEY_FILE" in attempt(stages)["msg"]
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY_FILE", str(file))
    assert attempt(stages)["clients"] == {}


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "management-key"
    if content:
        file.write_bytes(content)
    monkeypatch.delenv("OPENROUTER_MANAGEMENT_KEY")
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY_FILE", str(file))
    assert f"{file}: the management key cannot be read" in attempt(stages)["msg"]
