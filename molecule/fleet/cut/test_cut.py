# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server was lost in the middle of a run: the rest was finished, and the run failed."""

from __future__ import annotations

import json

import pytest
import rehearsal
from testinfra.host import Host

testinfra_hosts = ["ansible://web1"]
LOST = rehearsal.clients("web3")
FINISHED = [*rehearsal.clients("web1"), *rehearsal.clients("web2")]


def test_the_report_names_the_clients_of_the_lost_server_and_no_others() -> None:
    log = (rehearsal.HOME / "cut.log").read_text()
    assert "mai-fleet-web3 has no network" in log
    assert f"{len(LOST)} clients need a person" in log
    for client in LOST:
        assert f"{client} (containers): server web3: the server cannot be reached" in log


@pytest.mark.parametrize("server", ["web1", "web2"])
def test_the_others_are_served(server: str) -> None:
    host = rehearsal.host(server)
    for client in rehearsal.clients(server):
        assert rehearsal.ready(host, client)
        assert rehearsal.sign_in(host, client)


def test_nothing_runs_on_the_lost_server() -> None:
    host = rehearsal.host("web3")
    assert host.check_output("docker ps --all --quiet") == ""


def test_the_hooks_were_told() -> None:
    told = {
        event: json.loads((rehearsal.INVENTORY / f"hook-{event}.json").read_text())
        for event in ("before", "failure", "after")
    }
    assert {document["event"] for document in told.values()} == set(told)
    assert sorted(told["before"]["clients"]) == sorted(LOST + FINISHED)
    failed = {name for name, row in told["failure"]["clients"].items() if row["failure"]}
    assert failed == set(LOST)
    assert told["after"]["verdict"]


def test_no_secret_went_to_the_hooks_or_the_log(host: Host) -> None:
    texts = [(rehearsal.HOME / "cut.log").read_text()]
    texts += [file.read_text() for file in rehearsal.INVENTORY.glob("hook-*.json")]
    for client in LOST + FINISHED:
        for name, secret in rehearsal.secrets(client).items():
            assert not any(secret in text for text in texts), f"{client}: {name}"
