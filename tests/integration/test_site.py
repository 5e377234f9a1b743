# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client's life on the demo's path: real Docker, real Compose, real Open WebUI.

The tests follow one fleet from its first run on, in the order in which they stand.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import sqlite3
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from simulator.simulator import Simulator

from integration.fleet import TIMEOUT, Fleet, Run, bridge_address
from integration.load import Load

pytestmark = pytest.mark.docker

ACME, LODZ, NORTH = "it_acme", "it_lodz", "it_north"
STANDARD = [
    "deepseek/deepseek-chat-v3-0324",
    "google/gemini-2.5-flash",
    "openai/gpt-4o-mini",
]
FOREIGN = "openai/gpt-4.1-nano"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, collections_path: Path) -> Iterator[Fleet]:
    with Simulator(host=bridge_address()) as simulator:
        fleet = Fleet(tmp_path_factory.mktemp("fleet"), simulator, collections_path)
        try:
            yield fleet
        finally:
            fleet.clean()


@pytest.fixture(scope="module")
def first(fleet: Fleet) -> Run:
    return fleet.site("-vvvv", "--diff")


def test_check_mode_tells_of_a_new_fleet_and_does_nothing(fleet: Fleet) -> None:
    run = fleet.play("site", "--check", "--diff")
    assert run.status == 0, run.output
    assert run.changed > 0
    assert "OPENROUTER_API_KEY='(new api_key)'" in run.output
    assert fleet.keys(ACME) == [] and fleet.containers(ACME) == []
    assert not (fleet.home / "server").exists() and not (fleet.home / "secrets").exists()


def test_the_first_run_ends_with_a_table(first: Run, fleet: Fleet) -> None:
    key = fleet.keys(LODZ)[0]
    line = first.line(LODZ)
    assert fleet.url(LODZ) in line
    assert f"sha256:{key['hash'][:12]}" in line
    assert "100 monthly" in line
    assert "3/3" in line and "12/12" in line
    assert "secrets/it_lodz.yml" in line


def test_a_second_run_changes_nothing(first: Run, fleet: Fleet) -> None:
    lives = [fleet.life(client) for client in (ACME, LODZ, NORTH)]
    run = fleet.site("--diff")
    assert run.changed == 0
    assert [fleet.life(client) for client in (ACME, LODZ, NORTH)] == lives


def test_the_journal_tells_what_became_of_an_instance(first: Run, fleet: Fleet) -> None:
    told = fleet.journal(NORTH)
    assert [line["what"] for line in told] == [
        "create guardrail",
        "create key",
        "fence key",
        "change files",
        "create container",
        "change settings",
        "prove",
    ]
    assert {line["result"] for line in told} == {"done"}
    lines = {line["what"]: line for line in told}
    assert lines["create container"]["now"]["image"] == "mai-fleet/open-webui:0.12.4-slim"
    # The connection is the one that the instance was born with.
    assert sorted(lines["change settings"]["now"]["models"]) == fleet.admin(NORTH).models()
    fleet.edit(NORTH, env={"DEFAULT_LOCALE": "de-DE"})
    fleet.site("-e", f"fleet_select={NORTH}")
    added = fleet.journal(NORTH)[len(told) :]
    assert [line["what"] for line in added] == ["change files", "recreate container"]
    assert added[1]["before"]["digest"] != added[1]["now"]["digest"]
    text = "".join(path.read_text() for path in (fleet.home / "journal").iterdir())
    assert not [secret for secret in fleet.secrets(NORTH).values() if secret in text]
    assert fleet.play("journal").status == 0


def test_docker_holds_what_was_sold(first: Run, fleet: Fleet) -> None:
    container = fleet.container(ACME)
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    assert container.name == f"{ACME}-webui-1"
    assert config["Image"] == "mai-fleet/open-webui:0.12.4-slim"
    assert config["StopTimeout"] >= 60
    assert host["Memory"] == 1024**3
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"]["max-size"]
    assert [mount["Name"] for mount in container.attrs["Mounts"]] == [f"{ACME}_data"]


def test_awkward_names_reach_the_container_unharmed(first: Run, fleet: Fleet) -> None:
    environment = fleet.environment(LODZ)
    assert environment["ORGANIZATION_NAME"] == 'Zakłady "Łódź" & Söhne #1 $5'
    assert environment["WEBUI_NAME"] == "Łódź Chat"
    assert environment["OPENROUTER_ALLOWED_MODELS"].split(",") == [
        "openai/gpt-4o-mini",
        "google/gemini-2.5-flash",
        "deepseek/deepseek-chat-v3-0324",
    ]
    assert environment["OPENROUTER_EXTERNAL_USER"].startswith("mai_client_")
    assert environment["SPENDING_LIMIT"] == "100"
    assert fleet.environment(NORTH)["SPENDING_LIMIT"] == "unlimited"


def test_files_are_roots_alone(first: Run, fleet: Fleet) -> None:
    for file in (fleet.home / "server" / ACME).iterdir():
        status = file.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600), file


def test_people_see_exactly_their_models(first: Run, fleet: Fleet) -> None:
    admin = fleet.admin(LODZ)
    user = fleet.sign_in(LODZ, *admin.hire("ewa"))
    assert admin.models() == user.models() == STANDARD
    assert user.chat("openai/gpt-4o-mini").json()["choices"]
    assert user.chat(FOREIGN).status_code == 400
    sign_up = user.call("POST", "/api/v1/auths/signup", name="x", email="x@y.example", password="x")
    assert sign_up.status_code == 403


def test_a_list_of_models_does_not_get_around_the_fence(first: Run, fleet: Fleet) -> None:
    """Open WebUI passes the field on, so only the guardrail keeps it from being used."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
    served = fleet.admin(NORTH).call(
        "POST", "/api/chat/completions", model="openai/gpt-4o-mini", models=[FOREIGN], **body
    )
    assert served.json()["model"].startswith("openai/gpt-4o-mini")
    refused = requests.post(
        f"{fleet.simulator.url}/chat/completions",
        json={"models": [FOREIGN], **body},
        headers={"Authorization": f"Bearer {fleet.secrets(NORTH)['api_key']}"},
        timeout=TIMEOUT,
    )
    assert refused.status_code == 404
    assert "guardrail" in refused.json()["error"]["message"]


def test_another_allowlist_under_load(first: Run, fleet: Fleet) -> None:
    """A plan sells one model more and two less; who chats with the one that stays never notices."""
    life = fleet.life(LODZ)
    sold = ["openai/gpt-4.1", "openai/gpt-4o-mini"]
    plans = fleet.read("plans.yml")
    plans["plans"]["pair"] = {**plans["plans"]["standard"], "models": sold}
    fleet.write("plans.yml", plans)
    fleet.edit(LODZ, plan="pair")
    user = fleet.sign_in(LODZ, "ewa@people.example", "ewa's own password")
    with Load(user, fleet.simulator) as load:
        assert fleet.site().changed > 0
        for person in (user, fleet.admin(LODZ)):
            assert person.chat("openai/gpt-4.1").json()["choices"]
            gone = person.chat("google/gemini-2.5-flash")
            assert (gone.status_code, gone.json()["detail"]) == (400, "Model not found")
        load.wait(5)
        assert load.is_streaming
    load.went_well()
    assert user.models() == sold
    assert fleet.life(LODZ) == life
    guardrail = fleet.guardrail(LODZ)
    assert guardrail is not None
    assert sorted(guardrail["allowed_models"]) == [
        "openai/gpt-4.1-2025-04-14",
        "openai/gpt-4o-mini",
    ]
    assert fleet.site().changed == 0


def test_a_connection_edited_by_hand_is_repaired_under_load(first: Run, fleet: Fleet) -> None:
    life = fleet.life(LODZ)
    admin = fleet.admin(LODZ)
    config = admin.call("GET", "/openai/config").json()
    config["OPENAI_API_CONFIGS"]["0"].update(model_ids=["openai/gpt-4o-mini", FOREIGN], tags=[])
    admin.call("POST", "/openai/config/update", **config).raise_for_status()
    assert admin.models() == [FOREIGN, "openai/gpt-4o-mini"]
    user = fleet.sign_in(LODZ, "ewa@people.example", "ewa's own password")
    with Load(user, fleet.simulator) as load:
        assert fleet.site().changed == 1
        assert user.chat("openai/gpt-4.1").json()["choices"]
        assert admin.chat(FOREIGN).status_code == 400
        load.wait(5)
        assert load.is_streaming
    load.went_well()
    assert fleet.life(LODZ) == life
    assert fleet.site().changed == 0


def test_a_boot_value_recreates_one_container_and_keeps_its_data(first: Run, fleet: Fleet) -> None:
    life, neighbour = fleet.life(LODZ), fleet.life(NORTH)
    fleet.edit(LODZ, env={"DEFAULT_LOCALE": "pl-PL"})
    fleet.site("-e", f"fleet_select={LODZ}")
    assert fleet.life(LODZ) != life
    assert fleet.life(NORTH) == neighbour
    assert fleet.environment(LODZ)["DEFAULT_LOCALE"] == "pl-PL"
    assert fleet.sign_in(LODZ, "ewa@people.example", "ewa's own password").models()


def test_the_clients_own_connection_stays(first: Run, fleet: Fleet) -> None:
    admin = fleet.admin(NORTH)
    config = admin.call("GET", "/openai/config").json()
    ours = config["OPENAI_API_BASE_URLS"][0]
    config["OPENAI_API_BASE_URLS"].append("http://127.0.0.1:9/v1")
    config["OPENAI_API_KEYS"].append("the client's own")
    config["OPENAI_API_CONFIGS"]["1"] = {"enable": True, "model_ids": ["own/model"]}
    admin.call("POST", "/openai/config/update", **config).raise_for_status()
    assert fleet.site().changed == 0
    fleet.edit(NORTH, models=["openai/gpt-4o-mini"])
    fleet.site()
    config = admin.call("GET", "/openai/config").json()
    assert config["OPENAI_API_BASE_URLS"] == [ours, "http://127.0.0.1:9/v1"]
    assert config["OPENAI_API_KEYS"][1] == "the client's own"
    assert admin.models() == ["openai/gpt-4o-mini", "own/model"]


def test_verify_names_the_gate_that_fails_and_site_heals_it(first: Run, fleet: Fleet) -> None:
    admin = fleet.admin(ACME)
    config = admin.call("GET", "/api/v1/auths/admin/config").json()
    opened = {**config, "ENABLE_SIGNUP": True}
    for name in [name for name in opened if "MFA" in name]:
        del opened[name]
    admin.call("POST", "/api/v1/auths/admin/config", **opened).raise_for_status()
    run = fleet.play("verify")
    assert run.status == 2
    assert "it_acme (proof)" in run.output and "closed" in run.output
    assert f"{NORTH} (proof)" not in run.output
    fleet.site()
    assert fleet.play("verify").status == 0


def test_a_key_changed_by_hand_at_openrouter_is_healed(first: Run, fleet: Fleet) -> None:
    guardrail = fleet.guardrail(NORTH)
    assert guardrail is not None
    fleet.simulator.set_usage(fleet.keys(NORTH)[0]["name"], 3.5)
    assert fleet.site().changed == 0
    assert fleet.keys(NORTH)[0]["limit"] is None


def test_a_used_up_cap_is_a_state_of_its_own(first: Run, fleet: Fleet) -> None:
    fleet.simulator.set_usage(fleet.keys(LODZ)[0]["name"], 100)
    run = fleet.play("verify", "--limit", f"client_{LODZ}")
    assert run.status == 0, run.output
    assert "cap used up" in run.line(LODZ)
    fleet.simulator.set_usage(fleet.keys(LODZ)[0]["name"], 0)


def test_a_lost_secret_comes_back_from_the_server(first: Run, fleet: Fleet) -> None:
    kept = ("api_key", "webui_secret_key", "admin_password")
    before = {name: fleet.secrets(NORTH)[name] for name in kept}
    key, life = fleet.keys(NORTH), fleet.life(NORTH)
    (fleet.home / "secrets" / f"{NORTH}.yml").unlink()
    run = fleet.site()
    assert "put back from the server" in run.output
    assert {name: fleet.secrets(NORTH)[name] for name in kept} == before
    assert fleet.life(NORTH) == life
    assert [row["hash"] for row in fleet.keys(NORTH)] == [row["hash"] for row in key]


def test_a_suspended_client_reads_why(first: Run, fleet: Fleet) -> None:
    life = fleet.life(ACME)
    fleet.edit(ACME, state="suspended")
    fleet.site()
    assert fleet.keys(ACME)[0]["disabled"]
    assert fleet.life(ACME) == life
    admin = fleet.admin(ACME)
    answer = admin.chat("openai/gpt-4o-mini")
    assert answer.status_code >= 400 and answer.json()["error"]["message"], answer.text
    banners = admin.call("GET", "/api/v1/configs/banners").json()
    assert any("suspended" in banner["content"] for banner in banners)
    assert fleet.site().changed == 0
    fleet.edit(ACME, state="present")
    fleet.site()
    assert admin.chat("openai/gpt-4o-mini").json()["choices"]
    assert admin.call("GET", "/api/v1/configs/banners").json() == []


def test_a_model_that_leaves_the_catalog_stops_nobody(first: Run, fleet: Fleet) -> None:
    fleet.simulator.expire_model("openai/gpt-4.1")
    run = fleet.site()
    assert "openai/gpt-4.1 has left OpenRouter and is dropped" in run.output
    user = fleet.sign_in(LODZ, "ewa@people.example", "ewa's own password")
    assert user.models() == ["openai/gpt-4o-mini"]
    fleet.simulator.restore_model("openai/gpt-4.1")
    fleet.site()
    assert user.models() == ["openai/gpt-4.1", "openai/gpt-4o-mini"]


def exports(fleet: Fleet) -> list[Path]:
    return sorted((fleet.home / "inventory" / "exports").glob("*.tar.gz"))


def record(fleet: Fleet, client: str) -> dict[str, Any]:
    return dict(json.loads((fleet.home / "state" / f"{client}.json").read_text()))


def test_a_client_that_goes_leaves_an_archive_and_its_volume(first: Run, fleet: Fleet) -> None:
    admin = fleet.admin(NORTH)
    message = {"id": "m", "role": "user", "content": "These were the last words"}
    chat = {"title": "Good-bye", "history": {"messages": {"m": message}, "currentId": "m"}}
    admin.call("POST", "/api/v1/chats/new", chat=chat).raise_for_status()
    secret = fleet.secrets(NORTH)["api_key"]
    foretold = fleet.play("offboard", "-e", f"fleet_select={NORTH}", "--check")
    assert foretold.status == 0 and fleet.container(NORTH).status == "running", foretold.output
    run = fleet.play("offboard", "-e", f"fleet_select={NORTH}")
    assert run.status == 0, run.output
    assert run.changed == foretold.changed
    assert fleet.keys(NORTH) == [] and fleet.guardrail(NORTH) is None
    assert fleet.containers(NORTH) == []
    assert not (fleet.home / "server" / NORTH).exists()
    assert fleet.docker.volumes.get(f"{NORTH}_data")
    assert list((fleet.home / "server-exports").iterdir()) == []
    (archive,) = exports(fleet)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    leaving = record(fleet, NORTH)["offboarding"]
    assert leaving["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert f"{leaving['held_until']}  until then the volumes are held" in run.output
    assert secret.encode() not in gzip.decompress(archive.read_bytes())
    with tarfile.open(archive) as unpacked:
        unpacked.extractall(fleet.home / "restored", filter="data")
    with contextlib.closing(sqlite3.connect(fleet.home / "restored/data/webui.db")) as database:
        (said,) = database.execute("SELECT chat FROM chat WHERE title = 'Good-bye'").fetchone()
    assert "These were the last words" in said
    (mine,) = (fleet.home / "restored" / "chats").iterdir()
    assert json.loads(mine.read_text())[0]["title"] == "Good-bye"
    again = fleet.play("offboard", "-e", f"fleet_select={NORTH}")
    assert again.status == 0 and again.changed == 0, again.output


def test_a_client_comes_back_with_its_data_and_a_new_key(first: Run, fleet: Fleet) -> None:
    fleet.edit(NORTH, state="present")
    foretold = fleet.play("site", "--check")
    assert foretold.status == 0, foretold.output
    assert f"{NORTH}: the instance does not run yet" in foretold.output
    fleet.site()
    assert "own/model" in fleet.admin(NORTH).models()
    assert [key["name"].split("/")[3] for key in fleet.keys(NORTH)] == ["g2"]
    chats = fleet.admin(NORTH).call("GET", "/api/v1/chats/").json()
    assert [chat["title"] for chat in chats] == ["Good-bye"]
    assert record(fleet, NORTH)["offboarding"] is None


def test_a_key_is_replaced_when_asked(first: Run, fleet: Fleet) -> None:
    old = fleet.keys(LODZ)[0]["hash"]
    life = fleet.life(LODZ)
    fleet.site("-e", f"fleet_select={LODZ}", "-e", f"fleet_replace_keys={LODZ}")
    disabled = {key["hash"]: key["disabled"] for key in fleet.keys(LODZ)}
    assert disabled.pop(old)
    assert list(disabled.values()) == [False]
    assert fleet.life(LODZ) == life
    assert fleet.admin(LODZ).chat("openai/gpt-4o-mini").json()["choices"]
    assert fleet.site().changed == 0
    fleet.site("-e", "fleet_key_grace=0")
    assert [key["hash"] for key in fleet.keys(LODZ)] == list(disabled)
    assert fleet.site().changed == 0


def test_keys_are_rotated_and_back_under_load(first: Run, fleet: Fleet) -> None:
    """Each time the instance goes on with the other key; nobody who chats notices."""
    old = fleet.keys(LODZ)[0]["hash"]
    life = fleet.life(LODZ)
    nobody = fleet.play("rotate")
    assert nobody.status == 2 and "fleet_select" in nobody.output
    user = fleet.sign_in(LODZ, "ewa@people.example", "ewa's own password")
    fleet.simulator.clear_log()
    with Load(user, fleet.simulator) as load:
        rotated = fleet.play("rotate", "-e", f"fleet_select={LODZ}")
        assert rotated.status == 0, rotated.output
        (new,) = [key["hash"] for key in fleet.keys(LODZ) if not key["disabled"]]
        assert new != old
        assert spenders(fleet, load) == {new}
        undone = fleet.play("rotate", "-e", f"fleet_select={LODZ}", "-e", "fleet_undo=true")
        assert undone.status == 0, undone.output
        assert [key["hash"] for key in fleet.keys(LODZ) if not key["disabled"]] == [old]
        assert spenders(fleet, load) == {old}
        assert load.is_streaming
    load.went_well()
    refused = [row for row in fleet.simulator.requests if row.status in (401, 402, 403)]
    assert refused == []
    assert fleet.life(LODZ) == life
    # What was spent until the last moment counts, and the cap of the key that stays knows it now.
    fleet.site()
    assert fleet.site().changed == 0


def spenders(fleet: Fleet, load: Load) -> set[str]:
    """Hashes of the client's keys with which the next few chats are paid for."""
    before = {key["hash"]: key["usage"] for key in fleet.keys(LODZ)}
    load.wait(5)
    return {key["hash"] for key in fleet.keys(LODZ) if key["usage"] != before[key["hash"]]}


def test_an_instance_that_goes_on_with_the_old_key_is_found_out(first: Run, fleet: Fleet) -> None:
    """Its connection has the new key, and a header of the client's that sends the old one."""
    admin = fleet.admin(LODZ)
    (old,) = [key["hash"] for key in fleet.keys(LODZ) if not key["disabled"]]
    config = admin.call("GET", "/openai/config").json()
    headers = {"Authorization": f"Bearer {fleet.secrets(LODZ)['api_key']}"}
    config["OPENAI_API_CONFIGS"]["0"]["headers"] = headers
    admin.call("POST", "/openai/config/update", **config).raise_for_status()
    run = fleet.play("rotate", "-e", f"fleet_select={LODZ}", "-e", "proof_patience=2")
    assert run.status == 2, run.output
    found = f"saw it was paid for with the key that was replaced, sha256:{old[:12]}"
    assert found in run.output
    works = {key["hash"]: not key["disabled"] for key in fleet.keys(LODZ)}
    assert works[old]
    config = admin.call("GET", "/openai/config").json()
    config["OPENAI_API_CONFIGS"]["0"]["headers"] = {}
    admin.call("POST", "/openai/config/update", **config).raise_for_status()
    fleet.site()
    works = {key["hash"]: not key["disabled"] for key in fleet.keys(LODZ)}
    assert not works[old]
    assert list(works.values()).count(True) == 1


def test_a_client_whose_file_vanished_is_reported(first: Run, fleet: Fleet) -> None:
    file = fleet.home / "inventory" / "clients" / f"{NORTH}.yml"
    text = file.read_text()
    file.unlink()
    run = fleet.site()
    assert f"{NORTH}: has no client file any more" in run.output
    assert fleet.containers(NORTH)
    file.write_text(text)


def test_the_first_password_is_handed_over_once(first: Run, fleet: Fleet) -> None:
    password = fleet.secrets(ACME)["admin_password"]
    run = fleet.play("handover", "-e", f"fleet_select={ACME}")
    assert password in run.output and fleet.url(ACME) in run.output
    assert password not in (fleet.home / "ansible.log").read_text()
    fleet.printed.remove(run.output)
    again = fleet.play("handover", "-e", f"fleet_select={ACME}")
    assert again.status == 2 and password not in again.output


def test_nobody_signs_in_when_nothing_changes(first: Run, fleet: Fleet) -> None:
    fleet.site()
    log = fleet.container(ACME).logs().decode()
    fleet.site()
    fleet.play("verify")
    news = fleet.container(ACME).logs().decode().removeprefix(log)
    assert "/api/config" in news
    assert "/auths/signin" not in news


def test_no_secret_was_ever_printed(first: Run, fleet: Fleet) -> None:
    fleet.site("-vvvv", "--diff", "-e", f"fleet_select={LODZ}")
    secrets = {
        f"{client} {name}": value
        for client in (ACME, LODZ, NORTH)
        for name, value in fleet.secrets(client).items()
    }
    secrets["management key"] = fleet.simulator.management_key
    secrets["vault password"] = fleet.PASSWORD
    assert {f"{ACME} service_token", f"{ACME} api_key"} <= set(secrets)
    clear = [*fleet.printed, (fleet.home / "ansible.log").read_text()]
    clear += [file.read_text() for file in (fleet.home / "state").iterdir()]
    leaks = [name for name, value in secrets.items() for text in clear if value in text]
    assert leaks == []


def test_a_departure_that_was_cut_off_goes_on_and_data_goes_at_last(
    first: Run, fleet: Fleet
) -> None:
    fleet.simulator.fault(method="DELETE", path="/keys/.*", status=500, times=0)
    cut = fleet.play("offboard", "-e", f"fleet_select={NORTH}")
    assert cut.status == 2
    assert fleet.container(NORTH).status == "exited"
    made = exports(fleet)
    fleet.simulator.clear_faults()
    fleet.site()
    assert fleet.containers(NORTH) == [] and exports(fleet) == made
    assert fleet.site().changed == 0
    # Also when nobody keeps its file until then.
    (fleet.home / "inventory" / "clients" / f"{NORTH}.yml").unlink()
    assert fleet.site().changed == 0
    path = fleet.home / "state" / f"{NORTH}.json"
    kept = record(fleet, NORTH)
    kept["offboarding"]["held_until"] = "2026-01-31T12:00:00Z"
    path.write_text(json.dumps(kept))
    assert fleet.site("--check").changed == fleet.site().changed == 1
    assert fleet.docker.volumes.list(filters={"name": f"{NORTH}_data"}) == []
    assert not (fleet.home / "secrets" / f"{NORTH}.yml").exists()
    assert record(fleet, NORTH)["offboarding"]["volumes_removed"]
    assert fleet.site().changed == 0


def test_data_goes_at_once_when_that_is_asked_for(first: Run, fleet: Fleet) -> None:
    named = ("-e", f"fleet_select={ACME}", "-e", "fleet_hold=0", "-e", "fleet_export=false")
    made = exports(fleet)
    run = fleet.play("offboard", *named)
    assert run.status == 0, run.output
    assert "no export: it was not wanted" in run.output
    assert fleet.docker.volumes.list(filters={"name": f"{ACME}_data"}) == []
    assert exports(fleet) == made
    assert fleet.play("offboard", *named).changed == 0


def test_the_simulator_was_used_as_openrouter_allows(first: Run, fleet: Fleet) -> None:
    assert fleet.simulator.violations == []
