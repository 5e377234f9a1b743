# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of the key side in this process: the real actions and modules, one after the other.

Ansible's own part is small here: it hands a task's options and a host's variables to an action, and
keeps what it gives back. Whole playbooks are run elsewhere.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import os
from typing import Any

from ansible.module_utils.testing import patch_module_args
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible.template import Templar
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import resolve
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage, merge
from unit.keys.bench import FLEET, GPT, MINI, Bench, Row

SERVERS = ["server1", "server2"]


class HostVars(dict[str, Row]):
    """Variables by host, as they are."""

    def raw_get(self, host: str) -> Row:
        return self[host]


class Stages:
    """A fleet's clients, and a run of its stages.

    :ivar state: the state of the run, as the last stage gave it
    :ivar results: what every task of the last run returned
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.clients: dict[str, Row] = {}
        self.errors: list[Row] = []
        self.results: list[Row] = []
        self.modules: list[str] = []
        self.hosts = HostVars({server: {} for server in SERVERS})
        self.loader = DataLoader()
        self.loader.set_vault_secrets(bench.store._vault.secrets)

    @property
    def config(self) -> Row:
        return {
            **self.bench.directories,
            "name": FLEET,
            "file": str(self.bench.folder / "fleet.yml"),
            "openrouter_url": self.bench.simulator.url,
            "directory": str(self.bench.folder / "srv"),
            "first_port": 18000,
            "subnets": "10.201.0.0/16",
        }

    @property
    def state(self) -> Row:
        return merge({host: known.get("fleet_state") for host, known in self.hosts.items()})

    def client(self, name: str = "acme", **changes: Any) -> None:
        """A client file, read and resolved as the inventory does it."""
        fields = {
            "schema": 1,
            "organization": f"{name} & Söhne",
            "server": "server1",
            "admin_email": "admin@example.com",
            "instance": "none",
            "models": [MINI, GPT],
            "spending_limit": 100,
            **changes,
        }
        client, problems = resolve(name, fields, f"clients/{name}.yml", {}, SERVERS)
        assert not problems, problems
        self.clients[name] = client

    def row(self, name: str = "acme") -> Row:
        row: Row = self.state["clients"][name]
        return row

    def record(self, name: str = "acme") -> Record:
        record = self.bench.store.record(name)
        assert record is not None
        return record

    def on_server(self, name: str, key: str) -> None:
        """The server's ``.env`` of a client holds this key."""
        folder = self.bench.folder / "srv" / name
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.parent.chmod(0o755)
        (folder / ".env").write_text(f"OPENROUTER_API_KEY='{key}'\n")
        (folder / ".env").chmod(0o600)

    # A run

    def run(self, *, check: bool = False, replace: str = "", prove: bool = True) -> bool:
        """Preflight, keys, proof and retirement; whether anything changed."""
        self.results = []
        self.keys(check=check, replace=replace)
        if prove:
            self.prove(check=check)
            self.once("fleet_keys", check=check, retire=True)
        return any(result["changed"] for result in self.results)

    def keys(
        self, *, check: bool = False, replace: str = "", undo: str = "", max_age_days: float = 0
    ) -> None:
        """What the roles preflight and keys do."""
        self.once("fleet_preflight", check=check, select="")
        self.everywhere("fleet_recover", check=check)
        self.once("fleet_keys", check=check, replace=replace, undo=undo, max_age_days=max_age_days)

    def prove(self, *, check: bool = False, **options: Any) -> None:
        """What the role proof does."""
        usual = {"scope": "changed", "chat": True, "fence": True, "budget": 0.5, "patience": 0}
        self.everywhere("fleet_proof", check=check, **{**usual, "pool": 2, **options})

    def once(self, name: str, *, check: bool = False, **options: Any) -> Row:
        result = self.task(name, SERVERS[0], options, check)
        for server in SERVERS:
            self.hosts[server]["fleet_state"] = copy.deepcopy(result)
        return result

    def everywhere(self, name: str, *, check: bool = False, **options: Any) -> None:
        """One task on every server; what one gives is not seen by the others meanwhile."""
        found = {}
        for server in SERVERS:
            state = copy.deepcopy(self.hosts[server]["fleet_state"])
            found[server] = self.task(name, server, {"state": state, **options}, check)
        for server, result in found.items():
            self.hosts[server]["fleet_state"] = result

    def task(self, name: str, host: str, options: Row, check: bool) -> Row:
        result = self.attempt(name, host, options, check)
        assert not result.get("failed"), result["msg"]
        return result

    def attempt(self, name: str, host: str, options: Row, check: bool = False) -> Row:
        """The result of a task, failed or not."""
        result: Row = self._action(name, options, check).run(task_vars=self._variables(host))
        # It travels to Ansible's main process as JSON does.
        result = json.loads(json.dumps(result))
        self.results.append(result)
        return result

    def _variables(self, host: str) -> Row:
        for server in SERVERS:
            self.hosts[server]["fleet_clients"] = {
                name: client for name, client in self.clients.items() if client["server"] == server
            }
        return {
            "inventory_hostname": host,
            "fleet_config": self.config,
            "fleet_errors": self.errors,
            "groups": {"fleet": SERVERS, "all": SERVERS},
            "hostvars": self.hosts,
            "ansible_play_batch": SERVERS,
            "ansible_play_hosts_all": SERVERS,
        }

    def _action(self, name: str, options: Row, check: bool) -> Stage:
        module = importlib.import_module(f"ansible_collections.mai.fleet.plugins.action.{name}")
        task = Task()
        task.args = options
        task.check_mode = check
        task.diff = True
        context = PlayContext()
        connection = connection_loader.get("local", context, os.devnull)
        action: Stage = module.ActionModule(
            task, connection, context, self.loader, Templar(self.loader), None
        )
        action._execute_module = self._module  # type: ignore[method-assign, assignment]
        return action

    def _module(self, module_name: str, module_args: Row, task_vars: Row) -> Row:
        """Run a module where it would run on the server, and note it."""
        self.modules.append(f"{task_vars['inventory_hostname']} {module_name}")
        name = module_name.rpartition(".")[2]
        path = f"ansible_collections.mai.fleet.plugins.modules.{name}"
        out = io.StringIO()
        arguments = {**module_args, "_ansible_check_mode": False, "_ansible_diff": False}
        with (
            contextlib.redirect_stdout(out),
            contextlib.suppress(SystemExit),
            patch_module_args(arguments),
        ):
            importlib.import_module(path).main()
        answer: Row = json.loads(out.getvalue())
        return answer
