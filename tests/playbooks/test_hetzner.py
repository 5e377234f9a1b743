# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role `hetzner` against the double: what it makes, what it refuses, what it never deletes.

The servers of the double cannot be reached, so these runs end when they are in the inventory. The
scenario `hetzner` of molecule goes on over SSH.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hetzner.cloud import Cloud
from hetzner.web import Hetzner
from playbooks.operator import Operator, Run
from simulator.simulator import Simulator
from unit.conftest import COLLECTIONS_PATH

# What ansible 12 has, the last one for Python 3.11, Hetzner has outgrown.
pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="the role wants hetzner.hcloud 6, and so Python 3.12"
)

EXAMPLE = Path(__file__).resolve().parents[2] / "inventories" / "example"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8sQr3vKkA0n9l6m7mX0xg1zZ0q3e2s5f8b7c6d5e4f me"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK8sQr3vKkA0n9l6m7mX0xg1zZ0q3e2s5f8b7c6d5e4f me"
DESCRIBED: dict[str, dict[str, Any]] = {
    "web1": {"hetzner_type": "cx23"},
    "web2": {"hetzner_type": "cx33", "hetzner_volumes": [{"name": "web2-data", "size": 20}]},
}


class Landlord(Operator):
    """An operator whose servers are at Hetzner: web1, and web2 with a volume, in the group gold."""

    SOURCES = ("-i", "servers.yml", "-i", "hcloud.yml", "-i", "fleet.yml")
    # Some thirty modules, each of which loads Hetzner's whole client.
    patience = 600

    def __init__(self, home: Path, simulator: Simulator, hetzner: Hetzner) -> None:
        super().__init__(home, simulator, COLLECTIONS_PATH)
        self.hetzner = hetzner
        self.environment |= {
            "HCLOUD_TOKEN": hetzner.token,
            "HCLOUD_ENDPOINT": hetzner.url,
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
        }
        example = yaml.safe_load((EXAMPLE / "hcloud.yml").read_text(encoding="utf-8"))
        self.write("hcloud.yml", {**example, "label_selector": "mai-fleet=hosting"})
        self.describe()
        for name, server, domain in (
            ("acme", "web1", "chat.acme.example"),
            ("lodz", "web2", "ai.lodz.example"),
            ("nord", "web2", "nord.clients.example"),
        ):
            self.client(name, server=server, domain=domain)
        play = {
            "hosts": "servers:fleet",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.include_role": {"name": "mai.fleet.hetzner"},
                    "when": "fleet_provision | default('') == 'hetzner'",
                }
            ],
        }
        self.write("provision.yml", [play])

    def describe(self, hosts: dict[str, Any] | None = None, **variables: Any) -> None:
        """servers.yml"""
        hosts = DESCRIBED if hosts is None else hosts
        gold: dict[str, Any] = {"hosts": {name: {} for name in hosts if name == "web2"}}
        given = {
            "ansible_user": "root",
            # It is for the servers, and not for what runs here.
            "ansible_become": True,
            "fleet_provision": "hetzner",
            "hetzner_wait_seconds": 0,
            "hetzner_ssh_keys": {"me": KEY},
            "hetzner_zones": [{"name": "acme.example"}, {"name": "clients.example"}],
            "hetzner_server_domain": "hosts.clients.example",
            **variables,
        }
        servers = {"hosts": hosts, "children": {"gold": gold}, "vars": given}
        self.write("servers.yml", {"servers": servers})

    def provision(self, *arguments: str, **environment: str | None) -> Run:
        return self.run("provision.yml", *arguments, **environment)

    def delete(self, what: str, *arguments: str) -> Run:
        return self.run("mai.fleet.hetzner_delete", "-e", f"hetzner_delete={what}", *arguments)

    def groups(self, *sources: str) -> dict[str, list[str]]:
        """The groups of each server, without those of the plugins."""
        run = self.command("ansible-inventory", *sources, "--list")
        output = f"\n{run.output}"
        listed = json.loads(output[output.index("\n{") :])
        found: dict[str, set[str]] = {"web1": set(), "web2": set()}

        def walk(group: str) -> set[str]:
            content = listed.get(group, {})
            hosts = set(content.get("hosts", []))
            for child in content.get("children", []):
                hosts |= walk(child)
            for host in hosts & found.keys():
                found[host].add(group)
            return hosts

        walk("all")
        foreign = {"all", "hcloud", "ungrouped"}
        return {host: sorted(names - foreign) for host, names in found.items()}

    def inventory_of_the_project(self) -> dict[str, list[str]]:
        """All that there is at Hetzner, by kind."""
        kinds = ("servers", "volumes", "networks", "firewalls", "ssh_keys", "placement_groups")
        return {kind: sorted(self.hetzner.rows(kind)) for kind in (*kinds, "zones")}


@pytest.fixture
def hetzner() -> Iterator[Hetzner]:
    """An empty project."""
    with Hetzner() as running:
        yield running
        # None of our runs asks what the API does not know.
        assert running.cloud.violations == []


@pytest.fixture
def landlord(tmp_path: Path, simulator: Simulator, hetzner: Hetzner) -> Landlord:
    return Landlord(tmp_path, simulator, hetzner)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """What a run makes of an empty project. A run takes its time, so tests begin with a copy."""
    with Simulator() as simulator, Hetzner() as hetzner:
        run = Landlord(tmp_path_factory.mktemp("first"), simulator, hetzner).provision()
        assert run.status == 0, run.output
        return hetzner.cloud


@pytest.fixture
def settled(landlord: Landlord, hetzner: Hetzner, project: Cloud) -> Landlord:
    """An operator whose project matches the inventory."""
    hetzner.cloud.rows = copy.deepcopy(project.rows)
    hetzner.cloud.rrsets = copy.deepcopy(project.rrsets)
    hetzner.cloud.last_id = project.last_id
    return landlord


ALL = {
    "servers": ["web1", "web2"],
    "volumes": ["web2-data"],
    "networks": ["mai-hosting"],
    "firewalls": ["mai-hosting"],
    "ssh_keys": ["me"],
    "placement_groups": ["mai-hosting"],
    "zones": ["acme.example", "clients.example"],
}


#: Nothing but servers, because runs are quicker so.
BARE: dict[str, Any] = {
    "hetzner_zones": [],
    "hetzner_server_domain": "",
    "hetzner_network": False,
    "hetzner_firewall": False,
    "hetzner_placement_group": "",
}
WEB1 = {"web1": DESCRIBED["web1"]}


def test_a_project_comes_to_match_the_inventory_as_it_was_foretold(
    landlord: Landlord, hetzner: Hetzner
) -> None:
    foretold = landlord.provision("--check", "--diff")
    assert foretold.status == 0, foretold.output
    assert hetzner.written() == []

    run = landlord.provision()
    assert run.status == 0, run.output
    assert run.changed == foretold.changed > 0
    run.says("ai.lodz.example A 203.0.113.1", "keep it where it is")
    assert landlord.inventory_of_the_project() == ALL
    servers = hetzner.rows("servers")
    web2 = servers["web2"]
    assert web2["status"] == "running"
    assert web2["labels"] == {"mai-fleet": "hosting", "mai-group-servers": "", "mai-group-gold": ""}
    assert web2["protection"] == {"delete": True, "rebuild": True}
    assert web2["placement_group"]["name"] == "mai-hosting"
    assert [one["status"] for one in web2["public_net"]["firewalls"]] == ["applied"]
    assert {one["private_net"][0]["ip"] for one in servers.values()} == {"10.0.1.2", "10.0.1.3"}
    (volume,) = hetzner.rows("volumes").values()
    assert (volume["server"], volume["size"]) == (web2["id"], 20)
    assert volume["protection"] == {"delete": True}
    (wall,) = hetzner.rows("firewalls").values()
    assert [(one["protocol"], one["port"]) for one in wall["rules"]] == [
        ("icmp", None),
        ("tcp", "22"),
        ("tcp", "80"),
        ("tcp", "443"),
        ("udp", "443"),
    ]
    ip = web2["public_net"]["ipv4"]["ip"]
    records = hetzner.records("clients.example")
    assert records["nord/A"] == records["web2.hosts/A"] == [ip]
    assert records["nord/AAAA"] == [web2["public_net"]["ipv6"]["ip"].replace("/64", "1")]
    assert set(hetzner.records("acme.example")) == {"@/SOA", "@/NS", "chat/A", "chat/AAAA"}

    written = hetzner.written()
    again = landlord.provision()
    assert (again.status, again.changed) == (0, 0), again.output
    assert hetzner.written() == written


def test_labels_make_the_same_groups_again(settled: Landlord, hetzner: Hetzner) -> None:
    listed = settled.groups("-i", "servers.yml")
    assert listed == {"web1": ["servers"], "web2": ["gold", "servers"]}
    assert settled.groups("-i", "hcloud.yml") == listed
    # For servers that it describes, that file decides.
    with hetzner.cloud.lock:
        for row in hetzner.cloud.rows["servers"].values():
            row["labels"]["mai-group-old"] = ""
    assert settled.groups("-i", "servers.yml", "-i", "hcloud.yml") == listed


def test_nothing_goes_because_its_line_is_gone(settled: Landlord, hetzner: Hetzner) -> None:
    settled.describe(WEB1)
    run = settled.provision()
    assert (run.status, run.changed) == (0, 0), run.output
    run.says("with a hetzner_type: web2. It stays.", "-e hetzner_delete=server/web2")
    assert settled.inventory_of_the_project() == ALL
    assert hetzner.written() == []


def test_one_thing_goes_when_it_is_named_and_nobody_needs_it(
    settled: Landlord, hetzner: Hetzner
) -> None:
    refused = settled.delete("server/web2")
    assert refused.failed
    refused.says("the fleet has clients on it: lodz, nord", "the inventory describes it")
    settled.describe(WEB1)
    for name in ("lodz", "nord"):
        (settled.desk / "clients" / f"{name}.yml").unlink()
    record = {"client": "nord", "server": "web2", "state": "present"}
    (settled.desk / "state").mkdir()
    settled.write("state/nord.json", json.dumps(record))
    refused = settled.delete("server/web2")
    assert refused.failed
    refused.says("never offboarded, although their files are gone: nord")

    held = {"volumes": ["nord_data"], "volumes_removed": ""}
    settled.write("state/nord.json", json.dumps({**record, "state": "absent", "offboarding": held}))
    settled.delete("server/web2").says("it holds data of clients that are gone: nord")

    settled.write("state/nord.json", json.dumps({**record, "state": "absent", "offboarding": None}))
    foretold = settled.delete("server/web2", "--check")
    assert (foretold.status, foretold.changed) == (0, 2), foretold.output
    refused = settled.delete("volume/web2-data")
    refused.says("volume/web2-data stays: it is attached to web2")
    assert settled.inventory_of_the_project() == ALL

    gone = settled.delete("server/web2")
    assert (gone.status, gone.changed) == (0, 2), gone.output
    assert settled.inventory_of_the_project() == {**ALL, "servers": ["web1"]}
    again = settled.delete("server/web2")
    assert (again.status, again.changed) == (0, 0), again.output
    refused = settled.delete("network/mai-hosting")
    refused.says("network/mai-hosting stays: these servers are in it: web1")
    refused = settled.delete("zone/acme.example")
    refused.says("clients have domains in it: chat.acme.example")
    gone = settled.delete("volume/web2-data")
    assert gone.status == 0, gone.output
    assert hetzner.rows("volumes") == {}


def test_deleting_wants_to_see_all_clients_and_no_limit(
    settled: Landlord, hetzner: Hetzner
) -> None:
    blind = settled.command(
        *("ansible-playbook", "mai.fleet.hetzner_delete", "-e", "hetzner_delete=server/web2"),
        *("-i", "servers.yml", "-i", "hcloud.yml"),
    )
    assert blind.failed
    blind.says("fleet.yml as inventories")
    limited = settled.delete("server/web2", "--limit", "web2")
    assert limited.failed
    limited.says("leave out --limit")
    unnamed = settled.run("mai.fleet.hetzner_delete")
    assert unnamed.failed
    unnamed.says("Say what is to be deleted, as in -e hetzner_delete=server/web2")
    assert "argument" not in unnamed.output
    elsewhere = settled.provision("-e", "hetzner_delete=server/web2")
    assert elsewhere.failed
    elsewhere.says("mai.fleet.hetzner_delete")
    settled.client("oops", server="web9")
    broken = settled.delete("server/web2")
    assert broken.failed
    broken.says("without a mistake in them")
    assert hetzner.written() == []


def test_an_absent_clients_records_go(settled: Landlord, hetzner: Hetzner) -> None:
    settled.client("nord", server="web2", domain="nord.clients.example", state="absent")
    run = settled.provision()
    assert (run.status, run.changed) == (0, 1), run.output
    left = {key for key in hetzner.records("clients.example") if key.startswith("nord")}
    assert left == set()


def test_records_are_kept_in_a_zone_that_is_somebody_elses(
    settled: Landlord, hetzner: Hetzner
) -> None:
    with hetzner.cloud.lock:
        zone = hetzner.cloud.get("zones", "acme.example")
        zone["labels"] = {}
        del hetzner.cloud.rrsets[zone["id"]]["chat/A"]
    theirs = {"name": "acme.example", "create": False}
    settled.describe(hetzner_zones=[theirs, {"name": "clients.example"}])
    run = settled.provision()
    assert (run.status, run.changed) == (0, 1), run.output
    assert "chat/A" in hetzner.records("acme.example")
    assert hetzner.rows("zones")["acme.example"]["labels"] == {}


def test_what_is_not_the_fleets_is_not_adopted(settled: Landlord, hetzner: Hetzner) -> None:
    """Every kind is named in one run."""
    with hetzner.cloud.lock:
        for kind in ALL:
            for row in hetzner.cloud.rows[kind].values():
                row["labels"] = {"mai-fleet": "another"} if kind == "servers" else {}
    run = settled.provision()
    assert run.failed
    run.says(
        "there is a server web1, web2 already, and its label mai-fleet is not hosting",
        "there is a volume web2-data already",
        "there is a network mai-hosting already",
        "there is a firewall mai-hosting already",
        "there is a SSH key me already",
        "there is a placement group mai-hosting already",
        "there is a zone acme.example, clients.example already",
    )
    assert hetzner.written() == []


def test_records_that_others_made_are_left_alone(settled: Landlord, hetzner: Hetzner) -> None:
    with hetzner.cloud.lock:
        zone = hetzner.cloud.get("zones", "acme.example")
        hetzner.cloud.rrsets[zone["id"]]["chat/A"].update(
            labels={}, records=[{"value": "192.0.2.1", "comment": "mine"}]
        )
    settled.client("acme2", server="web1", domain="more.acme.example")
    run = settled.provision()
    assert (run.status, run.changed) == (0, 1), run.output
    run.says("chat.acme.example has a record that is not this fleet's")
    records = hetzner.records("acme.example")
    assert records["chat/A"] == ["192.0.2.1"]
    assert "more/A" in records, "the server's other clients get theirs"


def test_hetzners_firewall_opens_the_ports_that_operators_come_in_by(
    settled: Landlord, hetzner: Hetzner
) -> None:
    settled.describe({**DESCRIBED, "web1": {**DESCRIBED["web1"], "ansible_port": 2222}})
    run = settled.provision()
    assert (run.status, run.changed) == (0, 1), run.output
    rules = hetzner.rows("firewalls")["mai-hosting"]["rules"]
    assert [rule["port"] for rule in rules if rule["description"] == "SSH"] == ["22", "2222"]


def test_a_key_under_another_name_and_a_zone_that_is_not_there_are_told(
    settled: Landlord, hetzner: Hetzner
) -> None:
    settled.describe(hetzner_ssh_keys={"you": KEY})
    run = settled.provision()
    assert run.failed
    run.says("is at Hetzner under the name me")
    settled.describe(hetzner_zones=[{"name": "b.example", "create": False}])
    run = settled.provision()
    assert run.failed
    run.says("Hetzner has no zone b.example")
    assert hetzner.written() == []


def test_what_others_did_to_a_server_stays_while_ours_changes(
    settled: Landlord, hetzner: Hetzner
) -> None:
    with hetzner.cloud.lock:
        (web1,) = (row for row in hetzner.cloud.rows["servers"].values() if row["name"] == "web1")
        web1["labels"]["rack"] = "7"
        web1["labels"]["mai-group-old"] = ""
        wall = hetzner.cloud.create("firewalls", {"name": "mine", "labels": {}, "rules": []})
        web1["public_net"]["firewalls"].append({"id": wall["id"], "status": "applied"})
    larger = {"hetzner_type": "cx33", "hetzner_volumes": [{"name": "web2-data", "size": 30}]}
    settled.describe({**DESCRIBED, "web2": larger}, hetzner_ssh_keys={"me": OTHER_KEY})
    run = settled.provision()
    assert (run.status, run.changed) == (0, 3), run.output
    shown = hetzner.rows("servers")["web1"]
    assert shown["labels"] == {"mai-fleet": "hosting", "mai-group-servers": "", "rack": "7"}
    assert len(shown["public_net"]["firewalls"]) == 2
    assert hetzner.rows("ssh_keys")["me"]["public_key"] == OTHER_KEY
    assert hetzner.rows("volumes")["web2-data"]["size"] == 30


def test_another_type_takes_leave_to_power_off(settled: Landlord, hetzner: Hetzner) -> None:
    settled.describe({"web1": {"hetzner_type": "cx33"}})
    run = settled.provision()
    assert run.failed
    run.says("type (cx23, wanted cx33)", "hetzner_power_off")
    assert hetzner.written() == []
    run = settled.provision("-e", '{"hetzner_power_off": ["web1"]}')
    assert run.status == 0, run.output
    web1 = hetzner.rows("servers")["web1"]
    assert (web1["server_type"]["name"], web1["status"]) == ("cx33", "running")


def test_what_is_missing_is_named_before_anything_is_asked(
    landlord: Landlord, hetzner: Hetzner
) -> None:
    static = ("ansible-playbook", "provision.yml", "-i", "servers.yml", "-i", "fleet.yml")
    for run in (
        landlord.command(*static, HCLOUD_TOKEN=None),
        landlord.provision(HCLOUD_TOKEN=None),
    ):
        assert run.failed
        run.says("HCLOUD_TOKEN is not set")
    run = landlord.command(*static[:-2])
    assert run.failed
    run.says("the inventory names no fleet")
    landlord.describe(hetzner_ssh_keys={})
    run = landlord.command(*static)
    assert run.failed
    run.says("hetzner_ssh_keys is empty")
    landlord.describe({"web_1": {"hetzner_type": "cx23"}, **DESCRIBED}, **BARE)
    run = landlord.command(*static, "--limit", "web_1")
    assert run.failed
    run.says("web_1 is no name for a server at Hetzner")
    assert hetzner.cloud.seen == []


def test_a_token_that_is_none_is_told(landlord: Landlord) -> None:
    run = landlord.command(
        *("ansible-playbook", "provision.yml", "-i", "servers.yml", "-i", "fleet.yml"),
        HCLOUD_TOKEN="another-project",
    )
    assert run.failed
    run.says("HCLOUD_TOKEN is no token of a project at Hetzner")
    assert "another-project" not in run.output


def test_without_a_dynamic_inventory_the_addresses_are_missed(landlord: Landlord) -> None:
    landlord.describe({**WEB1, "web2": {}}, **BARE)
    run = landlord.command(
        *("ansible-playbook", "provision.yml", "-i", "servers.yml", "-i", "fleet.yml")
    )
    assert run.failed
    run.says(
        "web1 is at Hetzner (203.0.113.10)", "hcloud.yml with label_selector mai-fleet=hosting"
    )


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("resource_limit_exceeded", "as many of these as Hetzner allows"),
        ("unavailable", "Hetzner's API has trouble"),
    ],
)
def test_a_refusal_says_what_to_do(
    landlord: Landlord, hetzner: Hetzner, code: str, says: str
) -> None:
    hetzner.fault(code, method="POST", path="/servers")
    landlord.describe({**WEB1, "web2": {}}, **BARE)
    run = landlord.provision()
    assert run.failed
    run.says(says, f"({code})")
    assert hetzner.token not in run.output


def test_one_server_that_cannot_be_had_does_not_stop_the_other(
    landlord: Landlord, hetzner: Hetzner
) -> None:
    hetzner.cloud.settings.sold_out.add(("cx33", "fsn1"))
    landlord.describe(**BARE)
    run = landlord.provision()
    assert run.failed
    run.says("web2: error during placement (resource_unavailable)", "cx33 cannot be had in fsn1")
    assert sorted(hetzner.rows("servers")) == ["web1"]


def test_too_many_requests_are_waited_for_and_a_run_that_broke_off_is_continued(
    landlord: Landlord, hetzner: Hetzner
) -> None:
    """The client in the modules waits for some seconds."""
    hetzner.fault("rate_limit_exceeded", path="/ssh_keys", method="POST")
    hetzner.cloud.failures["start_server"] = ("action_failed", "the host broke")
    landlord.describe({**WEB1, "web2": {}}, **BARE)
    run = landlord.provision()
    assert run.failed
    run.says("the host broke")
    assert [one.code for one in hetzner.cloud.seen].count("rate_limit_exceeded") == 1
    assert landlord.provision().status == 0
    (web1,) = hetzner.rows("servers").values()
    assert (web1["status"], web1["protection"]["delete"]) == ("running", True)
