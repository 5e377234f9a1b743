# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mai.fleet.offboard for clients without an instance; the export is in tests/integration."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from playbooks.operator import Operator, Run

STEPS = (
    "offboarding began",
    "key disabled, and a call with it refused",
    "key and guardrail deleted",
    "containers and files removed",
)


def offboard(operator: Operator, select: str, *arguments: str) -> Run:
    return operator.run("mai.fleet.offboard", "-e", f"fleet_select={select}", *arguments)


def record(operator: Operator, name: str) -> dict[str, Any]:
    path = operator.desk / "state" / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def journal(operator: Operator, name: str) -> list[str]:
    path = operator.desk / "journal" / f"{name}.jsonl"
    return [json.loads(line)["what"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_cannot_be_done_is_not_written_down_for_another_run(operator: Operator) -> None:
    file = operator.client("acme")
    operator.good()
    before = file.read_bytes()
    operator.simulator.fault(path="/key", status=401, times=0)
    run = offboard(operator, "acme")
    assert run.failed
    assert run.says("HTTP 401", "check the key in OPENROUTER_MANAGEMENT_KEY")
    assert file.read_bytes() == before
    operator.simulator.clear_faults()
    (operator.home / "vault-password").write_text("another one")
    run = offboard(operator, "acme")
    assert run.failed
    assert file.read_bytes() == before


def test_one_command_does_all_and_says_when(operator: Operator) -> None:
    file = operator.client("acme", state="present")
    text = file.read_text(encoding="utf-8").replace("present", "present # or suspended")
    file.write_text(f"# Since 2024\n{text}", encoding="utf-8")
    operator.client("beta")
    operator.good()

    before = operator.everything()
    foretold = offboard(operator, "acme", "--check")
    assert foretold.status == 0, foretold.output
    assert foretold.says("-state: present # or suspended", "+state: absent # or suspended")
    assert operator.everything() == before
    # The file, the key, the server's files, and what is written down of it.
    assert foretold.changed == 4

    run = offboard(operator, "acme")
    assert run.status == 0, run.output
    assert run.changed == 4
    assert file.read_text(encoding="utf-8") == f"# Since 2024\n{text}".replace("present", "absent")
    assert set(operator.keys()) == {"beta"}
    assert {folder.name for folder in operator.server.iterdir()} == {"beta"}
    dates = [re.search(rf"(\d{{4}}-[^ ]+Z)  {step}", run.output) for step in STEPS]
    assert all(dates), run.output
    assert "beta" not in run.table
    assert journal(operator, "acme")[-5:] == [
        "change key",
        "prove refused",
        "delete key",
        "delete guardrail",
        "change files",
    ]
    assert not (operator.desk / "secrets" / "acme.yml").exists()

    before = operator.everything()
    again = offboard(operator, "acme")
    assert again.changed == 0
    assert again.says(*STEPS)
    assert operator.everything() == before


def test_state_absent_and_site_do_the_same_and_it_ends_with_a_return(operator: Operator) -> None:
    operator.client("acme", state="absent")
    operator.good()
    assert list((operator.desk / "state").glob("*.json")) == []
    operator.client("acme")
    operator.good()
    operator.client("acme", state="absent")
    operator.good()
    leaving = record(operator, "acme")["offboarding"]
    assert all(leaving[step] for step in ("begun", "refused", "keys_deleted", "removed"))
    assert operator.good().changed == 0
    operator.client("acme")
    operator.good()
    assert record(operator, "acme")["offboarding"] is None
    assert operator.good().changed == 0


def test_clients_have_to_be_named_each(operator: Operator) -> None:
    operator.client("acme")
    operator.good()
    before = operator.everything()
    refused = {
        ("--limit", "fleet"): "leave out --limit",
        ("--limit", "fleet", "-e", "fleet_select=acme"): "leave out --limit",
        (): "name each client that goes",
        ("-e", "fleet_select=plan_gold"): "plan_gold is no client",
        ("-e", "fleet_select=web1"): "web1 is no client",
        ("-e", "fleet_select=acme,acma"): "acma is no client",
    }
    for arguments, why in refused.items():
        run = operator.run("mai.fleet.offboard", *arguments)
        assert run.failed
        assert run.says(why)
    assert operator.site("-e", "fleet_hold=0").says("says of nobody")
    assert operator.site("-e", "fleet_export=false").says("says of nobody")
    assert operator.everything() == before


def test_a_client_whose_file_is_gone(operator: Operator) -> None:
    file = operator.client("acme")
    operator.client("beta")
    operator.good()
    file.unlink()
    foretold = offboard(operator, "acme", "--check")
    assert foretold.status == 0, foretold.output
    assert foretold.says("+organization: acme GmbH", "+state: absent")
    assert not file.exists()
    run = offboard(operator, "acme")
    assert run.status == 0, run.output
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == {
        "schema": 1,
        "organization": "acme GmbH",
        "server": "web1",
        "state": "absent",
    }
    assert set(operator.keys()) == {"beta"}
    assert run.says(*STEPS)


def test_what_fails_is_taken_up_by_the_next_run(operator: Operator) -> None:
    operator.client("acme")
    operator.client("beta")
    operator.good()
    operator.simulator.fault(method="DELETE", path="/keys/.*", status=500, times=0)
    run = offboard(operator, "acme")
    assert run.failed
    assert operator.keys()["acme"]["disabled"]
    first = record(operator, "acme")["offboarding"]
    assert first["refused"] and not first["keys_deleted"]
    operator.simulator.clear_faults()
    assert offboard(operator, "acme").status == 0
    then = record(operator, "acme")["offboarding"]
    assert then["begun"] == first["begun"] and then["removed"]
    assert set(operator.keys()) == {"beta"}
