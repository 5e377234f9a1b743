# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of this scenario do to its hosts, and how they look at them from outside."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import rehearsal
from testinfra.host import Host

ACCIDENT, MEANT = 8080, 18001
PARTS = {"docker", "firewall", "ssh", "swap", "sysctl", "time", "upgrades"}
ENGINE = "systemctl show --property=MainPID --property=InvocationID docker.service"
NEIGHBOUR = "mai-server-neighbour"
# Answers with the ports that let a connection in, of the lowest ones and some that Docker uses.
SCAN = """
import asyncio, json, sys

async def is_open(port, limit):
    async with limit:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(sys.argv[1], port), 3)
        except (OSError, asyncio.TimeoutError):
            return False
        writer.close()
        return True

async def scan():
    ports = [*range(1, 1025), 2375, 2376, 2377, 5000, 5355, 7946, 8080, 9323, 18001]
    limit = asyncio.Semaphore(600)
    found = await asyncio.gather(*(is_open(port, limit) for port in ports))
    print(json.dumps([port for port, open in zip(ports, found) if open]))

asyncio.run(scan())
"""


def name(host: Host) -> str:
    return str(host.backend.get_hostname())


def address(host: Host) -> str:
    return str(rehearsal.SERVERS[name(host)]["ansible_host"])


def local(*words: str) -> subprocess.CompletedProcess[str]:
    """A command on this machine."""
    return subprocess.run(words, capture_output=True, text=True, check=False)


def open_ports(host: Host) -> list[int]:
    """What a neighbour of the server can connect to."""
    return list(
        json.loads(local("docker", "exec", NEIGHBOUR, "python3", "-c", SCAN, address(host)).stdout)
    )


def ways_to_sign_in(host: Host) -> str:
    """What sshd offers to somebody without a key."""
    options = ["PubkeyAuthentication=no", "BatchMode=yes", "ConnectionAttempts=5"]
    options += [f"UserKnownHostsFile={rehearsal.HOME / 'known_hosts'}"]
    words = [word for option in options for word in ("-o", option)]
    return local("ssh", *words, f"root@{address(host)}", "true").stderr


def engine(host: Host) -> str:
    """Which process of Docker runs, so that two of them can be told apart."""
    return str(host.check_output(ENGINE))


def attempt(host: Host, *parts: str, **variables: Any) -> tuple[int, str]:
    """Runs those parts of the role: exit status, and what was said, as one line."""
    return play(host, "converge.yml", **switches(*parts), **variables)


def foretell(host: Host, *parts: str) -> str:
    status, output = play(host, "converge.yml", "--check", **switches(*parts))
    assert status == 0, output
    return output


def switches(*parts: str) -> dict[str, bool]:
    return {f"server_{part}": part in parts for part in PARTS}


def play(host: Host, playbook: str, *options: str, **variables: Any) -> tuple[int, str]:
    words = [
        *("ansible-playbook", "--limit", name(host), *options),
        *("--inventory", str(rehearsal.INVENTORY / "servers.yml")),
        *("--extra-vars", json.dumps(variables)),
        str(Path(__file__).parents[1] / playbook),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
    }
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def converge(host: Host, *parts: str, **variables: Any) -> str:
    status, output = attempt(host, *parts, **variables)
    assert status == 0, output
    return output


def refusal(host: Host, *parts: str, **variables: Any) -> str:
    status, output = attempt(host, *parts, **variables)
    assert status == 2, output
    return output


def container(host: Host) -> str:
    return f"mai-{os.environ['REHEARSAL_NAME']}-{name(host)}"


def start(host: Host) -> None:
    """The server as a whole, after a power cut; its containers with it."""
    local("docker", "start", container(host))
    deadline = time.monotonic() + 120
    up = (
        "systemctl is-active docker ssh.service ssh.socket mai-fleet-firewall; docker ps -q | wc -l"
    )
    while True:
        said = local("docker", "exec", container(host), "sh", "-c", up).stdout.split()
        if said[:1] == ["active"] and said[-2:] == ["active", "2"] and "active" in said[1:3]:
            return
        assert time.monotonic() < deadline, said
        time.sleep(1)


def assert_containers_have_their_network(host: Host) -> None:
    for port in (ACCIDENT, MEANT):
        assert host.check_output(f"curl -sS --fail --max-time 10 http://127.0.0.1:{port}") == "here"
    inside = "docker exec meant /bin/busybox wget -q -O - http://"
    assert host.check_output(f"{inside}accident") == "here"
    # By a name that the resolver of the host knows, and over its address.
    assert "bookworm" in host.check_output(f"{inside}{NEIGHBOUR}.mai-server/os-release")


def assert_closed_to_neighbours(host: Host) -> None:
    assert open_ports(host) == [22]
