# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes, networks, firewalls, SSH keys and placement groups."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from functools import partial
from http import HTTPStatus
from typing import Any

from .cloud import Call, Cloud, Row, add_common_routes, protection, route
from .shapes import (
    ApiError,
    each,
    flag,
    hostname,
    inside,
    invalid,
    labels,
    may,
    need,
    network,
    number,
    one_of,
    reference,
    taken,
    text,
)

_NO_CONTENT: tuple[int, Row] = (HTTPStatus.NO_CONTENT, {})

add_common_routes(
    {
        "servers": {"name": may(hostname)},
        "volumes": {"name": may(text)},
        "networks": {"name": may(text), "expose_routes_to_vswitch": may(flag)},
        "firewalls": {"name": may(text)},
        "ssh_keys": {"name": may(text)},
        "placement_groups": {"name": may(text)},
        "zones": {},
    }
)


def _done(action: Row) -> tuple[int, Row]:
    return HTTPStatus.CREATED, {"action": action}


def _in_use(cloud: Cloud, kind: str, row: Row, using: str) -> None:
    if cloud.show(kind, row)[using]:
        raise ApiError("resource_in_use", f"{kind[:-1]} with ID '{row['id']}' is still in use")


# --- volumes ------------------------------------------------------------------------------------


@route(
    "POST",
    "/volumes",
    {
        "name": need(text),
        "size": need(number(10, 10240)),
        "labels": may(labels),
        "location": may(reference),
        "server": may(reference),
        "automount": may(flag),
        "format": may(one_of("xfs", "ext4")),
    },
)
def create_volume(cloud: Cloud, call: Call) -> tuple[int, Row]:
    body = call.body
    if ("server" in body) == ("location" in body):
        raise invalid("server", "either server or location must be given")
    if body.get("automount") and "server" not in body:
        raise invalid("automount", "takes a server")
    server = cloud.get("servers", body["server"], "server") if "server" in body else None
    if server:
        cloud.free("server", server)
    row = cloud.create(
        "volumes",
        {
            "name": body["name"],
            "server": None,
            "location": (
                server["location"]
                if server
                else cloud.get("locations", body["location"], "location")
            ),
            "size": body["size"],
            "linux_device": "",
            "format": body.get("format"),
            "protection": {"delete": False},
            "labels": body.get("labels", {}),
            "status": "creating",
        },
    )
    row["linux_device"] = f"/dev/disk/by-id/scsi-0HC_Volume_{row['id']}"
    me = ("volume", row["id"])
    action = cloud.start("create_volume", lambda: row.update(status="available"), me)
    later = []
    if server:
        holder = server["id"]
        effect = partial(row.update, server=holder)
        later.append(cloud.start("attach_volume", effect, me, ("server", holder), turn=2))
    answer = cloud.answer("volumes", row, action=action, next_actions=later)
    return HTTPStatus.CREATED, answer


def _volume(cloud: Cloud, call: Call) -> tuple[Row, tuple[str, int]]:
    row = cloud.get("volumes", call.values["id"])
    cloud.free("volume", row)
    return row, ("volume", row["id"])


@route("POST", "/volumes/{id}/actions/attach", {"server": need(reference), "automount": may(flag)})
def attach_volume(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _volume(cloud, call)
    server = cloud.get("servers", call.body["server"], "server")
    cloud.free("server", server)
    if row["server"]:
        raise ApiError("volume_already_attached", "volume is already attached to a server")
    if row["location"] != server["location"]:
        raise invalid("server", "is in another location than the volume")
    effect = partial(row.update, server=server["id"])
    return _done(cloud.start("attach_volume", effect, me, ("server", server["id"])))


@route("POST", "/volumes/{id}/actions/detach")
def detach_volume(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _volume(cloud, call)
    return _done(cloud.start("detach_volume", lambda: row.update(server=None), me))


@route("POST", "/volumes/{id}/actions/resize", {"size": need(number(10, 10240))})
def resize_volume(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _volume(cloud, call)
    if call.body["size"] <= row["size"]:
        raise invalid("size", "must be larger than the volume is")
    return _done(cloud.start("resize_volume", lambda: row.update(call.body), me))


route("POST", "/volumes/{id}/actions/change_protection", {"delete": need(flag)})(
    protection("volumes")
)


@route("DELETE", "/volumes/{id}")
def delete_volume(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, _me = _volume(cloud, call)
    cloud.protect("volume", row)
    if row["server"]:
        raise ApiError("resource_in_use", "volume is still attached to a server")
    del cloud.rows["volumes"][row["id"]]
    return _NO_CONTENT


# --- networks -----------------------------------------------------------------------------------

SUBNET = {
    "type": need(one_of("cloud", "server", "vswitch")),
    "ip_range": need(network),
    "network_zone": need(one_of("eu-central", "us-east")),
}


@route(
    "POST",
    "/networks",
    {
        "name": need(text),
        "ip_range": need(network),
        "labels": may(labels),
        "subnets": may(each(inside(SUBNET))),
        "expose_routes_to_vswitch": may(flag),
    },
)
def create_network(cloud: Cloud, call: Call) -> tuple[int, Row]:
    body = call.body
    if not ipaddress.IPv4Network(body["ip_range"]).is_private:
        raise invalid("ip_range", "must be private")
    row: Row = {
        "name": body["name"],
        "ip_range": body["ip_range"],
        "subnets": [],
        "routes": [],
        "expose_routes_to_vswitch": body.get("expose_routes_to_vswitch", False),
        "protection": {"delete": False},
        "labels": body.get("labels", {}),
    }
    for subnet in body.get("subnets", []):
        row["subnets"].append(_subnet(row, subnet))
    row = cloud.create("networks", row)
    return HTTPStatus.CREATED, cloud.answer("networks", row)


def _subnet(row: Row, subnet: Row) -> Row:
    part, whole = (ipaddress.IPv4Network(one["ip_range"]) for one in (subnet, row))
    if not part.subnet_of(whole):
        raise invalid("ip_range", "must be inside the network")
    if any(part.overlaps(ipaddress.IPv4Network(one["ip_range"])) for one in row["subnets"]):
        raise invalid("ip_range", "overlaps with another subnet")
    return {**subnet, "gateway": str(next(whole.hosts())), "vswitch_id": None}


def _network(cloud: Cloud, call: Call) -> tuple[Row, tuple[str, int]]:
    row = cloud.get("networks", call.values["id"])
    cloud.free("network", row)
    return row, ("network", row["id"])


@route("POST", "/networks/{id}/actions/add_subnet", SUBNET)
def add_subnet(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _network(cloud, call)
    subnet = _subnet(row, call.body)
    return _done(cloud.start("add_subnet", lambda: row["subnets"].append(subnet), me))


@route("POST", "/networks/{id}/actions/change_ip_range", {"ip_range": need(network)})
def change_ip_range(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _network(cloud, call)
    whole = ipaddress.IPv4Network(call.body["ip_range"])
    if not all(ipaddress.IPv4Network(one["ip_range"]).subnet_of(whole) for one in row["subnets"]):
        raise invalid("ip_range", "must hold the subnets that there are")
    return _done(cloud.start("change_ip_range", lambda: row.update(call.body), me))


route("POST", "/networks/{id}/actions/change_protection", {"delete": need(flag)})(
    protection("networks")
)


@route("DELETE", "/networks/{id}")
def delete_network(cloud: Cloud, call: Call) -> tuple[int, Row]:
    """Servers are detached without a question, as at Hetzner."""
    row, _me = _network(cloud, call)
    cloud.protect("network", row)
    for server in cloud.rows["servers"].values():
        server["private_net"] = [
            one for one in server["private_net"] if one["network"] != row["id"]
        ]
    del cloud.rows["networks"][row["id"]]
    return _NO_CONTENT


# --- firewalls ----------------------------------------------------------------------------------


def _rule(where: str, rule: Any) -> None:
    fields = {
        "direction": need(one_of("in", "out")),
        "protocol": need(one_of("tcp", "udp", "icmp", "esp", "gre")),
        "port": may(text),
        "source_ips": may(each(network)),
        "destination_ips": may(each(network)),
        "description": may(text),
    }
    inside(fields)(where, rule)
    if ("port" in rule) != (rule["protocol"] in ("tcp", "udp")):
        raise invalid(f"{where}.port", "is for tcp and udp, and they need one")
    if "port" in rule and not re.fullmatch(r"[1-9]\d{0,4}(-[1-9]\d{0,4})?", rule["port"]):
        raise invalid(f"{where}.port", "must be a port or a range of ports")
    needed = "source_ips" if rule["direction"] == "in" else "destination_ips"
    if not rule.get(needed):
        raise invalid(f"{where}.{needed}", "is required for this direction")


def _stored(rules: list[Row]) -> list[Row]:
    blank: Row = {"port": None, "source_ips": [], "destination_ips": [], "description": None}
    return [{**blank, **rule} for rule in rules]


_RESOURCE = inside(
    {"type": need(one_of("server")), "server": need(inside({"id": need(reference)}))}
)


@route(
    "POST",
    "/firewalls",
    {"name": need(text), "labels": may(labels), "rules": may(each(_rule, 50))},
)
def create_firewall(cloud: Cloud, call: Call) -> tuple[int, Row]:
    body = call.body
    rules = _stored(body.get("rules", []))
    row = cloud.create(
        "firewalls", {"name": body["name"], "labels": body.get("labels", {}), "rules": rules}
    )
    return HTTPStatus.CREATED, cloud.answer("firewalls", row, actions=[])


@route("POST", "/firewalls/{id}/actions/set_rules", {"rules": need(each(_rule, 50))})
def set_rules(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row = cloud.get("firewalls", call.values["id"])
    cloud.free("firewall", row)
    effect = partial(row.update, rules=_stored(call.body["rules"]))
    action = cloud.start("set_firewall_rules", effect, ("firewall", row["id"]))
    return HTTPStatus.CREATED, {"actions": [action]}


@route("POST", "/firewalls/{id}/actions/apply_to_resources", {"apply_to": need(each(_RESOURCE))})
def apply_firewall(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row = cloud.get("firewalls", call.values["id"])
    actions = []
    for one in call.body["apply_to"]:
        server = cloud.get("servers", one["server"]["id"])
        walls = server["public_net"]["firewalls"]
        if any(wall["id"] == row["id"] for wall in walls):
            raise ApiError("conflict", "firewall is already applied to this server")
        entry = {"id": row["id"], "status": "pending"}
        walls.append(entry)
        effect = partial(entry.update, status="applied")
        actions.append(cloud.start("apply_firewall", effect, ("server", server["id"])))
    return HTTPStatus.CREATED, {"actions": actions}


@route(
    "POST", "/firewalls/{id}/actions/remove_from_resources", {"remove_from": need(each(_RESOURCE))}
)
def remove_firewall(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row = cloud.get("firewalls", call.values["id"])
    actions = []
    for one in call.body["remove_from"]:
        server = cloud.get("servers", one["server"]["id"])
        walls = server["public_net"]["firewalls"]
        walls[:] = [wall for wall in walls if wall["id"] != row["id"]]
        actions.append(cloud.start("remove_firewall", lambda: None, ("server", server["id"])))
    return HTTPStatus.CREATED, {"actions": actions}


@route("DELETE", "/firewalls/{id}")
def delete_firewall(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row = cloud.get("firewalls", call.values["id"])
    _in_use(cloud, "firewalls", row, "applied_to")
    del cloud.rows["firewalls"][row["id"]]
    return _NO_CONTENT


# --- SSH keys and placement groups --------------------------------------------------------------


@route(
    "POST",
    "/ssh_keys",
    {"name": need(text), "public_key": need(text), "labels": may(labels)},
)
def create_key(cloud: Cloud, call: Call) -> tuple[int, Row]:
    body = call.body
    fingerprint = _fingerprint(body["public_key"])
    if any(key["fingerprint"] == fingerprint for key in cloud.rows["ssh_keys"].values()):
        raise taken("public_key", "SSH key not unique")
    row = cloud.create("ssh_keys", {"labels": {}, **body, "fingerprint": fingerprint})
    return HTTPStatus.CREATED, cloud.answer("ssh_keys", row)


def _fingerprint(public_key: str) -> str:
    kind, _space, rest = public_key.strip().partition(" ")
    try:
        raw = base64.b64decode(rest.partition(" ")[0], validate=True)
    except binascii.Error:
        raw = b""
    if not raw or kind.encode() not in raw:
        raise invalid("public_key", "is not a public key of SSH")
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return ":".join(digest[start : start + 2] for start in range(0, len(digest), 2))


@route("DELETE", "/ssh_keys/{id}")
def delete_key(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row = cloud.get("ssh_keys", call.values["id"])
    del cloud.rows["ssh_keys"][row["id"]]
    return _NO_CONTENT


@route(
    "POST",
    "/placement_groups",
    {"name": need(text), "type": need(one_of("spread")), "labels": may(labels)},
)
def create_group(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row = cloud.create("placement_groups", {"labels": {}, **call.body})
    return HTTPStatus.CREATED, cloud.answer("placement_groups", row, action=None)


@route("DELETE", "/placement_groups/{id}")
def delete_group(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row = cloud.get("placement_groups", call.values["id"])
    _in_use(cloud, "placement_groups", row, "servers")
    del cloud.rows["placement_groups"][row["id"]]
    return _NO_CONTENT
