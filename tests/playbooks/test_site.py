# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of mai.fleet.site and what is there afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils import _dotenv
from playbooks.operator import FLASH, MINI, Operator


def test_from_a_file_to_a_client_and_a_second_run_that_changes_nothing(operator: Operator) -> None:
    organization = "Zakłady \"Łódź\" & 'Söhne' #1 $5 ${HOME} {{ 7 * 7 }} {% raw %} \\n %s"
    file = operator.client("acme", organization=organization, env={"GREETING": "{{ it's }} $5 #1"})
    encrypted = operator.command("ansible-vault", "encrypt_string", "geheim & co")
    block = re.search(r"!vault \|\n( +\S+\n?)+", encrypted.output)
    assert block, encrypted.output
    file.write_text(f"{file.read_text()}  SMTP_PASSWORD: {block[0]}\n", encoding="utf-8")
    run = operator.good("-vvv", "--diff", ANSIBLE_LOG_PATH=str(operator.home / "log"))
    key = operator.keys()["acme"]
    assert (key["limit"], key["limit_reset"], key["disabled"]) == (100, "monthly", False)
    (guardrail,) = operator.simulator.guardrails
    assert key["guardrail_id"] == guardrail["id"]
    assert sorted(guardrail["allowed_models"]) == sorted([MINI, FLASH])
    env = _dotenv.parse(operator.env("acme"))
    secret = env.pop("OPENROUTER_API_KEY")
    user = env.pop("OPENROUTER_EXTERNAL_USER")
    assert env == {
        "OPENROUTER_HOST": operator.simulator.url,
        "ORGANIZATION_NAME": organization,
        "SPENDING_LIMIT": "100",
        "OPENROUTER_ALLOWED_MODELS": f"{MINI},{FLASH}",
        "GREETING": "{{ it's }} $5 #1",
        "SMTP_PASSWORD": "geheim & co",
    }
    assert re.fullmatch(r"mai_client_[0-9a-f]{8}", user)
    assert (operator.server / "acme" / ".env").stat().st_mode & 0o777 == 0o600
    assert run.table["acme"].split()[1:] == [
        *("present", "-", "-", f"sha256:{key['hash'][:12]}", "100", "monthly", "2/2", "4/4")
    ]
    log = (operator.home / "log").read_text(encoding="utf-8")
    for text in (run.output, log):
        assert secret not in text
        assert "geheim" not in text
        assert "correct horse" not in text
        assert operator.simulator.management_key not in text
    for path, data in operator.everything().items():
        assert secret.encode() not in data or path.endswith("acme/.env")

    before = operator.everything()
    operator.simulator.clear_log()
    again = operator.good()
    assert again.changed == 0
    assert operator.everything() == before
    assert operator.written() == []
    assert operator.simulator.violations == []


def test_check_mode_on_a_new_fleet_writes_nothing_and_says_what_would_be(
    operator: Operator,
) -> None:
    operator.client("acme", spending_limit=25)
    operator.client("beta", state="suspended")
    before = operator.everything()
    run = operator.good("--check", "--diff")
    assert operator.everything() == before
    assert operator.written() == []
    assert operator.simulator.keys == operator.simulator.guardrails == []
    assert run.changed == 2
    assert run.says("+key: a new key", "+spending_limit: 25", "+disabled: True", f"+ - {MINI}")
    assert run.says("+SPENDING_LIMIT='25'", "+ORGANIZATION_NAME='acme GmbH'")


def test_one_broken_client_is_named_and_the_others_are_served(operator: Operator) -> None:
    operator.client("acme")
    operator.client("beta", spending_limit="a lot", modles=[MINI])
    operator.client("gamma", models=[MINI, "openai/gpt-4o-mimi"])
    run = operator.site()
    assert run.failed
    assert set(operator.keys()) == {"acme"}
    assert run.table["acme"].split()[-1] == "4/4"
    assert "FAILED" in run.table["gamma"]
    assert run.says(
        "beta (inventory): clients/beta.yml: spending_limit: expected USD as a number, "
        "or unlimited, got 'a lot'",
        "beta (inventory): clients/beta.yml: modles: unknown field modles (Did you mean models?)",
        "gamma (preflight): clients/gamma.yml: models: OpenRouter has no model "
        f"openai/gpt-4o-mimi (near: {MINI}",
    )


def test_a_quiet_run_says_what_matters(operator: Operator) -> None:
    quiet = {"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false", "ANSIBLE_DISPLAY_OK_HOSTS": "false"}
    operator.client("acme")
    operator.client("beta", models=["openai/gpt-4o-mimi"])
    run = operator.site(**quiet)
    assert run.status == 2 and "changed: [web1]" in run.output
    assert run.table.keys() == {"acme", "beta"}
    assert run.says("clients/beta.yml: models: OpenRouter has no model")
    (operator.desk / "clients" / "beta.yml").unlink()
    operator.client("acme", models=["openai/gpt-4o-mini"])
    operator.good()
    again = operator.good(**quiet)
    assert again.changed == 0 and again.table.keys() == {"acme"}
    assert not re.search(r"^(ok|skipping): ", again.output, re.M)
    assert "ok: [" not in again.output and "skipping: [" not in again.output


def test_a_server_that_cannot_be_reached(operator: Operator) -> None:
    operator.servers("web1", gone=("web2",))
    operator.client("acme")
    operator.client("gamma", server="web2")
    run = operator.site()
    assert run.failed
    assert run.table["acme"].split()[-1] == "4/4"
    assert "FAILED" in run.table["gamma"]
    assert run.says("gamma (", "server web2: the server cannot be reached", "run again")
    assert not (operator.server / "gamma").exists()
    operator.servers("web1", "web2")
    healed = operator.good()
    assert healed.table["gamma"].split()[-1] == "4/4"
    assert operator.env("gamma")
    assert len(operator.keys()) == 2


def test_as_many_tasks_for_many_clients_as_for_few(operator: Operator) -> None:
    def tasks() -> int:
        run = operator.good("--check")
        assert len(run.table) == len(list((operator.desk / "clients").iterdir()))
        return sum(run.count(what) for what in ("ok", "skipped", "failed"))

    for number in range(3):
        operator.client(f"c{number:03}")
    few = tasks()
    for number in range(300):
        operator.client(f"c{number:03}")
    assert tasks() == few


def test_the_life_of_clients(operator: Operator) -> None:
    operator.servers("web1", "web2")
    for name in ("acme", "beta", "gamma"):
        operator.client(name)
    operator.good()
    first = operator.keys()

    acme = operator.desk / "clients" / "acme.yml"
    acme.rename(acme.with_name("acme_ag.yml"))
    operator.client("beta", server="web2")
    (operator.desk / "clients" / "gamma.yml").unlink()
    run = operator.site()
    assert run.failed
    assert run.says(
        "acme_ag (preflight): clients/acme_ag.yml: this looks like client acme under another name",
        "rename the file back to acme.yml",
        "beta (preflight): clients/beta.yml: server: the server changed from web1 to web2",
        "set it back to web1",
        "acme: has no client file any more",
        "gamma: has no client file any more",
    )
    assert operator.keys() == first
    assert {folder.name for folder in operator.server.iterdir()} == {"acme", "beta", "gamma"}

    acme.with_name("acme_ag.yml").unlink()
    operator.client("acme", state="suspended")
    operator.client("beta")
    operator.client("gamma", state="absent")
    operator.good()
    keys = operator.keys()
    assert {name: key["disabled"] for name, key in keys.items()} == {"acme": True, "beta": False}
    assert {row["name"] for row in operator.simulator.guardrails} == {
        "mai/hosting/acme",
        "mai/hosting/beta",
    }
    assert {folder.name for folder in operator.server.iterdir()} == {"acme", "beta"}

    for name in ("acme", "gamma"):
        operator.client(name)
    operator.good()
    keys = operator.keys()
    assert not any(key["disabled"] for key in keys.values())
    assert keys["acme"]["hash"] == first["acme"]["hash"]
    assert keys["gamma"]["hash"] != first["gamma"]["hash"]
    record = json.loads((operator.desk / "state" / "gamma.json").read_text(encoding="utf-8"))
    assert record["generation"] == 2


def test_a_port_is_assigned_once_and_kept(operator: Operator) -> None:
    """Without the containers' stage, which needs Docker."""
    operator.plans(gold={"models": [MINI]})
    stages = operator.playbook("preflight", "keys", "files")

    def ports() -> dict[str, str]:
        run = operator.run(stages)
        assert run.status == 0, run.output
        texts = {
            file.parent.name: file.read_text() for file in operator.server.glob("*/compose.yml")
        }
        return {
            name: re.findall(r"127\.0\.0\.1:(\d+):8080", text)[0] for name, text in texts.items()
        }

    # The first in the alphabet fails after ports were assigned, and must not shift the others'.
    operator.client("alpha", models=["openai/gpt-4o-mimi"])
    operator.client("beta")
    operator.client("gamma", port=18500)
    assigned = ports()
    assert assigned["gamma"] == "18500"
    operator.client("alpha")
    operator.client("aardvark")
    operator.client("gamma")
    later = ports()
    assert {name: later[name] for name in assigned} == assigned
    assert len(set(later.values())) == 4


def test_models_that_leave(operator: Operator) -> None:
    operator.client("acme")
    operator.client("beta", models=[MINI])
    operator.good()
    operator.simulator.expire_model(MINI)
    run = operator.good()
    assert run.says(f"acme: {MINI} has left OpenRouter and is dropped; openai/")
    assert run.says(f"beta: {MINI}, the last model, has left OpenRouter; openai/")
    assert _dotenv.parse(operator.env("acme"))["OPENROUTER_ALLOWED_MODELS"] == FLASH
    assert _dotenv.parse(operator.env("beta"))["OPENROUTER_ALLOWED_MODELS"] == MINI
    allowed = {row["name"]: row["allowed_models"] for row in operator.simulator.guardrails}
    assert allowed == {"mai/hosting/acme": [FLASH], "mai/hosting/beta": [MINI]}


def test_calls_that_cost_can_be_switched_off(operator: Operator) -> None:
    operator.client("acme")
    operator.good("-e", "proof_chat=false", "-e", "proof_fence=false")
    assert operator.simulator.count("POST", "/chat/completions") == 0


def test_the_vault_password(operator: Operator, tmp_path: Path) -> None:
    operator.client("acme")
    run = operator.site(ANSIBLE_VAULT_PASSWORD_FILE=None)
    assert run.failed
    assert run.says("no vault password was given", "--vault-password-file")
    assert operator.written() == []
    operator.good()
    operator.client("beta")
    operator.simulator.clear_log()
    wrong = tmp_path / "wrong"
    wrong.write_text("battery staple\n", encoding="utf-8")
    run = operator.site(ANSIBLE_VAULT_PASSWORD_FILE=str(wrong))
    assert run.failed
    assert run.says("the vault password", "secrets/acme.yml")
    assert operator.written() == []
    assert set(operator.keys()) == {"acme"}


def test_a_modules_secrets_never_become_a_file(operator: Operator) -> None:
    """Also where Ansible was not told to use a pipe, as it is not for local connections."""
    operator.client("acme")
    run = operator.good("-vvvv", ANSIBLE_PIPELINING="false")
    assert "instance_files" in run.output
    assert "AnsiballZ_instance_files" not in run.output
