# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mai.fleet.onboard and mai.fleet.handover."""

from __future__ import annotations

import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store
from playbooks.operator import Operator, Run

COMPANY = "Łódź & Söhne #1 GmbH"
NAME = "lodz_and_sohne_1_gmbh"


def onboard(operator: Operator, *more: str, **answers: str) -> Run:
    given = {
        "organization": COMPANY,
        "plan": "gold",
        "ring": "early",
        "admin_email": "it@lodz.example",
        "spending_limit": "50",
        **answers,
    }
    words = [word for name, text in given.items() for word in ("-e", f"{name}={text!r}")]
    return operator.run("mai.fleet.onboard", *words, *more)


def files(operator: Operator) -> set[str]:
    return {file.name for file in (operator.desk / "clients").iterdir()}


def test_yes(operator: Operator) -> None:
    """The first client of an empty fleet."""
    run = onboard(operator, confirm="yes")
    assert run.status == 0, run.output
    assert yaml.safe_load((operator.desk / "clients" / f"{NAME}.yml").read_text("utf-8")) == {
        "schema": 1,
        "organization": COMPANY,
        "server": "web1",
        "plan": "gold",
        "ring": "early",
        "spending_limit": 50,
        "admin_email": "it@lodz.example",
    }
    plan, deed = run.output.split("TASK [mai.fleet.onboard : Read the answer]")
    assert "+key: a new key" in plan
    assert f"+ORGANIZATION_NAME='{COMPANY}'" in plan
    assert operator.keys()[NAME]["limit"] == 50
    assert "4/4" in deed
    again = onboard(operator, spending_limit="60", confirm="yes")
    assert again.failed
    assert again.says(f"clients/{NAME}.yml: client {NAME} exists", "client_name=NAME")
    operator.simulator.set_credit(0)
    same = onboard(operator, confirm="yes")
    assert same.failed
    assert same.says("no credit left", f"clients/{NAME}.yml stays")
    assert files(operator) == {f"{NAME}.yml"}


def test_no(operator: Operator) -> None:
    operator.servers("web1", "web2")
    operator.client("acme")
    run = onboard(operator, confirm="no", client_name="lodz")
    assert run.status == 0, run.output
    assert run.says("+server: web2", "+key: a new key")
    assert files(operator) == {"acme.yml"}
    assert operator.written() == []
    assert not (operator.desk / "state").exists()


QUESTIONS = {
    "Organization": COMPANY,
    "Plan": "gold",
    "Limit in USD": "",
    "E-mail of the administrator": "it@lodz.example",
}


def converse(operator: Operator, last: str) -> Run:
    return operator.converse(
        *("ansible-playbook", "mai.fleet.onboard", *operator.SOURCES),
        answers={**QUESTIONS, "Do this for": last},
    )


def test_a_conversation_that_ends_with_yes(operator: Operator) -> None:
    run = converse(operator, "yes")
    assert run.status == 0, run.output
    assert operator.keys()[NAME]["limit"] == 100
    assert f"ORGANIZATION_NAME='{COMPANY}'" in operator.env(NAME)


def test_a_conversation_that_comes_to_nothing(operator: Operator) -> None:
    operator.simulator.set_credit(0)
    run = converse(operator, "yes")
    assert run.failed
    assert run.says("was taken back")
    assert files(operator) == set()


def test_nobody_there_to_answer(operator: Operator) -> None:
    """No terminal and no answer is a no, never a yes; and no success either."""
    run = onboard(operator)
    assert run.status == 2, run.output
    assert run.says("No answer was given", f"clients/{NAME}.yml was taken back", "-e confirm=yes")
    assert files(operator) == set()
    unasked = operator.run("mai.fleet.onboard")
    assert unasked.status == 2
    assert unasked.says("not given: organization, admin_email", "at a terminal", "-e confirm=yes")
    nobody = onboard(operator, admin_email="", confirm="yes")
    assert nobody.failed and nobody.says("not given: admin_email")
    assert operator.written() == []


def test_check_mode(operator: Operator) -> None:
    run = onboard(operator, "--check", confirm="yes")
    assert run.status == 0, run.output
    assert run.says(f"+organization: '{COMPANY}'")
    assert files(operator) == set()
    assert operator.written() == []


def test_a_plan_of_changes_that_cannot_be_made_takes_the_file_back(operator: Operator) -> None:
    operator.simulator.set_credit(0)
    run = onboard(operator, confirm="yes")
    assert run.failed
    assert run.says("no credit left", f"clients/{NAME}.yml was taken back")
    assert files(operator) == set()
    operator.servers(gone=("web2",))
    operator.simulator.set_credit(100)
    run = onboard(operator, confirm="yes", server="web2")
    assert run.failed
    assert run.says("server web2: the server cannot be reached", "was taken back")
    assert files(operator) == set()
    assert operator.written() == []


def test_answers_that_are_mistakes(operator: Operator) -> None:
    run = onboard(operator, plan="glod", admin_email="lodz.example", spending_limit="-5")
    assert run.failed
    assert run.says(
        "plan: unknown plan glod (Did you mean gold?)",
        "admin_email: expected an e-mail address, got 'lodz.example'",
        "spending_limit: expected USD of 0 or more, or unlimited, got -5",
    )
    assert onboard(operator, organization="株式会社").says("client_name=NAME")
    assert operator.run("mai.fleet.onboard").failed
    assert files(operator) == set()


def with_password(operator: Operator, *names: str) -> str:
    """Clients with an instance, as far as the operator's side of them goes."""
    operator.plans(gold={"models": ["openai/gpt-4o-mini"]})
    vault = VaultLib([("default", VaultSecret(b"correct horse"))])
    desk = operator.desk
    places = {name: str(desk / name) for name in ("secrets", "state", "journal")}
    store = Store(places, vault)
    password = "first-password-0123456789"
    for name in names:
        operator.client(name)
    run = operator.run(operator.playbook("preflight", "keys"))
    assert run.status == 0, run.output
    for name in names:
        store.save_secrets(name, {**store.secrets(name), "admin_password": f"{name}-{password}"})
    return password


def test_a_password_is_handed_over_once(operator: Operator) -> None:
    password = with_password(operator, "acme", "beta")
    log = operator.home / "log"
    run = operator.run(
        "mai.fleet.handover", "-e", "fleet_select=acme", "-vvv", ANSIBLE_LOG_PATH=str(log)
    )
    assert run.status == 0, run.output
    assert run.says(
        "acme (acme GmbH)", "http://127.0.0.1:18001", "it@acme.example", f"acme-{password}"
    )
    assert run.output.count(password) == 1
    assert password not in log.read_text("utf-8")
    for path, data in operator.everything().items():
        assert password.encode() not in data, path

    nobody = operator.run("mai.fleet.handover")
    assert nobody.failed and nobody.says("no client was named")
    assert password not in nobody.output

    both = operator.run("mai.fleet.handover", "-e", "fleet_select=acme,beta")
    assert both.failed
    assert both.says("client acme: the first password was shown on", "fleet_handover_again=true")
    assert password not in both.output

    again = operator.run("mai.fleet.handover", "-e", "fleet_handover_again=true", "--limit", "web1")
    assert again.status == 0
    assert again.output.count(password) == 2


def test_nothing_to_hand_over(operator: Operator) -> None:
    operator.client("acme")
    run = operator.run("mai.fleet.handover", "-e", "fleet_select=acme")
    assert run.failed
    assert run.says("none of the selected clients has an instance")
    operator.client("acme", instance="webui")
    run = operator.run("mai.fleet.handover", "-e", "fleet_select=acme")
    assert run.failed
    assert run.says("client acme: there is no instance yet (run mai.fleet.site)")
    operator.client("acme", instance="webui", models=["openai/gpt-4o-mimi"])
    run = operator.run("mai.fleet.handover", "-e", "fleet_select=acme")
    assert run.failed
    assert run.says("clients/acme.yml: models: OpenRouter has no model openai/gpt-4o-mimi")
