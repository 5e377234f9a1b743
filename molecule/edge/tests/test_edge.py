# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two clients' sites, as people outside meet them. The tests follow each other."""

from __future__ import annotations

import itertools
import json
import os
import re
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rehearsal
import yaml
from browser import Browser, Listener, Load, Stream, WebSocket, careless, upload
from http2 import Tunnel
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]
# Tests that need a host come before others otherwise.
pytestmark = pytest.mark.usefixtures("host")
ADDRESS = rehearsal.SERVERS["web1"]["ansible_host"]
MIB = 1024 * 1024
MODEL = "openai/gpt-4o-mini"
WORDS = " ".join(f"w{number}" for number in range(50))
# As they are, encoded, with slashes too many, and what Open WebUI takes for the same or hands on.
RAW = [
    "/openai/responses",
    "/openai/chat/completions",
    "/openai/%72esponses",
    "/%6Fpenai%2Fresponses",
    "/openai/responses/",
    "/openai/responses%0A",
    "//openai/responses",
    "/openai//chat/completions",
    "/openai/models/../responses",
    "/openai/responses/compact",
    "/openai/embeddings",
    "/openai",
]


@pytest.fixture(scope="module")
def acme(trust: ssl.SSLContext) -> Browser:
    """Acme's administrator, signed in through the edge."""
    browser = Browser("acme.test", ADDRESS, trust)
    email = yaml.safe_load((rehearsal.INVENTORY / "clients" / "acme.yml").read_text())
    password = rehearsal.secrets("acme")["admin_password"]
    credentials = {"email": email["admin_email"], "password": password}
    status, answer = browser.ask("POST", "/api/v1/auths/signin", credentials)
    assert status == 200, answer
    browser.token = answer["token"]
    return browser


@pytest.fixture
def word_by_word() -> Iterator[None]:
    """OpenRouter thinks about every word of a streamed answer."""
    rehearsal.steer("fault", path="/chat/completions", pace=0.4, times=0)
    yield
    rehearsal.steer("clear_faults")


def chat(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def chats_at_openrouter() -> Counter[str]:
    """How often each request for a chat came, by its body."""
    requests = rehearsal.simulator("requests")["requests"]
    return Counter(row["body"] for row in requests if row["path"] == "/chat/completions")


@pytest.mark.parametrize("client", ["acme", "lodz"])
def test_every_domain_has_its_instance_and_certificate(trust: ssl.SSLContext, client: str) -> None:
    answer = Browser(f"{client}.test", ADDRESS, trust).fetch("GET", "/api/config")
    name = json.loads(answer.body)["name"]
    assert answer.status == 200
    assert name.lower().startswith(client)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_http_leads_to_https_and_strangers_nowhere(host: Host, trust: ssl.SSLContext) -> None:
    assert "308" in host.check_output("curl -si -H 'Host: acme.test' http://127.0.0.1/ | head -n 1")
    with pytest.raises(ssl.SSLError):
        Browser("other.test", ADDRESS, trust).ask("GET", "/")


def test_http2(acme: Browser, host: Host) -> None:
    command = "curl -sk --http2 -o /dev/null -w '%%{http_version}' --resolve %s https://acme.test/"
    assert host.check_output(command, f"acme.test:443:{ADDRESS}") == "2"


@pytest.mark.parametrize("path", RAW)
def test_the_raw_routes_are_refused(acme: Browser, path: str) -> None:
    before = chats_at_openrouter()
    assert acme.ask("POST", path, chat())[0] == 403
    assert chats_at_openrouter() == before


def test_a_path_that_cannot_be_decoded_is_none(acme: Browser) -> None:
    assert acme.ask("POST", "/openai/responses%zz", chat())[0] == 400


def test_the_raw_routes_answer_on_the_server_itself(host: Host, acme: Browser) -> None:
    answer = rehearsal.ask(host, "acme", "POST", "/openai/chat/completions", acme.token, **chat())
    assert answer["choices"]


def test_the_administrators_connection_page_works(acme: Browser) -> None:
    status, config = acme.ask("GET", "/openai/config")
    assert status == 200 and config["ENABLE_OPENAI_API"]
    assert acme.ask("GET", "/openai/models")[0] == 200
    assert acme.ask("GET", "/openai/models/0")[0] == 200
    given = {"url": config["OPENAI_API_BASE_URLS"][0], "key": config["OPENAI_API_KEYS"][0]}
    assert acme.ask("POST", "/openai/verify", given)[0] == 200
    assert acme.ask("POST", "/openai/config/update", config)[0] == 200


def test_the_instance_knows_its_address(host: Host) -> None:
    env = dict(line.split("=", 1) for line in rehearsal.container(host, "acme")["Config"]["Env"])
    assert env["WEBUI_URL"] == env["CORS_ALLOW_ORIGIN"] == "https://acme.test"
    assert env["WEBUI_SESSION_COOKIE_SECURE"] == env["WEBUI_AUTH_COOKIE_SECURE"] == "true"


def test_browsers_keep_what_signs_them_in_for_https(acme: Browser) -> None:
    password = rehearsal.secrets("acme")["admin_password"]
    body = {"email": "it@acme.example", "password": password}
    cookies = acme.fetch("POST", "/api/v1/auths/signin", body).headers.get_all("Set-Cookie") or []
    assert cookies and all("; secure" in cookie.lower() for cookie in cookies)


def test_websockets_of_other_sites_are_refused(acme: Browser) -> None:
    with pytest.raises(ConnectionError, match="no websocket: status 4"):
        WebSocket(acme, origin="https://elsewhere.test")


def test_the_instance_sees_who_asks(host: Host, acme: Browser) -> None:
    acme.fetch("GET", "/api/version?who", headers={"X-Forwarded-For": "192.0.2.7"})
    log = host.check_output("docker logs --since 60s acme-webui-1 2>&1 | grep 'version?who'")
    gateway = os.environ["REHEARSAL_GATEWAY"]
    assert gateway in log and "192.0.2.7" not in log


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_hundred_megabytes_can_be_uploaded(acme: Browser, chunked: bool) -> None:
    status, answer = upload(acme, 100 * MIB, chunked)
    assert (status, json.loads(answer)["meta"]["size"]) == (200, 100 * MIB)


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_one_megabyte_more_is_refused(acme: Browser, chunked: bool) -> None:
    before = acme.ask("GET", "/api/v1/files/")[1]["total"]
    assert upload(acme, 101 * MIB, chunked)[0] == 413
    assert acme.ask("GET", "/api/v1/files/")[1]["total"] == before


@pytest.mark.parametrize("upgrade", ["foo", "websocket"])
def test_who_asks_for_an_upgrade_is_counted_too(acme: Browser, upgrade: str) -> None:
    assert upload(acme, 101 * MIB, chunked=True, upgrade=upgrade)[0] == 413


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_stream_is_not_held_back(
    acme: Browser, authorities: Path, word_by_word: None, version: str
) -> None:
    stream = Stream(acme, version, str(authorities), chat("A few words", stream=True))
    assert stream.finish().endswith(f"data: [DONE]\n{version} 200 1")
    times = [moment for moment, _line in stream.arrived]
    pauses = [later - sooner for sooner, later in itertools.pairwise(times[:-1])]
    assert len(pauses) > 8
    assert sum(pause > 0.1 for pause in pauses) > 0.7 * len(pauses), pauses


def ask_in_background(acme: Browser, listener: Listener, name: str, text: str) -> None:
    """As the pages do it: the answer comes over the websocket."""
    session = listener.websocket.session
    body = chat(text, stream=True, session_id=session, chat_id="local:edge", id=name)
    assert acme.ask("POST", "/api/chat/completions", body)[0] == 200


def deltas(listener: Listener, name: str) -> list[tuple[float, str]]:
    """The words of an answer, with their times. A person's sessions all hear all answers."""
    return [
        (moment, json.loads(text[2:])[1]["data"]["data"]["delta"])
        for moment, text in listener.arrived
        if f'"{name}"' in text and '"response.output_text.delta"' in text
    ]


def test_what_is_under_way_outlives_reloads(
    host: Host, acme: Browser, authorities: Path, word_by_word: None
) -> None:
    tunnel = Tunnel(acme.domain, acme.address, careless(), WebSocket.PATH)
    listeners = [Listener(WebSocket(acme)), Listener(WebSocket(acme, tunnel=tunnel))]
    streams = [
        Stream(acme, version, str(authorities), chat(WORDS, stream=True))
        for version in ("1.1", "2")
    ]
    for number, listener in enumerate(listeners):
        ask_in_background(acme, listener, f"first{number}", WORDS)
    with Load(acme, people=2, model=MODEL) as load:
        time.sleep(2)
        reloads = [time.monotonic()]
        for _reload in range(3):
            host.check_output("systemctl reload haproxy")
            time.sleep(1)
            reloads.append(time.monotonic())
    assert load.sent > 10 and load.failed == {}
    for number, listener in enumerate(listeners):
        listener.wait_for_end(f"first{number}")
    assert tunnel.told_to_go
    for stream in streams:
        whole = stream.finish()
        assert "data: [DONE]" in whole and '" w49"' in whole
        assert whole.endswith(" 200 1")
    words = [deltas(listener, f"first{number}") for number, listener in enumerate(listeners)]
    for arrived in words:
        assert "".join(word for _moment, word in arrived).endswith(WORDS)
    words += [stream.arrived for stream in streams]
    for arrived in words:
        times = [moment for moment, _text in arrived]
        assert sum(moment < reloads[0] for moment in times) > 3
        assert sum(reloads[0] < moment < reloads[-1] for moment in times) > 3
        assert sum(moment > reloads[-1] for moment in times) > 3
    # The same websockets, which the first of four processes still has.
    for number, listener in enumerate(listeners):
        ask_in_background(acme, listener, f"second{number}", "Again")
        listener.wait_for_end(f"second{number}")
        listener.close()


def test_a_request_that_comes_twice_would_be_noticed(acme: Browser) -> None:
    before = chats_at_openrouter()
    for _time in range(2):
        assert acme.ask("POST", "/api/chat/completions", chat("Twice"))[0] == 200
    assert 2 in (chats_at_openrouter() - before).values()


@pytest.fixture(scope="module")
def run(acme: Browser) -> tuple[Load, str]:
    """One run that restarts an instance under load, removes a client, and finds no authority."""
    host = rehearsal.host("web1")
    files = rehearsal.INVENTORY / "clients"
    with (files / "acme.yml").open("a") as file:
        file.write("memory: 1100m\n")
    with (files / "lodz.yml").open("a") as file:
        file.write("state: absent\n")
    # Docker has mounted the file: it can be written to, but not replaced.
    host.check_output(
        "sed 's/.* acme.test/198.18.5.99 acme.test/' /etc/hosts >/tmp/hosts && "
        "cat /tmp/hosts >/etc/hosts"
    )
    host.check_output(
        "cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
        "-days 9 -subj /CN=acme.test -addext subjectAltName=DNS:acme.test -keyout k.pem "
        "-out c.pem 2>/dev/null && cat k.pem c.pem >/etc/haproxy/mai/certs/acme.pem && "
        "cp c.pem /var/lib/mai-edge/certs/acme/cert.pem && systemctl reload haproxy"
    )
    name = os.environ["REHEARSAL_NAME"]
    network = ["docker", "network", "disconnect", f"mai-{name}", f"mai-{name}-pebble"]
    subprocess.run(network, check=True)
    rehearsal.steer("clear_log")
    browser = Browser("acme.test", ADDRESS, careless())
    browser.token = acme.token
    load = Load(browser, people=4, model=MODEL)
    command = ["ansible-playbook", "mai.fleet.site", "-i", rehearsal.INVENTORY / "servers.yml"]
    with load:
        time.sleep(3)
        done = subprocess.run(
            [*command, "-i", rehearsal.INVENTORY / "fleet.yml"],
            capture_output=True,
            text=True,
            check=False,
        )
        time.sleep(3)
    return load, " ".join((done.stdout + done.stderr).split())


def test_a_restart_under_load_fails_no_request(
    host: Host, run: tuple[Load, str], capsys: pytest.CaptureFixture[str]
) -> None:
    load, output = run
    with capsys.disabled():
        print(f"\nrestart under load: {load}")
    assert load.slowest > 1, output[-2000:]
    assert load.failed == {}
    arrived = chats_at_openrouter()
    assert set(arrived.values()) == {1}
    # The run's own gates have a chat with acme's key, too.
    assert load.chats <= arrived.total() <= load.chats + 4
    assert rehearsal.container(host, "acme")["HostConfig"]["Memory"] == 1100 * 1024 * 1024


def test_a_run_without_an_authority_says_who_is_served_with_an_old_certificate(
    run: tuple[Load, str],
) -> None:
    assert "acme.test is served with its old certificate" in run[1], run[1][-2000:]


def test_a_domain_that_leads_elsewhere_is_a_warning(run: tuple[Load, str]) -> None:
    assert "acme.test resolves to 198.18.5.99, which is not this server" in run[1], run[1][-2000:]


def test_the_report_has_the_address_and_its_gate(run: tuple[Load, str]) -> None:
    (line,) = re.findall(r"acme present (\S+) .*? (\d+)/(\d+) ", run[1].partition(" gates ")[2])
    assert line[0] == "https://acme.test"
    assert line[1] == line[2]


def test_a_removed_client_has_no_site(host: Host, run: tuple[Load, str]) -> None:
    assert not host.file("/etc/haproxy/mai/sites/lodz.cfg").exists
    assert not host.file("/etc/haproxy/mai/certs/lodz.pem").exists
    assert not host.file("/var/lib/mai-edge/certs/lodz").exists
    with pytest.raises(ssl.SSLError):
        Browser("lodz.test", ADDRESS, careless()).ask("GET", "/")
