# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the account as a whole stops a run before any write, and says what to do."""

from __future__ import annotations

import time
from typing import Any

import pytest
from playbooks.operator import Operator
from simulator.plain import Account, Client

KEY = "OPENROUTER_MANAGEMENT_KEY"


@pytest.mark.parametrize(
    ("fault", "phrases"),
    [
        ({"path": "/key", "status": 401}, ("HTTP 401", f"check the key in {KEY}")),
        ({"path": "/credits", "status": 402}, ("HTTP 402", "add credit at https://openrouter.ai")),
        ({"path": "/models", "status": 429, "retry_after": 1}, ("HTTP 429", "run again in")),
        ({"path": "/models", "status": 429, "retry_after": 86400}, ("HTTP 429", "run again in")),
    ],
    ids=["401", "402", "429", "429-come-back-tomorrow"],
)
def test_a_refusal_that_does_not_end(
    operator: Operator, fault: dict[str, Any], phrases: tuple[str, ...]
) -> None:
    operator.client("acme")
    operator.simulator.fault(**fault, times=0)
    started = time.monotonic()
    run = operator.site()
    assert time.monotonic() - started < 60
    assert run.failed
    assert run.says(f"GET {operator.simulator.url}{fault['path']}", *phrases)
    assert operator.written() == []
    assert not (operator.desk / "state").exists()


def test_a_refusal_that_ends_is_waited_for(operator: Operator) -> None:
    """And the management key may stand in the variable that had an older name."""
    operator.client("acme")
    key = operator.simulator.management_key
    operator.simulator.fault(path="/key", status=429, times=2, retry_after=1)
    operator.simulator.fault(method="POST", path="/keys", status=429, times=1, retry_after=1)
    operator.good(OPENROUTER_MANAGEMENT_KEY=None, OPENROUTER_PROVISIONING_KEY=key)
    assert set(operator.keys()) == {"acme"}


def test_an_account_without_credit(operator: Operator) -> None:
    operator.client("acme")
    operator.simulator.set_credit(0)
    run = operator.site()
    assert run.failed
    assert run.says("no credit left", "add credit at https://openrouter.ai/settings/credits")
    assert operator.written() == []


def test_a_leaked_key_can_be_stopped_when_it_has_used_up_all_credit(operator: Operator) -> None:
    for name in ("acme", "beta"):
        operator.client(name)
    operator.good()
    operator.simulator.set_credit(0)
    operator.client("acme", state="suspended")
    run = operator.site()
    assert run.failed
    assert run.says("no credit left", "clients that are suspended or leave need none: name them")
    run = operator.site("-e", "fleet_select=acme")
    assert run.status == 0, run.output
    assert operator.keys()["acme"]["disabled"] and not operator.keys()["beta"]["disabled"]
    run = operator.run("mai.fleet.offboard", "-e", "fleet_select=beta")
    assert run.status == 0, run.output
    assert set(operator.keys()) == {"acme"}
    assert operator.site("-e", "fleet_select=due").says("nobody is due")
    doctor = operator.run("mai.fleet.doctor")
    assert doctor.says("fleet: openrouter: the account has no credit left", "add credit at")


def test_no_network(operator: Operator) -> None:
    operator.client("acme")
    operator.fleet(openrouter_url="http://127.0.0.1:1/api/v1")
    run = operator.site()
    assert run.failed
    assert run.says("GET http://127.0.0.1:1/api/v1/key: no answer", "check the network")
    assert not (operator.desk / "state").exists()


def test_keys_that_cannot_manage(operator: Operator) -> None:
    operator.client("acme")
    simulator = operator.simulator
    manager = Client(simulator.url, simulator.management_key)
    _hash, ordinary = Account(simulator, manager).key()
    assert ordinary.secret
    simulator.clear_log()
    run = operator.site(OPENROUTER_MANAGEMENT_KEY=ordinary.secret)
    assert run.failed
    assert run.says(KEY, "an ordinary API key, which cannot manage keys", "make a management key")
    assert ordinary.secret not in run.output
    run = operator.site(OPENROUTER_MANAGEMENT_KEY=None)
    assert run.failed
    assert run.says("no management key for OpenRouter", f"environment variable {KEY}")
    assert operator.written() == []
