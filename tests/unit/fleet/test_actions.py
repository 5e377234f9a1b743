# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions make of one client's trouble, without a run around them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible.template import Templar
from ansible_collections.mai.fleet.plugins.action.fleet_onboard import _as_yaml
from ansible_collections.mai.fleet.plugins.action.fleet_proof import _covers
from ansible_collections.mai.fleet.plugins.action.fleet_report import ActionModule as Report
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import resolve
from ansible_collections.mai.fleet.plugins.plugin_utils._instance import keep_tokens
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage, days_of

FAILED = {"stage": "preflight", "what": "the server changed", "where": "", "todo": ""}
ROW = {"server": "web1", "state": "present", "instance": "webui", "failure": FAILED}


def report(state: Path, **fields: Any) -> Report:
    content = {
        "schema": 1,
        "organization": "Acme",
        "server": "web1",
        "admin_email": "it@acme.example",
        **fields,
    }
    client, problems = resolve("acme", content, "clients/acme.yml", {}, ["web1"])
    assert not problems
    action: Report = object.__new__(Report)
    action._loader = DataLoader()
    action._vars = {"fleet_config": dict.fromkeys(("secrets", "state", "journal"), str(state))}
    action._raw_vars = {"web1": {"fleet_clients": {"acme": client}}}
    return action


def test_the_report_has_a_line_for_a_client_that_came_to_no_port(tmp_path: Path) -> None:
    line = report(tmp_path)._line("acme", {**ROW, "port": 0})
    assert line == report(tmp_path)._line("acme", dict(ROW))
    assert (line["state"], line["url"], line["key"], line["models"]) == ("FAILED", "-", "-", "?/12")


def test_the_report_has_a_line_for_a_client_whose_record_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "acme.json").write_text("{", encoding="utf-8")
    assert report(tmp_path)._line("acme", dict(ROW))["key"] == "-"


def test_the_report_shows_a_limit_to_the_cent(tmp_path: Path) -> None:
    line = report(tmp_path, spending_limit=1234567.89)._line("acme", dict(ROW))
    assert line["limit"] == "1234567.89 monthly"


class FullDisk:
    """A store that has room for one client only."""

    def __init__(self) -> None:
        self.saved: dict[str, dict[str, str]] = {}

    def secrets(self, client: str) -> dict[str, str]:
        return {"api_key": client}

    def save_secrets(self, client: str, secrets: dict[str, str]) -> None:
        if client == "acme":
            raise FleetError("cannot be written", "secrets/acme.yml", "make room")
        self.saved[client] = secrets


def test_a_token_that_cannot_be_stored_is_the_matter_of_one_client() -> None:
    store = FullDisk()
    payload = {name: {"webui_secret_key": "k"} for name in ("acme", "beta", "gamma")}
    made = {"accounts": {"probe": {"id": "1", "stamp": None}}}
    broken = keep_tokens(store, payload, {"acme": made, "beta": made, "gamma": {}})  # type: ignore[arg-type]
    assert list(broken) == ["acme"]
    assert broken["acme"]["failure"]["where"] == "secrets/acme.yml"
    assert {name: set(secrets) for name, secrets in store.saved.items()} == {
        "beta": {"api_key", "probe_token"}
    }


@pytest.mark.parametrize(
    ("proven", "gates", "known"),
    [
        ("", [], False),
        ("d1", [], True),
        ("d1", ["chat"], False),
        ("d1+chat", ["chat"], True),
        ("d1+chat", ["chat", "fence"], False),
        ("d1+chat+fence", ["fence"], True),
        ("d2+chat+fence", [], False),
    ],
)
def test_what_was_proven_with_fewer_gates_is_proven_again(
    proven: str, gates: list[str], known: bool
) -> None:
    assert _covers(proven, "d1", gates) is known


@pytest.mark.parametrize("text", ["{", "[10", "a: b: c"])
def test_a_limit_that_is_no_yaml_is_text(text: str) -> None:
    assert _as_yaml(text) == text


class TwoModules(Stage):
    OPTIONS = ()

    def stage(self) -> dict[str, Any]:
        self.call("instance_image", {})
        self.call("instance_files", {})
        return {"changed": False}


def test_what_a_module_says_besides_its_answer_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Python that was found on the server, for one, or every task would look for it again."""
    context, loader = PlayContext(), DataLoader()
    connection = connection_loader.get("local", context, os.devnull)
    stage = TwoModules(Task(), connection, context, loader, Templar(loader), None)
    said = {
        "mai.fleet.instance_image": {"ansible_facts": {"discovered_interpreter_python": "/py"}},
        "mai.fleet.instance_files": {"warnings": ["Docker does not answer"]},
    }
    monkeypatch.setattr(stage, "_execute_module", lambda **how: said[how["module_name"]])
    result = stage.run(task_vars={"inventory_hostname": "web1"})
    assert result["ansible_facts"] == {"discovered_interpreter_python": "/py"}
    assert result["warnings"] == ["Docker does not answer"]


@pytest.mark.parametrize("given", ["0", 0, "90", 1.5, 3650])
def test_a_number_of_days(given: Any) -> None:
    assert days_of(given, "fleet_hold") == float(given)


@pytest.mark.parametrize("given", ["soon", "", None, "nan", "inf", "-1", "1e9"])
def test_what_is_no_number_of_days(given: Any) -> None:
    with pytest.raises(FleetError, match="fleet_max_age_days"):
        days_of(given, "fleet_max_age_days")
