# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run after the one that lost a server: every client is served, and nobody twice."""

from __future__ import annotations

import json

import pytest
import rehearsal

SERVERS = sorted(rehearsal.SERVERS)
CLIENTS = [client for server in SERVERS for client in rehearsal.clients(server)]


def test_six_clients_on_three_servers() -> None:
    assert (len(SERVERS), len(CLIENTS)) == (3, 6)


@pytest.mark.parametrize("server", SERVERS)
def test_each_server_serves_its_own_clients_and_no_others(server: str) -> None:
    host = rehearsal.host(server)
    running = host.check_output("docker ps --format '{{.Names}}'").split()
    assert sorted(running) == [f"{client}-webui-1" for client in rehearsal.clients(server)]
    for client in rehearsal.clients(server):
        assert rehearsal.ready(host, client)
        assert rehearsal.sign_in(host, client)


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_holds_the_secrets_of_its_own_clients_only(server: str) -> None:
    host = rehearsal.host(server)
    held = host.check_output("cat /srv/mai/*/.env")
    for client in CLIENTS:
        mine = client in rehearsal.clients(server)
        assert (rehearsal.secrets(client)["api_key"] in held) == mine, client


def test_the_failed_run_left_no_second_key() -> None:
    keys = rehearsal.simulator("keys")["keys"]
    assert sorted(key["name"].split("/")[2] for key in keys) == CLIENTS
    assert rehearsal.simulator("violations")["violations"] == []


def test_the_hooks_were_told_that_all_is_well() -> None:
    told = json.loads((rehearsal.INVENTORY / "hook-after.json").read_text())
    assert told["verdict"] == ""
    assert sorted(told["clients"]) == CLIENTS
    assert not any(row["failure"] for row in told["clients"].values())
