# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings and the proof of instances: the real Open WebUI, in containers, and a simulated
OpenRouter that they talk to."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from simulator.simulator import Simulator

pytestmark = pytest.mark.docker

IMAGE = os.environ.get("MAI_FLEET_WEBUI_IMAGE", "mai-fleet/open-webui:0.12.4-slim")
VERSION = "0.12.4"
LABEL = "mai.fleet.test=settings"
MODELS = {"openai/gpt-4o-mini": "GPT-4o mini", "deepseek/deepseek-chat": "DeepSeek"}
ANOTHER = {"google/gemini-2.5-flash": "Gemini 2.5 Flash"}
BOSS = "anna@acme.example"
EVERYBODY = {"principal_type": "user", "principal_id": "*", "permission": "read"}

JSON = Any


def plugin(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.mai.fleet.plugins.{name}")


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def call(base: str, method: str, path: str, token: str = "", body: JSON = None) -> tuple[int, JSON]:
    """Not the client under test."""
    request = urllib.request.Request(
        base + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@dataclass
class Instance:
    """One Open WebUI in a container, with the secrets that the controller would keep."""

    name: str
    openrouter: Simulator
    secrets: dict[str, str]
    wish: dict[str, Any] = field(default_factory=dict)
    port: int = 0

    def create(self, **env: str) -> None:
        """Start a container on the volume NAME_data, which may be there already."""
        env = {
            "WEBUI_SECRET_KEY": self.secrets["webui_secret_key"],
            "RAG_EMBEDDING_ENGINE": "openai",
            "ENABLE_OLLAMA_API": "false",
            "OPENAI_API_BASE_URLS": self.openrouter.url,
            "OPENAI_API_KEYS": self.secrets["api_key"],
            **env,
        }
        variables = [part for name, value in env.items() for part in ("-e", f"{name}={value}")]
        docker("volume", "create", "--label", LABEL, f"{self.name}_data")
        publish = ["-p", "127.0.0.1::8080", "-v", f"{self.name}_data:/app/backend/data"]
        options = ["--name", self.name, "--label", LABEL, *publish, *variables]
        docker("run", "-d", *options, IMAGE)
        self.port = int(docker("port", self.name, "8080").rpartition(":")[2])

    def wait(self) -> None:
        give_up = time.monotonic() + 180
        while time.monotonic() < give_up:
            try:
                if call(self.base, "GET", "/ready")[0] == 200:
                    return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(docker("logs", "--tail", "30", self.name))

    def remove(self, *, volume: bool) -> None:
        docker("rm", "-f", self.name)
        if volume:
            docker("volume", "rm", f"{self.name}_data")

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def started(self) -> str:
        return docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", self.name)

    def asked(self, since: int) -> list[str]:
        """The requests that Open WebUI logged after so many lines of its log."""
        lines = self.log()[since:]
        found = (re.search(r'"(GET|POST|DELETE) (\S+) HTTP/1\.1" (\d+)', line) for line in lines)
        return [f"{match[1]} {match[2].partition('?')[0]}" for match in found if match]

    def log(self) -> list[str]:
        time.sleep(0.3)  # Docker hands the lines on a moment later.
        return docker("logs", self.name).splitlines()

    # People

    def sign_in(self, email: str = BOSS, password: str = "") -> str:
        body = {"email": email, "password": password or self.secrets["admin_password"]}
        status, answer = call(self.base, "POST", "/api/v1/auths/signin", body=body)
        assert status == 200, answer
        return str(answer["token"])

    def accounts(self, token: str) -> dict[str, dict[str, Any]]:
        users = call(self.base, "GET", "/api/v1/users/", token)[1]["users"]
        return {user["email"]: user for user in users}

    def sees(self, token: str) -> set[str]:
        status, answer = call(self.base, "GET", "/api/models", token)
        assert status == 200, answer
        return {model["id"] for model in answer["data"]}

    # Modules

    def settings(self, *, check: bool = False, **changes: Any) -> dict[str, Any]:
        """The row of instance_settings; what check mode says before is held against it."""
        wish = {**self.wish, **changes}
        models = wish.pop("models")
        options = {
            "name": self.name,
            "port": self.port,
            "webui_url": "https://chat.acme.example",
            "admin_email": BOSS,
            "admin_name": "Anna",
            "connection": {
                "url": self.openrouter.url,
                "model_ids": list(models),
                "tags": ["mai"],
            },
            "models": [{"id": model, "name": name} for model, name in models.items()],
            **wish,
        }
        promised = self._run("instance_settings", options, check=True)
        if check:
            return promised
        row = self._run("instance_settings", options)
        if row["failed"]:
            return row
        # Of an instance that nobody has claimed only that can be read.
        told = ["changed", "after", *(["before"] if row["before"]["claimed"] else [])]
        assert [promised[name] for name in told] == [row[name] for name in told]
        return row

    def proof(self, *, refused: bool = False, **changes: Any) -> dict[str, Any]:
        models = list({**self.wish, **changes}["models"])
        key = hashlib.sha256(self.secrets["api_key"].encode()).hexdigest()[:12]
        options = {
            "name": self.name,
            "port": self.port,
            "version": VERSION,
            "connection": {
                "url": self.openrouter.url,
                "model_ids": models,
                "key_fingerprint": f"sha256:{key}",
                "tags": ["mai"],
            },
            "model_ids": models,
            "chat": {"model": models[0]},
            "chat_expect": "refused" if refused else "answered",
            **{name: value for name, value in changes.items() if name != "models"},
        }
        return self._run("instance_proof", options)

    def keep_tokens(self, row: dict[str, Any]) -> None:
        """What the controller does with the accounts of a row."""
        mint_token = plugin("module_utils._api.openwebui").mint_token
        for key, account in row.get("accounts", {}).items():
            self.secrets[f"{key}_token"] = mint_token(
                self.secrets["webui_secret_key"],
                account["id"],
                account["stamp"],
                int(time.time()),
                86400,
            )

    def settle(self, **changes: Any) -> dict[str, Any]:
        row = self.settings(**changes)
        assert not row["failed"], row["failure"]
        self.keep_tokens(row)
        return row

    def _run(self, name: str, client: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
        main = plugin(f"modules.{name}").main
        arguments = {
            "clients": [client],
            "secrets": json.dumps({self.name: self.secrets}),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
        }
        printed = io.StringIO()
        with redirect_stdout(printed), patch_module_args(arguments), pytest.raises(SystemExit):
            main()
        # Ansible masks the option as a whole, and none of the secrets in it.
        assert not [known for known in self.secrets.values() if known in printed.getvalue()]
        result = json.loads(printed.getvalue())
        assert "clients" in result, result
        row: dict[str, Any] = result["clients"][self.name]
        assert result["changed"] == row["changed"]
        return row


def gates(row: dict[str, Any]) -> dict[str, str]:
    return {gate["gate"]: gate["state"] for gate in row["gates"]}


def gate(row: dict[str, Any], name: str) -> dict[str, Any]:
    return next(gate for gate in row["gates"] if gate["gate"] == name)


ALL_PASSED = dict.fromkeys(
    [
        "ready",
        "version",
        "claimed",
        "closed",
        "connection",
        "models_admin",
        "models_user",
        "chat",
    ],
    "passed",
)


@pytest.fixture(scope="module", autouse=True)
def importable(collections_path: Path) -> Iterator[None]:
    sys.path.insert(0, str(collections_path))
    yield
    sys.path.remove(str(collections_path))


@pytest.fixture(scope="module")
def openrouter() -> Iterator[Simulator]:
    """Where containers can reach it: on the address of Docker's default bridge."""
    shown = subprocess.run(
        ["ip", "-4", "-json", "addr", "show", "docker0"], capture_output=True, check=True
    )
    bridge = json.loads(shown.stdout)[0]["addr_info"][0]["local"]
    with Simulator(host=bridge) as running:
        yield running


def new_key(openrouter: Simulator, name: str) -> str:
    body = {"name": name, "limit": 10, "limit_reset": "monthly"}
    status, answer = call(openrouter.url, "POST", "/keys", openrouter.management_key, body)
    assert status == 201, answer
    return str(answer["key"])


def make(openrouter: Simulator, name: str) -> Instance:
    secrets = {
        "api_key": new_key(openrouter, name),
        "webui_secret_key": f"the secret key of {name}",
        "admin_password": f"the password of {name}",
    }
    return Instance(name, openrouter, secrets, {"models": MODELS})


@pytest.fixture(scope="module")
def lab(openrouter: Simulator) -> Iterator[dict[str, Instance]]:
    """Instances that boot at the same time; `fresh` has an admin, the others have nobody."""
    instances = {name: make(openrouter, f"maitest_{name}") for name in ("fresh", "long", "open")}
    try:
        fresh = instances["fresh"]
        admin = {"WEBUI_ADMIN_EMAIL": BOSS, "WEBUI_ADMIN_NAME": "Anna"}
        fresh.create(**admin, WEBUI_ADMIN_PASSWORD=fresh.secrets["admin_password"])
        instances["long"].create(**admin, WEBUI_ADMIN_PASSWORD="x" * 73)
        instances["open"].create()
        for instance in instances.values():
            instance.wait()
        yield instances
    finally:
        for kind in (["ps", "-aq"], ["volume", "ls", "-q"]):
            found = docker(*kind, "--filter", f"label={LABEL}").split()
            remove = ["rm", "-f"] if kind[0] == "ps" else ["volume", "rm", "-f"]
            if found:
                docker(*remove, *found)


@pytest.fixture
def acme(lab: dict[str, Instance]) -> Instance:
    """The instance with an admin, settled."""
    lab["fresh"].settle()
    return lab["fresh"]


# From nothing


def test_a_new_instance_gets_everything(lab: dict[str, Instance]) -> None:
    new = lab["fresh"]
    boss = new.sign_in()
    promised = new.settings(check=True)
    assert promised["changed"]
    assert promised["before"]["service_account"] == "missing"
    assert list(new.accounts(boss)) == [BOSS], "check mode changed something"

    row = new.settle()
    assert row["changed"]
    assert row["before"]["models"] == {}
    assert row["after"]["models"] == MODELS
    assert row["after"]["connection"]["models"] == sorted(MODELS)
    assert set(row["accounts"]) == {"service", "probe"}
    roles = {email: user["role"] for email, user in new.accounts(boss).items()}
    assert roles == {
        BOSS: "admin",
        "service@mai-fleet.invalid": "admin",
        "probe@mai-fleet.invalid": "user",
    }
    person = {"name": "Max", "email": "max@acme.example", "password": "12345678", "role": "user"}
    assert call(new.base, "POST", "/api/v1/auths/add", boss, person)[0] == 200
    assert new.sees(new.sign_in("max@acme.example", "12345678")) == set(MODELS)

    proof = new.proof()
    assert gates(proof) == ALL_PASSED
    assert not proof["failed"]
    assert "accounts" not in proof


def test_an_instance_that_nobody_claimed_is_claimed(lab: dict[str, Instance]) -> None:
    """The admin's password in its environment was too long, so Open WebUI made no admin."""
    unclaimed = lab["long"]
    assert call(unclaimed.base, "GET", "/api/config")[1]["onboarding"] is True
    proof = unclaimed.proof()
    assert gate(proof, "claimed")["state"] == "failed"
    assert "becomes its admin" in gate(proof, "claimed")["seen"]
    assert gate(proof, "models_user")["state"] == "unchecked"

    row = unclaimed.settle()
    assert row["before"]["claimed"] is False
    assert "onboarding" not in call(unclaimed.base, "GET", "/api/config")[1]
    assert unclaimed.accounts(unclaimed.sign_in())[BOSS]["name"] == "Anna"
    assert gates(unclaimed.proof()) == ALL_PASSED


def test_a_password_that_cannot_be_used_leaves_nothing_unclaimed(lab: dict[str, Instance]) -> None:
    new = lab["open"]
    good = new.secrets["admin_password"]
    new.secrets["admin_password"] = "y" * 73
    row = new.settings()
    assert row["failed"]
    assert row["changed"]
    assert "1 to 72 bytes" in row["failure"]["what"]
    assert "onboarding" not in call(new.base, "GET", "/api/config")[1]
    # What the error says to do:
    assert f"{new.name}_data" in row["failure"]["todo"]
    new.remove(volume=True)
    new.secrets["admin_password"] = good
    new.create()
    new.wait()
    new.settle()
    new.sign_in()
    assert gates(new.proof()) == ALL_PASSED


# What is settled


def test_an_unchanged_client_costs_a_few_reads(acme: Instance) -> None:
    start = len(acme.log())
    row = acme.settings(check=True)
    assert not row["changed"]
    assert row["before"] == row["after"]
    assert sorted(acme.asked(start)) == [
        "GET /api/v1/auths/admin/config",
        "GET /api/v1/configs/banners",
        "GET /api/v1/models/base",
        "GET /api/v1/users/",
        "GET /openai/config",
    ]
    start = len(acme.log())
    assert not acme.settings()["changed"]
    assert not [request for request in acme.asked(start) if not request.startswith("GET")]


def test_the_proof_only_reads_and_chats_once(acme: Instance) -> None:
    start = len(acme.log())
    before = acme.openrouter.count("POST", "/chat/completions")
    assert gates(acme.proof()) == ALL_PASSED
    written = [request for request in acme.asked(start) if not request.startswith("GET")]
    assert written == ["POST /api/chat/completions"]
    assert acme.openrouter.count("POST", "/chat/completions") == before + 1
    assert acme.openrouter.violations == []


def test_the_allowlist_changes_without_a_restart(acme: Instance) -> None:
    container = acme.started()
    boss = acme.sign_in()
    fewer_and_more = {"openai/gpt-4o-mini": "GPT-4o mini", **ANOTHER}
    row = acme.settle(models=fewer_and_more)
    assert row["before"]["models"] == MODELS
    assert row["after"]["models"] == fewer_and_more
    assert gates(acme.proof(models=fewer_and_more)) == ALL_PASSED
    rows = call(acme.base, "GET", "/api/v1/models/base", boss)[1]
    assert {row["id"] for row in rows} == set(fewer_and_more)
    status, answer = call(
        acme.base,
        "POST",
        "/api/chat/completions",
        acme.secrets["probe_token"],
        {"model": "deepseek/deepseek-chat", "messages": [{"role": "user", "content": "Hi"}]},
    )
    assert (status, answer["detail"]) == (400, "Model not found")
    assert gate(acme.proof(), "models_user")["seen"] == (
        "1 of 2; missing: deepseek/deepseek-chat; not in the allowlist: google/gemini-2.5-flash"
    )
    acme.settle()
    assert acme.started() == container


def test_chats_go_on_while_other_models_come_and_go(acme: Instance) -> None:
    """Often, and with several people at once: a list that is empty for a moment fails some chats
    of ten changes, and maybe none of one."""
    kept = "openai/gpt-4o-mini"
    statuses: list[int] = []
    ends = threading.Event()

    def chat(model: str, account: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        token = acme.secrets[f"{account}_token"]
        return call(acme.base, "POST", "/api/chat/completions", token, body)[0]

    def chat_on() -> None:
        while not ends.is_set():
            statuses.append(chat(kept, "probe"))

    people = [threading.Thread(target=chat_on) for _number in range(4)]
    for person in people:
        person.start()
    try:
        for models in [{kept: MODELS[kept], **ANOTHER}, MODELS] * 5:
            assert acme.settle(models=models)["changed"]
            # The list alone is between an admin and a model; users are also kept off by its row.
            for account in ("service", "probe"):
                sold = {one for one in {**MODELS, **ANOTHER} if chat(one, account) == 200}
                assert sold == set(models)
    finally:
        ends.set()
        for person in people:
            person.join()
    assert set(statuses) == {200}
    assert len(statuses) > 20


def test_a_rotated_key_is_stored_without_a_restart(acme: Instance) -> None:
    old = acme.secrets["api_key"]
    fingerprint = hashlib.sha256(old.encode()).hexdigest()
    acme.secrets["api_key"] = new_key(acme.openrouter, "rotated")
    management = acme.openrouter.management_key
    deleted = call(acme.openrouter.url, "DELETE", f"/keys/{fingerprint}", management)
    assert deleted[0] == 200
    proof = acme.proof()
    assert gate(proof, "connection")["seen"].startswith(f"key sha256:{fingerprint[:12]} instead of")
    assert gate(proof, "chat")["seen"] == "401: User not found."
    # Open WebUI goes on listing the models with a dead key.
    assert gate(proof, "models_user")["state"] == "passed"
    row = acme.settle()
    assert row["before"]["connection"]["key"] == f"sha256:{fingerprint[:12]}"
    assert gates(acme.proof()) == ALL_PASSED


def test_what_the_client_made_stays(acme: Instance) -> None:
    boss = acme.sign_in()
    # A connection, to another path of the simulator, with a model of its own and an own row.
    elsewhere = acme.openrouter.url.replace("/api/v1", "/elsewhere")
    config = call(acme.base, "GET", "/openai/config", boss)[1]
    config["OPENAI_API_BASE_URLS"].insert(0, elsewhere)
    config["OPENAI_API_KEYS"].insert(0, "their-key")
    theirs = {"enable": True, "model_ids": ["own/model"], "prefix_id": "own"}
    config["OPENAI_API_CONFIGS"] = {"0": theirs, "1": config["OPENAI_API_CONFIGS"]["0"]}
    assert call(acme.base, "POST", "/openai/config/update", boss, config)[0] == 200
    shared = {"id": "own.own/model", "name": "Own", "access_grants": [EVERYBODY]}
    access = "/api/v1/models/model/access/update"
    assert call(acme.base, "POST", access, boss, shared)[0] == 200
    # A preset on one of our models, another banner, another setting.
    preset = {
        "id": "helpdesk",
        "base_model_id": "openai/gpt-4o-mini",
        "name": "Helpdesk",
        "meta": {"description": "Be kind"},
        "params": {"system": "Be kind."},
        "access_grants": [EVERYBODY],
    }
    assert call(acme.base, "POST", "/api/v1/models/create", boss, preset)[0] == 200
    banner = {"id": "x", "type": "info", "content": "Hi", "dismissible": True, "timestamp": 1}
    banners = "/api/v1/configs/banners"
    assert call(acme.base, "POST", banners, boss, {"banners": [banner]})[0] == 200
    admin = call(acme.base, "GET", "/api/v1/auths/admin/config", boss)[1]
    admin["DEFAULT_USER_ROLE"] = "user"
    assert call(acme.base, "POST", "/api/v1/auths/admin/config", boss, admin)[0] == 200

    def snapshot() -> list[JSON]:
        paths = ["/openai/config", "/api/v1/models/export", banners, "/api/v1/auths/admin/config"]
        return [call(acme.base, "GET", path, boss)[1] for path in paths]

    before = snapshot()
    assert not acme.settle()["changed"]
    assert snapshot() == before
    assert gates(acme.proof()) == ALL_PASSED

    # Also when our part changes.
    acme.settle(models={**MODELS, **ANOTHER})
    acme.settle(retired=["helpdesk", "own.own/model", *ANOTHER])
    assert snapshot() == before
    assert "own.own/model" in acme.sees(acme.secrets["probe_token"])
    assert gates(acme.proof()) == ALL_PASSED

    # Their connection takes a model's id away from ours, which comes later.
    config["OPENAI_API_CONFIGS"]["0"] = {"enable": True, "model_ids": ["openai/gpt-4o-mini"]}
    call(acme.base, "POST", "/openai/config/update", boss, config)
    found = gate(acme.proof(), "models_user")
    assert found["seen"] == "1 of 2; another connection serves: openai/gpt-4o-mini"
    assert "client's admin" in found["todo"]

    # And without theirs, ours moves back to the front.
    alone: dict[str, JSON] = {
        name: value[1:] for name, value in config.items() if isinstance(value, list)
    }
    alone["OPENAI_API_CONFIGS"] = {"0": config["OPENAI_API_CONFIGS"]["1"]}
    call(acme.base, "POST", "/openai/config/update", boss, {**config, **alone})
    assert not acme.settle()["changed"]
    call(acme.base, "POST", "/api/v1/models/model/delete", boss, {"id": "helpdesk"})
    call(acme.base, "POST", banners, boss, {"banners": []})


def test_what_of_ours_was_changed_in_the_app_is_repaired(acme: Instance) -> None:
    boss = acme.sign_in()
    config = call(acme.base, "GET", "/openai/config", boss)[1]
    config["ENABLE_OPENAI_API"] = False
    config["OPENAI_API_CONFIGS"]["0"].update(model_ids=[], prefix_id="or", auth_type="none")
    call(acme.base, "POST", "/openai/config/update", boss, config)
    access = "/api/v1/models/model/access/update"
    hidden = {"id": "openai/gpt-4o-mini", "access_grants": []}
    call(acme.base, "POST", access, boss, hidden)
    call(acme.base, "POST", "/api/v1/models/model/toggle?id=deepseek%2Fdeepseek-chat", boss)
    proof = acme.proof()
    assert gate(proof, "connection")["seen"] == (
        "models; prefix; auth_type; all such connections are switched off"
    )
    assert proof["failure"]["what"].startswith("gate connection: expected")
    row = acme.settle()
    assert row["before"]["models"] == {
        "openai/gpt-4o-mini": "GPT-4o mini, not shared",
        "deepseek/deepseek-chat": "DeepSeek, switched off",
    }
    assert row["before"]["connection"]["unsuitable"] == ["prefix", "auth_type"]
    assert gates(acme.proof()) == ALL_PASSED


def test_a_sign_up_that_was_opened_is_closed(acme: Instance) -> None:
    boss = acme.sign_in()
    admin = call(acme.base, "GET", "/api/v1/auths/admin/config", boss)[1]
    opened = {**admin, "ENABLE_SIGNUP": True, "WEBUI_URL": "https://elsewhere.example"}
    call(acme.base, "POST", "/api/v1/auths/admin/config", boss, opened)
    found = gate(acme.proof(), "closed")
    assert (found["state"], found["seen"]) == ("failed", "strangers can sign up")
    assert found["todo"]
    row = acme.settle()
    assert (row["before"]["sign_up"], row["after"]["sign_up"]) == ("open", "closed")
    assert row["before"]["url"] == "https://elsewhere.example"
    stranger = {"name": "S", "email": "s@example.com", "password": "12345678"}
    assert call(acme.base, "POST", "/api/v1/auths/signup", body=stranger)[0] == 403
    assert call(acme.base, "GET", "/api/v1/auths/admin/config", boss)[1] == admin


# Our accounts


@pytest.mark.parametrize("role", ["user", "pending"])
def test_a_service_account_that_lost_its_role_gets_it_back(acme: Instance, role: str) -> None:
    boss = acme.sign_in()
    service = acme.accounts(boss)["service@mai-fleet.invalid"]
    path = f"/api/v1/users/{service['id']}/update"
    assert call(acme.base, "POST", path, boss, {"role": role})[0] == 200
    found = gate(acme.proof(), "claimed")
    assert (found["state"], found["seen"]) == ("failed", f"claimed, service account: {role}")
    row = acme.settle()
    assert (row["before"]["service_account"], row["after"]["service_account"]) == (role, "admin")
    assert acme.accounts(boss)["service@mai-fleet.invalid"]["id"] == service["id"]
    assert gates(acme.proof()) == ALL_PASSED


@pytest.mark.parametrize("key", ["service", "probe"])
def test_an_account_that_was_deleted_is_made_again(acme: Instance, key: str) -> None:
    boss = acme.sign_in()
    email = f"{key}@mai-fleet.invalid"
    old = acme.accounts(boss)[email]["id"]
    assert call(acme.base, "DELETE", f"/api/v1/users/{old}", boss)[0] == 200
    assert "missing" in json.dumps(acme.proof()["gates"])
    row = acme.settle()
    assert row["before"][f"{key}_account"] == "missing"
    assert row["accounts"][key]["id"] == acme.accounts(boss)[email]["id"] != old
    assert gates(acme.proof()) == ALL_PASSED


@pytest.mark.parametrize("role", ["admin", "pending"])
def test_a_probe_that_is_no_ordinary_user_becomes_one(acme: Instance, role: str) -> None:
    boss = acme.sign_in()
    probe = acme.accounts(boss)["probe@mai-fleet.invalid"]
    call(acme.base, "POST", f"/api/v1/users/{probe['id']}/update", boss, {"role": role})
    found = gate(acme.proof(), "models_user")
    assert found["seen"].startswith(f"the probe account is {role}")
    row = acme.settle()
    assert row["before"]["probe_account"] == role
    assert "accounts" not in row, "its token is as good as before"
    assert gates(acme.proof()) == ALL_PASSED


def test_lost_tokens_are_recovered(acme: Instance) -> None:
    for token in ("service_token", "probe_token"):
        del acme.secrets[token]
    row = acme.settle()
    assert not row["changed"]
    assert set(row["accounts"]) == {"service", "probe"}
    del acme.secrets["probe_token"]
    proof = acme.proof()
    assert gates(proof) == ALL_PASSED
    assert set(proof["accounts"]) == {"probe"}
    acme.keep_tokens(proof)
    assert "accounts" not in acme.proof()


def test_tokens_of_revoked_sessions_are_recovered(acme: Instance) -> None:
    boss = acme.sign_in()
    for key in ("service", "probe"):
        user = acme.accounts(boss)[f"{key}@mai-fleet.invalid"]
        assert (
            call(acme.base, "POST", f"/api/v1/users/{user['id']}/sessions/revoke", boss)[0] == 200
        )
    proof = acme.proof()
    assert gates(proof) == ALL_PASSED
    assert set(proof["accounts"]) == {"service", "probe"}
    acme.keep_tokens(proof)
    assert "accounts" not in acme.settle()


def test_nobody_of_ours_ever_signs_in(acme: Instance) -> None:
    assert not [line for line in acme.log() if "authenticate_user" in line and "mai-fleet" in line]


# Money


def test_a_suspended_client_reads_why_and_gets_no_answer(acme: Instance) -> None:
    boss = acme.sign_in()
    other = {"id": "x", "type": "info", "content": "Hi", "dismissible": True, "timestamp": 1}
    banners = "/api/v1/configs/banners"
    call(acme.base, "POST", banners, boss, {"banners": [other]})
    key = hashlib.sha256(acme.secrets["api_key"].encode()).hexdigest()
    management = acme.openrouter.management_key
    call(acme.openrouter.url, "PATCH", f"/keys/{key}", management, {"disabled": True})
    row = acme.settle(suspended=True, notice="Bitte rufen Sie uns an: 030 1234.")
    assert row["after"]["notice"] == "Bitte rufen Sie uns an: 030 1234."
    shown = call(acme.base, "GET", banners, acme.secrets["probe_token"])[1]
    assert [banner["content"] for banner in shown] == ["Hi", "Bitte rufen Sie uns an: 030 1234."]
    assert not acme.settle(suspended=True, notice="Bitte rufen Sie uns an: 030 1234.")["changed"]
    refused = acme.proof(refused=True)
    assert gates(refused) == ALL_PASSED
    assert gate(refused, "chat")["seen"] == "refused with 401: User not found."
    assert gate(acme.proof(), "chat")["state"] == "failed"

    call(acme.openrouter.url, "PATCH", f"/keys/{key}", management, {"disabled": False})
    found = gate(acme.proof(refused=True), "chat")
    assert (found["state"], found["seen"]) == ("failed", "an answer: the client's key still works")
    acme.settle()
    assert [one["id"] for one in call(acme.base, "GET", banners, boss)[1]] == ["x"]
    call(acme.base, "POST", banners, boss, {"banners": []})


def test_a_cap_that_is_used_up_is_no_broken_key(acme: Instance) -> None:
    key = hashlib.sha256(acme.secrets["api_key"].encode()).hexdigest()
    acme.openrouter.set_usage(key, 10)
    row = acme.proof()
    found = gate(row, "chat")
    assert (found["state"], found["passed"]) == ("exhausted", True)
    assert "limit" in found["seen"]
    assert "raise the client's limit" in found["todo"]
    assert not row["failed"]
    acme.openrouter.set_usage(key, 0)
    assert gates(acme.proof()) == ALL_PASSED


def test_a_provider_that_stumbles_once_is_asked_again(acme: Instance) -> None:
    acme.openrouter.fault(path="/chat/completions", status=503)
    assert gates(acme.proof()) == ALL_PASSED


# The secret key


def test_another_secret_key_needs_the_container_to_have_it_too(lab: dict[str, Instance]) -> None:
    acme = lab["long"]
    acme.settle()
    acme.secrets["webui_secret_key"] = "another secret key"
    row = acme.settings()
    assert row["failed"]
    assert "refuses a token made with the stored WEBUI_SECRET_KEY" in row["failure"]["what"]
    assert "recreate the container" in row["failure"]["todo"]

    acme.remove(volume=False)
    acme.create()
    acme.wait()
    row = acme.settle()
    assert not row["changed"]
    assert set(row["accounts"]) == {"service", "probe"}
    assert gates(acme.proof()) == ALL_PASSED


def test_a_second_factor_that_the_client_demands_does_not_keep_us_out(
    lab: dict[str, Instance],
) -> None:
    acme = lab["long"]
    acme.settle()
    boss = acme.sign_in()
    admin = call(acme.base, "GET", "/api/v1/auths/admin/config", boss)[1]
    demand = {**admin, "ENABLE_MFA": True, "ENABLE_SIGNUP": True}
    status, answer = call(acme.base, "POST", "/api/v1/auths/admin/config", boss, demand)
    assert (status, answer["sessions_revoked"]) == (200, True)
    row = acme.settle()
    assert (row["before"]["sign_up"], row["after"]["sign_up"]) == ("open", "closed")
    assert set(row["accounts"]) == {"service"}, "the probe's is found out when it is used"
    kept = call(acme.base, "GET", "/api/v1/auths/admin/config", acme.secrets["service_token"])[1]
    assert kept["ENABLE_MFA"] is True
    proof = acme.proof()
    assert gates(proof) == ALL_PASSED
    assert set(proof["accounts"]) == {"probe"}


def test_a_deleted_probe_of_an_instance_with_a_second_factor(lab: dict[str, Instance]) -> None:
    """Open WebUI then hands out no token for a new account; we do not need it."""
    acme = lab["long"]
    token = acme.secrets["service_token"]
    probe = acme.accounts(token)["probe@mai-fleet.invalid"]
    assert call(acme.base, "DELETE", f"/api/v1/users/{probe['id']}", token)[0] == 200
    acme.settle()
    assert gates(acme.proof()) == ALL_PASSED


# Nothing there


def test_an_instance_whose_container_is_gone_is_down_and_not_new(lab: dict[str, Instance]) -> None:
    acme = lab["open"]
    acme.remove(volume=False)
    for check in (True, False):
        row = acme.settings(check=check)
        assert row["failed"]
        assert row["failure"]["what"] == "Connection refused"
    docker("volume", "rm", f"{acme.name}_data")
    row = acme.settings(check=True)
    assert (row["failed"], row["changed"]) == (False, True)
