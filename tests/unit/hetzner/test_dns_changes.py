# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.filter.dns_changes import dns_changes

IP = "203.0.113.7"
IP6 = "2001:db8:7::1"
ADDRESSES = {"A": IP, "AAAA": "2001:db8:7::/64"}
LABELS = {"mai-fleet": "hosting", "mai-name": "acme"}


def row(name: str, kind: str, value: str, **changes: Any) -> dict[str, Any]:
    """As zone_rrset_info returns it."""
    records = [{"value": value, "comment": ""}]
    given = {"name": name, "type": kind, "ttl": 300, "labels": LABELS, "records": records}
    return {**given, **changes}


def changes(
    *rows: dict[str, Any], domain: str = "chat.acme.example", state: str = "present", **more: Any
) -> dict[str, list[Any]]:
    given = {"zones": {"acme.example": rows}, "addresses": ADDRESSES, **more}
    clients = {"acme": {"domain": domain, "state": state}}
    return dns_changes(clients, fleet="hosting", ttl=300, **given)


def wanted(found: dict[str, list[Any]]) -> list[str]:
    return [
        " ".join([one["name"], one["type"], *(record["value"] for record in one["records"])])
        for one in found["changes"]
    ]


BOTH = (row("chat", "A", IP), row("chat", "AAAA", IP6))


def test_what_is_missing_is_made_with_our_labels() -> None:
    found = changes()
    assert wanted(found) == [f"chat A {IP}", f"chat AAAA {IP6}"]
    assert {one["zone"] for one in found["changes"]} == {"acme.example"}
    assert all(one["labels"] == LABELS for one in found["changes"])


def test_what_is_as_it_should_be_is_left_alone() -> None:
    assert changes(*BOTH) == {"changes": [], "refused": [], "elsewhere": []}
    assert changes(*BOTH, state="suspended")["changes"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"records": [{"value": "192.0.2.1", "comment": ""}]},
        {"ttl": None},
        {"labels": {**LABELS, "a": ""}},
    ],
)
def test_what_differs_is_changed(wrong: dict[str, Any]) -> None:
    assert wanted(changes({**BOTH[0], **wrong}, BOTH[1])) == [f"chat A {IP}"]


def test_a_server_without_ipv6_has_no_such_record() -> None:
    found = changes(*BOTH, addresses={"A": IP, "AAAA": ""})
    assert wanted(found) == ["chat AAAA"]


def test_an_absent_clients_records_go() -> None:
    assert wanted(changes(*BOTH, state="absent")) == ["chat A", "chat AAAA"]
    assert changes(state="absent")["changes"] == []


@pytest.mark.parametrize("labels", [{}, {"mai-fleet": "another"}])
@pytest.mark.parametrize("kind", ["A", "CNAME"])
def test_what_others_made_is_refused_and_never_removed(kind: str, labels: dict[str, str]) -> None:
    theirs = row("chat", kind, "192.0.2.1", labels=labels)
    found = changes(theirs)
    assert found["changes"] == []
    assert "chat.acme.example has a record that is not this fleet's" in found["refused"][0]
    assert changes(theirs, state="absent") == {"changes": [], "refused": [], "elsewhere": []}


def test_the_innermost_zone_keeps_a_domain() -> None:
    zones: dict[str, Any] = {"acme.example": [], "chat.acme.example": [], "me.example": []}
    (first, _second) = changes(zones=zones)["changes"]
    assert (first["zone"], first["name"]) == ("chat.acme.example", "@")


def test_domains_of_no_zone_are_shown() -> None:
    found = changes(domain="chat.notacme.example")
    assert found["elsewhere"] == [
        f"chat.notacme.example A {IP}",
        f"chat.notacme.example AAAA {IP6}",
    ]
    assert changes(domain="")["elsewhere"] == []


def test_a_server_has_a_name_of_its_own() -> None:
    found = changes(*BOTH, server="web1.hosts.acme.example")
    assert wanted(found) == [f"web1.hosts A {IP}", f"web1.hosts AAAA {IP6}"]
    assert found["changes"][0]["labels"]["mai-name"] == "server"
