# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from simulator.plain import HELLO, Account, Client

pytestmark = pytest.mark.usefixtures("law_abiding")

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def events(answer: requests.Response) -> list[Any]:
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line[:1] == "d"]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.fixture
def client(account: Account) -> Client:
    return account.key()[1]


def test_chat_costs_what_the_catalog_says(client: Client) -> None:
    answer = client.chat("openai/gpt-4.1")
    usage = answer["usage"]
    expected = usage["prompt_tokens"] * 2e-6 + usage["completion_tokens"] * 8e-6
    assert usage["cost"] == pytest.approx(expected)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert "hello" in answer["choices"][0]["message"]["content"]


def test_free_models_cost_nothing(client: Client) -> None:
    assert client.chat("google/gemma-3-27b-it:free")["usage"]["cost"] == 0
    assert client.get("/key")["data"]["usage"] == 0


def test_stream_says_the_same(client: Client) -> None:
    body = {"model": "openai/gpt-4.1", "messages": HELLO}
    whole = client.expect(200, "POST", "/chat/completions", body)
    answer = client.send("POST", "/chat/completions", body | {"stream": True})
    chunks = events(answer)
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert answer.headers["X-Generation-Id"] == chunks[0]["id"]


def test_responses(client: Client) -> None:
    body = {"model": "openai/gpt-4.1", "input": "hello", "instructions": "be short"}
    whole = client.expect(200, "POST", "/responses", body)
    assert whole["status"] == "completed"
    assert "hello" in whole["output"][0]["content"][0]["text"]
    stream = events(client.send("POST", "/responses", body | {"stream": True}))
    text = "".join(event.get("delta", "") for event in stream)
    assert text == whole["output"][0]["content"][0]["text"]
    assert stream[-1]["type"] == "response.completed"
    assert stream[-1]["response"]["usage"]["cost"] == whole["usage"]["cost"] > 0


def test_responses_takes_messages_and_is_fenced_too(account: Account) -> None:
    _ignored, client = account.fenced("openai/gpt-4.1")
    parts = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
    client.expect(200, "POST", "/responses", {"model": "openai/gpt-4.1", "input": parts})
    body = {"model": "openai/gpt-4o", "input": parts}
    error = client.expect(404, "POST", "/responses", body)["error"]
    assert "guardrail" in error["message"]


def test_generation(account: Account, client: Client) -> None:
    answer = client.chat("openai/gpt-4.1")
    found = client.get("/generation", id=answer["id"])["data"]
    assert found["total_cost"] == answer["usage"]["cost"]
    client.expect(404, "GET", "/generation", id="gen-none")
    account.manager.expect(401, "GET", "/generation", id=answer["id"])


def test_model_outside_the_allowlist(account: Account) -> None:
    _ignored, client = account.fenced("openai/gpt-4.1")
    error = client.refused(404, "openai/gpt-4o")["error"]
    assert "guardrail restrictions" in error["message"]
    assert error["metadata"]["failed_routing_step"] == "Filter by Guardrails"
    account.simulator.configure(refusal_status=403)
    assert client.refused(403, "openai/gpt-4o")["error"]["code"] == 403
    assert client.get("/key")["data"]["usage"] == 0


def test_variants_are_entries_of_their_own(account: Account) -> None:
    _ignored, client = account.fenced("openai/gpt-4o")
    client.chat("openai/gpt-4o")
    client.chat("openai/gpt-4o:nitro")
    client.refused(404, "openai/gpt-4o:extended")


def test_name_that_never_was(client: Client) -> None:
    for fields in ({}, {"models": ["openai/gpt-4.1"]}):
        error = client.refused(400, "openai/gpt-99", **fields)["error"]
        assert error["message"] == "openai/gpt-99 is not a valid model ID"


def test_fallbacks_are_tried_in_order_and_fenced(account: Account) -> None:
    _ignored, client = account.fenced("openai/gpt-4.1", "openai/o3")
    assert client.chat("openai/gpt-4o", models=["openai/gpt-4.1"])["model"] == "openai/gpt-4.1"
    account.simulator.expire_model("openai/gpt-4.1")
    both = ["openai/gpt-4.1", "openai/o3"]
    assert client.chat("openai/gpt-4o", models=both)["model"] == "openai/o3"
    client.refused(404, "openai/gpt-4o", models=["x-ai/grok-4"])
    body = {"models": ["x-ai/grok-4", "openai/o3"], "messages": HELLO}
    assert client.expect(200, "POST", "/chat/completions", body)["model"] == "openai/o3"
    client.expect(400, "POST", "/chat/completions", {"messages": HELLO})


def test_alias_and_router_answer_with_a_concrete_permitted_model(account: Account) -> None:
    _ignored, client = account.fenced("anthropic/claude-sonnet-4.6", "openai/gpt-4o-mini")
    latest = client.chat("~anthropic/claude-sonnet-latest")
    assert latest["model"] == "anthropic/claude-sonnet-4.6"
    assert client.chat("openrouter/auto")["model"] == "openai/gpt-4o-mini"
    client.refused(404, "openrouter/free")
    client.refused(404, "~openai/gpt-latest")


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_too_few_tokens_for_openai(client: Client, field: str) -> None:
    error = client.refused(400, "openai/gpt-4.1", **{field: 15})["error"]
    assert "Expected a value >= 16" in error["metadata"]["raw"]
    assert client.chat("openai/gpt-4.1", **{field: 16})["usage"]["completion_tokens"] <= 16
    client.chat("anthropic/claude-sonnet-4", **{field: 1})


def test_answer_is_cut_at_the_limit(client: Client) -> None:
    answer = client.chat("anthropic/claude-sonnet-4", max_tokens=2)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


def test_reasoning_can_use_up_all_tokens(client: Client) -> None:
    answer = client.chat("openai/o3", max_tokens=16)
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 16
    body = {"model": "openai/o3", "input": "hello", "max_output_tokens": 16}
    assert client.expect(200, "POST", "/responses", body)["status"] == "incomplete"


def test_models_only_do_what_they_can(client: Client) -> None:
    message = [{"role": "user", "content": [PICTURE, {"type": "text", "text": "what is it"}]}]
    client.chat("openai/gpt-4.1", messages=message)
    error = client.refused(404, "openai/o3-mini", messages=message)["error"]
    assert error["message"].endswith("support image input")
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    client.chat("openai/gpt-4.1", tools=[tool])
    error = client.refused(404, "google/gemma-3-12b-it", tools=[tool])["error"]
    assert error["message"].endswith("support tool use")
    client.refused(404, "openai/text-embedding-3-small")
