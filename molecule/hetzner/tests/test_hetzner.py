# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two servers were made, are found by their labels, and go only when they are named.

What there is at Hetzner is asked with Hetzner's own client, in the copy that the modules use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import rehearsal
import yaml
from ansible_collections.hetzner.hcloud.plugins.module_utils._vendor.hcloud import Client

DELETE = ("ansible-playbook", "mai.fleet.hetzner_delete", "-e")


@pytest.fixture
def client() -> Any:
    return Client(os.environ["HCLOUD_TOKEN"], api_endpoint=os.environ["HCLOUD_ENDPOINT"])


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A copy of the inventory, to be changed."""
    return Path(shutil.copytree(rehearsal.INVENTORY, tmp_path / "inventory"))


def run(
    desk: Path, *command: str, sources: tuple[str, ...] = ("servers", "hcloud", "fleet")
) -> Any:
    inventories = [f"--inventory={desk / source}.yml" for source in sources]
    return subprocess.run(
        [*command, *inventories],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
    )


def said(done: Any) -> str:
    """All that it said, wherever lines were broken."""
    return " ".join(f"{done.stdout} {done.stderr}".split())


def members(desk: Path, *sources: str) -> dict[str, list[str]]:
    """The hosts of each group of the operator's."""
    listed = json.loads(run(desk, "ansible-inventory", "--list", sources=sources).stdout)

    def hosts(group: str) -> set[str]:
        content = listed.get(group, {})
        children = (hosts(child) for child in content.get("children", []))
        return set(content.get("hosts", [])).union(*children)

    return {group: sorted(hosts(group)) for group in ("servers", "gold")}


def test_both_servers_are_there_with_all_that_was_described(client: Any) -> None:
    servers = {server.name: server for server in client.servers.get_all()}
    assert sorted(servers) == ["web1", "web2"]
    for name, server in servers.items():
        assert server.status == "running"
        assert server.public_net.ipv4.ip == rehearsal.SERVERS[name]["rehearsal_address"]
        assert server.protection == {"delete": True, "rebuild": True}
        assert server.labels["mai-fleet"] == "rehearsal"
        assert server.placement_group.name == "mai-rehearsal"
        assert [one.firewall.name for one in server.public_net.firewalls] == ["mai-rehearsal"]
    assert servers["web2"].private_net[0].ip == "10.0.1.9"
    (volume,) = client.volumes.get_all()
    assert (volume.name, volume.server.id, volume.size) == ("web2-data", servers["web2"].id, 20)
    (wall,) = client.firewalls.get_all()
    ssh = [rule for rule in wall.rules if rule.port == "22"]
    assert [rule.source_ips for rule in ssh] == [["198.18.0.0/15"]]
    (key,) = client.ssh_keys.get_all()
    assert key.public_key == (rehearsal.HOME / "ssh-key.pub").read_text().strip()
    zone = client.zones.get("clients.example")
    for name, address in (("acme", "198.18.6.11"), ("nord", "198.18.6.12")):
        records = client.zones.get_rrset(zone, name, "A").records
        assert [record.value for record in records] == [address]


def test_labels_make_the_same_groups_and_lead_to_the_hosts(desk: Path) -> None:
    expected = {"servers": ["web1", "web2"], "gold": ["web2"]}
    assert members(desk, "servers") == members(desk, "hcloud") == expected
    # Who is who, and how to sign in, without the file that lists the servers.
    servers = yaml.safe_load((desk / "servers.yml").read_text())["servers"]
    (desk / "signin.yml").write_text(yaml.safe_dump({"servers": {"vars": servers["vars"]}}))
    command = ("ansible", "servers", "--module-name=command", "--args=hostname", "--one-line")
    done = run(desk, *command, sources=("signin", "hcloud"))
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("web1", "web2"):
        assert f"{name} | CHANGED | rc=0 | (stdout) {name}" in done.stdout


def test_a_removed_line_deletes_nothing_and_the_flag_exactly_one(client: Any, desk: Path) -> None:
    servers = yaml.safe_load((desk / "servers.yml").read_text())
    del servers["servers"]["hosts"]["web2"], servers["servers"]["children"]
    (desk / "servers.yml").write_text(yaml.safe_dump(servers))
    order = (*DELETE, "hetzner_delete=server/web2")

    again = run(desk, "ansible-playbook", "mai.fleet.servers")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "changed=0" in said(again) and "changed=1" not in said(again)
    assert "It stays" in said(again)
    refused = run(desk, *order)
    assert refused.returncode != 0
    assert "the fleet has clients on it: lodz, nord" in said(refused)
    assert len(client.servers.get_all()) == 2

    for name in ("lodz", "nord"):
        (desk / "clients" / f"{name}.yml").unlink()
    gone = run(desk, *order)
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert [server.name for server in client.servers.get_all()] == ["web1"]
    assert [volume.name for volume in client.volumes.get_all()] == ["web2-data"]


def test_nothing_was_asked_that_the_api_does_not_know() -> None:
    assert "violation" not in (rehearsal.HOME / "hetzner.log").read_text()
