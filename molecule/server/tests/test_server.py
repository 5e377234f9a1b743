# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bare hosts became servers, and are that after a second run and after a restart of the host."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import rehearsal
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]

ACCIDENT, MEANT = 8080, 18001
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


def neighbour(host: Host) -> Host:
    servers = sorted(rehearsal.SERVERS)
    return rehearsal.host(servers[servers.index(name(host)) - 1])


def open_ports(host: Host) -> list[int]:
    """What a neighbour of the server can connect to."""
    return list(json.loads(neighbour(host).check_output("python3 -c %s %s", SCAN, address(host))))


def main_pid(host: Host) -> str:
    return str(host.check_output("systemctl show --property=MainPID docker.service"))


def converge(host: Host, *arguments: str) -> str:
    """Runs the role once more; the other parts are left out, as they are not what it is about."""
    playbook = Path(__file__).parents[1] / "converge.yml"
    parts = ("ssh", "firewall", "sysctl", "swap", "time", "upgrades")
    off = json.dumps({f"server_{part}": False for part in parts})
    inventory = rehearsal.INVENTORY / "servers.yml"
    words = ["ansible-playbook", "-i", inventory, "--limit", name(host), "-e", off, playbook]
    done = subprocess.run(
        [*words, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def restart(host: Host) -> None:
    """The server as a whole, like a power cut."""
    container = f"mai-{os.environ['REHEARSAL_NAME']}-{name(host)}"
    subprocess.run(["docker", "restart", "--time", "2", container], check=True)
    deadline = time.monotonic() + 120
    ready = "systemctl is-active docker ssh mai-fleet-firewall && docker ps -q | grep -c ."
    while True:
        done = subprocess.run(
            ["docker", "exec", container, "sh", "-c", ready],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.split() == ["active", "active", "active", "2"]:
            return
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(1)


def assert_containers_have_their_network(host: Host) -> None:
    for port in (ACCIDENT, MEANT):
        assert host.check_output(f"curl -sS --fail --max-time 10 http://127.0.0.1:{port}") == "here"
    inside = "docker exec meant /bin/busybox"
    assert host.check_output(f"{inside} wget -q -O - http://accident") == "here"
    outside = f"docker exec -i meant /bin/busybox nc -w 5 {address(neighbour(host))} 22"
    assert host.run(f"sleep 2 | {outside}").stdout.startswith("SSH-2.0")


def assert_closed_to_neighbours(host: Host) -> None:
    assert open_ports(host) == [22]


def test_services(host: Host) -> None:
    for unit in ("docker", "ssh", "mai-fleet-firewall", "apt-daily-upgrade.timer"):
        assert host.service(unit).is_running, unit
    for unit in ("docker", "mai-fleet-firewall", "systemd-timesyncd", "swapfile.swap"):
        assert host.service(unit).is_enabled, unit
    assert host.check_output("docker compose version --short").lstrip("v").startswith("2.")


def test_the_settings_of_docker(host: Host) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["LiveRestoreEnabled"]
    assert info["LoggingDriver"] == "json-file"
    assert info["DefaultAddressPools"] == [{"Base": "10.202.0.0/16", "Size": 24}]
    assert info["Labels"] == ["rack=7"], "the operator's own settings are kept"
    log = json.loads(host.check_output("docker inspect accident"))[0]["HostConfig"]["LogConfig"]
    assert log["Config"] == {"max-file": "3", "max-size": "10m"}


def test_the_second_run_left_the_engine_alone(host: Host) -> None:
    assert main_pid(host) == host.check_output("cat /root/engine-before")


def test_containers_have_their_network(host: Host) -> None:
    assert_containers_have_their_network(host)


def test_a_port_that_is_published_by_accident_is_closed(host: Host) -> None:
    assert host.check_output("docker port accident").startswith("80/tcp -> 0.0.0.0:8080")
    assert_closed_to_neighbours(host)


def test_it_is_the_firewall_that_closes_it(host: Host) -> None:
    """Without it the scan finds the port; and what removes it by accident is healed by a start."""
    host.check_output("nft delete table inet mai_fleet")
    try:
        assert ACCIDENT in open_ports(host)
    finally:
        host.check_output("systemctl restart mai-fleet-firewall")
    assert ACCIDENT not in open_ports(host)


def test_the_ports_of_the_web_are_open(host: Host) -> None:
    for port in (80, 443, 81):
        host.check_output(f"systemd-run --unit=web{port} python3 -m http.server {port}")
    try:
        time.sleep(3)
        assert open_ports(host) == [22, 80, 443]
    finally:
        host.check_output("systemctl stop web80 web443 web81")


def test_iptables_of_both_kinds_are_rehearsed(host: Host) -> None:
    kind = "legacy" if name(host) == "d13" else "nf_tables"
    assert kind in host.check_output("iptables --version")
    assert "DOCKER" in host.check_output("iptables -S FORWARD")


def test_sshd_lets_in_with_keys_only(host: Host) -> None:
    settings = host.check_output("sshd -T -C user=root,host=x,addr=192.0.2.1").splitlines()
    assert {
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "permitemptypasswords no",
        "permitrootlogin without-password",
        "pubkeyauthentication yes",
    } <= set(settings)
    target = f"root@{address(host)}"
    options = ["-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes"]
    options += ["-o", f"UserKnownHostsFile={rehearsal.HOME / 'known_hosts'}"]
    done = subprocess.run(
        ["ssh", *options, target, "true"], capture_output=True, text=True, check=False
    )
    assert "Permission denied (publickey)" in done.stderr


def test_upgrades_leave_docker_alone(host: Host) -> None:
    settings = host.check_output("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1"' in settings
    for package in ("^docker", "^containerd", "^runc$"):
        assert f'Unattended-Upgrade::Package-Blacklist:: "{package}"' in settings
    assert host.run("/usr/sbin/policy-rc.d docker.service restart").rc == 101
    assert host.run("/usr/sbin/policy-rc.d ssh.service restart").rc == 0


def test_the_kernels_settings_are_written_and_not_applied(host: Host) -> None:
    written = host.file("/etc/sysctl.d/99-mai-fleet.conf").content_string
    assert "net.ipv4.ip_forward = 1\n" in written
    assert "What=/swapfile\n" in host.file("/etc/systemd/system/swapfile.swap").content_string
    assert not host.file("/swapfile").exists


def test_debian_12_has_nothing_but_compose_from_debian_13(host: Host) -> None:
    if name(host) != "d12":
        pytest.skip("only Debian 12 lacks Compose v2")
    assert "trixie" in host.check_output("apt-cache policy docker-compose")
    assert "Debian:13" not in host.check_output("apt-get --simulate dist-upgrade")


def test_there_are_networks_enough(host: Host) -> None:
    if name(host) != "d12":
        pytest.skip("it is the same engine setting everywhere")
    host.check_output(
        "for n in $(seq 40); do docker network create many$n >/dev/null || exit; done"
    )
    host.check_output("docker network ls -qf name=many | xargs docker network rm")


def test_a_reinstalled_package_does_not_restart_docker(host: Host) -> None:
    if name(host) != "d12":
        pytest.skip("once is enough, for it downloads the package")
    before = main_pid(host)
    host.check_output("DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --reinstall docker.io")
    assert main_pid(host) == before


def test_a_setting_waits_for_the_window_that_the_operator_opens(host: Host) -> None:
    if name(host) != "u24":
        pytest.skip("once is enough")
    before = main_pid(host)
    started = host.check_output("docker inspect --format '{{.State.StartedAt}}' accident")
    setting = ("-e", "server_docker_log_files=4")
    assert "waits for a restart, for log-opts" in " ".join(converge(host, *setting).split())
    assert main_pid(host) == before
    output = " ".join(converge(host, *setting, "-e", "server_restart_docker=true").split())
    assert "waits for a restart" not in output
    assert main_pid(host) != before
    assert host.check_output("docker inspect --format '{{.State.StartedAt}}' accident") == started
    assert_containers_have_their_network(host)
    assert_closed_to_neighbours(host)


def test_all_of_it_outlives_a_restart_of_the_host(host: Host) -> None:
    restart(host)
    assert_containers_have_their_network(host)
    assert_closed_to_neighbours(host)
    test_services(host)
