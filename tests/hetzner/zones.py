# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS zones and their sets of records."""

from __future__ import annotations

import ipaddress
import re
from http import HTTPStatus
from typing import Any

from .cloud import Call, Cloud, Row, protection, route
from .shapes import (
    ApiError,
    each,
    flag,
    inside,
    invalid,
    labels,
    may,
    need,
    number,
    one_of,
    or_null,
    page,
    selected,
    taken,
    text,
)

_TTL = number(60, 2147483647)
_ZONE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+")
_NAME = re.compile(
    r"@|(\*|[_a-z0-9]([-_a-z0-9]{0,61}[a-z0-9])?)(\.[_a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"
)
_SERVERS = ["hydrogen.ns.hetzner.com.", "oxygen.ns.hetzner.com.", "helium.ns.hetzner.de."]
_RECORDS = each(inside({"value": need(text), "comment": may(text)}))
_RRSET = "/zones/{id}/rrsets/{name}/{type}"


@route(
    "POST",
    "/zones",
    {"name": need(text), "mode": need(one_of("primary")), "ttl": may(_TTL), "labels": may(labels)},
)
def create_zone(cloud: Cloud, call: Call) -> tuple[int, Row]:
    body = call.body
    if not _ZONE.fullmatch(body["name"]):
        raise invalid("name", "must be a domain in lower case, without a dot at its end")
    row = cloud.create(
        "zones",
        {
            "name": body["name"],
            "mode": "primary",
            "ttl": body.get("ttl", 3600),
            "labels": body.get("labels", {}),
            "protection": {"delete": False},
            "status": "ok",
            "registrar": "unknown",
            "primary_nameservers": [],
            "authoritative_nameservers": {
                "assigned": _SERVERS,
                "delegated": [],
                "delegation_last_check": None,
                "delegation_status": "unknown",
            },
        },
    )
    cloud.rrsets[row["id"]] = {}
    soa = f"{_SERVERS[0]} dns.hetzner.com. 2026112100 86400 10800 3600000 3600"
    _keep(cloud, row, "@", "SOA", [{"value": soa, "comment": ""}])
    _keep(cloud, row, "@", "NS", [{"value": server, "comment": ""} for server in _SERVERS])
    action = cloud.start("create_zone", lambda: None, ("zone", row["id"]))
    return HTTPStatus.CREATED, cloud.answer("zones", row, action=action)


def _keep(cloud: Cloud, zone: Row, name: str, kind: str, records: list[Row]) -> Row:
    row = {
        "id": f"{name}/{kind}",
        "name": name,
        "type": kind,
        "ttl": None,
        "labels": {},
        "protection": {"change": False},
        "records": records,
        "zone": zone["id"],
    }
    cloud.rrsets[zone["id"]][row["id"]] = row
    return row


def _zone(cloud: Cloud, call: Call) -> tuple[Row, tuple[str, int]]:
    row = cloud.get("zones", call.values["id"])
    cloud.free("zone", row)
    return row, ("zone", row["id"])


def _done(action: Row, status: int = HTTPStatus.CREATED) -> tuple[int, Row]:
    return status, {"action": action}


@route("DELETE", "/zones/{id}")
def delete_zone(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _zone(cloud, call)
    cloud.protect("zone", row)

    def effect() -> None:
        del cloud.rows["zones"][row["id"]], cloud.rrsets[row["id"]]

    return _done(cloud.start("delete_zone", effect, me))


route("POST", "/zones/{id}/actions/change_protection", {"delete": need(flag)})(protection("zones"))


@route("POST", "/zones/{id}/actions/change_ttl", {"ttl": need(_TTL)})
def change_zone_ttl(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _zone(cloud, call)
    return _done(cloud.start("change_ttl", lambda: row.update(call.body), me))


# --- sets of records ----------------------------------------------------------------------------


@route("GET", "/zones/{id}/rrsets", query={"name", "type", "label_selector", "page", "per_page"})
def list_rrsets(cloud: Cloud, call: Call) -> tuple[int, Row]:
    zone = cloud.get("zones", call.values["id"])
    rows = list(cloud.rrsets[zone["id"]].values())
    for field in ("name", "type"):
        if field in call.query:
            rows = [row for row in rows if row[field] == call.query[field]]
    if "label_selector" in call.query:
        rows = [row for row in rows if selected(call.query["label_selector"], row["labels"])]
    return HTTPStatus.OK, page("rrsets", rows, call.query)


@route(
    "POST",
    "/zones/{id}/rrsets",
    {
        "name": need(text),
        "type": need(one_of("A", "AAAA", "CAA", "CNAME", "MX", "NS", "TXT")),
        "ttl": may(or_null(_TTL)),
        "labels": may(labels),
        "records": need(_RECORDS),
    },
)
def create_rrset(cloud: Cloud, call: Call) -> tuple[int, Row]:
    zone, me = _zone(cloud, call)
    body = call.body
    name, kind = body["name"], body["type"]
    if not _NAME.fullmatch(name):
        raise invalid("name", "must be a name in lower case, relative to the zone, or @")
    there = {row["type"] for row in cloud.rrsets[zone["id"]].values() if row["name"] == name}
    if kind in there:
        raise taken("name", f"a {kind} rrset {name!r} exists already")
    if there and "CNAME" in {kind, *there}:
        raise invalid("type", "a CNAME stands alone under its name")
    records = _checked(kind, body["records"])
    row = _keep(cloud, zone, name, kind, records)
    row.update(ttl=body.get("ttl"), labels=body.get("labels", {}))
    action = cloud.start("create_rrset", lambda: None, me)
    return HTTPStatus.CREATED, {"rrset": row, "action": action}


def _checked(kind: str, records: list[Row]) -> list[Row]:
    if not records:
        raise invalid("records", "must have at least one")
    family: Any = {"A": ipaddress.IPv4Address, "AAAA": ipaddress.IPv6Address}.get(kind)
    for record in records:
        try:
            if family:
                family(record["value"])
        except ValueError:
            raise invalid("records", f"{record['value']!r} is no value for {kind}") from None
    return [{"comment": "", **record} for record in records]


def _rrset(cloud: Cloud, call: Call, *, free: bool) -> tuple[Row, tuple[str, int]]:
    zone = cloud.get("zones", call.values["id"])
    if free:
        cloud.free("zone", zone)
    key = f"{call.values['name']}/{call.values['type']}"
    if key not in cloud.rrsets[zone["id"]]:
        raise ApiError("not_found", f"rrset '{key}' not found")
    return cloud.rrsets[zone["id"]][key], ("zone", zone["id"])


def _changeable(row: Row) -> None:
    if row["protection"]["change"]:
        raise ApiError("protected", "rrset is protected from changes")


@route("GET", _RRSET)
def get_rrset(cloud: Cloud, call: Call) -> tuple[int, Row]:
    return HTTPStatus.OK, {"rrset": _rrset(cloud, call, free=False)[0]}


@route("PUT", _RRSET, {"labels": may(labels)})
def change_rrset(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, _me = _rrset(cloud, call, free=True)
    row.update(call.body)
    return HTTPStatus.OK, {"rrset": row}


@route("DELETE", _RRSET)
def delete_rrset(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _rrset(cloud, call, free=True)
    _changeable(row)
    if row["type"] == "SOA":
        raise invalid("type", "the SOA cannot be deleted")
    del cloud.rrsets[row["zone"]][row["id"]]
    return _done(cloud.start("delete_rrset", lambda: None, me))


@route("POST", f"{_RRSET}/actions/set_records", {"records": need(_RECORDS)})
def set_records(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, me = _rrset(cloud, call, free=True)
    _changeable(row)
    records = _checked(row["type"], call.body["records"])
    return _done(cloud.start("set_rrset_records", lambda: row.update(records=records), me))


@route("POST", f"{_RRSET}/actions/change_ttl", {"ttl": need(or_null(_TTL))})
def change_rrset_ttl(cloud: Cloud, call: Call) -> tuple[int, Row]:
    row, _me = _rrset(cloud, call, free=True)
    _changeable(row)
    # The module begins this and the change of the records without waiting in between.
    row.update(call.body)
    return _done(cloud.start("change_rrset_ttl", lambda: None))
