# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where secrets are kept: runs with each store, a move to another one, jobs that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playbooks.operator import Operator
from standins.supply import TYPES, Supply, supply


@pytest.fixture
def supplied(operator: Operator, tmp_path: Path) -> Iterator[Supply]:
    """With what an operator exports."""
    with supply(tmp_path / "supply") as given:
        operator.environment |= given.environment
        yield given


def key(operator: Operator, client: str) -> str:
    """The client's key as its instance has it."""
    lines = operator.env(client).splitlines()
    (line,) = [line for line in lines if line.startswith("OPENROUTER_API_KEY=")]
    return line.partition("=")[2].strip("'\"")


@pytest.mark.parametrize("kind", TYPES)
def test_a_site_run_with_each_store(operator: Operator, supplied: Supply, kind: str) -> None:
    operator.fleet(secret_store=supplied.settings(kind))
    if kind != "vault_files":
        del operator.environment["ANSIBLE_VAULT_PASSWORD_FILE"]
    operator.client("acme")
    operator.client("beta")
    first = operator.good("-vvvv", "--diff")
    assert set(operator.keys()) == {"acme", "beta"}
    again = operator.good()
    assert again.changed == 0
    desk = [path.read_bytes() for path in operator.desk.rglob("*") if path.is_file()]
    for client in ("acme", "beta"):
        secret = key(operator, client)
        assert secret.startswith("sk-or-v1-")
        assert secret not in first.output
        assert not any(secret.encode() in content for content in desk)
    assert (operator.desk / "secrets").is_dir() == (kind in ("vault_files", "sops"))


def test_another_store_needs_a_move_and_then_no_new_key(
    operator: Operator, supplied: Supply
) -> None:
    bao = supplied.settings("hashi_vault")
    operator.client("acme")
    operator.client("beta")
    operator.good()
    keys = {client: key(operator, client) for client in ("acme", "beta")}
    ids = {client: row["hash"] for client, row in operator.keys().items()}

    operator.fleet(secret_store=bao)
    before, requests = operator.everything(), operator.written()
    for playbook in ("site", "verify", "rotate"):
        refused = operator.run(f"mai.fleet.{playbook}", "--limit", "fleet")
        assert refused.failed
        assert refused.says("new keys would be made for everybody", "mai.fleet.move_secrets")
    assert operator.written() == requests

    trial = operator.run("mai.fleet.move_secrets", "--check")
    assert trial.says("2 clients' secrets would go from vault_files secrets to hashi_vault")
    assert (trial.status, trial.changed) == (0, 1)
    assert operator.everything() == before
    assert not supplied.server.kept

    moved = operator.run("mai.fleet.move_secrets", "-vvvv", "--diff")
    assert moved.status == 0, moved.output
    assert moved.says("2 clients' secrets went from vault_files secrets to hashi_vault")
    assert not any(secret in moved.output for secret in keys.values())
    there = {path.split("/")[-1]: said[-1] or {} for path, said in supplied.server.kept.items()}
    assert {client: there[client]["api_key"] for client in there} == keys
    assert not list((operator.desk / "secrets").iterdir())

    again = operator.run("mai.fleet.move_secrets")
    assert (again.status, again.changed) == (0, 0)
    assert operator.good().changed == 0
    assert {client: row["hash"] for client, row in operator.keys().items()} == ids
    assert operator.run("mai.fleet.journal").status == 0
    journal = (operator.desk / "journal" / "acme.jsonl").read_text()
    assert '"move secrets"' in journal


def test_a_damaged_journal_stops_a_move_before_it_begins(
    operator: Operator, supplied: Supply
) -> None:
    operator.client("acme")
    operator.good()
    journal = operator.desk / "journal" / "acme.jsonl"
    journal.write_text(journal.read_text().replace("acme", "beta", 1))
    operator.fleet(secret_store=supplied.settings("command"))
    refused = operator.run("mai.fleet.move_secrets")
    assert refused.failed
    assert refused.says("changed after it was written", "journal/acme.jsonl")
    assert not list(supplied.kept.glob("*.json"))


def test_a_move_takes_no_limit(operator: Operator, supplied: Supply) -> None:
    operator.client("acme")
    operator.good()
    operator.fleet(secret_store=supplied.settings("command"))
    refused = operator.run("mai.fleet.move_secrets", "--limit", "web1")
    assert refused.failed
    assert refused.says("leave out --limit")
    assert not list(supplied.kept.glob("*.json"))


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        ({"GITHUB_ACTIONS": "true", "CI": "true"}, "a job of GitHub Actions"),
        ({"AWX_PRIVATE_DATA_DIR": "/tmp/awx_1"}, "an AWX job"),
    ],
)
def test_a_job_whose_files_are_thrown_away_is_refused(
    operator: Operator, environment: dict[str, str], what: str
) -> None:
    operator.client("acme")
    refused = operator.site(**environment)
    assert refused.failed
    assert refused.says(what, "thrown away after the run", "workspace_lasts: true")
    assert not operator.written()


def test_a_job_whose_store_records_and_journals_last(
    operator: Operator, supplied: Supply, tmp_path: Path
) -> None:
    operator.environment["GITLAB_CI"] = "true"
    operator.client("acme")
    operator.fleet(secret_store=supplied.settings("hashi_vault"))
    refused = operator.site()
    assert refused.failed
    assert refused.says("fleet.yml: state, journal")
    assert not operator.written()
    lasting = {name: str(tmp_path / "lasting" / name) for name in ("state", "journal")}
    operator.fleet(secret_store=supplied.settings("hashi_vault"), **lasting)
    operator.good()
    assert operator.good().changed == 0
    assert not {"state", "journal", "secrets"} & {path.name for path in operator.desk.iterdir()}


def test_an_operator_can_say_that_the_workspace_lasts(operator: Operator) -> None:
    operator.client("acme")
    operator.fleet(workspace_lasts=True)
    operator.good(CI="true")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"VAULT_TOKEN": "s.wrong"}, "Invalid Vault Token"),
        ({"VAULT_TOKEN": None}, "No Vault Token"),
    ],
)
def test_nothing_is_created_without_a_store(
    operator: Operator, supplied: Supply, environment: dict[str, str | None], says: str
) -> None:
    operator.fleet(secret_store=supplied.settings("hashi_vault"))
    operator.client("acme")
    refused = operator.site(**environment)
    assert refused.failed
    assert refused.says(says, "VAULT_TOKEN")
    assert not operator.written()


def test_mistakes_in_fleet_yml_are_named(operator: Operator, supplied: Supply) -> None:
    operator.client("acme")
    for given, phrases in (
        ({"type": "sosp"}, ("fleet.yml: secret_store.type", "unknown type 'sosp'", "mean sops")),
        ({"type": "command"}, ("fleet.yml: secret_store.command", "is missing")),
        ({"type": "sops", "vault_id": "a"}, ("fleet.yml: secret_store.vault_id", "unknown option")),
        ({"type": "sops", "age": "age1"}, ("fleet.yml: secret_store.age", "expected a list")),
        (
            {"type": "hashi_vault", "url": "https://bao", "token": "s.planted"},
            ("fleet.yml: secret_store.token", "a secret in clear", "export VAULT_TOKEN"),
        ),
    ):
        operator.fleet(secret_store=given)
        refused = operator.run("mai.fleet.guard")
        assert refused.failed
        assert refused.says(*phrases)
        assert "s.planted" not in refused.output
    assert not operator.written()
