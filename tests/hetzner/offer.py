# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Hetzner offers, as far as a fleet needs it. Names are real, prices are left out."""

from __future__ import annotations

from typing import Any

_LOCATIONS = [
    (1, "fsn1", "Falkenstein DC Park 1", "DE", "Falkenstein", "eu-central"),
    (2, "nbg1", "Nuremberg DC Park 1", "DE", "Nuremberg", "eu-central"),
    (3, "hel1", "Helsinki DC Park 1", "FI", "Helsinki", "eu-central"),
    (4, "ash", "Ashburn, VA", "US", "Ashburn, VA", "us-east"),
]
LOCATIONS: list[dict[str, Any]] = [
    {
        "id": number,
        "name": name,
        "description": description,
        "country": country,
        "city": city,
        "latitude": 0.0,
        "longitude": 0.0,
        "network_zone": zone,
    }
    for number, name, description, country, city, zone in _LOCATIONS
]

#: Id, name, cores, memory in GB, disk in GB, architecture, where it is offered.
_TYPES = [
    (22, "cpx11", 2, 2, 40, "x86", ("fsn1", "nbg1", "hel1", "ash")),
    (114, "cx23", 2, 4, 40, "x86", ("fsn1", "nbg1", "hel1")),
    (115, "cx33", 4, 8, 80, "x86", ("fsn1", "nbg1", "hel1")),
    (116, "cx43", 8, 16, 160, "x86", ("fsn1", "nbg1", "hel1")),
    (45, "cax11", 2, 4, 40, "arm", ("fsn1", "nbg1", "hel1")),
]
SERVER_TYPES: list[dict[str, Any]] = [
    {
        "id": number,
        "name": name,
        "description": name.upper(),
        "category": "shared",
        "cores": cores,
        "memory": memory,
        "disk": disk,
        "prices": [],
        "storage_type": "local",
        "cpu_type": "shared",
        "architecture": architecture,
        "deprecated": False,
        "deprecation": None,
        "locations": [
            {
                "id": place["id"],
                "name": place["name"],
                "deprecation": None,
                "available": True,
                "recommended": True,
            }
            for place in LOCATIONS
            if place["name"] in places
        ],
    }
    for number, name, cores, memory, disk, architecture, places in _TYPES
]

_IMAGES = [
    ("debian-12", "debian", "12"),
    ("debian-13", "debian", "13"),
    ("ubuntu-24.04", "ubuntu", "24.04"),
]
IMAGES: list[dict[str, Any]] = [
    {
        "id": 1000 + 10 * number + offset,
        "name": name,
        "type": "system",
        "status": "available",
        "description": name,
        "image_size": None,
        "disk_size": 10,
        "created": "2026-01-05T08:00:00+00:00",
        "created_from": None,
        "bound_to": None,
        "os_flavor": flavor,
        "os_version": version,
        "architecture": architecture,
        "rapid_deploy": True,
        "protection": {"delete": False},
        "deprecated": None,
        "deleted": None,
        "labels": {},
    }
    for number, (name, flavor, version) in enumerate(_IMAGES)
    for offset, architecture in enumerate(("x86", "arm"))
]
