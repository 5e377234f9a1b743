# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge's promises on every distribution, as somebody outside meets them."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import rehearsal
from browser import Browser, Load, Stream, upload
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]
MIB = 1024 * 1024
WORDS = " ".join(f"w{number}" for number in range(30))


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": WORDS}], **more}


@pytest.fixture
def browser(host: Host, trust: ssl.SSLContext) -> Browser:
    name = str(host.backend.get_hostname())
    return Browser(f"{name}.test", rehearsal.SERVERS[name]["ansible_host"], trust)


def test_it_serves_with_a_certificate_and_hsts(browser: Browser) -> None:
    answer = browser.fetch("GET", "/api/config", headers={"X-Forwarded-For": "192.0.2.7"})
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert json.loads(answer.body)["from"] == os.environ["REHEARSAL_GATEWAY"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/openai/responses", 403),
        ("//openai/%63hat/completions", 403),
        ("/openai/%zz", 400),
        ("/openai/config", 200),
    ],
)
def test_raw_routes_are_refused(browser: Browser, path: str, status: int) -> None:
    assert browser.fetch("GET", path).status == status


def test_streams_outlive_reloads(host: Host, browser: Browser, authorities: Path) -> None:
    streams = [
        Stream(browser, version, str(authorities), chat(stream=True)) for version in ("1.1", "2")
    ]
    time.sleep(1.5)
    reloads = [time.monotonic()]
    for _reload in range(2):
        host.check_output("systemctl reload haproxy")
        time.sleep(1)
        reloads.append(time.monotonic())
    for version, stream in zip(("1.1", "2"), streams, strict=True):
        assert stream.finish().endswith(f"data: w29\ndata: [DONE]\n{version} 200 1")
        times = [moment for moment, _line in stream.arrived]
        assert sum(moment < reloads[0] for moment in times) > 2
        assert sum(reloads[0] < moment < reloads[-1] for moment in times) > 2
        assert sum(moment > reloads[-1] for moment in times) > 2


def test_every_request_has_a_connection_of_its_own(browser: Browser) -> None:
    with contextlib.closing(browser.connection()) as connection:
        peers = {json.loads(browser.send(connection, "GET", "/").body)["peer"] for _try in range(3)}
    assert len(peers) == 3


def test_a_restart_behind_the_gate_fails_no_request(
    host: Host, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    host.check_output("rm -f /root/chats")
    with Load(browser, people=4, model="m") as load:
        time.sleep(1)
        host.check_output("echo $(($(date +%s) + 60)) >/run/mai-edge/hold/acme")
        time.sleep(0.3)
        host.check_output("systemctl stop upstream")
        time.sleep(2)
        host.check_output("systemd-run --unit upstream python3 /root/upstream.py")
        host.check_output(
            "timeout 20 sh -c 'until curl -sf -o /dev/null http://127.0.0.1:18001/ready; "
            "do sleep 0.1; done'; rm /run/mai-edge/hold/acme"
        )
        time.sleep(1)
    with capsys.disabled():
        print(f"\nrestart under load: {load}")
    assert load.slowest > 2 and load.failed == {}
    seen = Counter(host.file("/root/chats").content_string.split())
    assert set(seen.values()) == {1} and seen.total() == load.chats


def test_uploads_in_chunks_have_their_limit(browser: Browser) -> None:
    status, answer = upload(browser, 100 * MIB, chunked=True)
    assert status == 200 and json.loads(answer)["size"] > 100 * MIB
    assert upload(browser, 101 * MIB, chunked=True)[0] == 413


def test_check_mode_foretold_what_happened(host: Host) -> None:
    runs = [
        (file.stem.partition("-")[2], json.loads(file.read_text()))
        for file in sorted((rehearsal.HOME / "changes").iterdir())
    ]
    name = str(host.backend.get_hostname())
    assert [kind for kind, _hosts in runs] == ["check", "run", "run", "check"]
    foretold, happened, again, after = (hosts[name] for _kind, hosts in runs)
    assert foretold == happened
    assert again == after == []
