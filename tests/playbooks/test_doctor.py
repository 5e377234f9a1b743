# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor as an operator calls it: what it sees, what it says, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

from playbooks.operator import MINI, Operator, Run


def doctor(operator: Operator, *arguments: str) -> Run:
    return operator.run("mai.fleet.doctor", *arguments)


def cells(run: Run, client: str) -> list[str]:
    return run.table[client].split()


def test_a_healthy_fleet_is_a_table_and_nothing_to_do(operator: Operator) -> None:
    for name in ("acme", "beta"):
        operator.client(name)
    operator.good()
    before, asked = operator.everything(), len(operator.written())
    run = doctor(operator)
    assert run.status == 0, run.output
    assert run.changed == 0 and operator.everything() == before
    assert len(operator.written()) == asked
    key = operator.keys()["acme"]["hash"][:12]
    assert cells(run, "acme")[:6] == ["acme", key, "yes", "yes", "-", "works"]
    assert "0.00/100 monthly" in run.table["acme"] and "2 models" in run.table["acme"]
    assert "what to do" not in run.output
    assert all(len(line) <= 110 for line in run.table.values())


def test_it_runs_as_many_tasks_for_many_clients_as_for_one(operator: Operator) -> None:
    operator.client("acme")
    one = doctor(operator)
    for number in range(5):
        operator.client(f"client{number}")
    six = doctor(operator)
    assert one.output.count("TASK [") == six.output.count("TASK [")
    assert six.says("acme, client0, client1, client2, client3, client4: store: holds no key")


def test_each_thing_that_differs_is_named(operator: Operator) -> None:
    for name in ("acme", "beta", "gamma"):
        operator.client(name)
    operator.good()
    keys = operator.keys()
    env = operator.server / "acme" / ".env"
    stolen = operator.env("beta").split("OPENROUTER_API_KEY='")[1].partition("'")[0]
    mine = operator.env("acme").split("OPENROUTER_API_KEY='")[1].partition("'")[0]
    env.write_text(operator.env("acme").replace(mine, stolen))
    (operator.desk / "secrets" / "beta.yml").write_text("nonsense\n")
    operator.plans(gold={"spending_limit": 50, "instance": "none", "models": [MINI]})
    run = doctor(operator)
    assert run.status == 2
    assert cells(run, "acme")[2:4] == ["yes", "BREACH"]
    assert cells(run, "beta")[2:4] == ["?", "yes"]
    assert run.says(
        f"holds the key sha256:{keys['beta']['hash'][:12]} of client beta: an isolation breach",
        "the cap is 100 monthly, expected 50 monthly",
        "its allowlist is another one: 0 missing, 1 too many",
        "acme, beta, gamma: guardrail",
        "run mai.fleet.site -e fleet_select=acme,beta,gamma",
        "the file is not encrypted",
    )
    assert stolen not in run.output


def test_a_damaged_journal_is_a_problem_of_its_client(operator: Operator) -> None:
    for name in ("acme", "beta"):
        operator.client(name)
    operator.good()
    journal = operator.desk / "journal" / "beta.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    run = doctor(operator)
    assert run.status == 2
    assert run.says("beta: journal: lines are missing at its end", "1 thing is wrong, with beta")


def test_secrets_that_were_not_moved_yet_are_not_said_to_be_lost(operator: Operator) -> None:
    operator.client("acme")
    operator.good()
    empty = """sh -c 'echo "{\\"clients\\": []}"'"""
    operator.fleet(secret_store={"type": "command", "command": empty})
    run = doctor(operator)
    assert run.status == 2
    assert run.says("acme: store:", "mai.fleet.move_secrets")
    assert "holds no key" not in run.output


def test_what_is_down_is_said_in_its_cell(operator: Operator) -> None:
    operator.servers("web1", "web2")
    operator.client("acme")
    operator.client("beta", server="web2")
    operator.good()
    operator.servers("web1", gone=("web2",))
    run = doctor(operator)
    assert run.status == 2
    assert cells(run, "acme")[2:6] == ["yes", "yes", "-", "works"]
    assert cells(run, "beta")[2:6] == ["yes", "?", "-", "works"]
    assert run.says("beta: server: the server cannot be reached")
    run = operator.run("mai.fleet.doctor", OPENROUTER_MANAGEMENT_KEY=None)
    assert run.status == 2
    assert cells(run, "acme")[2:6] == ["yes", "yes", "-", "?"]
    assert run.says("fleet: openrouter: no management key")


def test_keys_that_nobody_should_have_are_named(operator: Operator) -> None:
    operator.client("acme")
    operator.client("beta")
    operator.good()
    (operator.desk / "clients" / "beta.yml").unlink()
    run = doctor(operator)
    assert run.status == 2
    assert run.says("beta: openrouter: keys or a guardrail of this client are at OpenRouter")
    chosen = doctor(operator, "-e", "fleet_select=acme")
    assert chosen.status == 0, chosen.output


def test_the_result_is_for_programs_too(operator: Operator) -> None:
    operator.client("acme")
    operator.good()
    file = str(operator.home / "result.json")
    copy = {"content": "{{ doctor_result | to_json }}", "dest": file}
    play = {
        "hosts": "fleet",
        "gather_facts": False,
        "roles": ["mai.fleet.doctor"],
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    operator.write("play.yml", [play])
    assert operator.run("play.yml").status == 0
    found = json.loads(Path(file).read_text())["clients"]["acme"]
    fingerprint = f"sha256:{operator.keys()['acme']['hash'][:12]}"
    assert found["key"] == fingerprint
    assert found["places"]["server"] == {"key": fingerprint, "same": True, "error": ""}
    assert found["openrouter"]["guardrail"] == "mai/hosting/acme"
    assert found["openrouter"]["allowlist_equal"] is True
