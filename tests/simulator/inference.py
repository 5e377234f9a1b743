# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/chat/completions, /responses, /generation: answers that cost money, and every refusal."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from . import account
from .call import Answer, ApiError, Call
from .catalog import Row, permitted
from .models import provider
from .state import PICO, Policy, iso, to_pico, to_usd, window_end

if TYPE_CHECKING:
    from .engine import Engine

MINIMUM_TOKENS = 16
REASONING_TOKENS = 64
GENERATIONS_KEPT = 500
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Completion:
    """One answer of a model, before it is put into the form of an endpoint."""

    id: str
    row: Row
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost: int
    created: int


def chat(engine: Engine, call: Call) -> Answer:
    body = call.body
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    texts, images = read_messages(body["messages"])
    done = complete(engine, call, texts, limit, images=images)
    headers = {"X-Generation-Id": done.id}
    if body.get("stream"):
        return Answer(200, {}, headers, list(chat_chunks(done)))
    return Answer(200, chat_answer(done), headers)


def responses(engine: Engine, call: Call) -> Answer:
    body = call.body
    given = body.get("input", "")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    texts, images = read_messages(given)
    texts.insert(0, body.get("instructions") or "")
    done = complete(engine, call, texts, body.get("max_output_tokens"), images=images)
    headers = {"X-Generation-Id": done.id}
    if body.get("stream"):
        return Answer(200, {}, headers, list(response_events(done, body)))
    return Answer(200, response_answer(done, body), headers)


def generation(engine: Engine, call: Call) -> Answer:
    found = engine.state.generations.get(call.query["id"])
    if found is None:
        raise ApiError(404, f"Generation {call.query['id']} not found")
    return Answer(200, {"data": found})


# --- from a request to a completion -------------------------------------------------------------


def complete(
    engine: Engine, call: Call, texts: list[str], limit: int | None, *, images: bool
) -> Completion:
    rows = [resolve(engine, name) for name in wanted(call.body)]
    check_money(engine, call)
    row = first_usable(engine, call, rows)
    check_budget(engine, call)
    check_abilities(row, call.body, limit, images=images)
    done = answer(engine, row, texts, limit)
    book(engine, call, done)
    return done


def wanted(body: dict[str, Any]) -> list[str]:
    """The model and its fallbacks, in the order in which they are tried."""
    names = [body["model"]] if body.get("model") else []
    names += body.get("models") or []
    if not names:
        raise ApiError(400, "No models provided")
    return list(dict.fromkeys(names))


def resolve(engine: Engine, name: str) -> Row | ApiError:
    """The row of a model, or why it cannot be used. Raises ApiError for a name that never was."""
    row = engine.catalog.find(name)
    if row is None and engine.catalog.gone(name) is None:
        raise ApiError(
            400,
            f"{name} is not a valid model ID",
            availability={"code": "model_not_found", "retryable": False},
        )
    if row is None:
        return deprecated(engine, name)
    if "text" not in row["architecture"]["output_modalities"]:
        return ApiError(404, f"No endpoints found that support text output for {name}")
    return row


def deprecated(engine: Engine, name: str) -> ApiError:
    author = name.partition("/")[0]
    others = [row["id"] for row in engine.catalog.rows().values() if priced(row)]
    fallbacks = [other for other in others if other.startswith(f"{author}/")][:3]
    return ApiError(
        404,
        f"No endpoints found for {name}. The model has been deprecated.",
        availability={
            "code": "model_deprecated",
            "retryable": False,
            "fallback_models": fallbacks,
        },
    )


def priced(row: Row) -> bool:
    return Decimal(row["pricing"]["prompt"]) >= 0


def check_money(engine: Engine, call: Call) -> None:
    state = engine.state
    if state.total_usage >= state.total_credits:
        raise ApiError(
            402,
            "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
            {"limit_source": "openrouter_credits"},
        )
    policy = call.key.enforced(state.now)
    spent = call.key.counted(policy.limit_reset, state.now)
    if policy.limit is not None and spent >= to_pico(policy.limit):
        raise used_up(engine, policy, spent)


def used_up(engine: Engine, policy: Policy, spent: int) -> ApiError:
    reset = policy.limit_reset
    return ApiError(
        engine.state.settings.key_limit_status,
        f"Key limit exceeded ({reset or 'total'} limit). "
        "Manage it using https://openrouter.ai/settings/keys",
        {
            "limit_source": "openrouter_key_limit",
            "scope": "key_limit",
            "limit_usd": policy.limit,
            "spend_usd": to_usd(spent),
            "resets_at": window_end(reset, engine.state.now) if reset else None,
        },
    )


def first_usable(engine: Engine, call: Call, rows: list[Row | ApiError]) -> Row:
    """The first of the wanted models that is on offer and inside the allowlist."""
    guardrail = call.key.enforced(engine.state.now).guardrail
    refused: ApiError | None = None
    for row in rows:
        if isinstance(row, ApiError):
            refused = refused or row
            continue
        chosen = routed(engine, row, guardrail)
        if chosen is not None:
            return chosen
        refused = refused or not_permitted(engine, row)
    assert refused is not None
    raise refused


def routed(engine: Engine, row: Row, guardrail: dict[str, Any] | None) -> Row | None:
    """The concrete model: for an alias its target, for a router the cheapest permitted one."""
    if "alias_target" in row:
        row = engine.catalog.rows().get(row["alias_target"]["slug"], row)
    if not row["id"].startswith("openrouter/"):
        return row if permitted(row, guardrail) else None
    free = Decimal(row["pricing"]["prompt"]) == 0
    choices = [
        choice
        for choice in engine.catalog.rows().values()
        if not choice["id"].startswith(("openrouter/", "~"))
        and "text" in choice["architecture"]["output_modalities"]
        and (Decimal(choice["pricing"]["prompt"]) == 0) == free
        and permitted(choice, guardrail)
    ]
    return min(choices, key=lambda choice: Decimal(choice["pricing"]["prompt"]), default=None)


def not_permitted(engine: Engine, row: Row) -> ApiError:
    return ApiError(
        engine.state.settings.refusal_status,
        "No endpoints available matching your guardrail restrictions and data policy. "
        "Configure: https://openrouter.ai/settings/privacy",
        {
            "failed_routing_step": "Filter by Guardrails",
            "ineligibility_reasons": [
                {"endpoint": provider(row), "reason": "model-ignored-by-guardrail"}
            ],
        },
    )


def check_budget(engine: Engine, call: Call) -> None:
    """The budget of the guardrail, counted for each key on its own."""
    now = engine.state.now
    guardrail = call.key.enforced(now).guardrail
    if guardrail is None or guardrail["limit_usd"] is None:
        return
    spent = call.key.spend.within(guardrail["reset_interval"], now)
    if spent >= to_pico(guardrail["limit_usd"]):
        raise ApiError(
            403,
            f"Guardrail budget exceeded ({guardrail['reset_interval']} limit)",
            {
                "limit_source": "openrouter_guardrail_budget",
                "scope": "api_key",
                "limit_usd": guardrail["limit_usd"],
                "spend_usd": to_usd(spent),
                "resets_at": window_end(guardrail["reset_interval"], now),
            },
        )


def check_abilities(row: Row, body: dict[str, Any], limit: int | None, *, images: bool) -> None:
    if images and "image" not in row["architecture"]["input_modalities"]:
        raise ApiError(404, "No endpoints found that support image input")
    if body.get("tools") and "tools" not in row["supported_parameters"]:
        raise ApiError(404, "No endpoints found that support tool use")
    if limit is not None and limit < 1:
        raise ApiError(400, "max_tokens must be at least 1")
    if limit is not None and limit < MINIMUM_TOKENS and row["id"].startswith("openai/"):
        raise ApiError(
            400,
            "Provider returned error",
            {
                "provider_name": provider(row),
                "raw": "Invalid 'max_output_tokens': integer below minimum value. "
                f"Expected a value >= {MINIMUM_TOKENS}, but got {limit} instead.",
            },
        )


def read_messages(messages: list[Any]) -> tuple[list[str], bool]:
    """All texts, and whether there is an image among the parts."""
    texts, images = [], False
    for message in messages:
        content = message.get("content") or ""
        parts = [{"text": content}] if isinstance(content, str) else content
        for part in parts:
            texts.append(part.get("text") or "")
            images = images or part.get("type") in ("image_url", "input_image")
    return texts, images


def answer(engine: Engine, row: Row, texts: list[str], limit: int | None) -> Completion:
    """A model that always reasons spends on that first, and may have nothing left to say."""
    last = texts[-1] if texts else ""
    mandatory = row.get("reasoning", {}).get("mandatory", False)
    room = limit or 10**6
    reasoning = min(room, REASONING_TOKENS) if mandatory else 0
    words = f"This is {row['name']}, simulated. You said: {last[:200]}".split()
    said = words[: room - reasoning]
    prompt_tokens = 4 + sum(map(len, texts)) // CHARACTERS_PER_TOKEN
    completion_tokens = reasoning + len(said)
    price = {side: int(Decimal(row["pricing"][side]) * PICO) for side in ("prompt", "completion")}
    return Completion(
        id=f"gen-{int(engine.state.now)}-{secrets.token_hex(10)}",
        row=row,
        text=" ".join(said),
        finish_reason="stop" if len(said) == len(words) else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        reasoning_tokens=reasoning,
        cost=prompt_tokens * price["prompt"] + completion_tokens * price["completion"],
        created=int(engine.state.now),
    )


def book(engine: Engine, call: Call, done: Completion) -> None:
    state = engine.state
    call.key.spend.add(done.cost, state.now)
    call.key.last_used_at = state.now
    state.total_usage += done.cost
    counts = {
        "requests": 1,
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "reasoning_tokens": done.reasoning_tokens,
    }
    names = {"model": done.row["id"], "model_permaslug": done.row["canonical_slug"]}
    row = {**names, "provider_name": provider(done.row), "cost": done.cost, **counts}
    account.record(engine, call.key.hash, row)
    state.generations[done.id] = {
        "id": done.id,
        "model": done.row["canonical_slug"],
        "created_at": iso(state.now),
        "provider_name": provider(done.row),
        "streamed": bool(call.body.get("stream")),
        "finish_reason": done.finish_reason,
        "tokens_prompt": done.prompt_tokens,
        "tokens_completion": done.completion_tokens,
        "native_tokens_reasoning": done.reasoning_tokens,
        "total_cost": to_usd(done.cost),
        "usage": to_usd(done.cost),
    }
    for old in list(state.generations)[:-GENERATIONS_KEPT]:
        del state.generations[old]


# --- the two forms of an answer -------------------------------------------------------------------


def chat_usage(done: Completion) -> dict[str, Any]:
    prompt_cost = int(Decimal(done.row["pricing"]["prompt"]) * PICO) * done.prompt_tokens
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "total_tokens": done.prompt_tokens + done.completion_tokens,
        "cost": to_usd(done.cost),
        "is_byok": False,
        "cost_details": {
            "upstream_inference_cost": None,
            "upstream_inference_prompt_cost": to_usd(prompt_cost),
            "upstream_inference_completions_cost": to_usd(done.cost - prompt_cost),
        },
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": done.reasoning_tokens},
    }


def chat_answer(done: Completion) -> dict[str, Any]:
    message = {"role": "assistant", "content": done.text, "reasoning": None, "refusal": None}
    choice = {
        "index": 0,
        "finish_reason": done.finish_reason,
        "logprobs": None,
        "message": message,
    }
    return {
        **chat_head(done, "chat.completion"),
        "system_fingerprint": None,
        "choices": [choice],
        "usage": chat_usage(done),
    }


def chat_head(done: Completion, kind: str) -> dict[str, Any]:
    return {
        "id": done.id,
        "object": kind,
        "created": done.created,
        "model": done.row["id"],
        "provider": provider(done.row),
    }


def chat_chunks(done: Completion) -> Iterator[dict[str, Any]]:
    head = chat_head(done, "chat.completion.chunk")

    def chunk(content: str, finish_reason: str | None = None) -> dict[str, Any]:
        delta = {"role": "assistant", "content": content}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {**head, "choices": [choice]}

    for piece in pieces(done.text):
        yield chunk(piece)
    yield chunk("", done.finish_reason)
    yield {**head, "choices": [], "usage": chat_usage(done)}


def pieces(text: str) -> list[str]:
    words = text.split()
    return [word if number == 0 else f" {word}" for number, word in enumerate(words)]


def response_answer(done: Completion, body: dict[str, Any]) -> dict[str, Any]:
    complete_text = done.finish_reason == "stop"
    return {
        "id": done.id,
        "object": "response",
        "created_at": done.created,
        "completed_at": done.created,
        "status": "completed" if complete_text else "incomplete",
        "model": done.row["id"],
        "error": None,
        "incomplete_details": None if complete_text else {"reason": "max_output_tokens"},
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata"),
        "output": [response_message(done)] if done.text else [],
        "parallel_tool_calls": body.get("parallel_tool_calls") or False,
        "frequency_penalty": body.get("frequency_penalty"),
        "presence_penalty": body.get("presence_penalty"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "max_output_tokens": body.get("max_output_tokens"),
        "usage": {
            "input_tokens": done.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": done.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": done.reasoning_tokens},
            "total_tokens": done.prompt_tokens + done.completion_tokens,
            "cost": to_usd(done.cost),
            "is_byok": False,
        },
    }


def response_message(done: Completion) -> dict[str, Any]:
    return {
        "id": f"msg_{done.id}",
        "type": "message",
        "role": "assistant",
        "status": "completed" if done.finish_reason == "stop" else "incomplete",
        "content": [{"type": "output_text", "text": done.text, "annotations": []}],
    }


def response_events(done: Completion, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    final = response_answer(done, body)
    begun = json.loads(json.dumps(final)) | {
        "status": "in_progress",
        "completed_at": None,
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }
    item = response_message(done)
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    if done.text:
        opened = item | {"status": "in_progress", "content": []}
        events += [
            {"type": "response.output_item.added", "output_index": 0, "item": opened},
            {"type": "response.content_part.added", **place, "part": empty},
            *(
                {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
                for piece in pieces(done.text)
            ),
            {"type": "response.output_text.done", **place, "text": done.text, "logprobs": []},
            {"type": "response.content_part.done", **place, "part": item["content"][0]},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
        ]
    ending = "completed" if final["status"] == "completed" else "incomplete"
    events.append({"type": f"response.{ending}", "response": final})
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}
