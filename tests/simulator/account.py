# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/credits, /activity, /workspaces."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .call import Answer, ApiError, Call, page
from .state import to_usd

if TYPE_CHECKING:
    from .engine import Engine

PAGE = 50
DAYS_KEPT = 30
COUNTED = ("requests", "prompt_tokens", "completion_tokens", "reasoning_tokens")


def balance(engine: Engine, _call: Call) -> Answer:
    state = engine.state
    totals = {
        "total_credits": to_usd(state.total_credits),
        "total_usage": to_usd(state.total_usage),
    }
    return Answer(200, {"data": totals})


def workspaces(engine: Engine, call: Call) -> Answer:
    rows = engine.state.workspaces
    return Answer(200, {"data": page(rows, call, PAGE), "total_count": len(rows)})


def record(engine: Engine, key_hash: str, row: dict[str, Any]) -> None:
    """Add one generation to the sums for /activity, kept for each day, key and model.

    `row`: model, model_permaslug, provider_name, cost, and what COUNTED names.
    """
    date = datetime.fromtimestamp(engine.state.now, UTC).date().isoformat()
    for known in engine.state.activity:
        if (known["date"], known["key_hash"], known["model"]) == (date, key_hash, row["model"]):
            for name in (*COUNTED, "cost"):
                known[name] += row[name]
            return
    engine.state.activity.append({"date": date, "key_hash": key_hash, **row})


def activity(engine: Engine, call: Call) -> Answer:
    """The last 30 completed UTC days, a row for each day and model; today is never in it."""
    today = datetime.fromtimestamp(engine.state.now, UTC).date()
    days = {(today - timedelta(days=back)).isoformat() for back in range(1, DAYS_KEPT + 1)}
    date, key_hash = call.query.get("date"), call.query.get("api_key_hash")
    if date is not None and date not in days:
        raise ApiError(400, "Date must be within the last 30 (completed) UTC days")
    if key_hash is not None and key_hash not in engine.state.keys:
        raise ApiError(404, "Resource not found")
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in engine.state.activity:
        if row["date"] not in days or row["date"] != (date or row["date"]):
            continue
        if key_hash in (None, row["key_hash"]):
            add(groups.setdefault((row["date"], row["model"]), start(row)), row)
    ordered = sorted(groups.values(), key=lambda row: (row["date"], row["model"]), reverse=True)
    return Answer(200, {"data": ordered})


def start(row: dict[str, Any]) -> dict[str, Any]:
    named = {name: row[name] for name in ("date", "model", "model_permaslug", "provider_name")}
    zeros = dict.fromkeys(COUNTED, 0)
    return {**named, **zeros, "endpoint_id": row["model"], "usage": 0, "byok_usage_inference": 0}


def add(total: dict[str, Any], row: dict[str, Any]) -> None:
    for name in COUNTED:
        total[name] += row[name]
    total["usage"] += to_usd(row["cost"])
