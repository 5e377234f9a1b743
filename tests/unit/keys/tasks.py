# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks with the modules that need no fleet: the real actions, in this process."""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible.template import Templar
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller
from ansible_collections.mai.fleet.plugins.plugin_utils import _key_files
from ansible_collections.mai.fleet.plugins.plugin_utils._account import AccountAction
from simulator.simulator import RemoteSimulator, Simulator
from unit.keys.bench import vault

Row = dict[str, Any]


class Tasks:
    """:param folder: where the secrets of keys are stored"""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator = simulator
        self.folder = folder
        self.loader = DataLoader()
        self.loader.set_vault_secrets(vault().secrets)

    def run(self, module: str, *, check: bool = False, **options: Any) -> Row:
        """The result of a task, failed or not."""
        given = {
            "management_key": self.simulator.management_key,
            "api_url": self.simulator.url,
            **options,
        }
        task = Task()
        task.args = {name: value for name, value in given.items() if value is not ...}
        task.check_mode = check
        task.diff = True
        context = PlayContext()
        connection = connection_loader.get("local", context, os.devnull)
        action: AccountAction = importlib.import_module(
            f"ansible_collections.mai.fleet.plugins.action.openrouter_{module}"
        ).ActionModule(task, connection, context, self.loader, Templar(self.loader), None)
        result: Row = json.loads(json.dumps(action.run(task_vars={})))
        return result

    def good(self, module: str, **options: Any) -> Row:
        result = self.run(module, **options)
        assert not result.get("failed"), result["msg"]
        return result

    def keys(self, *keys: Row, **options: Any) -> Row:
        return self.run("keys", keys=list(keys), **self._stored(options))

    def key(self, name: str = "ci", *, check: bool = False, grace: float = 3600, **key: Any) -> Row:
        """The row of one key for which all went well."""
        options = self._stored({"check": check, "grace": grace, **_of_the_task(key)})
        (row,) = self.good("keys", keys=[{"name": name, **key}], **options)["api_keys"]
        return dict(row)

    def failure(self, name: str = "ci", **key: Any) -> Row:
        """Why a task for one key failed."""
        options = _of_the_task(key)
        (row,) = self.keys({"name": name, **key}, **options)["api_keys"]
        assert row["failed"], row
        return dict(row["failure"])

    def _stored(self, options: Row) -> Row:
        return {"secrets_directory": str(self.folder), "encrypt": False, **options}

    def secret(self, name: str = "ci") -> str:
        path = self.folder / name
        return path.read_text().strip() if path.exists() else ""

    def at_openrouter(self) -> dict[str, Row]:
        """All keys by name, of which none is there twice."""
        keys = {row["name"]: row for row in self.simulator.keys}
        assert len(keys) == len(self.simulator.keys)
        return keys

    def whole(self, name: str = "ci") -> Row:
        """The one working key of that name; its secret is stored and nothing else is alive."""
        working = [row for row in self.simulator.keys if not row["disabled"]]
        assert [row["name"] for row in working] == [name]
        assert sha256(self.secret(name)) == working[0]["hash"]
        return working[0]

    def writes(self) -> list[str]:
        return [
            f"{row.method} {row.path}" for row in self.simulator.requests if row.method != "GET"
        ]


def _of_the_task(key: Row) -> Row:
    """Takes out what is an option of the whole task."""
    return {name: key.pop(name) for name in ("workspace", "secrets_directory") if name in key}


def act(tasks: Tasks, flow: str) -> None:
    state = {"make": "present", "rotate": "rotated", "delete": "absent"}[flow]
    grace = 0 if flow == "rotate" else 3600
    tasks.key(limit=5, limit_reset="monthly", guardrail="cheap", state=state, grace=grace)


def child(url: str, management_key: str, folder: str, flow: str, step: int, after: bool) -> None:
    """One run that kills itself before or after a step: a request, or a write to the disk."""
    count = -1

    def stepping(work: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*given: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count == step and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = work(*given, **more)
            if count == step and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return stepped

    # Attributes of the modules, which is where the work looks for them.
    Controller._send = stepping(Controller._send)  # type: ignore[method-assign]
    for name in ("_write", "_remove"):
        setattr(_key_files, name, stepping(getattr(_key_files, name)))
    os.fsync = lambda _descriptor: None  # type: ignore[assignment]
    act(Tasks(cast(Simulator, RemoteSimulator(url, management_key)), Path(folder)), flow)
