# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clients a run touches, seen from the outside."""

from __future__ import annotations

import re

import pytest
from playbooks.operator import Operator, Run


def three_clients(operator: Operator) -> None:
    """acme and beta are neighbours, and of a ring; acme and gamma have a plan in common."""
    operator.servers("web1", "web2")
    operator.plans(gold={"instance": "none"}, standard={"instance": "none"})
    operator.client("acme", ring="early")
    operator.client("beta", plan="standard", ring="early")
    operator.client("gamma", server="web2")


def selected(run: Run) -> set[str]:
    assert run.status == 0, run.output
    found = re.search(r"in it: \[(.*)\]", run.output)
    assert found, run.output
    return set(re.findall(r"\w+", found[1]))


@pytest.mark.parametrize(
    ("arguments", "clients"),
    [
        (("-e", "fleet_select=web1,gamma"), "acme beta gamma"),
        (("-e", '{"fleet_select": ["client_beta"]}'), "beta"),
        (("--limit", "client_*a,!client_beta,!client_acme"), "gamma"),
        (("--limit", "@of-last-time.txt"), "acme gamma"),
        (("-e", "fleet_select=ring_early"), "acme beta"),
        (("--limit", "ring_early:&plan_gold"), "acme"),
        (("--limit", "web1", "-e", "fleet_select=plan_gold"), "acme"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_who_is_selected(operator: Operator, arguments: tuple[str, ...], clients: str) -> None:
    three_clients(operator)
    operator.write("of-last-time.txt", "client_acme\nweb2\n")
    run = operator.run(operator.playbook("preflight"), *arguments)
    assert selected(run) == set(clients.split())


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        (("-e", "fleet_select=acmee"), ("fleet_select: acmee names no client", "mean acme?")),
        (
            ("--limit", "web2", "-e", "fleet_select=acme"),
            ("no client is selected by fleet_select=acme and --limit web2", "--graph fleet"),
        ),
        (("--limit", "client_nobody"), ("no hosts to target",)),
        (
            ("--limit", "plan_*:!client_acme"),
            (
                "--limit plan_*:!client_acme: it leaves in beta, and takes away web1",
                "-e fleet_select=beta,gamma",
            ),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_selection_that_cannot_be_honoured(
    operator: Operator, arguments: tuple[str, ...], phrases: tuple[str, ...]
) -> None:
    three_clients(operator)
    run = operator.run(operator.playbook("preflight"), *arguments)
    assert run.failed
    assert run.says(*phrases)
    assert operator.simulator.requests == []


def test_a_limit_touches_one_client_of_a_server_only(operator: Operator) -> None:
    three_clients(operator)
    run = operator.good("--limit", "client_acme")
    assert set(run.table) == {"acme"}
    assert set(operator.keys()) == {"acme"}
    assert [guardrail["name"] for guardrail in operator.simulator.guardrails] == [
        "mai/hosting/acme"
    ]
    assert [folder.name for folder in operator.server.iterdir()] == ["acme"]
    assert {file.name for file in (operator.desk / "state").iterdir()} == {"acme.json"}
    before = operator.env("acme")
    operator.good("-e", "fleet_select=plan_standard")
    assert set(operator.keys()) == {"acme", "beta"}
    assert operator.env("acme") == before


def test_servers_one_after_the_other(operator: Operator) -> None:
    three_clients(operator)
    run = operator.good("-e", "fleet_serial=1")
    assert set(run.table) == set(operator.keys()) == {"acme", "beta", "gamma"}
    assert operator.written().count("POST /keys") == 3
    assert run.output.count("Reconcile keys and guardrails") == 2


def test_a_broken_client_that_is_selected_does_not_stop_the_others(operator: Operator) -> None:
    three_clients(operator)
    operator.client("beta", plan="standrad")
    run = operator.site("-e", "fleet_select=acme,beta")
    assert run.failed
    assert run.says("beta (inventory): clients/beta.yml: plan: unknown plan standrad")
    assert set(operator.keys()) == {"acme"}
    alone = operator.run(operator.playbook("preflight"), "-e", "fleet_select=beta")
    assert alone.failed
    assert alone.says("no client is selected by fleet_select=beta", "clients/beta.yml: plan")
