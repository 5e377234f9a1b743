# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key side as operators run it: the roles in a playbook, and all that Ansible prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from unit.keys.bench import PASSWORD, Bench, desired

PLAYBOOK = """\
- hosts: fleet
  gather_facts: false
  roles:
    - mai.fleet.preflight
    - mai.fleet.keys
  tasks:
    - name: Retire keys that were replaced
      ansible.builtin.include_role:
        name: mai.fleet.keys
        tasks_from: retire
"""
CLIENT = """\
schema: 1
organization: Łódź & Söhne
server: server1
admin_email: admin@example.com
models: [openai/gpt-4o-mini, openai/gpt-5.4]
"""


@pytest.fixture
def inventory(bench: Bench) -> Path:
    (bench.folder / "clients").mkdir(parents=True)
    (bench.folder / "clients" / "acme.yml").write_text(CLIENT, encoding="utf-8")
    (bench.folder / "fleet.yml").write_text(
        "plugin: mai.fleet.clients\nschema: 1\nfleet: hosting\n"
    )
    host = f"server1: {{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}"
    (bench.folder / "servers.yml").write_text(f"all: {{hosts: {{{host}}}}}\n")
    (bench.folder / "play.yml").write_text(PLAYBOOK)
    (bench.folder / "password").write_bytes(PASSWORD)
    return bench.folder


def play(bench: Bench, *options: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("ansible-playbook")
    if not program.exists():
        pytest.skip("ansible-playbook does not lie beside this Python")
    folder = bench.folder
    return subprocess.run(
        [
            *(sys.executable, str(program)),
            *("-i", str(folder / "servers.yml"), "-i", str(folder / "fleet.yml")),
            *("--vault-password-file", str(folder / "password"), "--diff"),
            *(str(folder / "play.yml"), *options),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOG_PATH": str(folder / "log"),
            "OPENROUTER_MANAGEMENT_KEY": bench.simulator.management_key,
            "FLEET_OPENROUTER_URL": bench.simulator.url,
            "FLEET_DIRECTORY": str(folder / "srv"),
        },
    )


def test_a_run_that_recovers_and_replaces_prints_no_secret(bench: Bench, inventory: Path) -> None:
    """At the highest verbosity, and in the log."""
    bench.store.save_secrets("acme", {})
    bench.one(desired(limit=1000.0))
    secret, old = bench.secret() or "", bench.key()["hash"]
    env = inventory / "srv" / "acme" / ".env"
    env.parent.mkdir(parents=True)
    env.parent.chmod(0o700)
    env.write_text(f"OPENROUTER_API_KEY='{secret}'\n")
    env.chmod(0o600)
    (inventory / "secrets" / "acme.yml").unlink()
    run = play(bench, "-vvvvv", "-e", "fleet_replace_keys=acme")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "put back from the server" in run.stdout
    new = bench.secret() or ""
    assert new not in ("", secret)
    assert old in [one.hash for one in bench.record("acme").former]
    shown = run.stdout + run.stderr + (inventory / "log").read_text(encoding="utf-8")
    for hidden in (secret, new, bench.simulator.management_key, PASSWORD.decode()):
        assert hidden not in shown
    again = play(bench)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "changed=0" in again.stdout


def test_the_wrong_vault_password_stops_before_any_write(bench: Bench, inventory: Path) -> None:
    bench.store.save_secrets("acme", {})
    (inventory / "password").write_text("another")
    run = play(bench)
    assert run.returncode != 0
    assert "password does not open this file" in run.stdout + run.stderr
    assert bench.writes() == []
