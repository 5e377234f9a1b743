# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which instances become clients, under which names, and why others do not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.adoption import (
    Account,
    Kind,
    Known,
    Match,
    derive,
    match,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record

URL = "https://openrouter.ai/api/v1"
Row = dict[str, Any]


def key(letter: str, name: str = "some key") -> Key:
    return Key(letter * 64, name, False, 10.0, 10.0, "monthly", 0.0)


def row(letter: str = "", **changes: Any) -> Row:
    connection = {"url": URL, "hash": letter * 64, "fingerprint": f"sha256:{letter * 12}"}
    return {
        "failed": False,
        "container": "web",
        "fleet": "",
        "client": "",
        "volume": f"volume_{letter}",
        "source": "/var/lib",
        "version": "0.12.4",
        "app": "",
        "webui_name": "",
        "organization_name": "",
        "webui_url": "",
        "project": "",
        "admin_email": "it@acme.example",
        "connections": [connection],
        "key_hashes": {},
        **changes,
    }


def matched(rows: Row, *keys: Key, clients: Row | None = None, **known: Any) -> list[Match]:
    account = Account({one.hash: one for one in keys}, URL)
    given: Row = {"records": {}, "names": {}, **known}
    return match(rows, account, Known("hosting", clients=clients or {}, **given))


def why(found: list[Match]) -> str:
    assert found[0].obstacle is not None
    assert found[0].obstacle.where and found[0].obstacle.todo
    return found[0].obstacle.what


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"webui_name": "Łódź & Söhne GmbH"}, "lodz_and_sohne_gmbh"),
        ({"webui_name": "Open WebUI", "project": "acme"}, "acme"),
        ({"project": "open-webui", "container": "acme-open-webui-1"}, "acme"),
        ({"container": "open-webui", "webui_url": "https://chat.zebra.example"}, "zebra"),
        ({"container": "open-webui", "webui_url": "http://127.0.0.1:3000"}, "the_key"),
        ({"webui_name": "taken"}, "taken_2"),
    ],
)
def test_a_name_is_made_of_what_people_called_it(changes: Row, name: str) -> None:
    assert derive(row(**changes), "The key", {"taken"}) == name


def test_an_instance_and_its_key_belong_together_by_the_hash() -> None:
    (found,) = matched({"web1": {"c": row("a", project="acme")}}, key("a"), key("b"))
    assert found == Match("web1", "c", Kind.FOREIGN, "acme", "a" * 64)


def test_a_key_in_the_environment_counts_too() -> None:
    rows = row(
        "", connections=[], key_hashes={"dotenv: OPENROUTER_API_KEY": "a" * 64}, project="acme"
    )
    assert matched({"web1": {"c": rows}}, key("a"))[0].key_hash == "a" * 64


def test_names_differ_also_between_servers() -> None:
    rows = {
        "web1": {"c": row("a", project="acme")},
        "web2": {"c": row("b", project="acme")},
    }
    assert [one.client for one in matched(rows, key("a"), key("b"))] == ["acme", "acme_2"]


def test_the_operator_may_choose_the_name() -> None:
    rows = {"web1": {"c": row("a", project="acme", container="c")}}
    for names in ({"c": "zebra"}, {"web1/c": "zebra"}):
        assert matched(rows, key("a"), names=names)[0].client == "zebra"
    assert "cannot be a client's name" in why(matched(rows, key("a"), names={"c": "Zebra!"}))


@pytest.mark.parametrize(
    ("changes", "key_name", "reason"),
    [
        ({}, None, "is not one of this account's"),
        ({"volume": ""}, "k", "lies in the directory /var/lib"),
        ({"version": "", "app": "refused"}, "k", "does not say its version: refused"),
        ({"admin_email": ""}, "k", "nobody is its administrator"),
        ({}, "mai/other/acme/g1/00000000", "belongs to the fleet other"),
        ({}, "mai/hosting/beta/g1/00000000", "is that of the client beta"),
        ({}, "mai/hosting/gone/g1/00000000", "bears the name of the client gone"),
        ({"fleet": "hosting", "client": "acme"}, "k", "it is acme's, and its key is k"),
    ],
)
def test_what_does_not_fit_is_said_and_not_adopted(
    changes: Row, key_name: str | None, reason: str
) -> None:
    keys = [key("a", key_name)] if key_name else []
    beta = {"beta": {"server": "web1", "volume": None}}
    assert reason in why(matched({"web1": {"c": row("a", **changes)}}, *keys, clients=beta))


def test_two_instances_with_one_key_are_both_named() -> None:
    rows = {"web1": {"c": row("a", project="x1")}, "web2": {"d": row("a", project="y1")}}
    found = matched(rows, key("a"))
    assert "web2/d" in why(found) and "web1/c" in why(found[1:])


def test_what_the_inventory_knows_is_left_alone() -> None:
    clients = {"acme": {"server": "web1", "volume": None}}
    rows = {"web1": {"c": row("a", fleet="hosting", client="acme")}}
    assert matched(rows, key("a"), clients=clients) == []
    rows = {"web1": {"c": row("a", fleet="other", client="acme")}}
    assert matched(rows, key("a")) == []


def test_an_adopted_instance_waits_for_its_own_container() -> None:
    clients = {"acme": {"server": "web1", "volume": "volume_a"}}
    (found,) = matched({"web1": {"c": row("a")}}, key("a"), clients=clients)
    assert (found.kind, found.client, found.obstacle) == (Kind.ADOPTED, "acme", None)
    (other,) = matched({"web2": {"c": row("a", project="beta")}}, key("a"), clients=clients)
    assert other.kind is Kind.FOREIGN


def test_a_run_that_was_cut_off_is_gone_on_with() -> None:
    renamed = key("a", "mai/hosting/zebra/g1/00000000")
    records = {"zebra": Record("zebra", "web1", "Zebra", "", key_hash="a" * 64)}
    (found,) = matched({"web1": {"c": row("a", project="acme")}}, renamed, records=records)
    assert (found.client, found.obstacle) == ("zebra", None)


def test_an_instance_that_does_not_use_openrouter_is_nobodys_business() -> None:
    elsewhere = {"url": "http://ollama", "hash": "f" * 64, "fingerprint": "sha256:ffffffffffff"}
    assert matched({"web1": {"c": row("a", connections=[elsewhere])}}, key("a")) == []
