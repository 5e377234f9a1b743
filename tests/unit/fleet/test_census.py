# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of clients, and what is assigned to them once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import external_user
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import (
    Census,
    digest,
    refuse,
    start,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store


class Fleet:
    """Clients and records, as they are between two runs."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = {
            "name": "hosting",
            "file": "fleet.yml",
            "secrets": str(folder / "secrets"),
            "state": str(folder / "state"),
            "journal": str(folder / "journal"),
            "first_port": 18000,
            "subnets": "10.201.0.0/16",
        }
        self.store = Store(self.config, VaultLib())
        self.clients: dict[str, dict[str, Any]] = {}
        self.broken: set[str] = set()

    def client(self, name: str, **fields: Any) -> None:
        self.clients[name] = {
            "name": name,
            "file": f"clients/{name}.yml",
            "organization": f"{name} GmbH",
            "server": "web1",
            "domain": None,
            "port": None,
            "state": "present",
            "instance": "webui",
            "models": ["a/model"],
            **fields,
        }

    def census(self) -> Census:
        return Census(self.config, self.clients, self.broken, self.store)

    def deploy(self, *names: str) -> dict[str, Record]:
        """What a run for these clients writes down."""
        census = self.census()
        records = {name: census.record(name) for name in names or self.clients}
        for record in records.values():
            self.store.save_record(record)
        return records

    def ports(self) -> dict[str, int]:
        census = self.census()
        return {name: census.record(name).port for name in self.clients}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_each_client_of_a_server_gets_a_port_and_a_subnet_of_its_own(fleet: Fleet) -> None:
    for name, server in (("acme", "web1"), ("beta", "web1"), ("gamma", "web2")):
        fleet.client(name, server=server)
    assert fleet.ports() == {"acme": 18001, "beta": 18002, "gamma": 18001}
    census = fleet.census()
    subnets = [census.subnet(census.record(name)) for name in ("acme", "beta")]
    assert subnets == ["10.201.0.16/28", "10.201.0.32/28"]


def test_what_was_assigned_is_kept(fleet: Fleet) -> None:
    fleet.client("beta")
    fleet.deploy()
    fleet.client("acme")
    fleet.client("gamma")
    assert fleet.ports() == {"beta": 18001, "acme": 18002, "gamma": 18003}
    del fleet.clients["beta"]
    assert fleet.ports() == {"acme": 18002, "gamma": 18003}


def test_a_port_in_the_file_is_taken_and_remembered(fleet: Fleet) -> None:
    fleet.client("acme", port=18500)
    assert fleet.deploy()["acme"].port == 18500
    fleet.client("acme")
    assert fleet.ports() == {"acme": 18500}


def test_a_port_that_somebody_named_is_not_assigned(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.client("beta", port=18001)
    assert fleet.ports() == {"acme": 18002, "beta": 18001}


def test_an_assignment_does_not_depend_on_who_else_is_in_the_run(fleet: Fleet) -> None:
    """Later stages leave out those that failed, and have to come to the same ports."""
    for name in ("acme", "beta", "gamma"):
        fleet.client(name)
    before = fleet.ports()
    assert {name: fleet.census().record(name).port for name in fleet.clients} == before
    fleet.deploy("gamma")
    assert fleet.ports() == before


def test_a_client_without_an_instance_needs_no_port(fleet: Fleet) -> None:
    fleet.client("acme", instance="none")
    fleet.client("beta")
    assert fleet.ports() == {"acme": 0, "beta": 18001}


def test_the_absent_keep_what_they_had(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.deploy()
    fleet.client("acme", state="absent")
    fleet.deploy()
    fleet.client("beta")
    assert fleet.deploy("beta")["beta"].port == 18002
    fleet.client("acme")
    assert fleet.ports()["acme"] == 18001


def test_the_absent_do_not_hold_their_port_against_somebody_who_names_it(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.deploy()
    fleet.client("acme", state="absent")
    fleet.client("beta", port=18001)
    assert fleet.ports()["beta"] == 18001


def test_whoever_never_was_and_is_absent_gets_nothing(fleet: Fleet) -> None:
    fleet.client("acme", state="absent")
    fleet.client("beta")
    assert fleet.ports() == {"acme": 0, "beta": 18001}


def test_two_clients_that_come_to_one_port_stop_the_run(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.deploy()
    fleet.client("beta", port=18001)
    with pytest.raises(FleetError, match="port 18001 of web1 is acme's and beta's") as caught:
        fleet.census()
    assert caught.value.where == "clients/beta.yml: port"


@pytest.mark.parametrize("broken", [True, False])
def test_the_port_of_a_client_that_cannot_be_worked_on_is_not_free(
    fleet: Fleet, broken: bool
) -> None:
    fleet.client("acme")
    fleet.deploy()
    del fleet.clients["acme"]
    fleet.broken = {"acme"} if broken else set()
    fleet.client("beta", port=18001)
    with pytest.raises(FleetError, match="acme's and beta's"):
        fleet.census()


def test_a_client_that_was_absent_may_move_and_gets_a_new_place(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.client("gamma", server="web2")
    fleet.deploy()
    fleet.client("acme", state="absent")
    fleet.deploy("acme")
    fleet.client("acme", server="web2")
    record = fleet.deploy("acme")["acme"]
    assert (record.server, record.slot, record.port) == ("web2", 2, 18002)
    assert fleet.ports() == {"acme": 18002, "gamma": 18001}


def test_a_client_that_is_served_may_not_move(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.deploy()
    fleet.client("acme", server="web2")
    with pytest.raises(FleetError, match="from web1 to web2") as caught:
        fleet.census().record("acme")
    assert caught.value.where == "clients/acme.yml: server"
    assert "set it back to web1" in caught.value.todo
    assert "state: absent" in caught.value.todo


@pytest.mark.parametrize(
    "twin", [{"organization": "acme GmbH"}, {"domain": "chat.acme.example", "server": "web2"}]
)
def test_a_renamed_file_is_noticed(fleet: Fleet, twin: dict[str, Any]) -> None:
    fleet.client("acme", domain="chat.acme.example")
    fleet.deploy()
    del fleet.clients["acme"]
    fleet.client("acme_new", **twin)
    with pytest.raises(FleetError, match="client acme under another name") as caught:
        fleet.census().record("acme_new")
    assert caught.value.where == "clients/acme_new.yml"
    assert "rename the file back to acme.yml" in caught.value.todo


def test_another_company_is_no_renamed_file(fleet: Fleet) -> None:
    fleet.client("acme", domain="chat.acme.example")
    fleet.client("beta")
    fleet.deploy()
    del fleet.clients["acme"], fleet.clients["beta"]
    fleet.client("gamma", domain="chat.gamma.example")
    fleet.census().record("gamma")


def test_a_second_client_of_one_company_is_none(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.deploy()
    fleet.client("acme_lab", organization="acme GmbH")
    fleet.census().record("acme_lab")
    del fleet.clients["acme"]
    fleet.broken = {"acme"}
    fleet.census().record("acme_lab")


def test_the_unlisted(fleet: Fleet) -> None:
    for name in ("acme", "beta", "gamma", "delta"):
        fleet.client(name)
    fleet.client("delta", state="absent")
    fleet.deploy()
    fleet.broken = {"beta"}
    for name in ("acme", "beta", "delta"):
        del fleet.clients[name]
    assert fleet.census().unlisted() == ["acme"]


def test_the_id_in_usage_records_is_written_down_once(fleet: Fleet) -> None:
    fleet.client("acme")
    first = fleet.deploy()["acme"].external_user
    assert first == external_user("hosting", "acme")
    assert first.startswith("mai_client_")
    assert len(first) == len("mai_client_") + 8
    fleet.config["name"] = "renamed"
    assert fleet.deploy()["acme"].external_user == first


def test_a_damaged_record_stops_its_client(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.client("beta")
    fleet.deploy()
    Path(fleet.config["state"], "acme.json").write_text("{", encoding="utf-8")
    census = fleet.census()
    with pytest.raises(FleetError) as caught:
        census.record("acme")
    assert caught.value.where.endswith("acme.json")
    assert "known which" not in caught.value.what
    assert census.record("beta").port == 18002


def test_no_port_is_assigned_while_it_is_unknown_which_are_taken(fleet: Fleet) -> None:
    fleet.client("acme")
    fleet.deploy()
    Path(fleet.config["state"], "acme.json").write_text("{", encoding="utf-8")
    fleet.client("beta")
    with pytest.raises(FleetError, match="known which ones are acme's") as caught:
        fleet.census().record("beta")
    assert "acme.json" in caught.value.where


def test_a_network_that_is_full(fleet: Fleet) -> None:
    fleet.config["subnets"] = "10.201.0.0/27"
    fleet.client("acme")
    fleet.client("beta")
    census = fleet.census()
    assert census.subnet(census.record("acme")) == "10.201.0.16/28"
    with pytest.raises(FleetError, match="no subnet left") as caught:
        census.subnet(census.record("beta"))
    assert caught.value.where == "fleet.yml: subnets"


def test_200_clients_fit_on_one_server(fleet: Fleet) -> None:
    for number in range(200):
        fleet.client(f"c{number:03}")
    census = fleet.census()
    records = [census.record(name) for name in fleet.clients]
    assert len({record.port for record in records}) == 200
    assert len({census.subnet(record) for record in records}) == 200


def test_ports_end(fleet: Fleet) -> None:
    fleet.config["first_port"] = 65534
    fleet.client("acme")
    fleet.client("beta")
    census = fleet.census()
    assert census.record("acme").port == 65535
    with pytest.raises(FleetError, match="no port left") as caught:
        census.record("beta")
    assert caught.value.where == "fleet.yml: first_port"


def catalog(*ids: str) -> Catalog:
    row = {
        "pricing": {"prompt": "0.000001", "completion": "0.000002"},
        "architecture": {"output_modalities": ["text"]},
    }
    return Catalog(
        {**row, "id": model, "canonical_slug": f"{model}-2025", "name": model, "created": number}
        for number, model in enumerate(ids)
    )


def test_the_first_row_of_a_client(fleet: Fleet) -> None:
    fleet.client("acme", models=["a/model", "a/other"])
    row, record = start(
        "acme", fleet.clients["acme"], fleet.census(), catalog("a/model", "a/other", "b/third")
    )
    assert record is not None
    assert row["failure"] is None
    assert (row["port"], row["subnet"]) == (18001, "10.201.0.16/28")
    assert row["models"] == ["a/model", "a/other"]
    assert row["slugs"] == ["a/model-2025", "a/other-2025"]
    assert row["chat_model"] in row["models"]
    assert row["fence_model"] == "b/third"


def test_a_model_that_never_was_is_the_clients_mistake(fleet: Fleet) -> None:
    fleet.client("acme", models=["a/model", "a/modle"])
    row, record = start("acme", fleet.clients["acme"], fleet.census(), catalog("a/model"))
    assert record is None
    assert row["failure"]["stage"] == "preflight"
    assert row["failure"]["where"] == "clients/acme.yml: models"
    assert "a/modle (near: a/model)" in row["failure"]["what"]


def test_a_model_that_has_left_is_a_warning(fleet: Fleet) -> None:
    fleet.client("acme", models=["a/old", "a/model"])
    record = fleet.deploy()["acme"]
    fleet.store.save_record(dataclasses.replace(record, models={"a/old": "a/old-2024"}))
    row, _record = start("acme", fleet.clients["acme"], fleet.census(), catalog("a/model"))
    assert row["failure"] is None
    assert row["models"] == ["a/model"]
    assert row["warnings"] == [
        "a/old has left OpenRouter and is dropped; a/model may take its place"
    ]


def test_the_last_model_is_never_dropped(fleet: Fleet) -> None:
    fleet.client("acme", models=["a/old"])
    record = fleet.deploy()["acme"]
    fleet.store.save_record(dataclasses.replace(record, models={"a/old": "a/old-2024"}))
    row, _record = start("acme", fleet.clients["acme"], fleet.census(), catalog("a/model"))
    assert row["failure"] is None
    assert row["models"] == ["a/old"]
    assert row["warnings"] == [
        "a/old, the last model, has left OpenRouter; a/model may take its place"
    ]


def test_what_a_proof_is_a_proof_of(fleet: Fleet) -> None:
    fleet.client("acme", port=18500, env={"A": "1", "B": "2"})
    client, record = fleet.clients["acme"], fleet.deploy()["acme"]
    row: dict[str, Any] = {"slugs": ["a/model"]}
    proof = digest(client, row, record)
    assert proof == digest(dict(reversed(client.items())), row, record)
    others = [
        digest({**client, "spending_limit": 5}, row, record),
        digest(client, {"slugs": ["a/other"]}, record),
        digest(client, row, dataclasses.replace(record, key_hash="ab")),
        digest(client, row, dataclasses.replace(record, port=18501)),
    ]
    assert len({proof, *others}) == 5


def test_mistakes_of_the_whole_stop_everything() -> None:
    of_one = {"client": "acme", "what": "w", "where": "x", "todo": ""}
    refuse({"name": "hosting"}, [of_one])
    with pytest.raises(FleetError, match="nothing was done") as caught:
        refuse(
            {"name": "hosting"},
            [of_one, {"client": "", "what": "all is lost", "where": "fleet.yml", "todo": "pray"}],
        )
    assert "fleet.yml: all is lost (pray)" in str(caught.value)
