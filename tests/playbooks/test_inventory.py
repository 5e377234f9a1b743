# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as ``ansible-inventory`` shows it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from playbooks.operator import Operator

CONFIGURATIONS = sorted(Path(__file__).parents[2].glob("inventories/*/ansible.cfg"))

GRAPH = """\
@all:
  |--@ungrouped:
  |--@servers:
  |  |--web1
  |  |--web2
  |--@fleet:
  |  |--@plan_gold:
  |  |  |--@client_acme:
  |  |  |  |--web1
  |  |  |--@client_gamma:
  |  |  |  |--web2
  |  |--@ring_early:
  |  |  |--@client_acme:
  |  |  |  |--web1
  |  |  |--@client_delta:
  |  |  |  |--web2
  |  |--@plan_standard:
  |  |  |--@client_beta:
  |  |  |  |--web1
"""


def four_clients(operator: Operator) -> None:
    operator.servers("web1", "web2")
    operator.plans(gold={"instance": "none"}, standard={"instance": "none"})
    operator.client("acme", ring="early")
    operator.client("beta", plan="standard")
    operator.client("gamma", server="web2")
    operator.client("delta", server="web2", plan=..., ring="early")


def groups(graph: str) -> set[str]:
    return set(re.findall(r"@(\w+):", graph))


def test_the_graph_shows_the_fleet_however_it_is_named(operator: Operator) -> None:
    four_clients(operator)
    named = operator.command("ansible-inventory", *operator.SOURCES, "--graph")
    assert (named.status, named.output) == (0, GRAPH)
    of_environment = operator.command(
        "ansible-inventory", "--graph", ANSIBLE_INVENTORY="servers.yml,fleet.yml"
    )
    assert of_environment.output == GRAPH
    absolute = [str(operator.desk / name) for name in ("servers.yml", "fleet.yml")]
    from_elsewhere = operator.command(
        "ansible-inventory", "-i", absolute[0], "-i", absolute[1], "--graph"
    )
    assert from_elsewhere.output == GRAPH


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_the_graph_with_our_configuration(operator: Operator, configuration: Path) -> None:
    four_clients(operator)
    operator.write("ansible.cfg", configuration.read_text(encoding="utf-8"))
    assert operator.command("ansible-inventory", "--graph").output == GRAPH


def test_what_a_server_knows_of_its_clients(operator: Operator) -> None:
    four_clients(operator)
    organization = "Zakłady \"Łódź\" & 'Söhne' #1 $5 {{ 7 * 7 }} {% raw %} \\n"
    operator.client("acme", organization=organization, spending_limit="unlimited")
    shown = operator.command("ansible-inventory", *operator.SOURCES, "--host", "web1")
    variables: dict[str, Any] = json.loads(shown.output)
    clients = variables["fleet_clients"]
    assert list(clients) == ["acme", "beta"]
    assert clients["acme"]["organization"] == organization
    assert clients["acme"]["spending_limit"] is None
    assert clients["acme"]["file"] == "clients/acme.yml"
    assert variables["fleet_errors"] == []
    assert variables["fleet_config"]["name"] == "hosting"


def test_a_mistake_of_one_client_leaves_the_others_in(operator: Operator) -> None:
    four_clients(operator)
    operator.client("beta", spending_limit=-5)
    operator.write("clients/omega.yaml", "schema: 1\n")
    operator.write("clients/Bad-Name.yml", "schema: 1\n")
    operator.write("clients/twice.yml", "schema: 1\nserver: web1\nserver: web2\n")
    with open(os.fsencode(operator.desk / "clients") + b"/\xff.yml", "w", encoding="utf-8") as file:
        file.write("schema: 1\n")
    run = operator.command("ansible-inventory", *operator.SOURCES, "--graph")
    assert groups(run.output) >= {"client_acme", "client_gamma", "client_delta"}
    assert "client_beta" not in groups(run.output)
    assert run.says(
        "clients/beta.yml: spending_limit: expected USD of 0 or more, or unlimited, got -5",
        "clients/omega.yaml: client files end in .yml (rename it)",
        "clients/Bad-Name.yml: bad client name (rename the file: 2 to 31 characters",
        "clients/twice.yml, line 1: not valid YAML: server is given more than once",
        "clients/\\xff.yml: bad client name",
    )


def test_other_files_beside_the_clients_are_nobodys(operator: Operator) -> None:
    four_clients(operator)
    for name in ("README.md", "acme.yml~", ".acme.yml.swp", ".beta.yml"):
        operator.write(f"clients/{name}", "no: [yaml\n")
    run = operator.command("ansible-inventory", *operator.SOURCES, "--graph")
    assert run.output == GRAPH


def test_a_thousand_clients_and_no_warning(operator: Operator) -> None:
    """How long it takes is measured by tests/benchmark/inventory.py."""
    for number in range(1000):
        operator.client(f"c{number:04}", instance="webui", domain=f"c{number}.example.com")
    run = operator.command("ansible-inventory", *operator.SOURCES, "--graph")
    assert run.status == 0
    assert "WARNING" not in run.output
    assert "ERROR" not in run.output
    assert len([group for group in groups(run.output) if group.startswith("client_")]) == 1000
