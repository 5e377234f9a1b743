# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two clients' sites, as people outside meet them. The tests follow each other."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
import urllib.request

import pytest
import rehearsal
import yaml
from browser import Browser, Load, WebSocket
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]
ADDRESS = rehearsal.SERVERS["web1"]["ansible_host"]
MODEL = "openai/gpt-4o-mini"
RAW = ["/openai/responses", "/openai/chat/completions", "/openai/%72esponses", "/openai/responses/"]


@pytest.fixture(scope="module")
def trust() -> ssl.SSLContext:
    """What a browser trusts: the rehearsal's certificate authority."""
    own = ssl.create_default_context(cafile=str(rehearsal.HOME / "pebble" / "cert.pem"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=own)
    )
    url = f"https://{os.environ['REHEARSAL_PREFIX']}.3:15000/roots/0"
    with opener.open(url, timeout=30) as answer:
        return ssl.create_default_context(cadata=answer.read().decode())


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


def careless() -> ssl.SSLContext:
    """For when the certificate is one that nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def slow_answer(seconds: float) -> None:
    """Let OpenRouter think before its next answer to a chat."""
    url = os.environ["FLEET_OPENROUTER_URL"].removesuffix("/api/v1")
    rule = {"path": "/chat/completions", "delay": seconds}
    request = urllib.request.Request(
        f"{url}/_simulator/fault",
        data=json.dumps(rule).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['OPENROUTER_MANAGEMENT_KEY']}",
            "Content-Type": "application/json",
        },
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()


def chat(**more: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], **more}


@pytest.mark.parametrize("client", ["acme", "lodz"])
def test_every_domain_has_its_instance_and_certificate(trust: ssl.SSLContext, client: str) -> None:
    connection = Browser(f"{client}.test", ADDRESS, trust).connection()
    connection.request("GET", "/api/config")
    answer = connection.getresponse()
    name = json.loads(answer.read())["name"]
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
    status, _answer = acme.ask("POST", path, chat())
    assert status == 403


def test_the_raw_routes_answer_on_the_server_itself(host: Host, acme: Browser) -> None:
    answer = rehearsal.ask(host, "acme", "POST", "/openai/chat/completions", acme.token, **chat())
    assert answer["choices"]


def test_the_administrators_connection_page_works(acme: Browser) -> None:
    status, config = acme.ask("GET", "/openai/config")
    assert status == 200 and config["ENABLE_OPENAI_API"]
    assert acme.ask("GET", "/openai/models")[0] == 200
    given = {"url": config["OPENAI_API_BASE_URLS"][0], "key": config["OPENAI_API_KEYS"][0]}
    assert acme.ask("POST", "/openai/verify", given)[0] == 200


def test_the_instance_sees_who_asks(host: Host, acme: Browser) -> None:
    connection = acme.connection()
    connection.request("GET", "/api/version?who", headers={"X-Forwarded-For": "192.0.2.7"})
    connection.getresponse().read()
    log = host.check_output("docker logs --since 60s acme-webui-1 2>&1 | grep 'version?who'")
    gateway = os.environ["REHEARSAL_GATEWAY"]
    assert gateway in log and "192.0.2.7" not in log


def test_uploads_of_a_hundred_megabytes(acme: Browser) -> None:
    megabyte = 1024 * 1024
    status, _answer = acme.ask("POST", "/api/v1/files/", b"x" * (99 * megabyte))
    assert status in (400, 422)
    connection = acme.connection()
    connection.putrequest("POST", "/api/v1/files/")
    connection.putheader("Content-Length", str(101 * megabyte))
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_a_stream_and_a_websocket_outlive_a_reload(host: Host, acme: Browser) -> None:
    websocket = WebSocket(acme)
    slow_answer(8)
    background = chat(stream=True, session_id=websocket.session, chat_id="local:edge", id="answer1")
    slow_answer(8)
    assert acme.ask("POST", "/api/chat/completions", background)[0] == 200
    acme_stream = acme.connection()
    acme_stream.request(
        "POST",
        "/api/chat/completions",
        json.dumps(chat(stream=True)),
        {"Content-Type": "application/json", "Authorization": f"Bearer {acme.token}"},
    )
    time.sleep(1)
    host.check_output("systemctl reload haproxy")
    body = acme_stream.getresponse().read().decode()
    assert body.rstrip().endswith("data: [DONE]")
    while True:
        event = websocket.receive()
        if '"chat:completion"' in event and '"done":true' in event.replace(" ", ""):
            break
    slow_answer(0.1)
    again = chat(stream=True, session_id=websocket.session, chat_id="local:edge", id="answer2")
    assert acme.ask("POST", "/api/chat/completions", again)[0] == 200
    while "answer2" not in websocket.receive():
        pass


@pytest.fixture(scope="module")
def run(acme: Browser) -> tuple[Load, str]:
    """One run that restarts an instance under load, removes a client, and finds no authority."""
    host = Host.get_host(
        "ansible://web1", ansible_inventory=str(rehearsal.INVENTORY / "servers.yml")
    )
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
    subprocess.run(["docker", "stop", "-t", "1", f"mai-{name}-pebble"], check=True)
    load = Load(Browser("acme.test", ADDRESS, careless()), people=4)
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


def test_a_restart_under_load_fails_no_request(host: Host, run: tuple[Load, str]) -> None:
    load, output = run
    print(
        f"\nrestart under load: {load.sent} sent, {load.failed.total()} failed, "
        f"the slowest took {load.slowest:.1f} s"
    )
    assert load.slowest > 1, output[-2000:]
    assert load.failed == {}
    assert rehearsal.container(host, "acme")["HostConfig"]["Memory"] == 1100 * 1024 * 1024


def test_a_run_without_an_authority_says_who_is_served_with_an_old_certificate(
    run: tuple[Load, str],
) -> None:
    assert "acme.test is served with its old certificate" in run[1], run[1][-2000:]


def test_a_domain_that_leads_elsewhere_is_a_warning(run: tuple[Load, str]) -> None:
    assert "acme.test resolves to 198.18.5.99, which is not this server" in run[1], run[1][-2000:]


def test_a_removed_client_has_no_site(host: Host, run: tuple[Load, str]) -> None:
    assert not host.file("/etc/haproxy/mai/sites/lodz.cfg").exists
    assert not host.file("/etc/haproxy/mai/certs/lodz.pem").exists
    with pytest.raises(ssl.SSLError):
        Browser("lodz.test", ADDRESS, careless()).ask("GET", "/")
