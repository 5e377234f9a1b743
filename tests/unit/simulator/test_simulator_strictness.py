# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import requests
from simulator.call import Answer
from simulator.engine import HANDLERS
from simulator.plain import HELLO, Account

CHAT: dict[str, Any] = {"model": "openai/gpt-4.1", "messages": HELLO}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/auth/key"),
        ("GET", "/keys/"),
        ("PUT", "/keys"),
        ("HEAD", "/models"),
        ("GET", "/"),
        ("POST", "/guardrails/x/assignments/members"),
    ],
)
def test_unknown_routes(account: Account, method: str, path: str) -> None:
    answer = account.manager.send(method, path)
    assert answer.status_code == 404
    assert account.simulator.violations == [f"{method} {path}: unknown route"]
    if method != "HEAD":
        assert answer.json()["error"]["message"] == f"unknown route: {method} {path}"


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("/keys", {}, "body.name: required, but missing"),
        ("/keys", {"name": ""}, "body.name: min_length is 1, got 0"),
        ("/keys", {"name": "a", "disabled": True}, "body.disabled: unknown field"),
        ("/keys", {"name": "a", "limit": "5"}, "body.limit: expected number|null, got string"),
        ("/keys", {"name": "a", "limit": True}, "body.limit: expected number|null, got boolean"),
        ("/keys", {"name": "a", "limit": -1}, "body.limit: min is 0, got -1"),
        (
            "/keys",
            {"name": "a", "limit_reset": "never"},
            "body.limit_reset: expected one of daily, weekly, monthly, null, got 'never'",
        ),
        (
            "/keys",
            {"name": "a", "expires_at": "2027-01-01T00:00Z"},
            "body.expires_at: not a valid date-time: '2027-01-01T00:00Z'",
        ),
        (
            "/keys",
            {"name": "a", "expires_at": "2027-01-01T00:00:00+01:00"},
            "body.expires_at: not a valid date-time: '2027-01-01T00:00:00+01:00'",
        ),
        (
            "/guardrails",
            {"name": "g", "allowed_models": []},
            "body.allowed_models: min_items is 1, got 0",
        ),
        ("/guardrails", {"name": "g" * 201}, "body.name: max_length is 200, got 201"),
        (
            "/guardrails",
            {"name": "g", "workspace_id": "default"},
            "body.workspace_id: not a valid uuid: 'default'",
        ),
        ("/keys", ["name"], "body: expected object, got list"),
        ("/keys", None, "body: expected object, got null"),
    ],
)
def test_bodies_that_do_not_fit(account: Account, path: str, body: Any, problem: str) -> None:
    error = account.manager.expect(400, "POST", path, body)["error"]
    assert problem in error["message"]
    assert account.simulator.violations == [f"POST {path}: {problem}"]
    assert account.simulator.state["keys"] == account.simulator.state["guardrails"] == 0


@pytest.mark.parametrize("field", ["expires_at", "workspace_id", "creator_user_id", "usage"])
def test_what_cannot_be_changed(account: Account, field: str) -> None:
    key_hash, _ignored = account.key()
    account.manager.expect(400, "PATCH", f"/keys/{key_hash}", {field: None})
    assert account.simulator.violations == [f"PATCH /keys/{{hash}}: body.{field}: unknown field"]


@pytest.mark.parametrize(
    ("path", "query", "problem"),
    [
        ("/keys", {"limit": 10}, "query.limit: unknown field"),
        (
            "/keys",
            {"include_disabled": "True"},
            "query.include_disabled: expected one of true, false",
        ),
        ("/keys", {"offset": -1}, "query.offset: min is 0, got -1"),
        ("/guardrails", {"limit": 101}, "query.limit: max is 100, got 101"),
        ("/guardrails", {"limit": "many"}, "query.limit: expected integer, got string"),
        ("/models", {"sort": "most-popular"}, "query.sort: expected one of newest"),
        ("/key", {"x": 1}, "query.x: unknown field"),
        ("/generation", {}, "query.id: required, but missing"),
    ],
)
def test_queries_that_do_not_fit(
    account: Account, path: str, query: dict[str, Any], problem: str
) -> None:
    asking = account.key()[1] if path == "/generation" else account.manager
    asking.expect(400, "GET", path, **query)
    assert account.simulator.violations[0].startswith(f"GET {path}: {problem}")


@pytest.mark.parametrize("data", [b"{", b"\xff", b'{"name": "a", "limit": NaN}'])
def test_bodies_that_are_not_json(account: Account, data: bytes) -> None:
    headers = {"Authorization": f"Bearer {account.simulator.management_key}"}
    answer = requests.post(f"{account.simulator.url}/keys", data=data, headers=headers, timeout=5)
    assert answer.status_code == 400
    assert account.simulator.violations == ["POST /keys: the body is not JSON"]


def test_no_body_where_none_belongs(account: Account) -> None:
    key_hash, _ignored = account.key()
    account.manager.expect(400, "DELETE", f"/keys/{key_hash}", {"sure": True})
    account.manager.get(f"/keys/{key_hash}")


def test_what_open_webui_and_openai_clients_send_is_taken(account: Account) -> None:
    _ignored, client = account.key()
    fields = {
        "stream": False,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "top_p": 0.9,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "max_tokens": 64,
        "seed": 1,
        "stop": ["END"],
        "logit_bias": {"50256": -100},
        "response_format": {"type": "json_object"},
        "reasoning_effort": "low",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto",
        "user": "someone",
        "metadata": {"chat_id": "1"},
        "n": 1,
        "store": False,
    }
    client.expect(200, "POST", "/chat/completions", CHAT | fields)
    client.expect(400, "POST", "/chat/completions", CHAT | {"max_token": 64})
    assert account.simulator.violations == ["POST /chat/completions: body.max_token: unknown field"]


def test_a_refused_key_is_told_nothing_about_its_body(account: Account) -> None:
    _ignored, client = account.key()
    client.expect(403, "POST", "/keys", {"nonsense": 1})
    assert account.simulator.violations == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(200, {"data": {"total_credits": 1}}), "data.total_usage: required, but missing"),
        (Answer(200, {"data": {}, "more": 1}), "answer 200.more: unknown field"),
        (Answer(418, {}), "status 418 is not in the table"),
    ],
)
def test_the_simulator_obeys_the_table_too(
    account: Account, monkeypatch: pytest.MonkeyPatch, answer: Answer, problem: str
) -> None:
    monkeypatch.setitem(HANDLERS, "GET /credits", lambda _engine, _call: answer)
    account.manager.send("GET", "/credits")
    assert any(problem in line for line in account.simulator.violations)
