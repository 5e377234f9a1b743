# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles `budget`, `hooks` and `report` in plays of their own, on made-up states of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
BROKEN = {"stage": "keys", "what": "it broke", "where": "there", "todo": "mend it"}
PLANS = {"schema": 1, "plans": {"standard": {"spending_limit": 1, "models": ["a/b"]}}}


def row(server: str, failure: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "server": server,
        "state": "present",
        "instance": None,
        "port": None,
        "changed": [],
        "warnings": [],
        "failure": failure,
    }


@dataclass
class Run:
    status: int
    output: str
    result: dict[str, Any]


class Fleet:
    """Three servers with two clients each: a1, a2, b1, b2, c1, c2."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.write("servers.yml", {"servers": {"hosts": {name: {} for name in ("sa", "sb", "sc")}}})
        self.write("fleet.yml", {"plugin": "mai.fleet.clients", "schema": 1, "fleet": "made_up"})
        self.write("plans.yml", PLANS)
        (home / "clients").mkdir()
        for name in ("a1", "a2", "b1", "b2", "c1", "c2"):
            client = {
                "schema": 1,
                "organization": name,
                "server": f"s{name[0]}",
                "plan": "standard",
                "admin_email": f"it@{name}.example",
            }
            self.write(f"clients/{name}.yml", client)
        farm = home / "farm" / "ansible_collections" / "mai"
        farm.mkdir(parents=True)
        (farm / "fleet").symlink_to(REPOSITORY)

    def write(self, file: str, content: Any) -> None:
        (self.home / file).write_text(yaml.safe_dump(content, sort_keys=False))

    def play(
        self,
        tasks: list[dict[str, Any]],
        failed: tuple[str, ...] = (),
        lost: tuple[str, ...] = (),
        *arguments: str,
        **variables: Any,
    ) -> Run:
        """Run tasks on a state in which some clients failed, and some servers never got one."""
        clients = {
            name: row(f"s{name[0]}", BROKEN if name in failed else None)
            for name in ("a1", "a2", "b1", "b2", "c1", "c2")
        }
        state = {"clients": clients, "catalog": {}, "unlisted": []}
        begin = {
            "name": "Begin",
            "ansible.builtin.set_fact": {"fleet_state": state},
            "when": "inventory_hostname not in lost",
        }
        lose = {
            "name": "Lose a server",
            "ansible.builtin.fail": {"msg": "no room left"},
            "when": "inventory_hostname in lost",
        }
        keep = {
            "name": "Keep what came of it",
            "ansible.builtin.copy": {
                "dest": str(self.home / "result.json"),
                "content": "{{ {'hooks': hooks_result.hooks | default([]), "
                "'clients': fleet_state.clients} | to_json }}",
                "mode": "0600",
            },
            "run_once": True,
            "check_mode": False,
        }
        play = {
            "hosts": "fleet",
            "connection": "local",
            "gather_facts": False,
            "vars": {"lost": list(lost), **variables},
            "pre_tasks": [begin, lose],
            "tasks": [*tasks, keep],
        }
        self.write("play.yml", [play])
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook"),
                *("-i", "servers.yml", "-i", "fleet.yml", "play.yml", *arguments),
            ],
            cwd=self.home,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(self.home / "farm"),
                "ANSIBLE_HOME": str(self.home / "ansible"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "OPENROUTER_MANAGEMENT_KEY": "sk-the-management-key",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        file = self.home / "result.json"
        return Run(
            done.returncode, done.stdout, json.loads(file.read_text()) if file.exists() else {}
        )


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def role(name: str, **variables: Any) -> dict[str, Any]:
    return {
        "name": f"Run {name}",
        "ansible.builtin.include_role": {"name": f"mai.fleet.{name}"},
        "vars": variables,
    }


def failures(run: Run) -> dict[str, str]:
    """The stage that each failed client failed in."""
    clients = run.result["clients"]
    return {name: row["failure"]["stage"] for name, row in clients.items() if row["failure"]}


# The budget


def test_within_the_budget_the_others_go_on(fleet: Fleet) -> None:
    run = fleet.play([role("budget")], failed=("a1",), fleet_failure_budget=2)
    assert run.status == 0, run.output
    assert failures(run) == {"a1": "keys"}


def test_a_budget_that_is_used_up_stops_everyone_who_is_left(fleet: Fleet) -> None:
    run = fleet.play([role("budget")], failed=("a1", "b2"), fleet_failure_budget=2)
    assert run.status == 0, run.output
    stopped = dict.fromkeys(("a2", "b1", "c1", "c2"), "budget")
    assert failures(run) == {"a1": "keys", "b2": "keys", **stopped}
    assert "2 failed clients (a1, b2)" in run.result["clients"]["c1"]["failure"]["what"]


def test_without_a_budget_nobody_is_stopped(fleet: Fleet) -> None:
    run = fleet.play([role("budget")], failed=("a1", "a2", "b1", "b2", "c1"))
    assert run.status == 0, run.output
    assert "budget" not in failures(run).values()


@pytest.mark.parametrize("budget", ["some", -1])
def test_a_budget_that_is_no_number_is_refused(fleet: Fleet, budget: Any) -> None:
    run = fleet.play([role("budget")], fleet_failure_budget=budget)
    assert run.status != 0
    assert "fleet_failure_budget" in run.output or "budget_failures" in run.output


# The hooks


def test_hooks_get_json_and_no_management_key(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCLOUD_TOKEN", "the-token-of-the-cloud")
    hooks = {"failure": ["tee told.json", "sh -c 'env >env.txt'"]}
    run = fleet.play(
        [role("hooks", hooks_events=["failure"], hooks_verdict="a1 broke")],
        failed=("a1",),
        fleet_hooks=hooks,
    )
    assert run.status == 0, run.output
    told = json.loads((fleet.home / "told.json").read_text())
    assert (told["schema"], told["event"], told["fleet"]) == (1, "failure", "made_up")
    assert told["verdict"] == "a1 broke"
    assert sorted(told["clients"]) == ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert told["clients"]["a1"]["failure"] == BROKEN
    assert told["clients"]["c1"]["failure"] is None
    environment = (fleet.home / "env.txt").read_text()
    assert "PATH=" in environment
    assert "sk-the-management-key" not in environment
    assert "the-token-of-the-cloud" not in environment
    assert [hook["status"] for hook in run.result["hooks"]] == [0, 0]


def test_a_hook_that_fails_before_stops_the_run(fleet: Fleet) -> None:
    hooks = {"before": ["sh -c 'echo frozen until Monday; exit 3'"]}
    run = fleet.play([role("hooks", hooks_events=["before"])], fleet_hooks=hooks)
    assert run.status == 2
    assert "status 3: frozen until Monday" in run.output
    assert "nothing was changed" in run.output


def test_a_hook_may_print_anything(fleet: Fleet) -> None:
    hooks = {"before": [r"printf '\\377\\n'"]}
    run = fleet.play([role("hooks", hooks_events=["before"])], fleet_hooks=hooks)
    assert run.status == 0, run.output


def test_a_hook_that_does_not_exist_is_named(fleet: Fleet) -> None:
    hooks = {"before": ["./not-there"]}
    run = fleet.play([role("hooks", hooks_events=["before"])], fleet_hooks=hooks)
    assert run.status == 2
    assert "./not-there" in run.output and "cannot be run: No such file" in run.output


def test_a_hook_that_hangs_is_ended(fleet: Fleet) -> None:
    tasks = [role("hooks", hooks_events=["before"], hooks_timeout=1)]
    run = fleet.play(tasks, fleet_hooks={"before": ["sleep 30"]})
    assert run.status == 2
    assert "was ended after 1 s" in run.output


def test_an_event_that_does_not_exist_is_refused(fleet: Fleet) -> None:
    run = fleet.play([role("hooks", hooks_events=["before"])], fleet_hooks={"befor": ["true"]})
    assert run.status == 2
    assert "no such event: befor" in run.output


def test_check_mode_runs_no_hook(fleet: Fleet) -> None:
    tasks = [role("hooks", hooks_events=["before"])]
    run = fleet.play(tasks, (), (), "--check", fleet_hooks={"before": ["tee told.json"]})
    assert run.status == 0, run.output
    assert not (fleet.home / "told.json").exists()


# The report


def test_the_report_names_clients_of_a_server_that_was_lost_early(fleet: Fleet) -> None:
    run = fleet.play([role("report")], lost=("sc",))
    assert run.status == 2
    assert "2 clients need a person" in run.output
    assert "c1 (server):" in run.output and "c2 (server):" in run.output


def test_the_report_fails_for_a_hook_and_says_both(fleet: Fleet) -> None:
    hooks = {"failure": ["tee failure.json"], "after": ["sh -c 'echo no network; exit 7'"]}
    run = fleet.play([role("report", report_hooks=True)], failed=("a1",), fleet_hooks=hooks)
    assert run.status == 2
    assert "a1 (keys): there: it broke" in run.output
    assert "(after) failed with status 7: no network" in run.output
    assert json.loads((fleet.home / "failure.json").read_text())["event"] == "failure"


def test_the_report_tells_the_hooks_of_a_good_run_too(fleet: Fleet) -> None:
    hooks = {"failure": ["touch failure"], "after": ["tee after.json"]}
    run = fleet.play([role("report", report_hooks=True)], fleet_hooks=hooks)
    assert run.status == 0, run.output
    assert not (fleet.home / "failure").exists()
    assert json.loads((fleet.home / "after.json").read_text())["verdict"] == ""
