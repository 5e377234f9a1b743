# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/models, /model: the catalog, whole or as one key may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .call import Answer, ApiError, Call, page
from .catalog import Row, filtered, permitted

if TYPE_CHECKING:
    from .engine import Engine

PAGE = 500
PROVIDERS = {
    "amazon": "Amazon Bedrock",
    "anthropic": "Anthropic",
    "cohere": "Cohere",
    "deepseek": "DeepSeek",
    "google": "Google",
    "mistralai": "Mistral",
    "openai": "OpenAI",
    "perplexity": "Perplexity",
    "qwen": "Alibaba",
    "x-ai": "xAI",
    "z-ai": "Z.AI",
}
OTHER_PROVIDER = "DeepInfra"


def provider(row: Row) -> str:
    return PROVIDERS.get(row["id"].lstrip("~").partition("/")[0], OTHER_PROVIDER)


def list_models(engine: Engine, call: Call) -> Answer:
    rows: list[Row] = list(engine.catalog.rows().values())
    if engine.state.settings.filtered_catalog and call.caller.key:
        rows = usable(engine, call)
    return paged(filtered(rows, dict(call.query)), call)


def list_usable(engine: Engine, call: Call) -> Answer:
    return paged(filtered(usable(engine, call), dict(call.query)), call)


def usable(engine: Engine, call: Call) -> list[Row]:
    guardrail = call.key.enforced(engine.state.now).guardrail
    return [row for row in engine.catalog.rows().values() if permitted(row, guardrail)]


def paged(rows: list[Row], call: Call) -> Answer:
    """The whole list when neither offset nor limit is asked for, else pages."""
    shown, following = rows, None
    if "offset" in call.query or "limit" in call.query:
        shown = page(rows, call, PAGE)
        end = (call.query.get("offset") or 0) + len(shown)
        if end < len(rows):
            query = {**call.query, "offset": end, "limit": call.query.get("limit") or PAGE}
            following = f"/api/v1{call.route.path}?{urlencode(query)}"
    return Answer(200, {"data": shown, "total_count": len(rows), "links": {"next": following}})


def count_models(engine: Engine, call: Call) -> Answer:
    rows = filtered(engine.catalog.rows().values(), dict(call.query))
    return Answer(200, {"data": {"count": len(rows)}})


def get_model(engine: Engine, call: Call) -> Answer:
    return Answer(200, {"data": find(engine, call)})


def get_endpoints(engine: Engine, call: Call) -> Answer:
    row = find(engine, call)
    shown = {name: row[name] for name in ("id", "name", "created", "description")}
    architecture = {"tokenizer": None, "instruct_type": None} | row["architecture"]
    endpoints = [endpoint(row)]
    return Answer(200, {"data": shown | {"architecture": architecture, "endpoints": endpoints}})


def find(engine: Engine, call: Call) -> Row:
    row = engine.catalog.find(f"{call.path['author']}/{call.path['slug']}")
    if row is None:
        raise ApiError(404, "Resource not found")
    return row


def endpoint(row: Row) -> dict[str, Any]:
    name = provider(row)
    return {
        "model_id": row["id"],
        "model_name": row["name"],
        "name": f"{name} | {row['id']}",
        "provider_name": name,
        "tag": name.lower().replace(" ", "-"),
        "status": 0,
        "context_length": row["context_length"] or 0,
        "max_completion_tokens": row["top_provider"].get("max_completion_tokens"),
        "max_prompt_tokens": None,
        "pricing": row["pricing"],
        "quantization": None,
        "supported_parameters": row["supported_parameters"],
        "supports_implicit_caching": "input_cache_read" in row["pricing"],
        "uptime_last_5m": 100.0,
        "uptime_last_30m": 100.0,
        "uptime_last_1d": 99.9,
        "latency_last_30m": None,
        "throughput_last_30m": None,
    }
