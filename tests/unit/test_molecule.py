# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every scenario has what its sequence needs: molecule itself only warns, and passes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

MOLECULE = Path(__file__).resolve().parents[2] / "molecule"
SCENARIOS = sorted(file.parent for file in MOLECULE.glob("*/molecule.yml"))
# Steps that are no playbook of their own.
CONVERGE_AGAIN = {"idempotence", "check", "syntax"}

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def configuration(scenario: Path) -> tuple[dict[str, str], list[str]]:
    """Playbooks by step, and the steps of ``molecule test``."""
    base, own = load(MOLECULE / "config.yml"), load(scenario / "molecule.yml")
    playbooks: dict[str, str] = {}
    for config in (base, own):
        playbooks |= config.get("ansible", {}).get("playbooks", {})
    sequence = own.get("scenario", base["scenario"])
    return playbooks, sequence.get("test_sequence", base["scenario"]["test_sequence"])


def missing(scenario: Path) -> list[str]:
    """Steps of the scenario that molecule would leave out with a warning."""
    playbooks, sequence = configuration(scenario)
    wrong = []
    for step in sequence:
        name, *arguments = step.split()
        if name == "verify":
            folders = arguments or ["tests"]
            there = all(any((scenario / folder).rglob("test_*.py")) for folder in folders)
        elif arguments:
            there = all((scenario / argument).is_file() for argument in arguments)
        else:
            playbook = playbooks.get("converge" if name in CONVERGE_AGAIN else name, "")
            there = bool(playbook) and (scenario / playbook).is_file()
        if not there:
            wrong.append(step)
    return wrong


def test_there_are_the_scenarios_that_make_test_runs() -> None:
    assert {"default", "fleet"} <= {scenario.name for scenario in SCENARIOS}


@each_scenario
def test_a_scenario_has_all_that_its_steps_need(scenario: Path) -> None:
    assert missing(scenario) == []


@each_scenario
def test_a_scenario_creates_converges_twice_verifies_and_destroys(scenario: Path) -> None:
    steps = [step.split()[0] for step in configuration(scenario)[1]]
    assert {"create", "converge", "idempotence", "verify", "destroy"} <= set(steps)
    assert steps[-1] == "destroy"


def test_a_missing_playbook_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "molecule.yml").write_text("ansible: {playbooks: {converge: convrege.yml}}\n")
    assert missing(tmp_path) == ["create", "converge", "idempotence", "verify", "destroy"]


@each_scenario
def test_a_scenario_has_a_network_of_its_own(scenario: Path) -> None:
    """tools/molecule takes it from the inventory's first address."""
    networks: dict[str, set[str]] = {}
    for other in SCENARIOS:
        text = (other / "inventory" / "servers.yml").read_text(encoding="utf-8")
        found = re.findall(r"(?:ansible_host|rehearsal_address): (198\.1[89]\.\d+)\.\d+", text)
        networks[other.name] = set(found)
    mine = networks.pop(scenario.name)
    assert len(mine) == 1
    assert not any(mine & theirs for theirs in networks.values())


def test_an_unknown_scenario_is_refused_by_name() -> None:
    tool = MOLECULE.parent / "tools" / "molecule"
    done = subprocess.run(
        [tool, "down", "defualt"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "there is no scenario defualt; there are: default" in done.stderr
