# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers: made, powered, attached, protected, deleted."""

from __future__ import annotations

import hashlib
import ipaddress
from functools import partial
from http import HTTPStatus

from .cloud import Call, Cloud, Effect, Row, protection, route
from .shapes import (
    ApiError,
    address,
    each,
    flag,
    hostname,
    inside,
    invalid,
    labels,
    may,
    need,
    network,
    or_null,
    reference,
    text,
)

_GROUP = 10
_USER_DATA = 32 * 1024

CREATE = {
    "name": need(hostname),
    "server_type": need(reference),
    "image": need(reference),
    "location": may(reference),
    "start_after_create": may(flag),
    "ssh_keys": may(each(reference)),
    "volumes": may(each(reference)),
    "networks": may(each(reference, 3)),
    "firewalls": may(each(inside({"firewall": need(reference)}), 5)),
    "user_data": may(text),
    "labels": may(labels),
    "automount": may(flag),
    "placement_group": may(reference),
    "public_net": may(
        inside(
            {
                "enable_ipv4": may(flag),
                "enable_ipv6": may(flag),
                "ipv4": may(or_null(reference)),
                "ipv6": may(or_null(reference)),
            }
        )
    ),
}


@route("POST", "/servers", CREATE)
def create(cloud: Cloud, call: Call) -> tuple[int, Row]:
    body = call.body
    kind = cloud.get("server_types", body["server_type"], "server_type")
    image = _image(cloud, body["image"], kind["architecture"])
    place = cloud.get("locations", body.get("location", "fsn1"), "location")
    keys = [cloud.get("ssh_keys", key, "ssh_keys") for key in body.get("ssh_keys", [])]
    nets = [cloud.get("networks", net, "networks") for net in body.get("networks", [])]
    walls = [
        cloud.get("firewalls", one["firewall"], "firewalls") for one in body.get("firewalls", [])
    ]
    disks = [cloud.get("volumes", disk, "volumes") for disk in body.get("volumes", [])]
    group = _group(cloud, body["placement_group"]) if "placement_group" in body else None
    if len(body.get("user_data", "")) > _USER_DATA:
        raise invalid("user_data", "is longer than 32 KiB")
    _available(cloud, kind, place)
    row = cloud.create(
        "servers",
        {
            "name": body["name"],
            "status": "initializing",
            "server_type": kind,
            "location": place,
            "image": image,
            "iso": None,
            "rescue_enabled": False,
            "backup_window": None,
            "outgoing_traffic": 0,
            "ingoing_traffic": 0,
            "included_traffic": 0,
            "protection": {"delete": False, "rebuild": False},
            "labels": body.get("labels", {}),
            "public_net": {},
            "private_net": [],
            "primary_disk_size": kind["disk"],
            "placement_group": group and group["id"],
            "_user_data": body.get("user_data"),
            "_coming": [],
        },
    )
    row["public_net"] = _public(cloud, row, body.get("public_net", {}))
    row["public_net"]["firewalls"] = [{"id": wall["id"], "status": "applied"} for wall in walls]
    me = ("server", row["id"])
    action = cloud.start("create_server", lambda: row.update(status="off"), me)
    later = [
        cloud.start("attach_to_network", _join(cloud, row, net), me, ("network", net["id"]), turn=2)
        for net in nets
    ]
    later += [
        cloud.start("attach_volume", _hold(row, disk), me, ("volume", disk["id"]), turn=2)
        for disk in disks
    ]
    if body.get("start_after_create", True):
        later.append(cloud.start("start_server", lambda: row.update(status="running"), me, turn=2))
    secret = None if keys else hashlib.sha256(row["name"].encode()).hexdigest()[:20]
    answer = cloud.answer("servers", row, action=action, next_actions=later, root_password=secret)
    return HTTPStatus.CREATED, answer


def _image(cloud: Cloud, wanted: int | str, architecture: str) -> Row:
    for image in cloud.rows["images"].values():
        if image["id"] == wanted or (image["name"], image["architecture"]) == (
            wanted,
            architecture,
        ):
            if image["architecture"] != architecture:
                raise invalid("image", "has another architecture than the server type")
            return image
    raise invalid("image", f"image {wanted!r} not found")


def _group(cloud: Cloud, wanted: int | str) -> Row:
    group = cloud.get("placement_groups", wanted, "placement_group")
    if len(cloud.belonging("servers", group, "placement_group")) >= _GROUP:
        raise ApiError("placement_error", "placement group has its 10 servers already")
    return group


def _available(cloud: Cloud, kind: Row, place: Row) -> None:
    if place["name"] not in {one["name"] for one in kind["locations"]}:
        raise invalid("location", "unsupported location for server type")
    if (kind["name"], place["name"]) in cloud.settings.sold_out:
        raise ApiError("resource_unavailable", "error during placement")


def _public(cloud: Cloud, row: Row, wanted: Row) -> Row:
    serial = len([one for one in cloud.rows["servers"].values() if one["public_net"]]) + 10
    taken = {
        (one["public_net"].get("ipv4") or {}).get("ip") for one in cloud.rows["servers"].values()
    }
    ip = cloud.settings.addresses.get(row["name"], f"203.0.113.{serial}")
    while ip in taken:
        serial += 1
        ip = f"203.0.113.{serial}"
    net = f"2001:db8:{serial:x}::/64"
    ipv4 = {"id": cloud.new_id(), "ip": ip, "blocked": False, "dns_ptr": f"static.{ip}.example"}
    ipv6 = {"id": cloud.new_id(), "ip": net, "blocked": False, "dns_ptr": []}
    return {
        "ipv4": ipv4 if wanted.get("enable_ipv4", True) else None,
        "ipv6": ipv6 if wanted.get("enable_ipv6", True) else None,
        "floating_ips": [],
        "firewalls": [],
    }


def _join(cloud: Cloud, row: Row, net: Row, ip: str = "", ip_range: str = "") -> Effect:
    """What attaching does, with an address that is chosen now.

    :raises ApiError: there is no such address, or none is left
    """
    used = {
        one["ip"]
        for server in cloud.rows["servers"].values()
        for one in server["private_net"] + server["_coming"]
        if one["network"] == net["id"]
    }
    zone = row["location"]["network_zone"]
    subnets = [
        ipaddress.IPv4Network(subnet["ip_range"])
        for subnet in net["subnets"]
        if subnet["network_zone"] == zone and ip_range in ("", subnet["ip_range"])
    ]
    if not subnets:
        raise invalid("network", f"network has no subnet for this server in {zone}")
    candidates = [str(host) for subnet in subnets for host in list(subnet.hosts())[1:]]
    if ip and ip not in candidates:
        raise invalid("ip", "IP is not in a subnet of the network")
    if ip in used:
        raise ApiError("uniqueness_error", "IP is already used in this network")
    chosen = ip or next((one for one in candidates if one not in used), "")
    if not chosen:
        raise ApiError("resource_unavailable", "no IP left in the network")
    attached = {
        "network": net["id"],
        "ip": chosen,
        "alias_ips": [],
        "mac_address": "86:00:00:00:00:00",
    }
    row["_coming"].append(attached)

    def effect() -> None:
        row["_coming"].remove(attached)
        row["private_net"].append(attached)

    return effect


def _hold(row: Row, disk: Row) -> Effect:
    if disk["server"]:
        raise ApiError("volume_already_attached", "volume is already attached to a server")
    return lambda: disk.update(server=row["id"])


# --- what is done to one ------------------------------------------------------------------------


def _mine(cloud: Cloud, call: Call) -> tuple[Row, tuple[str, int]]:
    row = cloud.get("servers", call.values["id"])
    cloud.free("server", row)
    return row, ("server", row["id"])


def _done(action: Row) -> tuple[int, Row]:
    return HTTPStatus.CREATED, {"action": action}


@route("DELETE", "/servers/{id}")
def delete(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _mine(cloud, call)
    cloud.protect("server", row)

    def effect() -> None:
        for disk in cloud.rows["volumes"].values():
            if disk["server"] == row["id"]:
                disk["server"] = None
        del cloud.rows["servers"][row["id"]]

    return HTTPStatus.OK, {"action": cloud.start("delete_server", effect, me)}


def _power(command: str, status: str) -> None:
    @route("POST", f"/servers/{{id}}/actions/{command}")
    def power(cloud: Cloud, call: Call) -> tuple[int, Row]:
        row, me = _mine(cloud, call)
        name = {"poweron": "start_server", "poweroff": "stop_server"}[command]
        return _done(cloud.start(name, lambda: row.update(status=status), me))


_power("poweron", "running")
_power("poweroff", "off")


def _backup(command: str, window: str | None) -> None:
    @route("POST", f"/servers/{{id}}/actions/{command}")
    def backup(cloud: Cloud, call: Call) -> tuple[int, Row]:
        row, me = _mine(cloud, call)
        return _done(cloud.start(command, lambda: row.update(backup_window=window), me))


_backup("enable_backup", "22-02")
_backup("disable_backup", None)

route(
    "POST",
    "/servers/{id}/actions/change_protection",
    {"delete": need(flag), "rebuild": need(flag)},
)(protection("servers"))


def _stopped(row: Row) -> None:
    if row["status"] != "off":
        raise ApiError("server_not_stopped", "server must be stopped first")


@route(
    "POST",
    "/servers/{id}/actions/change_type",
    {"server_type": need(reference), "upgrade_disk": need(flag)},
)
def change_type(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _mine(cloud, call)
    kind = cloud.get("server_types", call.body["server_type"], "server_type")
    _stopped(row)
    if kind["architecture"] != row["server_type"]["architecture"]:
        raise invalid("server_type", "has another architecture")
    if kind["disk"] < row["primary_disk_size"]:
        raise invalid("server_type", "has a smaller disk than the server")
    _available(cloud, kind, row["location"])

    def effect() -> None:
        row["server_type"] = kind
        if call.body["upgrade_disk"]:
            row["primary_disk_size"] = kind["disk"]

    return _done(cloud.start("change_server_type", effect, me))


@route("POST", "/servers/{id}/actions/add_to_placement_group", {"placement_group": need(reference)})
def add_to_group(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _mine(cloud, call)
    group = _group(cloud, call.body["placement_group"])
    _stopped(row)
    if row["placement_group"]:
        raise ApiError("conflict", "server is in a placement group already")
    effect = partial(row.update, placement_group=group["id"])
    return _done(cloud.start("add_to_placement_group", effect, me))


@route("POST", "/servers/{id}/actions/remove_from_placement_group")
def remove_from_group(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _mine(cloud, call)
    effect = partial(row.update, placement_group=None)
    return _done(cloud.start("remove_from_placement_group", effect, me))


@route(
    "POST",
    "/servers/{id}/actions/attach_to_network",
    {
        "network": need(reference),
        "ip": may(address),
        "alias_ips": may(each(address)),
        "ip_range": may(network),
    },
)
def attach_to_network(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _mine(cloud, call)
    net = cloud.get("networks", call.body["network"], "network")
    # As several servers are attached at once, all but one are told to come back.
    cloud.free("network", net)
    if any(one["network"] == net["id"] for one in row["private_net"] + row["_coming"]):
        raise ApiError("server_already_attached", "server is already attached to this network")
    effect = _join(cloud, row, net, call.body.get("ip", ""), call.body.get("ip_range", ""))
    return _done(cloud.start("attach_to_network", effect, me, ("network", net["id"])))


@route("POST", "/servers/{id}/actions/detach_from_network", {"network": need(reference)})
def detach_from_network(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _mine(cloud, call)
    net = cloud.get("networks", call.body["network"], "network")
    cloud.free("network", net)
    mine = [one for one in row["private_net"] if one["network"] == net["id"]]
    if not mine:
        raise invalid("network", "server is not attached to this network")
    effect = partial(row["private_net"].remove, mine[0])
    return _done(cloud.start("detach_from_network", effect, me, ("network", net["id"])))
