# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What mai.fleet.adopt says. What it does is tested with real instances."""

from __future__ import annotations

import sys
from typing import Any

from playbooks.operator import Operator, Run


def row(kind: str, **fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "client": "",
        "kind": kind,
        "id": "",
        "key": "",
        "notes": [],
        "failure": None,
    }
    return {**given, "changed": False, "replace": False, **fields}


ROWS = {
    "acme-webui-1": row("of this fleet", client="acme", changed=True),
    "zebra": row("made by hand", client="zebra", changed=True, replace=True),
    "known": row("adopted", client="beta", replace=True),
    "odd": row("made by hand", failure={"what": "no key", "where": "server web1", "todo": ""}),
}


def told(operator: Operator, *arguments: str) -> Run:
    """What is said of these instances."""
    results = {"adopt_found": {}, "adopt_server": {"rows": ROWS}}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    operator.write("servers.yml", {"servers": {"hosts": {"web1": {**here, **results}}}})
    said = {"mai.fleet.fleet_adopted": {"examined": "adopt_found", "results": "adopt_server"}}
    verdict = {"ansible.builtin.debug": {"msg": "{{ adopt_result.verdict }}"}}
    tasks = [{**said, "register": "adopt_result"}, verdict]
    operator.write("said.yml", [{"hosts": "all", "gather_facts": False, "tasks": tasks}])
    run = operator.run("said.yml", *arguments)
    assert run.status == 0, run.output
    return run


def results(run: Run) -> dict[str, str]:
    lines = [line for line in run.output.splitlines() if "  web1  " in line]
    return {line.split()[2]: line.split("  ")[-1].strip() for line in lines}


def test_a_run_says_what_it_did(operator: Operator) -> None:
    run = told(operator)
    assert results(run) == {
        "acme-webui-1": "adopted",
        "zebra": "adopted",
        "known": "waits",
        "odd": "NOT ADOPTED",
    }
    assert run.says("not adopted: server web1: no key", "1 instance or server was not adopted")
    assert "would" not in run.output


def test_check_mode_says_what_would_be_done(operator: Operator) -> None:
    run = told(operator, "--check")
    assert results(run) == {
        "acme-webui-1": "would be adopted",
        "zebra": "would be adopted",
        "known": "waits",
        "odd": "WOULD NOT BE ADOPTED",
    }
    assert run.says("would not be adopted: server web1: no key")
    assert run.says("1 instance or server would not be adopted")


def test_a_fleet_without_a_directory_of_clients_is_no_error(operator: Operator) -> None:
    (operator.desk / "clients").rmdir()
    run = operator.run("mai.fleet.adopt", "--check")
    inventory = run.output.partition("PLAY [")[0]
    assert "the directory with the clients does not exist" in inventory
    assert "let mai.fleet.adopt do it" in inventory
    assert "ERROR" not in inventory and "WARNING" not in run.output
    assert operator.site().says("[ERROR]", "nothing was done, because of clients")
