# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare host became a server with two clients."""

from __future__ import annotations

import os

import pytest
import rehearsal
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]
CLIENTS = rehearsal.clients("web1")
MODELS = ["google/gemini-2.5-flash", "openai/gpt-4o-mini"]

each_client = pytest.mark.parametrize("client", CLIENTS)


def test_the_server_is_whole(host: Host) -> None:
    assert host.service("docker").is_running and host.service("docker").is_enabled
    assert host.check_output("docker compose version --short").lstrip("v").startswith("2.")
    failed = host.check_output("systemctl --failed --no-legend --plain")
    assert failed == ""


def test_the_host_is_no_other(host: Host) -> None:
    assert host.check_output("cat /proc/1/comm") == "systemd"
    assert host.check_output("hostname") == "web1"


@each_client
def test_the_instance_is_ready(host: Host, client: str) -> None:
    assert rehearsal.ready(host, client)
    assert rehearsal.container(host, client)["RestartCount"] == 0


@each_client
def test_the_image_came_from_the_registry_by_its_digest(host: Host, client: str) -> None:
    image = rehearsal.container(host, client)["Config"]["Image"]
    assert image.startswith(f"{os.environ['REHEARSAL_REGISTRY']}/open-webui/open-webui")
    assert "@sha256:" in image


@each_client
def test_nobody_outside_reaches_the_instance_past_the_edge(host: Host, client: str) -> None:
    (binding,) = rehearsal.container(host, client)["HostConfig"]["PortBindings"]["8080/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    address = rehearsal.SERVERS["web1"]["ansible_host"]
    assert not rehearsal.reaches(address, int(binding["HostPort"]))
    assert rehearsal.reaches(address, 22)


@each_client
def test_the_clients_administrator_sees_the_models_and_can_chat(host: Host, client: str) -> None:
    token = rehearsal.sign_in(host, client)
    models = rehearsal.ask(host, client, "GET", "/api/models", token)["data"]
    assert sorted(model["id"] for model in models) == MODELS
    answer = rehearsal.ask(
        host,
        client,
        "POST",
        "/api/chat/completions",
        token,
        model=MODELS[1],
        messages=[{"role": "user", "content": "Hello"}],
    )
    assert answer["choices"][0]["message"]["content"]


@each_client
def test_what_root_alone_may_read(host: Host, client: str) -> None:
    directory = host.file(f"/srv/mai/{client}")
    environment = host.file(f"/srv/mai/{client}/.env")
    assert (directory.user, directory.mode) == ("root", 0o700)
    assert (environment.user, environment.mode) == ("root", 0o600)


def test_every_client_has_one_key_of_its_own_behind_its_guardrail() -> None:
    keys = rehearsal.simulator("keys")["keys"]
    owners = sorted(key["name"].split("/")[2] for key in keys if key["name"].startswith("mai/"))
    assert owners == CLIENTS
    assert all(key["guardrail_id"] for key in keys)
    assert {key["limit"] for key in keys} == {100}


def test_openrouter_was_used_as_it_is_documented() -> None:
    assert rehearsal.simulator("violations")["violations"] == []
