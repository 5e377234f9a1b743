# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs whose files are thrown away after the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._workspace import refuse_fleeting

JOBS = [
    ({"GITHUB_ACTIONS": "true", "CI": "true"}, "a job of GitHub Actions"),
    ({"GITLAB_CI": "true"}, "a job of GitLab CI"),
    ({"JENKINS_URL": "https://ci.example.com/"}, "a Jenkins job"),
    ({"TF_BUILD": "True"}, "a job of Azure Pipelines"),
    ({"CI": "1"}, "a CI job"),
    ({"AWX_ISOLATED_DATA_DIR": "/runner/artifacts/7"}, "an AWX job"),
]


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    places = {name: str(folder / name) for name in ("secrets", "state", "journal")}
    return {"file": str(folder / "fleet.yml"), **places, **changes}


@pytest.mark.parametrize(("environment", "what"), JOBS)
def test_a_job_is_refused(tmp_path: Path, environment: dict[str, str], what: str) -> None:
    with pytest.raises(FleetError, match=what) as raised:
        refuse_fleeting(config(tmp_path), True, environment)
    assert raised.value.where == "fleet.yml: secret_store, state, journal"
    for hint in ("hashi_vault", "absolute paths", "workspace_lasts: true"):
        assert hint in raised.value.todo


@pytest.mark.parametrize("environment", [{}, {"CI": "false"}, {"CI": ""}, {"CI": "0"}])
def test_an_operators_machine_is_not(tmp_path: Path, environment: dict[str, str]) -> None:
    refuse_fleeting(config(tmp_path), True, environment)


def test_the_operator_says_that_it_lasts(tmp_path: Path) -> None:
    refuse_fleeting(config(tmp_path, workspace_lasts=True), True, {"CI": "true"})


def test_records_and_journals_have_to_last_as_well(tmp_path: Path) -> None:
    job = {"GITHUB_ACTIONS": "true"}
    with pytest.raises(FleetError) as raised:
        refuse_fleeting(config(tmp_path), False, job)
    assert raised.value.where == "fleet.yml: state, journal"
    lasting = {"state": "/mnt/fleet/state", "journal": "/mnt/fleet/journal"}
    refuse_fleeting(config(tmp_path, **lasting), False, job)
    with pytest.raises(FleetError) as raised:
        refuse_fleeting(config(tmp_path, **lasting), True, job)
    assert raised.value.where == "fleet.yml: secret_store"


def test_all_of_the_checkout_is_thrown_away(tmp_path: Path) -> None:
    """Not only the directory of fleet.yml."""
    beside = {"state": str(tmp_path / "state"), "journal": str(tmp_path / "journal")}
    given = config(tmp_path / "inventory", **beside)
    refuse_fleeting(given, False, {"CI": "true"})
    with pytest.raises(FleetError, match="GitLab"):
        refuse_fleeting(given, False, {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(tmp_path)})


def test_an_execution_environment_is_known_by_its_place() -> None:
    given = config(Path("/runner/project/fleet"))
    with pytest.raises(FleetError, match="an execution environment's project"):
        refuse_fleeting(given, True, {})
    inside = {"state": "/runner/state", "journal": "/runner/journal"}
    with pytest.raises(FleetError):
        refuse_fleeting({**given, **inside}, False, {"AWX_PRIVATE_DATA_DIR": "/tmp/awx_1"})
