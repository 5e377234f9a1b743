# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double of Hetzner's API, driven by Hetzner's own client.

What it reads may be missing as far as its types know, so the tests take it as it comes.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hcloud import APIException
from hcloud.actions import (
    ActionFailedException,
)
from hcloud.firewalls import (
    FirewallRule,
)
from hcloud.images import Image
from hcloud.locations import (
    Location,
)
from hcloud.networks import (
    NetworkSubnet,
)
from hcloud.server_types import (
    ServerType,
)
from hcloud.zones import ZoneRecord
from hetzner.web import Hetzner

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8sQr3vKkA0n9l6m7mX0xg1zZ0q3e2s5f8b7c6d5e4f me"


def make(client: Any, name: str = "web1", **more: Any) -> Any:
    answer = client.servers.create(
        name,
        more.pop("server_type", ServerType(name="cx23")),
        Image(name="debian-12"),
        location=more.pop("location", Location(name="fsn1")),
        **more,
    )
    answer.action.wait_until_finished()
    for action in answer.next_actions:
        action.wait_until_finished()
    return client.servers.get_by_id(answer.server.id)


def refused(code: str, act: Callable[[], Any]) -> str:
    with pytest.raises(APIException) as caught:
        act()
    assert caught.value.code == code, caught.value
    return str(caught.value.message)


def raw(hetzner: Hetzner, method: str, path: str, body: Any = None, token: str = "") -> Any:
    """A request that Hetzner's client would not send: status and body."""
    request = urllib.request.Request(
        hetzner.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token or hetzner.token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_server_comes_to_life_step_by_step(client: Any, hetzner: Hetzner) -> None:
    key = client.ssh_keys.create("me", KEY)
    answer = client.servers.create(
        "web1", ServerType(name="cx23"), Image(name="debian-12"), ssh_keys=[key]
    )
    assert answer.server.status == "initializing"
    assert answer.action.status == "running"
    assert [action.command for action in answer.next_actions] == ["start_server"]
    assert answer.root_password is None
    for action in (answer.action, *answer.next_actions):
        action.wait_until_finished()
    server = client.servers.get_by_name("web1")
    assert server is not None
    assert server.status == "running"
    assert server.public_net.ipv4.ip == "203.0.113.10"
    assert server.server_type.name == "cx23"
    assert server.image.os_flavor == "debian"
    assert server.created.year
    assert hetzner.cloud.violations == []


def test_a_server_is_locked_while_something_is_done_to_it(client: Any, hetzner: Hetzner) -> None:
    server = make(client)
    hetzner.cloud.settings.action_seconds = 0.2
    action = client.servers.power_off(server)
    refused("locked", lambda: client.servers.power_on(server))
    assert client.servers.get_by_id(server.id).locked
    action.wait_until_finished()
    client.servers.power_on(server).wait_until_finished()
    assert client.servers.get_by_id(server.id).status == "running"


def test_an_action_can_fail_and_changes_nothing_then(client: Any, hetzner: Hetzner) -> None:
    server = make(client)
    hetzner.cloud.failures["stop_server"] = ("action_failed", "Action failed")
    with pytest.raises(ActionFailedException, match="action_failed"):
        client.servers.power_off(server).wait_until_finished()
    assert client.servers.get_by_id(server.id).status == "running"


def test_protection_holds_until_it_is_taken_off(client: Any) -> None:
    server = make(client)
    refused("invalid_input", lambda: server.change_protection(delete=True, rebuild=False))
    server.change_protection(delete=True, rebuild=True).wait_until_finished()
    assert "protected" in refused("protected", server.delete)
    server.change_protection(delete=False, rebuild=False).wait_until_finished()
    server.delete().wait_until_finished()
    assert client.servers.get_all() == []
    refused("not_found", lambda: client.servers.get_by_id(server.id))


@pytest.mark.parametrize(
    ("kind", "create"),
    [
        ("networks", lambda client: client.networks.create("a", "10.0.0.0/16")),
        ("firewalls", lambda client: client.firewalls.create("a")),
        ("ssh_keys", lambda client: client.ssh_keys.create("a", KEY)),
        ("placement_groups", lambda client: client.placement_groups.create("a", "spread")),
        ("volumes", lambda client: client.volumes.create(10, "a", location=Location(name="fsn1"))),
        ("servers", lambda client: make(client, "a")),
        ("zones", lambda client: client.zones.create(name="a.example", mode="primary")),
    ],
)
def test_a_name_is_there_once_and_a_limit_is_a_limit(
    client: Any, hetzner: Hetzner, kind: str, create: Callable[[Any], Any]
) -> None:
    create(client)
    refused("uniqueness_error", lambda: create(client))
    hetzner.rows(kind)
    (row,) = hetzner.cloud.rows[kind].values()
    row.update(name="b" if kind != "zones" else "b.example", fingerprint="another")
    hetzner.cloud.settings.limits = {kind: 1}
    assert "limit" in refused("resource_limit_exceeded", lambda: create(client))


def test_lists_come_in_pages_and_are_selected_by_label(client: Any) -> None:
    for number in range(60):
        labels = {"mai.fleet/fleet": "a" if number % 2 else "b"}
        client.placement_groups.create(f"group-{number}", "spread", labels)
    assert len(client.placement_groups.get_all()) == 60
    first, meta = client.placement_groups.get_list(page=2, per_page=50)
    assert (len(first), meta.pagination.last_page, meta.pagination.next_page) == (10, 2, None)
    assert len(client.placement_groups.get_all(label_selector="mai.fleet/fleet=a")) == 30
    assert len(client.placement_groups.get_all(label_selector="mai.fleet/fleet!=a")) == 30
    assert client.placement_groups.get_all(label_selector="!mai.fleet/fleet") == []


def test_what_is_unknown_is_refused_and_remembered(hetzner: Hetzner) -> None:
    for method, path, body, status, code in (
        (
            "POST",
            "/networks",
            {"name": "a", "ip_range": "10.0.0.0/16", "x": 1},
            422,
            "invalid_input",
        ),
        ("GET", "/servers?colour=red", None, 422, "invalid_input"),
        ("GET", "/load_balancers", None, 404, "not_found"),
        ("DELETE", "/locations/1", None, 405, "method_not_allowed"),
    ):
        answered, answer = raw(hetzner, method, path, body)
        assert (answered, answer["error"]["code"]) == (status, code), path
        assert answer["error"]["message"]
    assert len(hetzner.cloud.violations) == 4
    assert raw(hetzner, "GET", "/servers", token="another")[0] == 401


def test_the_rate_has_a_limit(hetzner: Hetzner) -> None:
    hetzner.cloud.settings.rate_limit = 2
    statuses = [raw(hetzner, "GET", "/servers")[0] for _try in range(3)]
    assert statuses == [200, 200, 429]


def test_a_type_that_is_sold_out_or_not_offered_cannot_be_had(
    client: Any, hetzner: Hetzner
) -> None:
    hetzner.cloud.settings.sold_out.add(("cx23", "fsn1"))
    refused("resource_unavailable", lambda: make(client))
    message = refused("invalid_input", lambda: make(client, location=Location(name="ash")))
    assert "unsupported location" in message
    refused("invalid_input", lambda: make(client, server_type=ServerType(name="cx9")))
    refused(
        "invalid_input",
        lambda: make(client, server_type=ServerType(name="cax11"), labels={"é": ""}),
    )
    refused("invalid_input", lambda: make(client, "under_score"))
    assert hetzner.rows("servers") == {}


def test_a_type_changes_when_the_server_is_off(client: Any) -> None:
    server = make(client)
    larger = ServerType(name="cx33")
    refused("server_not_stopped", lambda: server.change_type(larger, upgrade_disk=False))
    server.power_off().wait_until_finished()
    server.change_type(larger, upgrade_disk=False).wait_until_finished()
    assert client.servers.get_by_id(server.id).server_type.name == "cx33"


def test_networks_give_addresses_one_attachment_at_a_time(client: Any, hetzner: Hetzner) -> None:
    net = client.networks.create("net", "10.0.0.0/16")
    server, other = make(client), make(client, "web2")
    refused("invalid_input", lambda: server.attach_to_network(net))
    subnet = NetworkSubnet(ip_range="10.0.1.0/24", type="cloud", network_zone="eu-central")
    net.add_subnet(subnet).wait_until_finished()
    refused("invalid_input", lambda: net.add_subnet(subnet))
    refused("invalid_input", lambda: server.attach_to_network(net, ip="10.0.2.9"))
    hetzner.cloud.settings.action_seconds = 0.2
    action = server.attach_to_network(net)
    refused("locked", lambda: other.attach_to_network(net))
    action.wait_until_finished()
    other.attach_to_network(net, ip="10.0.1.9").wait_until_finished()
    ips = {one.name: one.private_net[0].ip for one in client.servers.get_all()}
    assert ips == {"web1": "10.0.1.2", "web2": "10.0.1.9"}
    hetzner.cloud.settings.action_seconds = 0
    refused("server_already_attached", lambda: server.attach_to_network(net))
    assert [one.id for one in client.networks.get_by_id(net.id).servers] == [server.id, other.id]


def test_a_volume_outlives_its_server(client: Any) -> None:
    server = make(client)
    answer = client.volumes.create(10, "data", server=server, format="ext4", automount=True)
    answer.action.wait_until_finished()
    for action in answer.next_actions:
        action.wait_until_finished()
    volume = client.volumes.get_by_name("data")
    assert volume is not None
    assert volume.server.id == server.id
    refused("resource_in_use", volume.delete)
    refused("invalid_input", lambda: volume.resize(10))
    server.delete().wait_until_finished()
    assert client.volumes.get_by_id(volume.id).server is None
    assert volume.delete()


def test_a_firewall_is_checked_and_stays_while_it_is_used(client: Any) -> None:
    def rule(**changes: Any) -> FirewallRule:
        given = {"direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["0.0.0.0/0"]}
        return FirewallRule(**{**given, **changes})

    mistakes: list[dict[str, Any]] = [
        {"port": None},
        {"protocol": "icmp"},
        {"source_ips": []},
        {"source_ips": ["10.0.0.1/8"]},
        {"port": "0"},
    ]
    for wrong in mistakes:
        refused("invalid_input", partial(client.firewalls.create, "a", [rule(**wrong)]))
    wall = client.firewalls.create("wall", [rule()]).firewall
    make(client, firewalls=[wall])
    assert "is still in use" in refused("resource_in_use", wall.delete)
    wall.set_rules([rule(), rule(port="80-90")])[0].wait_until_finished()
    assert [one.port for one in client.firewalls.get_by_id(wall.id).rules] == ["22", "80-90"]


def test_a_placement_group_has_ten_servers_at_most(client: Any) -> None:
    group = client.placement_groups.create("spread", "spread").placement_group
    for number in range(10):
        make(client, f"web{number}", placement_group=group)
    refused("placement_error", lambda: make(client, "web10", placement_group=group))
    refused("resource_in_use", group.delete)


def test_a_key_is_a_key_and_there_once(client: Any) -> None:
    refused("invalid_input", lambda: client.ssh_keys.create("me", "ssh-ed25519 nonsense"))
    client.ssh_keys.create("me", KEY)
    message = refused("uniqueness_error", lambda: client.ssh_keys.create("you", KEY))
    assert message == "SSH key not unique"


def test_records_are_checked_and_found_by_name_and_type(client: Any, hetzner: Hetzner) -> None:
    answer = client.zones.create(name="acme.example", mode="primary")
    answer.action.wait_until_finished()
    zone = answer.zone
    made = client.zones.create_rrset(
        zone, name="chat", type="A", records=[ZoneRecord(value="203.0.113.1")], ttl=300
    )
    made.action.wait_until_finished()
    for name, kind, value in (
        ("chat", "A", "203.0.113.2"),
        ("chat", "CNAME", "x.example."),
        ("Up", "A", "203.0.113.2"),
        ("www", "A", "2001:db8::1"),
    ):
        code = "uniqueness_error" if kind == "A" and name == "chat" else "invalid_input"
        records = [ZoneRecord(value=value)]
        create = partial(client.zones.create_rrset, zone, name=name, type=kind, records=records)
        refused(code, create)
    rrset = client.zones.get_rrset(zone, "chat", "A")
    rrset.set_rrset_records([ZoneRecord(value="203.0.113.9")]).wait_until_finished()
    assert hetzner.records("acme.example")["chat/A"] == ["203.0.113.9"]
    rrset.delete_rrset().action.wait_until_finished()
    refused("not_found", lambda: client.zones.get_rrset(zone, "chat", "A"))
    assert set(hetzner.records("acme.example")) == {"@/SOA", "@/NS"}
