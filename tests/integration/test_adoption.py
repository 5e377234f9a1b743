# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet whose inventory is lost, and an instance that somebody made by hand: real Docker and
Open WebUI. The tests follow one fleet, in the order in which they stand.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from simulator.simulator import Simulator

from integration.fleet import Fleet, Person, bridge_address

pytestmark = pytest.mark.docker

ACME, LODZ = "ad_acme", "ad_lodz"
HAND, VOLUME = "ad-zebra-open-webui-1", "ad_zebra_store"
MODELS = ["openai/gpt-4o-mini", "google/gemini-2.5-flash"]
BOSS, PASSWORD = "zoe@zebra.example", "zoe's own password"


class Found(Fleet):
    NAME = "adtest"

    def _prepare(self) -> None:
        super()._prepare()
        config = self.read("fleet.yml")
        self.write("fleet.yml", {**config, "first_port": 18730, "journal": "../journal"})
        clients = self.home / "inventory" / "clients"
        (clients / "it_north.yml").unlink()
        for name in ("acme", "lodz"):
            (clients / f"it_{name}.yml").rename(clients / f"ad_{name}.yml")

    def management(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.simulator.management_key}"}
        url = f"{self.simulator.url}{path}"
        answer = requests.request(method, url, json=body or None, headers=headers, timeout=30)
        answer.raise_for_status()
        return dict(answer.json())

    def hash(self, client: str) -> str:
        return hashlib.sha256(self.secrets(client)["api_key"].encode()).hexdigest()

    def type_in(self, client: str, key: str) -> None:
        """What a client's administrator does in the connection settings."""
        admin = self.admin(client)
        config = admin.call("GET", "/openai/config").json()
        config["OPENAI_API_KEYS"][0] = key
        admin.call("POST", "/openai/config/update", **config).raise_for_status()

    def typed(self, client: str) -> str:
        config = self.admin(client).call("GET", "/openai/config").json()
        return str(config["OPENAI_API_KEYS"][0])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, collections_path: Path) -> Iterator[Found]:
    with Simulator(host=bridge_address()) as simulator:
        fleet = Found(tmp_path_factory.mktemp("adopted"), simulator, collections_path)
        try:
            fleet.site()
            yield fleet
        finally:
            for container in fleet.docker.containers.list(all=True, filters={"name": HAND}):
                container.remove(force=True)
            fleet.clean()
            for volume in fleet.docker.volumes.list(filters={"name": VOLUME}):
                volume.remove(force=True)


def test_a_key_that_was_typed_in_is_recognised(fleet: Found) -> None:
    mine, other = fleet.secrets(ACME)["api_key"], fleet.secrets(LODZ)["api_key"]
    foreign = fleet.management("POST", "/keys", name="Anna's own")["key"]
    fleet.type_in(ACME, other)
    doctor = fleet.play("doctor")
    assert doctor.status == 2 and "BREACH" in doctor.line(ACME)
    assert "yes    yes     yes" in doctor.line(LODZ)
    verify = fleet.play("verify", "-e", f"fleet_select={ACME}", "-e", "proof_fence=false")
    assert verify.status == 2 and "another client's key" in verify.output
    breach = fleet.play("site", "-e", f"fleet_select={ACME}")
    assert breach.status == 2
    assert "isolation breach: the connection to OpenRouter holds the key" in breach.output
    assert fleet.typed(ACME) == mine
    fleet.type_in(ACME, foreign)
    report = fleet.play("site", "-e", f"fleet_select={ACME}")
    assert report.status == 2 and "none of this fleet's" in report.output
    assert fleet.typed(ACME) == foreign
    fleet.edit(ACME, foreign_keys="keep")
    assert "foreign_keys: keep" in fleet.site("-e", f"fleet_select={ACME}").output
    assert fleet.typed(ACME) == foreign
    fleet.edit(ACME, foreign_keys="revert")
    fleet.site("-e", f"fleet_select={ACME}")
    assert fleet.typed(ACME) == mine
    fleet.type_in(ACME, foreign)
    fleet.edit(ACME, foreign_keys="adopt")
    fleet.site("-e", f"fleet_select={ACME}")
    assert fleet.typed(ACME) == fleet.secrets(ACME)["api_key"] == foreign
    names = {key["hash"]: key["name"].split("/")[3] for key in fleet.keys(ACME)}
    assert names[fleet.hash(ACME)] == "g2" and len(names) == 2
    assert fleet.site("-e", "fleet_key_grace=0").status == 0
    assert fleet.play("doctor").status == 0
    for key in (mine, other, foreign):
        assert all(key not in text for text in fleet.printed)


def test_a_fleet_whose_inventory_is_lost_comes_back(fleet: Found) -> None:
    """Its keys, its containers and its secrets stay what they were."""
    fleet.edit(LODZ, env={"DEFAULT_LOCALE": "pl-PL", "SMTP_PASSWORD": "hush"})
    fleet.edit(ACME, foreign_keys=None)
    file = fleet.read(f"clients/{ACME}.yml")
    fleet.write(f"clients/{ACME}.yml", {name: v for name, v in file.items() if v is not None})
    fleet.site()
    before = {name: (fleet.secrets(name)["api_key"], fleet.life(name)) for name in (ACME, LODZ)}
    shutil.rmtree(fleet.home / "inventory" / "clients")
    for lost in ("secrets", "state", "journal"):
        shutil.rmtree(fleet.home / lost)
    told = fleet.play("adopt", "--check", "--diff")
    assert told.status == 0, told.output
    assert "+organization: 'Zakłady" in told.output
    assert not (fleet.home / "inventory" / "clients").exists()
    assert not (fleet.home / "secrets").exists()
    adopt = fleet.play("adopt", "-vvvv", "--diff")
    assert adopt.status == 0, adopt.output
    assert "hush" not in (fleet.home / "inventory" / "clients" / f"{LODZ}.yml").read_text()
    assert all("hush" not in text for text in (told.output, adopt.output))
    run = fleet.site()
    assert run.changed == 0, run.output
    after = {name: (fleet.secrets(name)["api_key"], fleet.life(name)) for name in (ACME, LODZ)}
    assert after == before
    assert fleet.admin(LODZ).chat("openai/gpt-4o-mini").json()["choices"]
    again = fleet.play("adopt")
    assert again.status == 0 and again.changed == 0, again.output
    assert fleet.play("doctor").status == 0


def by_hand(fleet: Found, key: str) -> Person:
    """An instance as people make them: docker run, and the key typed into the admin panel."""
    container = fleet.docker.containers.run(
        "mai-fleet/open-webui:0.12.4-slim",
        name=HAND,
        detach=True,
        environment={"WEBUI_NAME": "Zebra Ltd", "ENABLE_OLLAMA_API": "false", "FAVOURITE": "zebra"},
        ports={"8080/tcp": ("127.0.0.1", 18790)},
        volumes={VOLUME: {"bind": "/app/backend/data", "mode": "rw"}},
    )
    url = "http://127.0.0.1:18790"
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        try:
            if requests.get(f"{url}/ready", timeout=5).status_code == 200:
                break
        except requests.RequestException:
            pass
        time.sleep(0.5)
    else:
        raise AssertionError(container.logs())
    body = {"name": "Zoe", "email": BOSS, "password": PASSWORD}
    made = requests.post(f"{url}/api/v1/auths/signup", json=body, timeout=30)
    person = Person(url, made.json()["token"])
    config = {
        "ENABLE_OPENAI_API": True,
        "OPENAI_API_BASE_URLS": [fleet.simulator.url],
        "OPENAI_API_KEYS": [key],
        "OPENAI_API_CONFIGS": {"0": {"enable": True, "model_ids": MODELS}},
    }
    person.call("POST", "/openai/config/update", **config).raise_for_status()
    return person


def test_an_instance_made_by_hand_is_adopted(fleet: Found) -> None:
    made = fleet.management("POST", "/keys", name="zebra prod", limit=25, limit_reset="weekly")
    key, key_hash = made["key"], made["data"]["hash"]
    rail = fleet.management("POST", "/guardrails", name="zebra", allowed_models=MODELS)["data"]
    path = f"/guardrails/{rail['id']}/assignments/keys"
    fleet.management("POST", path, key_hashes=[key_hash])
    before = by_hand(fleet, key)
    adopt = fleet.play("adopt", "-vvvv")
    assert adopt.status == 0, adopt.output
    assert "FAVOURITE" in adopt.output and "fleet_adopt_recreate" in adopt.output
    client = fleet.read("clients/zebra_ltd.yml")
    assert (client["organization"], client["admin_email"]) == ("Zebra Ltd", BOSS)
    assert (client["spending_limit"], client["limit_reset"]) == (25, "weekly")
    assert (client["models"], client["port"], client["volume"]) == (MODELS, 18790, VOLUME)
    (renamed,) = fleet.keys("zebra_ltd")
    assert renamed["hash"] == key_hash and renamed["name"].startswith("mai/adtest/zebra_ltd/g1/")
    assert fleet.guardrail("zebra_ltd")["id"] == rail["id"]  # type: ignore[index]
    refused = fleet.play("site", "-e", "fleet_select=zebra_ltd")
    assert refused.status == 2 and "uses the client's volume" in refused.output
    assert requests.get(f"{before.url}/ready", timeout=5).status_code == 200
    done = fleet.play("adopt", "-e", "fleet_adopt_recreate=true")
    assert done.status == 0, done.output
    assert fleet.site().changed == 0
    assert fleet.play("adopt").changed == 0
    # The session of before is good still: the secret key came along.
    assert before.call("GET", "/api/v1/auths/").status_code == 200
    assert sorted(before.models()) == sorted(MODELS)
    assert all(key not in text for text in fleet.printed)
    assert fleet.simulator.violations == []
