# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done to a client can be told, and it shows when somebody changed the telling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from playbooks.operator import Operator, Run

Line = dict[str, Any]


def lines(operator: Operator, client: str) -> list[Line]:
    text = (operator.desk / "journal" / f"{client}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def story(operator: Operator, client: str) -> list[str]:
    return [f"{line['what']}: {line['result']}" for line in lines(operator, client)]


@pytest.fixture
def served(operator: Operator) -> Operator:
    """Two clients that are served."""
    operator.client("acme")
    operator.client("beta")
    operator.good()
    return operator


def journal(operator: Operator, *arguments: str) -> Run:
    """The command asks nobody: not OpenRouter, and no server."""
    operator.simulator.clear_log()
    before = operator.everything()
    operator.servers(gone=("web1",))
    run = operator.run("mai.fleet.journal", *arguments)
    operator.servers()
    assert operator.simulator.requests == []
    assert operator.everything() == before
    return run


def test_each_step_of_a_run_has_its_line(served: Operator) -> None:
    told = [
        "create guardrail: done",
        "create key: done",
        "fence key: done",
        "change files: done",
        "prove: done",
    ]
    assert story(served, "acme") == told
    files = next(line for line in lines(served, "acme") if line["what"] == "change files")
    assert files["before"] == {".env": None}
    assert files["now"][".env"].startswith("sha256:")
    # A run that only looks has nothing to tell.
    served.client("acme", spending_limit=5)
    served.good("--check")
    assert served.run("mai.fleet.verify").failed
    assert story(served, "beta") == told
    assert story(served, "acme")[:-1] == told
    last = lines(served, "acme")[-1]
    assert last["result"].startswith("failed: gate cap")
    assert last["failed_gates"] == ["cap"]
    gates = [line.get("gates") for line in lines(served, "acme") if line["what"] == "prove"]
    assert gates == ["4 of 4 passed", "2 of 3 passed"]
    # The verdict is the same, so there is no other line of it.
    assert served.run("mai.fleet.verify").failed
    assert len(story(served, "acme")) == len(told) + 1
    served.good()
    assert story(served, "acme")[len(told) + 1 :] == [
        "change key: done",
        "change files: done",
        "prove: done",
    ]


def test_a_failure_has_a_line(served: Operator) -> None:
    shutil.rmtree(served.server / "acme")
    (served.server / "acme").write_text("in the way")
    assert served.site().failed
    assert story(served, "acme")[-1].startswith("change files: failed: ")


def test_journals_are_verified_and_told(served: Operator) -> None:
    (served.desk / "clients" / "beta.yml").unlink()
    run = journal(served)
    assert run.status == 0, run.output
    for client in ("acme", "beta"):
        (line,) = [text for text in run.output.splitlines() if text.startswith(f"{client} ")]
        first = lines(served, client)[0]["at"]
        assert line.split()[1:3] == ["5", first]
        assert line.endswith("ok")
    assert "create key" not in run.output
    run = journal(served, "-e", "fleet_select=beta", "-e", "fleet_journal_show=true")
    assert run.status == 0, run.output
    who, key = lines(served, "beta")[0]["who"], lines(served, "beta")[1]["key"]
    assert run.says(f"{who} create key: done (key {key}, name mai/hosting/beta/g1/")
    assert "acme" not in run.output
    run = journal(served, "-e", "fleet_select=acne")
    assert run.failed
    assert run.says("acne names no client", "Did you mean acme?")


def shortened(path: Path) -> None:
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]))


def test_damage_is_found_and_stops_the_client_alone(served: Operator) -> None:
    shortened(served.desk / "journal" / "acme.jsonl")
    what = "acme.jsonl: lines are missing at its end"
    run = journal(served)
    assert run.failed
    assert run.says("a journal is damaged", what, "compare it with its history in git")
    served.simulator.clear_log()
    for client in ("acme", "beta"):
        served.client(client, spending_limit=5)
    run = served.site()
    assert run.failed
    assert run.says(what)
    keys = served.keys()
    assert (keys["acme"]["limit"], keys["beta"]["limit"]) == (100, 5)
    changes = [request for request in served.written() if "/chat/" not in request]
    assert len(changes) == 1
