# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation shows of the modules that need no fleet, as somebody runs it."""

from __future__ import annotations

import textwrap

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from playbooks.operator import Operator, Run
from unit.conftest import REPOSITORY

MODULES = ("guardrails", "keys", "keys_info", "guardrails_info", "models_info")


@pytest.fixture
def home(operator: Operator) -> Operator:
    """Somebody with the documented playbook in an empty directory, and without an inventory."""
    text = (REPOSITORY / "docs" / "openrouter-modules.md").read_text(encoding="utf-8")
    block = text[text.index("    ---\n") : text.index("    export OPENROUTER_MANAGEMENT_KEY")]
    operator.write("keys.yml", textwrap.dedent(block))
    operator.environment["OPENROUTER_API_URL"] = operator.simulator.url
    return operator


def play(home: Operator, *arguments: str, playbook: str = "keys.yml") -> Run:
    run = home.command("ansible-playbook", playbook, "--diff", *arguments)
    assert run.status == 0, run.output
    return run


def secret(home: Operator, name: str) -> str:
    data = (home.desk / "openrouter" / name).read_bytes()
    assert is_encrypted(data)
    password = (home.home / "vault-password").read_bytes().strip()
    return VaultLib([("default", VaultSecret(password))]).decrypt(data).decode().strip()


def test_the_documented_playbook(home: Operator) -> None:
    ahead = play(home, "--check")
    assert ahead.says("+key: a new key", "+guardrail: cheap models")
    assert home.simulator.keys == [] and home.simulator.guardrails == []
    assert not (home.desk / "openrouter").exists()
    run = play(home, "-vvvvv")
    keys = {row["name"]: row for row in home.simulator.keys}
    secrets = {name: secret(home, name) for name in keys}
    assert {name: sha256(one) for name, one in secrets.items()} == {
        name: row["hash"] for name, row in keys.items()
    }
    assert run.changed == 2
    for hidden in (*secrets.values(), home.simulator.management_key):
        assert hidden not in run.output
    home.simulator.clear_log()
    again = play(home)
    assert again.changed == 0
    assert home.written() == []


def test_a_workspace_for_all_modules_that_have_one(home: Operator) -> None:
    """The documented defaults, in the documented playbook."""
    text = (REPOSITORY / "docs" / "openrouter-modules.md").read_text(encoding="utf-8")
    _before, block = text.split("    module_defaults:\n", 2)[1:]
    defaults = yaml.safe_load(textwrap.dedent(block.split("\n\n", 1)[0]))
    (documented,) = yaml.safe_load((home.desk / "keys.yml").read_text("utf-8"))
    home.write("keys.yml", [{**documented, "module_defaults": defaults}])
    other = home.simulator.add_workspace("Production", "production")
    play(home, "--check")
    play(home)
    things = [*home.simulator.keys, *home.simulator.guardrails]
    assert {row["workspace_id"] for row in things} == {other} and len(things) == 3
    assert play(home).changed == 0


def test_the_examples_of_the_documentation(home: Operator) -> None:
    """One after the other, as tasks of one playbook; what they write lies where it may."""
    tasks = []
    for name in (*MODULES, "credits_info"):
        text = (REPOSITORY / "plugins" / "modules" / f"openrouter_{name}.py").read_text("utf-8")
        examples = text.split('EXAMPLES = r"""\n')[1].split('"""')[0]
        tasks += yaml.safe_load(examples.replace("/etc/website.env", str(home.desk / "env")))
    play_of_them = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    home.write("examples.yml", [play_of_them])
    other = home.simulator.add_workspace("Production", "production")
    play(home, playbook="examples.yml")
    keys = {row["workspace_id"]: row for row in home.simulator.keys}
    assert len(keys) == 2 and keys[other]["limit"] == 200
    assert {row["name"] for row in keys.values()} == {"website"}
    assert (home.desk / "env").read_text() == f"OPENROUTER_API_KEY={secret(home, 'website')}\n"
