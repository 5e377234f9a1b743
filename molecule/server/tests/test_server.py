# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bare hosts became servers, and are that after a second run and after a restart of the host."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import rehearsal
import steps
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]


def changes(kind: str, host: Host) -> list[list[dict[str, Any]]]:
    """For each run of the scenario, or each in check mode, what it changed on the host."""
    files = sorted((rehearsal.HOME / "changes").glob(f"*-{kind}.json"))
    return [json.loads(file.read_text())[steps.name(host)] for file in files]


def test_check_mode_foretells_what_happens_on_a_bare_host(host: Host) -> None:
    # It fetches the lists of packages itself, as nothing could be foretold without.
    foretold = [c for c in changes("check", host)[0] if "lists of packages" not in c["task"]]
    happened = changes("run", host)[0]
    assert len(happened) >= 20
    assert foretold == happened, "the same tasks, and the same text in every file"


def test_check_mode_foretells_nothing_on_a_finished_host(host: Host) -> None:
    assert changes("run", host)[1] == []
    assert changes("check", host)[1] == []


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


def test_no_run_restarted_the_engine(host: Host) -> None:
    assert steps.engine(host) == host.check_output("cat /root/engine-before")


def test_containers_have_their_network(host: Host) -> None:
    steps.assert_containers_have_their_network(host)


def test_a_port_that_is_published_by_accident_is_closed(host: Host) -> None:
    assert host.check_output("docker port accident").startswith("80/tcp -> 0.0.0.0:8080")
    steps.assert_closed_to_neighbours(host)


def test_it_is_the_firewall_that_closes_it(host: Host) -> None:
    """Without it the scan finds the port; and what removes it by accident is healed by a start."""
    host.check_output("nft delete table inet mai_fleet")
    try:
        assert steps.ACCIDENT in steps.open_ports(host)
    finally:
        host.check_output("systemctl restart mai-fleet-firewall")
    assert steps.ACCIDENT not in steps.open_ports(host)


def test_the_ports_of_the_web_are_open(host: Host) -> None:
    for port in (80, 443, 81):
        host.check_output(f"systemd-run --unit=web{port} python3 -m http.server {port}")
    try:
        time.sleep(3)
        assert steps.open_ports(host) == [22, 80, 443]
    finally:
        host.check_output("systemctl stop web80 web443 web81")


def test_iptables_of_both_kinds_are_rehearsed(host: Host) -> None:
    kind = "legacy" if steps.name(host) == "d13" else "nf_tables"
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
    assert "Permission denied (publickey)." in steps.ways_to_sign_in(host)


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
    assert "net.ipv4.neigh.default.gc_thresh3 = 8192\n" in written
    assert "What=/swapfile\n" in host.file("/etc/systemd/system/swapfile.swap").content_string
    assert not host.file("/swapfile").exists


@pytest.mark.on("d12")
def test_debian_12_has_nothing_but_compose_from_debian_13(host: Host) -> None:
    assert "trixie" in host.check_output("apt-cache policy docker-compose")
    assert "Debian:13" not in host.check_output("apt-get --simulate dist-upgrade")


# In the place of Docker's own, which a rehearsal need not reach.
REPOSITORY = """
set -e
apt-get -qq -y install --no-install-recommends gpg gpg-agent >/dev/null
for owner in docker stranger; do
    gpg --batch --quiet --passphrase '' --quick-gen-key $owner default default never
done
folder=/root/repository/debian/dists/trixie
mkdir -p $folder/stable/binary-amd64
cd $folder
gpg --armor --export docker >../../gpg
printf '%s\n' 'Package: docker-ce' 'Version: 99' 'Architecture: amd64' 'Filename: x' 'Size: 1' \
    "SHA256: $(printf '%064d' 0)" 'Description: x' >stable/binary-amd64/Packages
printf '%s\n' 'Codename: trixie' 'Suite: trixie' 'Architectures: amd64' 'Components: stable' \
    "Date: $(date -Ru)" 'SHA256:' >Release
echo " $(sha256sum <stable/binary-amd64/Packages | cut -c-64)" \
    "$(stat -c %s stable/binary-amd64/Packages) stable/binary-amd64/Packages" >>Release
gpg --batch --quiet --local-user docker --output InRelease --clearsign Release
systemd-run --quiet --unit=repository python3 -m http.server --directory /root/repository 8099
"""


@pytest.mark.on("d13")
def test_the_repository_of_docker_is_trusted_by_its_own_key(host: Host) -> None:
    host.check_output("bash -c %s", REPOSITORY)
    url = "http://127.0.0.1:8099"
    try:
        output = steps.play(host, "repository.yml", server_docker_repository=url)[1]
        assert "changed=2 " in output
        policy = "apt-get -qq update && apt-cache policy docker-ce"
        assert f"{url}/debian trixie/stable" in host.check_output(policy)
        assert "changed=0 " in steps.play(host, "repository.yml", server_docker_repository=url)[1]
        key = "/etc/apt/keyrings/mai-fleet-docker.asc"
        host.check_output(f"gpg --armor --export stranger >{key} && rm -r /var/lib/apt/lists/127*")
        refused = host.run("apt-get update")
        assert refused.rc != 0 and "is not signed" in refused.stderr
    finally:
        host.check_output("systemctl stop repository; rm /etc/apt/*/mai-fleet-docker.*")


@pytest.mark.on("d12")
def test_there_are_networks_enough(host: Host) -> None:
    host.check_output(
        "for n in $(seq 40); do docker network create many$n >/dev/null || exit; done"
    )
    host.check_output("docker network ls -qf name=many | xargs docker network rm")


@pytest.mark.on("d12")
def test_a_reinstalled_package_does_not_restart_docker(host: Host) -> None:
    before = steps.engine(host)
    host.check_output("DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --reinstall docker.io")
    assert steps.engine(host) == before


@pytest.mark.on("d12", "u24")
def test_a_setting_waits_for_the_window_that_the_operator_opens(host: Host) -> None:
    before = steps.engine(host)
    started = host.check_output("docker inspect --format '{{.State.StartedAt}}' accident meant")
    setting = {"server_docker_log_files": 4}
    output = steps.converge(host, "docker", **setting)
    assert "waits for a restart, for log-opts" in output
    assert steps.engine(host) == before
    # It is not forgotten, and it is not done by itself.
    assert "waits for a restart, for log-opts" in steps.converge(host, "docker", **setting)
    assert steps.engine(host) == before
    output = steps.converge(host, "docker", **setting, server_restart_docker=True)
    assert "waits for a restart, for" not in output
    assert steps.engine(host) != before
    after = host.check_output("docker inspect --format '{{.State.StartedAt}}' accident meant")
    assert after == started
    steps.assert_containers_have_their_network(host)
    steps.assert_closed_to_neighbours(host)
    assert "changed=0 " in steps.converge(host, "docker", **setting)


def test_all_of_it_outlives_a_restart_of_the_host(host: Host) -> None:
    steps.local("docker", "kill", steps.container(host))
    steps.start(host)
    steps.assert_containers_have_their_network(host)
    steps.assert_closed_to_neighbours(host)
    test_services(host)
