# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clients ``fleet_select`` and ``--limit`` mean."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import limit, select

CLIENTS: dict[str, dict[str, Any]] = {
    "acme": {"server": "web1", "plan": "gold", "ring": "early"},
    "beta": {"server": "web1", "plan": "standard", "ring": None},
    "gamma": {"server": "web2", "plan": "gold", "ring": "late"},
    "delta": {"server": "web2", "plan": None, "ring": "late"},
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("acme", "acme"),
        ("client_acme", "acme"),
        ("acme,beta", "acme beta"),
        (" acme , beta\nacme", "acme beta"),
        ("plan_gold", "acme gamma"),
        ("ring_late", "gamma delta"),
        ("ring_early,plan_standard", "acme beta"),
        ("plan_gold,delta", "acme gamma delta"),
        ("web2", "gamma delta"),
        (["acme", "web2"], "acme gamma delta"),
        ("", ""),
        ([], ""),
    ],
)
def test_words(words: str | list[str], expected: str) -> None:
    assert select(CLIENTS, words) == set(expected.split())


@pytest.mark.parametrize(
    ("word", "todo"),
    [
        ("acmee", "Did you mean acme?"),
        ("ring_erly", "Did you mean ring_early"),
        ("plan_glod", "Did you mean plan_gold"),
        ("wbe1", "web1"),
        ("gold", "plan_gold"),
        ("zzz", "name clients, plan_NAME, ring_NAME or servers"),
    ],
)
def test_a_word_that_names_nothing(word: str, todo: str) -> None:
    with pytest.raises(FleetError) as caught:
        select(CLIENTS, f"acme,{word}")
    assert f"{word} names no client" in caught.value.what
    assert caught.value.where == "fleet_select"
    assert todo in caught.value.todo


def test_a_broken_client_may_be_named_and_does_not_stop_the_others() -> None:
    assert select(CLIENTS, "acme,omega", broken={"omega"}) == {"acme"}
    assert select(CLIENTS, "client_omega", broken={"omega"}) == set()


def test_a_name_of_two_things_is_refused() -> None:
    clients = {**CLIENTS, "web1": {"server": "web2", "plan": None, "ring": None}}
    with pytest.raises(FleetError, match="web1 may mean client_web1 or server web1"):
        select(clients, "web1")
    clients = {**CLIENTS, "plan_gold": {"server": "web2", "plan": None, "ring": None}}
    with pytest.raises(FleetError, match="plan_gold may mean client_plan_gold or plan_gold"):
        select(clients, "plan_gold")


def test_a_name_of_two_things_that_are_the_same_is_not() -> None:
    clients = {**CLIENTS, "solo": {"server": "solo", "plan": None, "ring": None}}
    assert select(clients, "solo") == {"solo"}


#: What an inventory without client and plan groups has for each term.
HOSTS = {
    "web1": ["web1"],
    "web2": ["web2"],
    "web*": ["web1", "web2"],
    "~web[12]": ["web1", "web2"],
    "servers": ["web1", "web2"],
    "all": ["web1", "web2"],
    "*": ["web1", "web2"],
    "fleet": ["web1", "web2"],
}


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (["client_acme"], "acme"),
        (["client_acme", "client_beta"], "acme beta"),
        (["plan_gold"], "acme gamma"),
        (["client_*a"], "beta gamma delta"),
        (["~client_(acme|delta)"], "acme delta"),
        (["ring_late"], "gamma delta"),
        (["ring_*", "!ring_early"], "gamma delta"),
        (["plan_gold", "&ring_late"], "gamma"),
        (["plan_*"], "acme beta gamma"),
        (["web1"], "acme beta"),
        (["web*"], "acme beta gamma delta"),
        (["~web[12]"], "acme beta gamma delta"),
        (["servers"], "acme beta gamma delta"),
        (["*"], "acme beta gamma delta"),
        (["all"], "acme beta gamma delta"),
        (["fleet"], "acme beta gamma delta"),
        (["plan_gold", "!client_acme"], "gamma"),
        (["!client_acme", "plan_gold"], "gamma"),
        (["!client_acme"], "beta gamma delta"),
        (["&plan_gold"], "acme gamma"),
        (["plan_gold", "&web1"], "acme"),
        (["&web1", "plan_gold"], "acme"),
        (["web1", "plan_gold", "&web2"], "gamma"),
        (["client_acme", "web2"], "acme gamma delta"),
        (["web1", "!web1"], ""),
        (["client_nobody"], ""),
        # A subscript counts hosts of a group: it must not become all clients of the first host.
        (["client_acme[0]"], ""),
        ([], "acme beta gamma delta"),
    ],
)
def test_limits(terms: list[str], expected: str) -> None:
    found = limit(CLIENTS, terms, lambda term: HOSTS.get(term, []))
    assert found == set(expected.split())


def test_a_pattern_of_clients_and_servers_means_both() -> None:
    def hosts_of(term: str) -> list[str]:
        return ["web2"] if term == "~client_acme|web2" else []

    assert limit(CLIENTS, ["~client_acme|web2"], hosts_of) == {"acme", "gamma", "delta"}
