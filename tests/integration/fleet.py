# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet for tests: the demo's inventory under another name, on the real Docker.

Everything is seen from outside: by running playbooks as an operator does, by asking Docker, and by
signing in to Open WebUI as a person does.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
import yaml
from simulator.simulator import Simulator

REPOSITORY = Path(__file__).resolve().parents[2]
#: Seconds; generous, because two cores may have a dozen instances to run.
TIMEOUT = 120


def bridge_address() -> str:
    """This machine's address on Docker's default bridge, which containers can reach."""
    config = docker.from_env().networks.get("bridge").attrs["IPAM"]["Config"][0]
    first = next(ipaddress.ip_network(config["Subnet"]).hosts())
    return str(config.get("Gateway", first))


class _Loader(yaml.SafeLoader):
    """What is encrypted stays so."""


_Loader.add_constructor("!vault", lambda _loader, node: node.value)


@dataclass(frozen=True)
class Run:
    """One command of the operator's."""

    status: int
    output: str

    @property
    def changed(self) -> int:
        """The sum of all hosts' ``changed=`` in the recap."""
        return sum(int(count) for count in re.findall(r"\bchanged=(\d+)", self.output))

    def line(self, client: str) -> str:
        """The client's line of the table."""
        lines = [line for line in self.output.splitlines() if line.startswith(f"{client} ")]
        assert lines, self.output
        return lines[-1]


class Fleet:
    """:param home: an empty directory, which gets the inventory and what a server would hold"""

    NAME = "itest"
    PASSWORD = "the operator's vault password"

    def __init__(self, home: Path, simulator: Simulator, collections: Path) -> None:
        self.home = home
        self.simulator = simulator
        self.docker = docker.from_env()
        self.printed: list[str] = []
        self._collections = collections
        shutil.copytree(REPOSITORY / "inventories" / "demo", home / "inventory")
        self._prepare()

    def _prepare(self) -> None:
        config = self.read("fleet.yml")
        config.update(
            fleet=self.NAME,
            secrets="../secrets",
            state="../state",
            exports="exports",
            journal="../journal",
            workspace_lasts=True,
            directory=str(self.home / "server"),
            openrouter_url=self.simulator.url,
            first_port=18700,
            subnets="10.202.0.0/16",
        )
        self.write("fleet.yml", config)
        for file in sorted((self.home / "inventory" / "clients").iterdir()):
            file.rename(file.with_name(f"it_{file.name}"))
        (self.home / "vault-password").write_text(self.PASSWORD)

    # The operator

    def read(self, file: str) -> dict[str, Any]:
        text = (self.home / "inventory" / file).read_text()
        return dict(yaml.load(text, Loader=_Loader))  # noqa: S506

    def write(self, file: str, content: dict[str, Any]) -> None:
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        (self.home / "inventory" / file).write_text(text)

    def edit(self, client: str, **fields: Any) -> None:
        file = f"clients/{client}.yml"
        self.write(file, {**self.read(file), **fields})

    def play(self, playbook: str, *arguments: str) -> Run:
        return self.command("ansible-playbook", f"mai.fleet.{playbook}", *arguments)

    def site(self, *arguments: str) -> Run:
        """A run that has to end well."""
        run = self.play("site", *arguments)
        assert run.status == 0, run.output
        return run

    def command(self, program: str, *arguments: str) -> Run:
        path = Path(sys.executable).with_name(program)
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(self.home / "inventory" / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self._collections),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.home / "vault-password"),
            "ANSIBLE_HOME": str(self.home / "ansible"),
            "ANSIBLE_LOG_PATH": str(self.home / "ansible.log"),
            "ANSIBLE_NOCOLOR": "1",
            "OPENROUTER_MANAGEMENT_KEY": self.simulator.management_key,
        }
        done = subprocess.run(
            [str(path), *arguments],
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        self.printed.append(done.stdout)
        return Run(done.returncode, done.stdout)

    def journal(self, client: str) -> list[dict[str, Any]]:
        """What was done to a client, line by line."""
        text = (self.home / "journal" / f"{client}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def secrets(self, client: str) -> dict[str, str]:
        """What the client's vault file holds, as ``ansible-vault view`` shows it."""
        path = Path(sys.executable).with_name("ansible-vault")
        text = subprocess.run(
            [path, "view", f"secrets/{client}.yml", "--vault-password-file", "vault-password"],
            cwd=self.home,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return dict(yaml.safe_load(text))

    # What is really there

    def containers(self, client: str) -> list[Any]:
        label = f"com.docker.compose.project={client}"
        return list(self.docker.containers.list(all=True, filters={"label": label}))

    def container(self, client: str) -> Any:
        (found,) = self.containers(client)
        found.reload()
        return found

    def life(self, client: str) -> tuple[str, str, int]:
        """Another container, or a restart of this one, has another life."""
        container = self.container(client)
        return container.id, container.attrs["State"]["StartedAt"], container.attrs["RestartCount"]

    def environment(self, client: str) -> dict[str, str]:
        """The environment that Docker gave the container."""
        lines = self.container(client).attrs["Config"]["Env"]
        return dict(line.split("=", 1) for line in lines)

    def keys(self, client: str) -> list[dict[str, Any]]:
        """The client's keys at OpenRouter."""
        return [key for key in self.simulator.keys if f"/{client}/" in key["name"]]

    def guardrail(self, client: str) -> dict[str, Any] | None:
        rows = [row for row in self.simulator.guardrails if row["name"].endswith(f"/{client}")]
        return rows[0] if rows else None

    # People

    def url(self, client: str) -> str:
        (binding,) = self.container(client).attrs["HostConfig"]["PortBindings"]["8080/tcp"]
        assert binding["HostIp"] == "127.0.0.1"
        return f"http://127.0.0.1:{binding['HostPort']}"

    def sign_in(self, client: str, email: str, password: str) -> Person:
        answer = requests.post(
            f"{self.url(client)}/api/v1/auths/signin",
            json={"email": email, "password": password},
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return Person(self.url(client), answer.json()["token"])

    def admin(self, client: str) -> Person:
        """The client's own administrator, with the first password."""
        email = self.read(f"clients/{client}.yml")["admin_email"]
        return self.sign_in(client, email, self.secrets(client)["admin_password"])

    def clean(self) -> None:
        """Remove what Docker holds of this fleet, also after a failure."""
        label: dict[str, Any] = {"label": f"mai.fleet.fleet={self.NAME}"}
        projects = set()
        for container in self.docker.containers.list(all=True, filters=label):
            projects.add(container.labels["com.docker.compose.project"])
            container.remove(force=True)
        projects |= {
            network.attrs["Labels"]["com.docker.compose.project"]
            for network in self.docker.networks.list(filters=label)
        }
        projects |= {file.stem for file in (self.home / "inventory" / "clients").glob("*.yml")}
        for project in projects:
            mine: dict[str, Any] = {"label": f"com.docker.compose.project={project}"}
            for network in self.docker.networks.list(filters=mine):
                network.remove()
            for volume in self.docker.volumes.list(filters=mine):
                volume.remove(force=True)


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in to an instance."""

    url: str
    token: str

    def call(self, method: str, path: str, **body: Any) -> requests.Response:
        return requests.request(
            method,
            self.url + path,
            json=body or None,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=TIMEOUT,
        )

    def models(self) -> list[str]:
        """What the person can choose from."""
        return sorted(model["id"] for model in self.call("GET", "/api/models").json()["data"])

    def chat(self, model: str) -> requests.Response:
        message = {"role": "user", "content": "Hello"}
        return self.call(
            "POST", "/api/chat/completions", model=model, messages=[message], max_tokens=16
        )

    def hire(self, name: str) -> tuple[str, str]:
        """Make an ordinary user, as a client's administrator does. Their e-mail and password."""
        email, password = f"{name}@people.example", f"{name}'s own password"
        answer = self.call(
            "POST", "/api/v1/auths/add", name=name, email=email, password=password, role="user"
        )
        answer.raise_for_status()
        return email, password
