# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that administrators typed in: each client's is its own affair, also when it goes wrong.

The action, the module and the databases are real; of Docker there is what the module asks it. The
whole way with a running Open WebUI is in tests/integration/test_adoption.py.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.docker import CLIENT, DATA, FLEET
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    current,
    is_api_key,
    unnamed,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of, sha256
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store
from unit.keys.bench import FLEET as FLEET_NAME
from unit.keys.bench import Bench, Row
from unit.keys.stages import SERVERS, Stages

CLIENTS = ["acme", "beta", "gamma"]


class Killed(BaseException):
    """The run ends here."""


class Docker:
    """A Docker Engine on a socket, with stopped instances: a database each.

    :ivar when: is called before the list of containers is given, with how often it was before
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.host = f"unix://{folder}/docker.sock"
        self.when: Callable[[int], None] = lambda _count: None
        self.names: list[str] = []
        self._folder = folder
        self._url = url
        self._lists = 0
        docker = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = docker.answer(self.path)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

            def address_string(self) -> str:
                return "test"

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Server(f"{folder}/docker.sock", Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, client: str, key: str) -> None:
        self.names.append(client)
        (self._folder / client).mkdir()
        with self.database(client) as database:
            database.execute("CREATE TABLE config (key TEXT PRIMARY KEY, value JSON)")
            database.execute('CREATE TABLE "user" (id, email, role, created_at)')
            database.execute("CREATE TABLE auth (id, session_stamp)")
            urls = json.dumps([self._url])
            database.execute("INSERT INTO config VALUES ('openai.api_base_urls', ?)", (urls,))
            database.execute("INSERT INTO config VALUES ('openai.api_keys', '[]')")
        self.type_in(client, key)

    def type_in(self, client: str, *keys: str) -> None:
        with self.database(client) as database:
            database.execute(
                "UPDATE config SET value = ? WHERE key = 'openai.api_keys'", (json.dumps(keys),)
            )

    @contextlib.contextmanager
    def database(self, client: str) -> Iterator[sqlite3.Connection]:
        path = self._folder / client / "webui.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            yield database
            database.commit()

    def answer(self, path: str) -> tuple[int, Any]:
        name = path.removeprefix("/containers/").removesuffix("/json")
        if path.startswith("/containers/json"):
            self.when(self._lists)
            self._lists += 1
            return 200, [self._listed(client) for client in self.names]
        if name in self.names:
            return 200, {
                "Config": {"Env": ["WEBUI_SECRET_KEY=of-the-instance"]},
                "HostConfig": {},
                "NetworkSettings": {},
                "Image": "webui",
            }
        return 404, {"message": f"No such thing: {path}"}

    def _listed(self, client: str) -> Row:
        source = str(self._folder / client)
        return {
            "Id": client,
            "Names": [f"/{client}-webui-1"],
            "Labels": {CLIENT: client, FLEET: FLEET_NAME},
            "Image": "webui",
            "State": "exited",
            "Mounts": [{"Type": "bind", "Source": source, "Destination": DATA}],
        }


class Typing(Stages):
    """A fleet of three with keys, in each of whose instances another key was typed in."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        super().__init__(bench)
        self.docker = Docker(folder, bench.simulator.url)
        self.typed = {}
        for name in CLIENTS:
            self.client(name)
        self.run(prove=False)
        for name in CLIENTS:
            _key, secret = bench.api().create_key(f"{name}'s own", None, "never")
            self.typed[name] = secret
            self.docker.add(name, secret)
            self.policy(name, "adopt")

    @property
    def config(self) -> Row:
        image = {"image": "example/webui:{version}", "image_mirror": "", "image_digests": {}}
        return {**super().config, **image}

    def policy(self, name: str, policy: str) -> None:
        self.client(name, instance="webui", version="0.12.4", foreign_keys=policy)

    def accept(self, *, check: bool = False) -> Row:
        """A run up to the stage; its result."""
        self.once("fleet_preflight", check=check, select="")
        self.everywhere("fleet_recover", check=check)
        self.modules.clear()
        self.everywhere("fleet_accept", check=check)
        return self.results[-len(SERVERS)]

    def failures(self) -> dict[str, Row]:
        rows = {name: self.row(name) for name in CLIENTS}
        return {name: row["failure"] for name, row in rows.items() if row["failure"]}

    def named(self, name: str) -> str:
        """What OpenRouter calls the key that was typed in."""
        key = self.bench.api().key(sha256(self.typed[name]))
        assert key is not None
        return key.name

    def keys_in_store(self, name: str) -> list[str]:
        secrets = self.bench.store.secrets(name)
        return sorted(value for key, value in secrets.items() if is_api_key(key))

    def _module(self, module_name: str, module_args: Row, task_vars: Row) -> Row:
        if module_name.endswith("instance_discover"):
            module_args = {**module_args, "docker_host": self.docker.host}
        return super()._module(module_name, module_args, task_vars)


@pytest.fixture
def stages(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Typing]:
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", bench.simulator.management_key)
    stages = Typing(bench, tmp_path)
    yield stages
    stages.docker.server.shutdown()
    stages.docker.server.server_close()


def test_all_that_were_typed_in_become_the_clients(stages: Typing) -> None:
    old = {name: stages.bench.secret(name) for name in CLIENTS}
    assert stages.accept(check=True)["changed"]
    assert all(stages.named(name) == f"{name}'s own" for name in CLIENTS)
    assert stages.accept()["changed"]
    assert stages.failures() == {}
    for name in CLIENTS:
        assert stages.named(name).startswith(f"mai/{FLEET_NAME}/{name}/g2/")
        assert stages.bench.secret(name) == stages.typed[name]
        assert old[name] in stages.bench.store.secrets(name).values()
    stages.keys()
    for name in CLIENTS:
        assert stages.record(name).key_hash == sha256(stages.typed[name])
        assert unnamed(stages.bench.store.secrets(name), stages.record(name)) == []
    assert not stages.accept()["changed"]


def gone(docker: Docker) -> None:
    docker.names.remove("beta")


def grown(docker: Docker) -> None:
    with docker.database("beta") as database:
        database.execute("INSERT INTO config VALUES ('openai.api_configs', '{}')")
        urls = json.dumps(["https://example.com/" + "long" * 2000])
        database.execute("UPDATE config SET value = ? WHERE key LIKE '%urls'", (urls,))


def another(docker: Docker) -> None:
    docker.type_in("beta", "sk-or-v1-typed-in-at-last")


@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
@pytest.mark.parametrize(
    ("meddle", "what"),
    [(gone, "it went while"), (grown, "a pad"), (another, "its key has changed meanwhile")],
)
def test_one_whose_key_cannot_be_read_fails_alone(
    stages: Typing, meddle: Callable[[Docker], None], what: str, check: bool
) -> None:
    """Between the look at which keys there are, and the one at these keys."""
    stages.docker.when = lambda count: meddle(stages.docker) if count == 1 else None
    stages.accept(check=check)
    (failed,) = stages.failures()
    failure = stages.failures()["beta"]
    assert failed == "beta" and what in failure["what"], failure
    assert "beta" in failure["where"] and failure["todo"]
    assert stages.typed["beta"] not in json.dumps(stages.results)
    assert stages.named("beta") == "beta's own"
    for name in ("acme", "gamma"):
        assert stages.row(name)["changed"] == ["keys"]
        assert stages.named(name).startswith("mai/") != check
    stages.docker.when = lambda _count: None


def test_one_whose_secret_cannot_be_stored_fails_alone(stages: Typing) -> None:
    stages.once("fleet_preflight", select="")
    stages.everywhere("fleet_recover")
    path = Path(stages.bench.store.secrets_path("beta"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    stages.everywhere("fleet_accept")
    failure = stages.failures()
    assert list(failure) == ["beta"] and failure["beta"]["where"] == str(path)
    assert stages.named("beta") == "beta's own"
    assert all(stages.named(name).startswith("mai/") for name in ("acme", "gamma"))


def test_what_has_no_key_typed_in_does_not_wait_for_openrouter(stages: Typing) -> None:
    """A list of keys that is not to be had concerns those only of whom one is looked for."""
    stages.docker.type_in("acme", stages.bench.secret("acme") or "")
    stages.once("fleet_preflight", select="")
    stages.everywhere("fleet_recover")
    stages.bench.simulator.fault(method="GET", path="/keys", status=500, times=20)
    stages.everywhere("fleet_accept")
    stages.bench.simulator.clear_faults()
    assert sorted(stages.failures()) == ["beta", "gamma"]


@pytest.mark.parametrize("moment", ["stored", "renamed"])
def test_a_run_that_is_killed_is_gone_on_with(
    stages: Typing, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(stages, moment, monkeypatch)
    assert stages.accept()["changed"]
    assert stages.failures() == {}
    stages.once("fleet_keys")
    assert_adopted(stages)


@pytest.mark.parametrize("fault", [{"status": 400}, {"cut": "after"}], ids=["refused", "lost"])
def test_a_name_that_was_not_given_is_given_by_the_next_run(stages: Typing, fault: Row) -> None:
    """A line in the journal about a change that failed makes the key nobody's."""
    path = f"/keys/{sha256(stages.typed['beta'])}"
    stages.bench.simulator.fault(method="PATCH", path=path, times=0, **fault)
    stages.accept()
    assert list(stages.failures()) == ["beta"]
    stages.bench.simulator.clear_faults()
    stages.accept()
    assert stages.failures() == {}
    stages.once("fleet_keys")
    assert_adopted(stages)


def assert_adopted(stages: Typing) -> None:
    assert stages.failures() == {}
    for name in CLIENTS:
        assert stages.named(name).startswith(f"mai/{FLEET_NAME}/{name}/g2/")
        assert stages.bench.secret(name) == stages.typed[name]
        assert stages.record(name).key_hash == sha256(stages.typed[name])
        assert len(stages.keys_in_store(name)) == 2
        assert unnamed(stages.bench.store.secrets(name), stages.record(name)) == []


@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_one_key_at_two_clients_is_neithers(stages: Typing, check: bool) -> None:
    before = {name: stages.bench.store.secrets(name) for name in CLIENTS}
    stages.docker.type_in("beta", stages.typed["acme"])
    stages.accept(check=check)
    assert sorted(stages.failures()) == ["acme", "beta"]
    for name, failure in stages.failures().items():
        assert "typed in at acme, beta" in failure["what"] and name in failure["where"]
        assert fingerprint_of(sha256(stages.typed["acme"])) in failure["what"]
        assert "foreign_keys" in failure["todo"]
        assert stages.bench.store.secrets(name) == before[name]
        assert stages.record(name).attempts == []
    assert stages.named("acme") == "acme's own"
    assert stages.named("gamma").startswith("mai/") != check


def test_a_key_that_another_server_s_client_gets_meanwhile_is_refused(stages: Typing) -> None:
    """Servers are worked on side by side: this one's look at the account may be an old one."""
    before = stages.bench.store.secrets("beta")
    name, path = f"mai/{FLEET_NAME}/delta/g2/01234567", f"/keys/{sha256(stages.typed['beta'])}"

    def taken(count: int) -> None:
        if count == 1:
            stages.bench.quietly("PATCH", path, {"name": name})

    stages.docker.when = taken
    stages.accept()
    (failed,) = stages.failures()
    failure = stages.failures()["beta"]
    assert failed == "beta" and "that of another client" in failure["what"], failure
    assert stages.named("beta") == name
    assert stages.bench.store.secrets("beta") == before
    assert stages.record("beta").attempts == []


@pytest.mark.parametrize("policy", ["report", "keep", "revert"])
def test_a_key_that_is_not_wanted_after_all_is_kept_and_named(
    stages: Typing, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stored, and is nobody's: the secret may be there and nowhere else."""
    own, typed = stages.bench.secret("acme") or "", stages.typed["acme"]
    cut_off(stages, "stored", monkeypatch)
    stages.policy("acme", policy)
    stages.client("beta")
    stages.client("gamma")
    assert stages.bench.secret("acme") == typed
    assert "acme's own" in problem(stages) and "works" in problem(stages)
    stages.client("acme")
    stages.keys()
    assert stages.row()["failure"] is None
    files(stages)
    secrets = stages.bench.store.secrets("acme")
    assert current(secrets)["api_key"] == own and typed in secrets.values()
    (warning,) = stages.row()["warnings"]
    assert fingerprint_of(sha256(typed)) in warning and "it is kept" in warning
    assert "secrets/acme.yml" in warning and typed not in warning
    stages.policy("acme", policy)
    assert "acme's own" in problem(stages)
    stages.bench.api().delete_key(sha256(typed))
    assert problem(stages) == ""
    assert "OpenRouter does not know that key" in " ".join(
        examined(stages)["clients"]["acme"]["notes"]
    )


def files(stages: Typing) -> None:
    templates = Path(__file__).resolve().parents[3] / "roles" / "files" / "templates"
    stages.everywhere(
        "fleet_files",
        compose_template=str(templates / "compose.yml.j2"),
        env_template=str(templates / "env.j2"),
    )


def cut_off(stages: Typing, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends with acme, when its secret is stored, or when its key has its new name."""
    thing, name = {"stored": (Store, "save_secrets"), "renamed": (OpenRouter, "update_key")}[moment]
    act = getattr(thing, name)

    def acted(*given: Any) -> None:
        act(*given)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(thing, name, acted)
        with pytest.raises(Killed):
            stages.accept()


def examined(stages: Typing) -> Row:
    """What the doctor says, who has looked at no server."""
    return stages.attempt("fleet_doctor", SERVERS[0], {"select": "acme", "examined": "examined"})


def problem(stages: Typing) -> str:
    """What the doctor says of the store."""
    found = examined(stages)["problems"]
    return " ".join(one["what"] for one in found if one["place"] == "store")
