# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No mistake in the inventory ends green: judged by exit status, with and without a configuration.

Ansible goes on with an empty inventory when a plugin fails, and leaves out plays when a limit
matches none of their hosts, both with status 0.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playbooks.operator import Operator, Run

CONFIGURATIONS = sorted(Path(__file__).parents[2].glob("inventories/*/ansible.cfg"))

Mistake = Callable[[Operator], None]


def broken_yaml(operator: Operator) -> None:
    operator.client("acme")
    operator.write("fleet.yml", "plugin: mai.fleet.clients\nfleet: [\n")


def no_fleet_option(operator: Operator) -> None:
    operator.client("acme")
    operator.fleet(fleet=...)


def misspelt_option(operator: Operator) -> None:
    operator.client("acme")
    operator.fleet(direcotry="/srv/elsewhere")


def newer_schema(operator: Operator) -> None:
    operator.client("acme")
    operator.fleet(schema=2)


def plugin_exception(operator: Operator) -> None:
    """The plugin cannot add its groups, because the servers' file has a loop of them in mind."""
    operator.client("acme")
    operator.write(
        "servers.yml",
        {
            "servers": {"hosts": {"web1": {"ansible_connection": "local"}}},
            "client_acme": {"children": {"fleet": {}}},
        },
    )


def no_clients(operator: Operator) -> None:
    """The directory is there and empty."""


def no_directory(operator: Operator) -> None:
    (operator.desk / "clients").rmdir()


def all_broken(operator: Operator) -> None:
    operator.client("acme", organisation="Acme")
    operator.write("clients/beta.yml", "schema: 1\norganization: [\n")


def unreadable_plans(operator: Operator) -> None:
    operator.client("acme", plan=...)
    operator.write("plans.yml", "schema: 1\nplans: {\n")


def one_domain_of_two(operator: Operator) -> None:
    for name in ("acme", "beta"):
        operator.client(name, instance="webui", domain="chat.example.com")


def one_port_of_two(operator: Operator) -> None:
    for name in ("acme", "beta"):
        operator.client(name, instance="webui", port=18000)


MISTAKES: dict[Mistake, tuple[str, ...]] = {
    broken_yaml: ("the inventory holds no fleet",),
    no_fleet_option: ("fleet.yml: Required config 'fleet'",),
    misspelt_option: ("unknown option direcotry", "Did you mean directory?"),
    newer_schema: ("fleet.yml: schema: schema 2 is newer", "update the collection"),
    plugin_exception: ("loop",),
    no_clients: ("no client is fit to be worked on", "write a client file"),
    no_directory: ("the directory with the clients does not exist",),
    all_broken: (
        "clients/acme.yml: organisation: unknown field organisation (Did you mean organization?)",
        "clients/beta.yml, line 3: not valid YAML",
    ),
    unreadable_plans: ("plans.yml, line 3: not valid YAML",),
    one_domain_of_two: ("domain chat.example.com is also client acme's", "clients/beta.yml"),
    one_port_of_two: ("port 18000 is also client acme's", "clients/beta.yml"),
}


def nothing_was_done(operator: Operator, run: Run) -> None:
    assert run.failed, run.output
    assert operator.simulator.requests == []
    assert not operator.server.exists()
    assert not (operator.desk / "state").exists()


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake(operator: Operator, mistake: Mistake) -> None:
    mistake(operator)
    run = operator.site()
    nothing_was_done(operator, run)
    assert run.says(*MISTAKES[mistake])
    assert run.output.count("TASK [") == 1


@pytest.mark.parametrize(
    "mistake",
    [no_clients, all_broken],
    ids=lambda mistake: mistake.__name__,
)
def test_a_mistake_and_a_limit(operator: Operator, mistake: Mistake) -> None:
    mistake(operator)
    nothing_was_done(operator, operator.site("--limit", "web1"))


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize(
    "mistake",
    [plugin_exception, all_broken],
    ids=lambda mistake: mistake.__name__,
)
def test_a_mistake_with_our_configuration(
    operator: Operator, mistake: Mistake, configuration: Path
) -> None:
    operator.write("ansible.cfg", configuration.read_text(encoding="utf-8"))
    mistake(operator)
    nothing_was_done(operator, operator.command("ansible-playbook", "mai.fleet.site"))


NAMINGS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "servers_only": ("-i", "servers.yml"),
    "fleet_first": ("-i", "fleet.yml", "-i", "servers.yml"),
    "directory": ("-i", "."),
    "client_file": ("-i", "clients/acme.yml"),
    "client_file_and_servers": ("-i", "servers.yml", "-i", "clients/acme.yml"),
    "two_fleets": ("-i", "servers.yml", "-i", "fleet.yml", "-i", "../other/fleet.yml"),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_wrong_way_of_naming_the_inventory(operator: Operator, naming: str) -> None:
    operator.client("acme")
    if naming == "directory":
        # Read in order of names, the servers come first, as if it had been meant so.
        operator.desk.joinpath("servers.yml").rename(operator.desk / "a.yml")
    if naming == "two_fleets":
        other = operator.home / "other" / "clients"
        other.mkdir(parents=True)
        (other.parent / "fleet.yml").write_text((operator.desk / "fleet.yml").read_text())
    command = ("ansible-playbook", "mai.fleet.site", *NAMINGS[naming])
    run = operator.command(*command)
    nothing_was_done(operator, run)
    assert run.says("servers" if naming != "two_fleets" else "name one fleet.yml in a run")


@pytest.mark.parametrize(
    ("naming", "limit"),
    [
        ("nothing", "client_acme"),
        ("servers_only", "web1"),
        ("fleet_first", "client_acme"),
        ("fleet_first", "web1"),
    ],
)
def test_a_wrong_way_of_naming_the_inventory_and_a_limit(
    operator: Operator, naming: str, limit: str
) -> None:
    operator.client("acme")
    command = ("ansible-playbook", "mai.fleet.site", *NAMINGS[naming], "--limit", limit)
    nothing_was_done(operator, operator.command(*command))


def test_a_limit_to_a_server_without_clients(operator: Operator) -> None:
    operator.servers("web1", "web2")
    operator.client("acme")
    run = operator.site("--limit", "web2")
    nothing_was_done(operator, run)
    assert run.says("--limit web2: none of the servers that it leaves has a client")


@pytest.mark.parametrize("playbook", ["verify", "handover"])
def test_a_limit_of_the_other_playbooks(operator: Operator, playbook: str) -> None:
    run = operator.run(f"mai.fleet.{playbook}", "--limit", "web1")
    nothing_was_done(operator, run)
    assert run.says("no client is fit to be worked on")


@pytest.mark.parametrize("playbook", ["verify", "handover", "onboard"])
def test_the_other_playbooks(operator: Operator, playbook: str) -> None:
    operator.client("acme")
    operator.fleet(direcotry="/srv/elsewhere")
    answers = ("-e", "organization=Beta", "-e", "admin_email=it@beta.example", "-e", "confirm=yes")
    run = operator.run(f"mai.fleet.{playbook}", *answers)
    nothing_was_done(operator, run)
    assert run.says("unknown option direcotry")
    assert [file.name for file in (operator.desk / "clients").iterdir()] == ["acme.yml"]
