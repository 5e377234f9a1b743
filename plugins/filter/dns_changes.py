# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From clients' domains and what a DNS zone has to what has to change in it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: dns_changes
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Find which DNS records of a server and its clients have to change
description:
  - Compares the records that the domains of a server's clients need with those that DNS zones have, and
    returns the differences, so that a run in which nothing changes writes nothing, however many
    clients there are.
  - The fleet's own records carry the labels C(mai-fleet) and C(mai-name). Others are never changed.
options:
  _input:
    description: The clients of a server by name, as in the variable C(fleet_clients).
    type: dict
    required: true
  server:
    description: The server's own name in DNS, or an empty text.
    type: str
    default: ''
  zones:
    description: The records of each zone, as M(hetzner.hcloud.zone_rrset_info) returns them.
    type: dict
    required: true
  addresses:
    description:
      - The server's addresses, as V(A) and V(AAAA), or empty texts. A network of IPv6 stands for its
        first address.
    type: dict
    required: true
  fleet:
    description: The fleet's name.
    type: str
    required: true
  ttl:
    description: The records' time to live, in seconds.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Find what has to change
  ansible.builtin.set_fact:
    dns: >-
      {{ fleet_clients | mai.fleet.dns_changes(zones={'acme.example': []}, fleet='hosting', ttl=300,
      addresses={'A': '203.0.113.7', 'AAAA': '2001:db8:7::/64'}) }}
"""

RETURN = r"""
_value:
  description: >-
    C(changes), a list of sets of records with C(zone), C(name), C(type), C(labels) and C(records),
    which are empty for one that has to go; C(refused), sentences about records that are not the
    fleet's; C(elsewhere), the records that domains of no zone need.
  type: dict
"""


def dns_changes(
    clients: Mapping[str, Mapping[str, Any]],
    zones: Mapping[str, Sequence[Mapping[str, Any]]],
    addresses: Mapping[str, str],
    fleet: str,
    ttl: int,
    server: str = "",
) -> dict[str, list[Any]]:
    """See DOCUMENTATION."""
    found: dict[str, list[Any]] = {"changes": [], "refused": [], "elsewhere": []}
    for owner, domain, wanted in _names(clients, server):
        zone = _zone(domain, zones)
        needed = {kind: _address(addresses[kind]) if wanted else "" for kind in ("A", "AAAA")}
        if not zone:
            found["elsewhere"] += [f"{domain} {kind} {ip}" for kind, ip in needed.items() if ip]
            continue
        name = domain.removesuffix(zone).removesuffix(".") or "@"
        there = {row["type"]: row for row in zones[zone] if row["name"] == name}
        strange = [kind for kind in ("A", "AAAA", "CNAME") if _strange(there.get(kind), fleet)]
        if strange:
            if wanted:
                kinds = " and ".join(strange)
                found["refused"].append(
                    f"{domain} has a record that is not this fleet's ({kinds} in the zone {zone}, "
                    "without its label): delete it at Hetzner, and the next run makes the fleet's own"
                )
            continue
        labels = {"mai-fleet": fleet, "mai-name": owner}
        for kind, ip in needed.items():
            if _differs(there.get(kind), ip, labels, ttl):
                records = [{"value": ip}] if ip else []
                change = {"zone": zone, "name": name, "type": kind, "records": records}
                found["changes"].append({**change, "labels": labels})
    return found


def _names(
    clients: Mapping[str, Mapping[str, Any]], server: str
) -> Iterator[tuple[str, str, bool]]:
    """Whose name it is, the name, and whether it is to be there."""
    if server:
        yield "server", server, True
    for name, client in clients.items():
        if client["domain"]:
            yield name, client["domain"], client["state"] != "absent"


def _zone(domain: str, zones: Mapping[str, Any]) -> str:
    """The innermost zone that a domain is in, or nothing."""
    fitting = [zone for zone in zones if domain == zone or domain.endswith(f".{zone}")]
    return max(fitting, key=len, default="")


def _address(given: str) -> str:
    if "/" not in given:
        return given
    return str(next(ipaddress.IPv6Network(given).hosts()))


def _strange(row: Mapping[str, Any] | None, fleet: str) -> bool:
    return row is not None and (row["labels"] or {}).get("mai-fleet") != fleet


def _differs(row: Mapping[str, Any] | None, ip: str, labels: Mapping[str, str], ttl: int) -> bool:
    if row is None:
        return bool(ip)
    values = [record["value"] for record in row["records"]]
    return not ip or values != [ip] or row["ttl"] != ttl or row["labels"] != labels


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        return {"dns_changes": dns_changes}
