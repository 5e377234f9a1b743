# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator with an inventory, a shell, and an account at a simulated OpenRouter.

Playbooks are run as a person runs them, as commands in a directory. Clients get a key and an
``.env`` and no instance, so that no Docker is needed; the servers are this machine.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from simulator.simulator import Simulator

FLASH = "google/gemini-2.5-flash"
MINI = "openai/gpt-4o-mini"
BIN = Path(sys.executable).parent
#: A run that takes longer than this, in seconds, has hung.
PATIENCE = 120
_SILENCE = 3.0


@dataclass(frozen=True)
class Run:
    """One command and what came of it."""

    status: int
    output: str

    @property
    def failed(self) -> bool:
        return self.status != 0

    @property
    def changed(self) -> int:
        return self.count("changed")

    def count(self, what: str) -> int:
        """The sum of all hosts' ``what=`` in the recap."""
        return sum(int(count) for count in re.findall(rf"\b{what}=(\d+)", self.output))

    def says(self, *phrases: str) -> bool:
        """Whether a reader finds every phrase, wherever lines were broken."""
        flat = " ".join(self.output.split())
        missing = [phrase for phrase in phrases if phrase not in flat]
        assert not missing, f"not said: {missing}\n{self.output}"
        return True

    @property
    def table(self) -> dict[str, str]:
        """The report's line of each client."""
        lines = self.output.splitlines()
        heads = [number for number, line in enumerate(lines) if line.startswith("client  ")]
        rows: dict[str, str] = {}
        for line in lines[heads[-1] + 1 :] if heads else []:
            if not re.match(r"[a-z]\w* +\w", line):
                break
            rows[line.split()[0]] = line
        return rows


class Operator:
    """:param home: an empty directory, which gets the inventory and what the servers hold"""

    patience = PATIENCE
    SOURCES: tuple[str, ...] = ("-i", "servers.yml", "-i", "fleet.yml")

    def __init__(self, home: Path, simulator: Simulator, collections: Path) -> None:
        self.home = home
        self.desk = home / "inventory"
        self.server = home / "server"
        self.simulator = simulator
        (self.desk / "clients").mkdir(parents=True)
        (home / "vault-password").write_text("correct horse\n", encoding="utf-8")
        self.environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(home / "vault-password"),
            "ANSIBLE_PIPELINING": "true",
            "OPENROUTER_MANAGEMENT_KEY": simulator.management_key,
        }
        self.servers()
        self.fleet()
        self.plans(gold={"spending_limit": 100, "instance": "none", "models": [MINI, FLASH]})

    # What an operator writes

    def write(self, path: str, content: Any) -> Path:
        """A file of the inventory: text as it is, anything else as YAML."""
        file = self.desk / path
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        file.write_text(text, encoding="utf-8")
        return file

    def servers(self, *names: str, gone: tuple[str, ...] = ()) -> None:
        """This machine under each name; those that are gone refuse every connection."""
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        nowhere = {"ansible_host": "127.0.0.1", "ansible_port": 1}
        hosts = dict.fromkeys(names or ("web1",), here) | dict.fromkeys(gone, nowhere)
        self.write("servers.yml", {"servers": {"hosts": hosts}})

    def fleet(self, **options: Any) -> None:
        """fleet.yml; an option that is given as ... is left out."""
        given = {
            "plugin": "mai.fleet.clients",
            "schema": 1,
            "fleet": "hosting",
            "directory": str(self.server),
            "openrouter_url": self.simulator.url,
            **options,
        }
        self.write("fleet.yml", {name: value for name, value in given.items() if value is not ...})

    def plans(self, **plans: Any) -> None:
        self.write("plans.yml", {"schema": 1, "plans": plans})

    def client(self, name: str, **fields: Any) -> Path:
        """A client's file; a field that is given as ... is left out."""
        given = {
            "schema": 1,
            "organization": f"{name} GmbH",
            "server": "web1",
            "plan": "gold",
            "admin_email": f"it@{name}.example",
            **fields,
        }
        content = {field: value for field, value in given.items() if value is not ...}
        return self.write(f"clients/{name}.yml", content)

    def playbook(self, *roles: str) -> str:
        """A playbook of one's own that goes through some stages only, and shows who is in it."""
        plays = [
            {"import_playbook": "mai.fleet.guard"},
            {
                "hosts": "fleet",
                "gather_facts": False,
                "roles": [f"mai.fleet.{role}" for role in roles],
                "tasks": [
                    {
                        "ansible.builtin.debug": {"msg": "in it: {{ fleet_state.clients | sort }}"},
                        "run_once": True,
                    }
                ],
            },
        ]
        self.write("stages.yml", plays)
        return "stages.yml"

    # What an operator runs

    def command(self, *command: str, stdin: str | None = None, **environment: str | None) -> Run:
        """A command in the inventory's directory; None takes a variable out of the environment."""
        given = {**self.environment, **environment}
        done = subprocess.run(
            command,
            cwd=self.desk,
            env={name: value for name, value in given.items() if value is not None},
            input=stdin or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.patience,
            check=False,
        )
        return Run(done.returncode, done.stdout)

    def run(self, playbook: str, *arguments: str, **environment: str | None) -> Run:
        """``ansible-playbook``, with the inventory as it should be named."""
        return self.command("ansible-playbook", playbook, *self.SOURCES, *arguments, **environment)

    def site(self, *arguments: str, **environment: str | None) -> Run:
        return self.run("mai.fleet.site", *arguments, **environment)

    def good(self, *arguments: str, **environment: str | None) -> Run:
        """A run of site that has to succeed."""
        run = self.site(*arguments, **environment)
        assert run.status == 0, run.output
        return run

    def converse(self, *command: str, answers: dict[str, str]) -> Run:
        """A command at a terminal, where somebody answers each question once it is asked."""
        mine, terminal = pty.openpty()
        process = subprocess.Popen(
            ("setsid", "--ctty", "--wait", *command),
            cwd=self.desk,
            env=self.environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        waiting = dict(answers)
        seen = ""
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                if not select.select([mine], [], [], _SILENCE)[0]:
                    if not waiting:
                        # Ansible throws away what was typed before it listens.
                        os.write(mine, f"{list(answers.values())[-1]}\r".encode())
                    continue
                try:
                    seen += os.read(mine, 4096).decode("utf-8", "replace")
                except OSError:  # The other side has gone, which is how a terminal ends.
                    break
                for question in [question for question in waiting if question in seen]:
                    os.write(mine, f"{waiting.pop(question)}\r".encode())
        finally:
            process.kill() if time.monotonic() >= deadline else None
            os.close(mine)
        return Run(process.wait(), seen)

    # What can be seen afterwards

    def keys(self) -> dict[str, dict[str, Any]]:
        """The fleet's keys at OpenRouter by client, of which each has one at most."""
        keys: dict[str, dict[str, Any]] = {}
        for key in self.simulator.keys:
            client = key["name"].split("/")[2]
            assert client not in keys, f"two keys of {client}"
            keys[client] = key
        return keys

    def env(self, client: str) -> str:
        return (self.server / client / ".env").read_text(encoding="utf-8")

    def everything(self) -> dict[str, bytes]:
        """All files there are of the operator's and the servers'."""
        ours = (self.desk, self.server)
        return {
            str(path): path.read_bytes()
            for folder in ours
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def written(self) -> list[str]:
        """The requests that would change something at OpenRouter."""
        return [
            f"{request.method} {request.path}"
            for request in self.simulator.requests
            if request.method != "GET"
        ]
