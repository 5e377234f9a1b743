# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of scenarios share: a rehearsal's surroundings, seen from outside.

Tests know servers by SSH and HTTP only, as anybody else does, and OpenRouter through the simulator.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import testinfra
import yaml
from testinfra.host import Host

HOME = Path(os.environ["REHEARSAL_HOME"])
INVENTORY = HOME / "inventory"
SERVERS: dict[str, dict[str, Any]] = yaml.safe_load((INVENTORY / "servers.yml").read_text())[
    "servers"
]["hosts"]


def clients(server: str) -> list[str]:
    """The clients that the inventory puts on a server."""
    return sorted(
        file.stem
        for file in (INVENTORY / "clients").glob("*.yml")
        if yaml.safe_load(file.read_text())["server"] == server
    )


def secrets(client: str) -> dict[str, str]:
    """The client's vault file, as ``ansible-vault view`` shows it."""
    text = subprocess.run(
        ["ansible-vault", "view", INVENTORY / "secrets" / f"{client}.yml"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(yaml.safe_load(text))


def record(client: str) -> dict[str, Any]:
    """What runs remember of the client in clear."""
    return dict(json.loads((INVENTORY / "state" / f"{client}.json").read_text()))


def container(host: Host, client: str) -> dict[str, Any]:
    """``docker inspect`` of the client's instance, on its server."""
    return dict(json.loads(host.check_output("docker inspect %s", f"{client}-webui-1"))[0])


def ask(host: Host, client: str, method: str, path: str, token: str = "", **body: Any) -> Any:
    """Ask an instance over HTTP, on the loopback address where it is published."""
    command = [
        *("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60"),
        *("--request", method, "--header", "Content-Type: application/json"),
    ]
    if token:
        command += ["--header", f"Authorization: Bearer {token}"]
    if body:
        command += ["--data", json.dumps(body)]
    words = [*command, url(host, client) + path]
    return json.loads(host.check_output(" ".join(["%s"] * len(words)), *words))


def url(host: Host, client: str) -> str:
    """Where the instance is published on its server."""
    (binding,) = container(host, client)["HostConfig"]["PortBindings"]["8080/tcp"]
    return f"http://{binding['HostIp']}:{binding['HostPort']}"


def ready(host: Host, client: str) -> bool:
    """Whether the instance says that it can serve."""
    return bool(
        host.run("curl --silent --fail --output /dev/null %s", url(host, client) + "/ready").rc == 0
    )


def sign_in(host: Host, client: str) -> str:
    """The token of the client's own administrator, with the password of the handover."""
    email = yaml.safe_load((INVENTORY / "clients" / f"{client}.yml").read_text())["admin_email"]
    password = secrets(client)["admin_password"]
    answer = ask(host, client, "POST", "/api/v1/auths/signin", email=email, password=password)
    return str(answer["token"])


def simulator(view: str) -> Mapping[str, Any]:
    """A view of the simulated OpenRouter, such as ``keys``."""
    return _ask_simulator(view)


def steer(command: str, **arguments: Any) -> None:
    """Give the simulated OpenRouter a command, such as ``fault``."""
    _ask_simulator(command, json.dumps(arguments).encode())


def _ask_simulator(name: str, data: bytes | None = None) -> Mapping[str, Any]:
    url = os.environ["FLEET_OPENROUTER_URL"].removesuffix("/api/v1")
    request = urllib.request.Request(
        f"{url}/_simulator/{name}",
        data=data,
        headers={"Authorization": f"Bearer {os.environ['OPENROUTER_MANAGEMENT_KEY']}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return dict(json.load(answer))


def reaches(address: str, port: int) -> bool:
    """Whether this machine, a neighbour of the server, can connect to a port of it."""
    try:
        with socket.create_connection((address, port), timeout=3):
            return True
    except OSError:
        return False


def host(server: str) -> Host:
    """A server of the inventory, over SSH."""
    return testinfra.get_host(
        f"ansible://{server}?ansible_inventory={INVENTORY / 'servers.yml'}",
    )
