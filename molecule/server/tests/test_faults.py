# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on a server says so, leaves nothing half-made, and is healed by the next run.

The tests of ``test_server`` come afterwards, and find nothing of this.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import steps
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]
DAEMON = "/etc/docker/daemon.json"
SSHD = "/etc/ssh/sshd_config.d/01-mai-fleet.conf"


@contextmanager
def mounted(host: Host, *words: str) -> Iterator[None]:
    host.check_output("mount " + " ".join(words))
    try:
        yield
    finally:
        host.check_output(f"umount {words[-1]}")


@pytest.mark.on("d12")
def test_another_distribution_is_refused(host: Host) -> None:
    edit = "s/^VERSION_ID=.*/VERSION_ID=11/; s/12/11/g; s/bookworm/bullseye/g"
    host.check_output(f"sed '{edit}' /usr/lib/os-release >/run/os-release")
    host.check_output("echo 11.11 >/run/debian_version")
    with (
        mounted(host, "--bind", "/run/os-release", "/usr/lib/os-release"),
        mounted(host, "--bind", "/run/debian_version", "/etc/debian_version"),
    ):
        output = steps.refusal(host)
    assert "d12 runs Debian 11, and mai.fleet sets up Debian 12, Debian 13, Ubuntu 24.04" in output


@pytest.mark.on("d13")
def test_a_full_disk_is_refused(host: Host) -> None:
    with mounted(host, "-t", "tmpfs", "-o", "size=8M", "tmpfs", "/var/cache/apt/archives"):
        output = steps.refusal(host, *steps.PARTS)
    assert "d13 has 8 MB free in /var/cache/apt/archives, and nothing can be set up" in output


@pytest.mark.on("d12")
def test_a_disk_that_becomes_full_leaves_what_was_there(host: Host) -> None:
    folder = "/etc/mai-fleet"
    rules = host.file(f"{folder}/firewall.nft").content_string
    with mounted(host, "-t", "tmpfs", "-o", "size=16k,mode=0755", "tmpfs", folder):
        host.run(f"printf %s '{rules}' >{folder}/firewall.nft; cat /dev/zero >{folder}/ballast")
        full = host.file(f"{folder}/firewall.nft").content_string
        output = steps.refusal(host, "firewall", server_firewall_tcp_ports=[22, 80, 443, 8443])
        assert "No space left on device" in output
        assert host.file(f"{folder}/firewall.nft").content_string == full
        assert sorted(host.file(folder).listdir()) == ["ballast", "firewall.nft"]
    assert "8443" not in host.check_output("nft list table inet mai_fleet")
    steps.converge(host, "firewall", server_firewall_tcp_ports=[22, 80, 443, 8443])
    assert "8443" in host.check_output("nft list table inet mai_fleet")
    steps.converge(host, "firewall")
    assert host.file(f"{folder}/firewall.nft").content_string == rules
    assert "8443" not in host.check_output("nft list table inet mai_fleet")


@pytest.mark.on("u24")
def test_sshd_is_not_touched_when_it_would_not_start(host: Host) -> None:
    before = host.check_output("systemctl show --property=StateChangeTimestamp ssh.service")
    settings = host.file(SSHD).content_string
    broken = "/etc/ssh/sshd_config.d/90-broken.conf"
    host.check_output(f"echo 'PortalNumber 22' >{broken}")
    try:
        output = steps.refusal(host, "ssh", server_ssh_permit_root="no")
    finally:
        host.check_output(f"rm {broken}")
    assert "sshd on u24 refuses its settings as they are" in output
    assert "PortalNumber" in output
    assert host.file(SSHD).content_string == settings
    after = host.check_output("systemctl show --property=StateChangeTimestamp ssh.service")
    assert after == before


@pytest.mark.on("u24")
def test_an_sshd_that_overrules_the_settings_is_named(host: Host) -> None:
    host.check_output("sed -i '1i PasswordAuthentication yes' /etc/ssh/sshd_config")
    try:
        output = steps.refusal(host, "ssh")
    finally:
        host.check_output("sed -i 1d /etc/ssh/sshd_config")
    assert "sshd on u24 still allows passwords, or has another PermitRootLogin" in output
    assert "/etc/ssh/sshd_config overrules" in output
    steps.converge(host, "ssh")
    assert "Permission denied (publickey)." in steps.ways_to_sign_in(host)


@pytest.mark.on("d12")
def test_a_match_that_allows_passwords_is_named(host: Host) -> None:
    file = "/etc/ssh/sshd_config.d/80-friends.conf"
    host.check_output(f"printf 'Match User friend\n  PasswordAuthentication yes\n' >{file}")
    try:
        output = steps.refusal(host, "ssh")
    finally:
        host.check_output(f"rm {file}")
    assert f"allows passwords to those of a Match: {file}: PasswordAuthentication yes" in output
    assert "changed=1 " in steps.converge(host, "ssh"), "a reload, as files have changed"


@pytest.mark.on("d13")
def test_another_permission_for_root_is_named(host: Host) -> None:
    host.check_output("sed -i '1i PermitRootLogin yes' /etc/ssh/sshd_config")
    try:
        output = steps.refusal(host, "ssh")
    finally:
        host.check_output("sed -i 1d /etc/ssh/sshd_config")
    assert "another PermitRootLogin (yes) than prohibit-password" in output
    steps.converge(host, "ssh")


@pytest.mark.on("u24")
def test_nobody_locks_himself_out(host: Host) -> None:
    assert "SSH would lock you out of u24" in steps.refusal(
        host, "ssh", server_ssh_permit_root="no"
    )
    output = steps.refusal(host, "firewall", server_firewall_tcp_ports=[80])
    assert "sshd on u24 listens on 22, and server_firewall_tcp_ports opens 80" in output


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param(
            "/etc/ssh/sshd_config.d/70-more.conf",
            "ListenAddress 0.0.0.0:2222",
            marks=pytest.mark.on("d12"),
        ),
        pytest.param(
            "/etc/systemd/system/ssh.socket.d/more.conf",
            "[Socket]\nListenStream=2222",
            marks=pytest.mark.on("u24"),
        ),
    ],
)
def test_no_port_that_sshd_will_listen_on_is_closed(host: Host, file: str, text: str) -> None:
    """Neither is a line ``Port``, nor is any of them open yet: they are after the next start."""
    before = host.check_output("nft list table inet mai_fleet")
    host.check_output(f"mkdir -p $(dirname {file}) && printf '{text}\n' >{file}")
    try:
        host.check_output("systemctl daemon-reload")
        output = steps.refusal(host, "firewall", server_firewall_tcp_ports=[22, 80])
    finally:
        host.check_output(f"rm {file} && systemctl daemon-reload")
    assert (
        f"sshd on {steps.name(host)} listens on 22, 2222, and server_firewall_tcp_ports" in output
    )
    assert host.check_output("nft list table inet mai_fleet") == before


@pytest.mark.on("d13")
def test_a_port_that_sshd_listens_on_by_itself_is_not_closed(host: Host) -> None:
    """As after somebody changed its settings back, and before its next start."""
    host.check_output("systemd-run --unit=other-sshd /usr/sbin/sshd -D -p 2223")
    try:
        time.sleep(2)
        output = steps.refusal(host, "firewall")
    finally:
        host.check_output("systemctl stop other-sshd")
    assert "sshd on d13 listens on 22, 2223, and server_firewall_tcp_ports opens 22, 80" in output


@pytest.mark.on("d13")
def test_a_firewall_of_the_distribution_does_not_take_ours_away(host: Host) -> None:
    """On d13, as Docker's own rules are not among those that it flushes there."""
    rules = host.check_output("nft list table inet mai_fleet")
    for verb in ("start", "reload", "restart", "stop", "enable --now", "disable --now"):
        host.check_output("nft add table inet strange")
        host.check_output(f"systemctl {verb} nftables")
        assert host.run("nft list table inet strange").rc != 0, "everything was flushed"
        assert host.check_output("nft list table inet mai_fleet") == rules, verb
    assert host.service("mai-fleet-firewall").is_running
    assert steps.open_ports(host) == [22]
    assert "changed=0 " in steps.converge(host, "firewall")


@pytest.mark.on("d12")
def test_rules_that_somebody_took_out_of_the_kernel_are_loaded_again(host: Host) -> None:
    rules = host.check_output("nft list table inet mai_fleet")
    for damage in ("flush chain inet mai_fleet forward", "insert rule inet mai_fleet input accept"):
        host.check_output(f"nft {damage}")
        assert "changed=1 " in steps.foretell(host, "firewall")
        assert host.check_output("nft list table inet mai_fleet") != rules
        assert "changed=1 " in steps.converge(host, "firewall")
        assert host.check_output("nft list table inet mai_fleet") == rules
        assert "changed=0 " in steps.foretell(host, "firewall")
    assert steps.open_ports(host) == [22]


@pytest.mark.on("d12")
def test_settings_that_sshd_has_not_read_yet_are_read(host: Host) -> None:
    """As if a run had died between the file and the reload."""
    host.check_output(
        f"cp -p {SSHD} /run/right && sed -i 's/Authentication no/Authentication yes/' {SSHD}"
    )
    host.check_output("systemctl reload ssh")
    assert "password" in steps.ways_to_sign_in(host)
    host.check_output(f"cat /run/right >{SSHD}")
    assert "password" in steps.ways_to_sign_in(host)
    assert "changed=1 " in steps.converge(host, "ssh")
    assert "Permission denied (publickey)." in steps.ways_to_sign_in(host)
    assert "changed=0 " in steps.converge(host, "ssh")


@pytest.mark.on("d13")
def test_settings_that_docker_has_not_read_yet_are_read(host: Host) -> None:
    """The same, with settings that take no restart; and a firewall that was not loaded."""
    before = steps.engine(host)
    right = host.file(DAEMON).content_string
    other = json.dumps(json.loads(right) | {"labels": ["rack=8"]})
    host.check_output(f"echo '{other}' >{DAEMON} && systemctl reload docker && sleep 1")
    host.check_output(f"printf %s '{right}' >{DAEMON}")
    host.check_output("nft delete table inet mai_fleet && systemctl disable mai-fleet-firewall")
    assert host.check_output("docker info --format '{{.Labels}}'") == "[rack=8]"
    assert "changed=3 " in steps.converge(host, "docker", "firewall")
    time.sleep(1)
    assert host.check_output("docker info --format '{{.Labels}}'") == "[rack=7]"
    assert steps.engine(host) == before
    assert host.service("mai-fleet-firewall").is_enabled
    assert steps.open_ports(host) == [22]


@pytest.mark.on("d13")
def test_settings_that_docker_would_refuse_are_not_written(host: Host) -> None:
    before = host.file(DAEMON).content_string
    output = steps.refusal(host, "docker", server_docker_options={"live-reload": True})
    assert "live-reload" in output
    assert host.file(DAEMON).content_string == before


@pytest.mark.on("d13")
def test_settings_of_docker_that_are_no_json_are_refused(host: Host) -> None:
    before = host.file(DAEMON).content_string
    host.check_output(f"echo '{{' >{DAEMON}")
    try:
        output = steps.refusal(host, "docker")
    finally:
        host.check_output(f"printf %s '{before}' >{DAEMON}")
    assert "/etc/docker/daemon.json on d13 is no JSON" in output
    steps.converge(host, "docker")


@pytest.mark.on("d13")
def test_settings_of_the_kernel_that_were_lost_are_set_again(host: Host) -> None:
    """With settings that a network namespace has of its own, so that no other kernel is touched."""
    key = "net.ipv4.conf.all.accept_redirects"
    mine = {
        "server_apply_kernel": True,
        "server_sysctl_settings": {key: 0, "net.ipv4.ip_forward": 1},
    }
    steps.converge(host, "sysctl", **mine)
    assert host.check_output(f"sysctl --values {key}") == "0"
    assert "changed=0 " in steps.converge(host, "sysctl", **mine)
    host.check_output(f"sysctl --write {key}=1")
    assert "changed=1 " in steps.converge(host, "sysctl", **mine)
    assert host.check_output(f"sysctl --values {key}") == "0"
    steps.converge(host, "sysctl")


@pytest.mark.on("u24")
def test_a_power_cut_among_packages_is_healed(host: Host) -> None:
    # Docker itself, as long as its files are exchanged.
    steps.local(
        *("docker", "exec", "--detach", steps.container(host), "apt-get", "install", "--yes"),
        *("--reinstall", "docker.io"),
    )
    deadline = time.monotonic() + 120
    audit = ("docker", "exec", steps.container(host), "sh", "-c", "dpkg --audit 2>&1")
    while "docker.io" not in steps.local(*audit).stdout:
        assert time.monotonic() < deadline
    steps.local("docker", "kill", steps.container(host))
    steps.start(host)
    assert "docker.io" in host.check_output("dpkg --audit")
    steps.converge(host, *steps.PARTS)
    assert host.check_output("dpkg --audit") == ""
    host.check_output("apt-get check")
    assert "changed=0 " in steps.converge(host, *steps.PARTS)
    host.check_output(f"{steps.ENGINE} >/root/engine-before")
    steps.assert_containers_have_their_network(host)
