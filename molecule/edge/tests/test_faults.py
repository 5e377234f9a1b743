# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong at an edge, and how the next run heals it: on the server after test_edge.py.

Here the module stands for a run: it is what a run calls, and it takes two seconds. The tests follow
each other. The certificate authority is down when they begin.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import rehearsal
from browser import Browser, careless
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]
ADDRESS = rehearsal.SERVERS["web1"]["ansible_host"]
SITES = "/etc/haproxy/mai/sites"
KEEP = "/var/lib/mai-edge"
CERTIFICATES = "/etc/haproxy/mai/certs"
RUN = [
    *("ansible", "web1", "-i", str(rehearsal.INVENTORY / "servers.yml")),
    *("-m", "mai.fleet.instance_sites"),
]
# For a program that reads it, whatever molecule has set. Without pipelining, because a process that
# has the module's name can be found.
PLAIN = {
    **os.environ,
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_PIPELINING": "0",
}
UNIT = "/etc/systemd/system/haproxy.service.d"


def site(host: Host, name: str, more: str = "") -> dict[str, str]:
    """A further client's site, in front of acme's instance."""
    text = host.file(f"{SITES}/acme.cfg").content_string
    text = text.replace("acme.test", f"{name}.test").replace(" acme ", f" {name} ")
    return {"name": name, "domain": f"{name}.test", "site": text + more}


def serve(*sites: dict[str, str]) -> dict[str, Any]:
    """Have these sites served; what the module answers, and in ``said`` what Ansible warns of."""
    command = [*RUN, "-a", json.dumps({"clients": sites})]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=PLAIN)
    answer = json.loads(done.stdout.partition(" => ")[2])
    return {**answer, "said": " ".join(done.stderr.split())}


def process(host: Host) -> str:
    """The process of HAProxy that takes new connections."""
    return str(host.check_output("pgrep --newest --uid haproxy"))


def status(domain: str) -> int:
    return Browser(domain, ADDRESS, careless()).ask("GET", "/ready")[0]


@contextlib.contextmanager
def full(host: Host, folder: str, size: str = "64k") -> Iterator[None]:
    """Let the disk of a folder be full; what is done in the meantime is kept."""
    host.check_output(
        f"set -e; cp -a {folder} /tmp/before; "
        f"mount -t tmpfs -o size={size},mode=700 none {folder}; "
        f"cp -a /tmp/before/. {folder}; ! dd if=/dev/zero of={folder}/.filler bs=4096 2>/dev/null"
    )
    try:
        yield
    finally:
        host.check_output(
            f"rm {folder}/.filler; rm -rf /tmp/before; cp -a {folder} /tmp/before; "
            f"umount {folder}; find {folder} -mindepth 1 -delete; "
            f"cp -a /tmp/before/. {folder}; rm -r /tmp/before"
        )


def test_a_first_certificate_needs_the_authority(host: Host) -> None:
    rows = serve(site(host, "acme"), site(host, "birch"))["clients"]
    failure = rows["birch"]["failure"]
    assert failure["what"].startswith("there is no certificate, so nobody can connect: ")
    assert "Problem connecting" in failure["what"]
    assert failure["where"] == "https://birch.test"
    with pytest.raises(ssl.SSLError):
        status("birch.test")
    assert not rows["acme"]["failed"]
    assert "old certificate" in " ".join(rows["acme"]["warnings"])
    assert status("acme.test") == 200


def test_the_next_run_gets_what_is_missing(host: Host) -> None:
    name = os.environ["REHEARSAL_NAME"]
    address = f"--ip={os.environ['REHEARSAL_PREFIX']}.3"
    network = ["docker", "network", "connect", address, f"mai-{name}", f"mai-{name}-pebble"]
    subprocess.run(network, check=True)
    # As dehydrated leaves it when the server dies.
    host.check_output("touch /var/lib/mai-edge/lock")
    rows = serve(site(host, "acme"), site(host, "birch"))["clients"]
    assert [row["failed"] for row in rows.values()] == [False, False]
    assert "old certificate" not in " ".join(rows["acme"]["warnings"])
    assert [row["gates"][0]["passed"] for row in rows.values()] == [True, True]
    assert status("birch.test") == 200


def test_a_run_that_has_nothing_to_do_changes_nothing(host: Host) -> None:
    before = process(host)
    answer = serve(site(host, "acme"), site(host, "birch"))
    assert not answer["changed"]
    assert process(host) == before


def test_a_domain_that_does_not_resolve_is_a_warning(host: Host) -> None:
    (warning,) = serve(site(host, "birch"))["clients"]["birch"]["warnings"]
    assert warning.startswith("birch.test does not resolve: ")
    assert "edge_addresses" in warning


def test_a_site_that_haproxy_refuses_fails_its_client_only(host: Host) -> None:
    before = process(host)
    rows = serve(site(host, "acme"), site(host, "cedar", "    nonsense\n"))["clients"]
    assert "unknown keyword 'nonsense'" in rows["cedar"]["failure"]["what"]
    assert "edge_site_template" in rows["cedar"]["failure"]["todo"]
    assert not rows["acme"]["failed"]
    assert not host.file(f"{SITES}/cedar.cfg").exists
    assert process(host) == before


def test_a_full_disk_fails_whose_site_it_has_no_room_for(host: Host) -> None:
    with full(host, SITES):
        rows = serve(site(host, "acme"), site(host, "cedar"))["clients"]
        assert "No space left" in rows["cedar"]["failure"]["what"]
        assert not rows["acme"]["failed"]
        assert sorted(host.check_output(f"ls -A {SITES}").split()) == [
            ".filler",
            "acme.cfg",
            "birch.cfg",
        ]


def test_a_full_disk_keeps_no_half_of_a_certificate(host: Host) -> None:
    with full(host, CERTIFICATES):
        rows = serve(site(host, "acme"), site(host, "cedar"))["clients"]
        assert "No space left" in rows["cedar"]["failure"]["what"]
        assert not rows["acme"]["failed"]
        assert sorted(host.check_output(f"ls -A {CERTIFICATES}").split()) == [
            ".filler",
            "acme.pem",
            "birch.pem",
        ]
    issued = host.file("/var/lib/mai-edge/certs/cedar/cert.pem").sha256sum
    assert not serve(site(host, "cedar"))["clients"]["cedar"]["failed"]
    assert host.file("/var/lib/mai-edge/certs/cedar/cert.pem").sha256sum == issued
    assert status("cedar.test") == 200


def test_a_full_disk_fails_whom_the_timer_cannot_be_told_of(host: Host) -> None:
    acme = site(host, "acme")
    with full(host, KEEP, "1m"):
        rows = serve(site(host, "acme", "    # changed\n"), site(host, "fir"))["clients"]
        assert "No space left" in rows["fir"]["failure"]["what"]
        assert not rows["acme"]["failed"]
        assert not host.file(f"{SITES}/fir.cfg").exists
        assert not host.file(f"{KEEP}/loaded").exists
    assert serve(acme)["loaded"]
    assert not serve(acme)["changed"]


def test_a_broken_certificate_stops_nobody_for_longer_than_a_run(host: Host) -> None:
    wholes = {name: host.file(f"{CERTIFICATES}/{name}.pem").content for name in ("acme", "birch")}
    host.check_output(
        f"truncate -s 300 {CERTIFICATES}/acme.pem; truncate -s 0 {CERTIFICATES}/birch.pem; "
        "systemctl stop haproxy; ! systemctl start haproxy"
    )
    answer = serve(site(host, "acme"))
    assert not answer["clients"]["acme"]["failed"]
    assert answer["clients"]["acme"]["before"]["certificate"] == "broken"
    assert f"{CERTIFICATES}/birch.pem was broken" in answer["said"]
    for name, whole in wholes.items():
        assert host.file(f"{CERTIFICATES}/{name}.pem").content == whole
        assert status(f"{name}.test") == 200
    assert not serve(site(host, "acme"), site(host, "birch"))["changed"]


def test_a_run_requests_for_those_that_it_is_for(host: Host) -> None:
    host.check_output(f"rm {CERTIFICATES}/birch.pem {CERTIFICATES}/cedar.pem")
    assert not serve(site(host, "cedar"))["clients"]["cedar"]["failed"]
    assert host.file(f"{CERTIFICATES}/cedar.pem").exists
    assert not host.file(f"{CERTIFICATES}/birch.pem").exists
    assert not serve(site(host, "birch"))["clients"]["birch"]["failed"]


def served(host: Host, domain: str) -> str:
    """The fingerprint of the certificate that visitors get."""
    return str(
        host.check_output(
            f"openssl s_client -connect 127.0.0.1:443 -servername {domain} </dev/null 2>/dev/null "
            "| openssl x509 -noout -fingerprint -sha256"
        )
    )


def test_the_daily_renewal_serves_new_certificates(host: Host) -> None:
    before = {name: served(host, f"{name}.test") for name in ("acme", "birch")}
    # dehydrated's settings for one certificate: it is due, however long it lasts.
    host.check_output(f"echo RENEW_DAYS=9999 >{KEEP}/certs/birch/config")
    host.check_output("systemctl start mai-edge-renew")
    host.check_output(f"rm {KEEP}/certs/birch/config")
    command = f"openssl x509 -noout -fingerprint -sha256 -in {CERTIFICATES}/birch.pem"
    stored = host.check_output(command)
    assert stored != before["birch"]
    deadline = time.monotonic() + 15
    # The hook's reload returns when its signal is sent.
    while served(host, "birch.test") != stored and time.monotonic() < deadline:
        time.sleep(0.2)
    assert served(host, "birch.test") == stored
    assert served(host, "acme.test") == before["acme"]


def test_a_server_without_domains_has_nothing_to_renew(host: Host) -> None:
    host.check_output(f"mv {KEEP}/domains.txt /tmp/domains.txt")
    host.check_output("systemctl start mai-edge-renew")
    assert not host.service("mai-edge-renew").is_running
    host.check_output(f"mv /tmp/domains.txt {KEEP}/domains.txt")


def test_a_run_that_dies_before_the_reload_is_finished_by_the_next(host: Host) -> None:
    fir = site(host, "fir")
    before = process(host)
    host.check_output(
        f"printf '[Service]\\nExecReload=\\nExecReload=/bin/sleep 600\\n' >{UNIT}/slow.conf; "
        "systemctl daemon-reload"
    )
    command = [*RUN, "-a", json.dumps({"clients": [fir]})]
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=silent, stderr=silent, env=PLAIN) as run:
        host.check_output("timeout 60 sh -c 'until pgrep -f \"[s]leep 600\"; do sleep 0.2; done'")
        host.check_output(
            "pkill -KILL -f '[A]nsiballZ'; "
            f"rm {UNIT}/slow.conf; systemctl daemon-reload; pkill -f '[s]leep 600'"
        )
        assert run.wait(60) != 0
    assert host.file(f"{SITES}/fir.cfg").exists
    assert process(host) == before
    answer = serve(fir)
    assert answer["loaded"] and not answer["clients"]["fir"]["failed"]
    assert status("fir.test") == 200


def test_a_port_that_is_taken_is_named_with_who_has_it(host: Host) -> None:
    host.check_output(
        "systemctl stop haproxy; systemd-run --unit squatter python3 -m http.server 80; "
        "timeout 20 sh -c 'until curl -s -o /dev/null http://127.0.0.1; do sleep 0.2; done'"
    )
    assert "port 80: taken by python3 (process " in serve(site(host, "acme"))["msg"]
    host.check_output("systemctl stop squatter")
    answer = serve(site(host, "acme"))
    assert answer["loaded"] and not answer["clients"]["acme"]["failed"]
    assert status("acme.test") == 200


def test_what_only_a_restart_takes_into_use_is_left_to_the_operator(host: Host) -> None:
    before = process(host)
    host.check_output(f"touch {UNIT}/mai-edge.conf")
    assert "`systemctl restart haproxy`" in serve(site(host, "acme"))["said"]
    assert process(host) == before
    host.check_output("systemctl restart haproxy")
    assert "systemctl restart" not in serve(site(host, "acme"))["said"]


def test_a_gate_that_nobody_opens_opens_by_itself(host: Host) -> None:
    host.check_output("echo $(($(date +%s) + 4)) >/run/mai-edge/hold/acme")
    begin = time.monotonic()
    assert status("acme.test") == 200
    assert 2 < time.monotonic() - begin < 10
    host.check_output("rm /run/mai-edge/hold/acme")


def test_who_waited_long_enough_is_asked_to_come_again(host: Host) -> None:
    hasty = site(host, "fir")
    hasty["site"] = re.sub(r"lua.hold fir \d+", "lua.hold fir 2", hasty["site"])
    assert not serve(hasty)["clients"]["fir"]["failed"]
    host.check_output("echo $(($(date +%s) + 60)) >/run/mai-edge/hold/fir")
    answer = Browser("fir.test", ADDRESS, careless()).fetch("GET", "/ready")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    host.check_output("rm /run/mai-edge/hold/fir")


def test_a_site_whose_instance_does_not_answer_fails_its_gate(host: Host) -> None:
    lost = site(host, "fir")
    lost["site"] = lost["site"].replace("127.0.0.1:18001", "127.0.0.1:1")
    row = serve(lost)["clients"]["fir"]
    assert row["failure"]["what"] == "the instance behind the site answers 503 (GET /ready)"
    assert [gate["state"] for gate in row["gates"]] == ["failed"]
    assert status("acme.test") == 200
