# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a timer runs, and the units for it as check mode shows them. molecule installs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playbooks.operator import Operator, Run

DUE = ("-e", "fleet_select=due")
NAMES = ("mai-fleet-hosting.service", "mai-fleet-hosting.timer")


def schedule(operator: Operator, **options: Any) -> Run:
    """What the playbook would do here, with both secrets in files."""
    given = {
        "schedule_become": False,
        "schedule_management_key": str(secret(operator, "management-key")),
        "schedule_vault_password": str(secret(operator, "vault password 100%")),
        **options,
    }
    return operator.run(
        "mai.fleet.schedule", "--check", "--diff", "-e", json.dumps(given), LC_ALL="C.UTF-8"
    )


def secret(operator: Operator, name: str, mode: int = 0o600) -> Path:
    file = operator.home / name
    file.write_text(f"the content of {name}\n", encoding="utf-8")
    file.chmod(mode)
    return file


def units(run: Run) -> list[str]:
    """The service and the timer."""
    assert run.status == 0, run.output
    added = re.findall(r"^@@ .*\n((?:\+.*\n)+)", run.output, re.MULTILINE)
    return ["".join(f"{line[1:]}\n" for line in text.splitlines()) for text in added]


def test_a_run_with_nobody_due_ends_green_and_asks_no_server(operator: Operator) -> None:
    operator.servers("web1", gone=("web2",))
    operator.client("acme")
    operator.good()
    operator.client("beta", server="web2")
    before, written = operator.everything(), operator.written()
    run = operator.good(*DUE, "-e", "fleet_bootstrap=false")
    assert run.table == {}
    assert run.changed == run.count("unreachable") == 0
    assert (operator.everything(), operator.written()) == (before, written)


def test_a_run_with_the_management_key_in_a_file(operator: Operator) -> None:
    """A key of three days, when its client's plan says that keys live for two."""
    file = secret(operator, "management-key")
    file.write_text(operator.simulator.management_key, encoding="utf-8")
    operator.client("acme")
    operator.client("beta", ring="late")
    operator.simulator.advance(days=-3)
    operator.good()
    operator.simulator.advance(days=3)
    operator.plans(gold={"instance": "none", "key_lifetime_days": 2, "key_renew_days": 1})
    environment = {
        "OPENROUTER_MANAGEMENT_KEY": None,
        "OPENROUTER_MANAGEMENT_KEY_FILE": str(file),
    }
    foretold = operator.good(*DUE, "--limit", "ring_late", "--check", "--diff", **environment)
    assert foretold.says("beta is due: its key is to be replaced by its age", "key: a new key")
    assert len(operator.keys()) == 2
    run = operator.good(*DUE, "--limit", "ring_late", **environment)
    assert set(run.table) == {"beta"}
    generations = [key["name"].split("/")[2:4] for key in operator.simulator.keys]
    assert sorted(generations) == [["acme", "g1"], ["beta", "g1"], ["beta", "g2"]]
    assert operator.simulator.management_key not in run.output + foretold.output


def test_the_units_say_what_to_run_and_hold_no_secret(operator: Operator) -> None:
    operator.client("acme")
    odd = {"ODD": 'a "quoted" \\ word'}
    run = schedule(operator, schedule_environment=odd, schedule_on_failure=["notify@%n.service"])
    service, timer = units(run)
    lines = service.splitlines()
    assert f"WorkingDirectory={operator.desk}" in lines
    assert f"LoadCredential=management-key:{operator.home}/management-key" in lines
    assert f"LoadCredential=vault-password:{operator.home}/vault password 100%%" in lines
    assert 'Environment="OPENROUTER_MANAGEMENT_KEY_FILE=%d/management-key"' in lines
    assert 'Environment="ODD=a \\"quoted\\" \\\\ word"' in lines
    assert "OnFailure=notify@%n.service" in lines
    (command,) = [line for line in lines if line.startswith("ExecStart=")]
    assert '/ansible-playbook" "mai.fleet.site" ' in command
    assert f'"--inventory={operator.desk}/fleet.yml" "--extra-vars=fleet_select=due"' in command
    assert "OnCalendar=*-*-* 00:05:00 UTC" in timer.splitlines()
    for hidden in (operator.simulator.management_key, "the content of"):
        assert hidden not in run.output


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
@pytest.mark.parametrize("tries", [1, 3])
def test_systemd_understands_the_units(operator: Operator, tries: int) -> None:
    operator.client("acme")
    for name, text in zip(NAMES, units(schedule(operator, schedule_tries=tries)), strict=True):
        (operator.home / name).write_text(text, encoding="utf-8")
    files = [str(operator.home / name) for name in NAMES]
    done = subprocess.run(
        ["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("mode", "content"), [(0o640, "x"), (0o604, "x"), (0o600, ""), (0o600, None)]
)
def test_a_secret_that_others_may_read_or_that_is_not_there(
    operator: Operator, mode: int, content: str | None
) -> None:
    operator.client("acme")
    file = secret(operator, "another", mode)
    file.unlink() if content is None else file.write_text(content, encoding="utf-8")
    run = schedule(operator, schedule_credentials={"another": str(file)})
    assert run.failed
    assert run.says("only their owner may read (chmod 600)", str(file))


def test_without_a_management_key_there_is_no_timer(operator: Operator) -> None:
    operator.client("acme")
    run = schedule(operator, schedule_management_key="")
    assert run.failed
    assert run.says("one of them with the management key")


def test_a_limit_would_leave_it_out(operator: Operator) -> None:
    operator.client("acme")
    run = operator.run("mai.fleet.schedule", "--check", "--limit", "client_acme")
    assert run.failed
    assert run.says("leave out --limit")


def test_there_is_nothing_to_remove(operator: Operator) -> None:
    """Also of a fleet that has no client any more."""
    run = operator.run(
        "mai.fleet.schedule", "--check", "-e", '{"schedule_state": "absent", "schedule_become": no}'
    )
    assert (run.status, run.changed) == (0, 0), run.output
