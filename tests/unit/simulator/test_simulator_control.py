# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import requests
from simulator import RemoteSimulator, Simulator
from simulator.control import CommandError
from simulator.plain import HELLO, Account, Client

Error = dict[str, Any]


@pytest.fixture(params=["inside", "over HTTP"])
def control(request: pytest.FixtureRequest, simulator: Simulator) -> Simulator | RemoteSimulator:
    """Both ways to steer the same simulator."""
    if request.param == "inside":
        return simulator
    return RemoteSimulator(simulator.url, simulator.management_key)


@pytest.mark.parametrize("status", [401, 402, 403, 429, 500, 502, 503])
def test_next_requests_fail(
    control: Simulator | RemoteSimulator, account: Account, status: int
) -> None:
    control.fault(method="GET", path="/keys(/.*)?", status=status, times=2)
    account.manager.expect(200, "GET", "/guardrails")
    account.key()
    for path in ("/keys", "/keys/x"):
        assert account.manager.expect(status, "GET", path)["error"]["code"] == status
    account.manager.get("/keys")


def test_retry_after_message_and_metadata(
    control: Simulator | RemoteSimulator, account: Account
) -> None:
    control.fault(status=429, retry_after=7, message="slow down", metadata={"a": 1})
    answer = account.manager.send("GET", "/keys")
    assert answer.headers["Retry-After"] == "7"
    assert answer.json()["error"] == {"code": 429, "message": "slow down", "metadata": {"a": 1}}


def test_skip_and_endless(control: Simulator | RemoteSimulator, account: Account) -> None:
    control.fault(path="/key", status=500)
    account.manager.get("/keys")
    control.clear_faults()
    control.fault(path="/keys", status=500, skip=1, times=0)
    account.manager.get("/keys")
    for _ignored in range(3):
        account.manager.expect(500, "GET", "/keys")
    assert len(control.faults) == 1
    control.clear_faults()
    account.manager.get("/keys")


def test_lost_reply_and_cut_before_acting(account: Account) -> None:
    account.simulator.fault(method="POST", path="/keys", cut="after")
    account.simulator.fault(method="POST", path="/keys", cut="before")
    for name in ("made", "not made"):
        with pytest.raises(requests.ConnectionError):
            account.key(name)
    assert [row["name"] for row in account.simulator.keys] == ["made"]
    assert [row.status for row in account.simulator.requests] == [201, 0]


def test_error_that_hides_a_success(account: Account) -> None:
    account.simulator.fault(method="POST", path="/keys", status=502, act=True)
    account.manager.expect(502, "POST", "/keys", {"name": "made"})
    assert [row["name"] for row in account.simulator.keys] == ["made"]


def test_error_inside_a_good_answer(account: Account) -> None:
    _ignored, client = account.key()
    account.simulator.fault(path="/chat/completions", status=502, http_status=200)
    assert client.chat("openai/gpt-4.1")["error"]["code"] == 502


def test_answer_that_breaks_off(account: Account) -> None:
    _ignored, client = account.key()
    account.simulator.fault(path="/keys", cut="middle")
    with pytest.raises(requests.RequestException):
        account.manager.get("/keys")
    account.simulator.fault(path="/chat/completions", cut="middle")
    body = {"model": "openai/gpt-4.1", "messages": HELLO, "stream": True}
    with pytest.raises(requests.RequestException):
        client.send("POST", "/chat/completions", body)


def test_delay_blocks_nobody_else(account: Account) -> None:
    account.simulator.fault(path="/keys", delay=3)
    slow = threading.Thread(target=account.manager.get, args=("/keys",))
    slow.start()
    while account.simulator.faults:
        time.sleep(0.01)
    account.manager.get("/guardrails")
    assert slow.is_alive()
    slow.join()


def test_a_stream_that_takes_its_time(account: Account) -> None:
    _ignored, client = account.key()
    account.simulator.fault(path="/chat/completions", pace=0.05)
    body = {"model": "openai/gpt-4.1", "messages": HELLO, "stream": True}
    with requests.post(
        f"{client.url}/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {client.secret}"},
        stream=True,
        timeout=10,
    ) as answer:
        arrived = [time.monotonic() for line in answer.iter_lines(1) if line]
    assert len(arrived) > 5
    assert arrived[-1] - arrived[0] >= 0.05 * (len(arrived) - 1) * 0.9


def test_a_request_that_was_sent_twice_is_known(account: Account) -> None:
    _ignored, client = account.key()
    for text in ("one", "two", "two"):
        client.chat("openai/gpt-4.1", messages=[{"role": "user", "content": text}])
    one, two, again = (row.body for row in account.simulator.requests[-3:])
    assert one != two
    assert two == again


@pytest.mark.parametrize(
    "rule",
    [{}, {"cut": "sideways"}, {"status": 500, "cut": "after"}, {"path": "("}, {"stauts": 500}],
)
def test_senseless_faults_are_refused(
    control: Simulator | RemoteSimulator, rule: dict[str, Any]
) -> None:
    with pytest.raises(CommandError):
        control.fault(**rule)
    assert control.faults == []


def test_commands_say_what_is_wrong(control: Simulator | RemoteSimulator) -> None:
    with pytest.raises(CommandError, match="no such model on offer: a/b"):
        control.expire_model("a/b")
    with pytest.raises(CommandError, match="no such key: nobody"):
        control.set_usage("nobody", 1)
    with pytest.raises(CommandError, match="unknown setting colour"):
        control.configure(colour="red")


def test_every_command_and_view_works_over_http(simulator: Simulator) -> None:
    control = RemoteSimulator(simulator.url, simulator.management_key)
    account = Account(control, Client(control.url, control.management_key))
    key_hash, client = account.key("one")
    control.set_usage("one", 2.5)
    control.set_credit(5)
    control.advance(days=1, hours=1, seconds=1)
    control.configure(refusal_status=403)
    control.expire_model("openai/o3")
    control.restore_model("openai/o3")
    control.set_expiration("openai/o3", "2999-01-01")
    control.add_model("openai/o9", like="openai/o3")
    control.add_workspace("Other", "other")
    account.assign(account.guardrail("openai/o9")["id"], key_hash)
    (row,) = control.keys
    assert (row["name"], row["usage"], row["guardrail_id"]) == (
        "one",
        2.5,
        control.guardrails[0]["id"],
    )
    assert control.state["total_credits"] == 5
    assert control.count("POST", "/keys") == 1
    assert control.violations == []
    assert str(client.secret) not in str([control.state, control.keys, control.requests])
    control.reset()
    assert (control.keys, control.requests, control.state["total_credits"]) == ([], [], 1000)
    account.manager.get("/keys")


@pytest.mark.parametrize("secret", [None, "wrong", "ordinary"])
def test_control_wants_the_management_key(account: Account, secret: str | None) -> None:
    _ignored, client = account.key()
    origin = account.simulator.url.removesuffix("/api/v1")
    asking = Client(origin, client.secret if secret == "ordinary" else secret)
    asking.expect(401, "POST", "/_simulator/reset", {})
    asking.expect(401, "GET", "/_simulator/state")
    assert len(account.simulator.keys) == 1


def test_unknown_commands_and_views(account: Account) -> None:
    account.manager.url = account.manager.url.removesuffix("/api/v1")
    for method, body in (("GET", None), ("POST", {}), ("POST", [])):
        account.manager.expect(400, method, "/_simulator/nonsense", body)
    account.manager.expect(400, "POST", "/_simulator/advance", ["days"])
    account.manager.expect(400, "POST", "/_simulator/advance", {"years": 1})


def test_requests_are_recorded_without_secrets(account: Account) -> None:
    key_hash, client = account.key()
    client.get("/key")
    recorded = account.simulator.requests
    assert [(row.method, row.path, row.status, row.caller) for row in recorded] == [
        ("POST", "/keys", 201, "management"),
        ("GET", "/key", 200, f"key:{key_hash[:12]}"),
    ]
    account.simulator.clear_log()
    assert account.simulator.requests == []


def test_fields_of_tomorrow(account: Account) -> None:
    account.simulator.configure(unknown_fields=True)
    account.key()
    (row,) = account.manager.get("/keys")["data"]
    assert "added_lately" in row
    assert account.simulator.violations == []
