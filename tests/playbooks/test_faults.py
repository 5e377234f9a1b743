# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ansible-playbook`` is killed at its worst moment, and whatever run comes next puts it right.

The worst moment is the one when OpenRouter has acted and the run does not know it yet. What
``make faults`` does at every step with the engine alone, this does once for each flow with all of
Ansible around it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from hashlib import sha256
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils import _dotenv
from playbooks.operator import PATIENCE, Operator
from simulator.engine import Incoming

CLIENTS = ("acme", "beta", "gamma")
#: Keys that are not needed any more are deleted by the run that finds them so.
AT_ONCE = ("-e", "fleet_key_grace=0", "-e", "keys_quiet=0")


@pytest.fixture
def operator(operator: Operator) -> Operator:
    for name in CLIENTS:
        operator.client(name)
    return operator


def killed(operator: Operator, method: str, path: str, number: int, *command: str) -> None:
    """Run a playbook that is killed, with all its processes, as such a request was acted upon.

    :param number: how many of these requests are answered before
    """
    process = subprocess.Popen(
        ("ansible-playbook", *command, *operator.SOURCES),
        cwd=operator.desk,
        env=operator.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    engine = operator.simulator.engine
    handle, lock = engine.handle, threading.Lock()
    left = number

    def handled(incoming: Incoming, *rest: Any) -> Any:
        nonlocal left
        answer = handle(incoming, *rest)
        if incoming.method == method and incoming.path.startswith(path):
            with lock:
                left -= 1
                if left < 0:
                    os.killpg(process.pid, signal.SIGKILL)
        return answer

    engine.handle = handled  # type: ignore[method-assign, assignment]
    try:
        status = process.wait(PATIENCE)
    finally:
        engine.handle = handle  # type: ignore[method-assign]
    assert status == -signal.SIGKILL, f"it ended by itself, with {status}"


def secret(operator: Operator, client: str) -> str:
    """What the client's instance works with."""
    return _dotenv.parse(operator.env(client)).get("OPENROUTER_API_KEY", "")


def served(operator: Operator) -> list[str]:
    """The clients whose instance has a key that works and is fenced."""
    working = {
        key["hash"]
        for key in operator.simulator.keys
        if not key["disabled"] and key["guardrail_id"]
    }
    return [
        name
        for name in CLIENTS
        if (operator.server / name / ".env").exists()
        and sha256(secret(operator, name).encode()).hexdigest() in working
    ]


def stored(operator: Operator, client: str) -> str:
    return operator.command("ansible-vault", "view", f"secrets/{client}.yml").output


def assert_one_key_each(operator: Operator) -> None:
    assert served(operator) == list(CLIENTS)
    assert sorted(operator.keys()) == list(CLIENTS), "and not a second one"
    for name in CLIENTS:
        assert f"api_key: {secret(operator, name)}\n" in stored(operator, name)
    assert operator.simulator.violations == []


def test_a_fleet_that_is_made(operator: Operator) -> None:
    killed(operator, "POST", "/keys", 1, "mai.fleet.site")
    assert operator.simulator.keys, "it was killed too early"
    operator.good(*AT_ONCE)
    assert_one_key_each(operator)
    assert operator.good(*AT_ONCE).changed == 0


def test_keys_that_are_rotated(operator: Operator) -> None:
    operator.good()
    old = {name: secret(operator, name) for name in CLIENTS}
    killed(
        operator, "POST", "/keys", 1, "mai.fleet.rotate", "-e", f"fleet_select={','.join(CLIENTS)}"
    )
    assert served(operator) == list(CLIENTS)
    assert len(operator.simulator.keys) > len(CLIENTS), "it was killed too early"
    operator.good(*AT_ONCE)
    assert_one_key_each(operator)
    run = operator.run("mai.fleet.rotate", "-e", f"fleet_select={','.join(CLIENTS)}")
    assert run.status == 0, run.output
    key = next(key["name"] for key in operator.simulator.keys if key["disabled"])
    assert run.says(f"the key {key} is disabled, and is deleted after", "fleet_undo=true goes back")
    operator.good(*AT_ONCE)
    assert_one_key_each(operator)
    assert not {secret(operator, name) for name in CLIENTS} & set(old.values())


def test_an_age_says_nothing_of_keys_that_are_had_back(operator: Operator) -> None:
    operator.good()
    before, asked = operator.everything(), len(operator.written())
    age = ("-e", "fleet_max_age_days=1", "-e", "fleet_undo=true")
    run = operator.run("mai.fleet.rotate", *age)
    assert run.failed
    assert run.says("this run says of nobody that it is about them")
    assert operator.everything() == before
    run = operator.run("mai.fleet.rotate", *age, "-e", "fleet_select=acme")
    assert run.failed
    assert run.says("fleet_undo and fleet_max_age_days", "name the clients")
    assert len(operator.written()) == asked


def test_clients_that_leave(operator: Operator) -> None:
    operator.good()
    for name in CLIENTS:
        operator.client(name, state="absent")
    killed(operator, "DELETE", "/keys", 1, "mai.fleet.site")
    assert len(operator.simulator.keys) < len(CLIENTS), "it was killed too early"
    operator.good(*AT_ONCE)
    assert operator.simulator.keys == operator.simulator.guardrails == []
    assert operator.simulator.violations == []
    for name in CLIENTS:
        assert "api_key" not in stored(operator, name)
        assert not (operator.server / name).exists()
    assert operator.good(*AT_ONCE).changed == 0
