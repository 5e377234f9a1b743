# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/keys, /key."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .call import Answer, ApiError, Call
from .state import INTERVALS, Key, iso, to_pico, to_usd

if TYPE_CHECKING:
    from .engine import Engine

PAGE = 100
RATE_LIMIT = {
    "requests": -1,
    "interval": "10s",
    "note": "Deprecated, to be ignored.",
}


def new_secret() -> str:
    return f"sk-or-v1-{secrets.token_hex(32)}"


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def masked(secret: str) -> str:
    return f"{secret[:12]}...{secret[-3:]}"


def list_keys(engine: Engine, call: Call) -> Answer:
    workspace = engine.workspace(call.query.get("workspace_id"), missing=404)
    keys = [key for key in engine.state.keys.values() if key.workspace_id == workspace]
    if call.query.get("include_disabled") != "true":
        keys = [key for key in keys if not key.disabled]
    if call.query.get("include_expired") != "true":
        keys = [key for key in keys if not key.expired(engine.state.now)]
    keys.reverse()
    offset = call.query.get("offset") or 0
    return Answer(200, {"data": [show(engine, key) for key in keys[offset : offset + PAGE]]})


def create_key(engine: Engine, call: Call) -> Answer:
    fields = dict(call.body)
    fields["workspace_id"] = engine.workspace(fields.get("workspace_id"), missing=400)
    secret = new_secret()
    key = Key(hash=digest(secret), label=masked(secret), created_at=engine.state.now, **fields)
    engine.state.keys[key.hash] = key
    engine.enforce(key, at_once=True)
    return Answer(201, {"data": show(engine, key), "key": secret})


def get_key(engine: Engine, call: Call) -> Answer:
    return Answer(200, {"data": show(engine, find(engine, call))})


def change_key(engine: Engine, call: Call) -> Answer:
    key = find(engine, call)
    if not call.body:
        raise ApiError(400, "No update fields provided")
    changed = replace(key, **call.body, updated_at=engine.state.now)
    engine.state.keys[key.hash] = changed
    engine.enforce(changed)
    return Answer(200, {"data": show(engine, changed)})


def delete_key(engine: Engine, call: Call) -> Answer:
    # The guardrail assignment of the key stays behind, as it does at OpenRouter.
    del engine.state.keys[find(engine, call).hash]
    return Answer(200, {"deleted": True})


def current_key(engine: Engine, call: Call) -> Answer:
    if call.caller.key is None:
        management = {
            "label": "sk-or-v1-...",
            "limit": None,
            "limit_remaining": None,
            "limit_reset": None,
            "include_byok_in_limit": False,
            "creator_user_id": None,
            "expires_at": None,
            **dict.fromkeys(usage_fields(), 0),
        }
        return Answer(200, {"data": management | kind(is_management=True)})
    row = show(engine, call.caller.key)
    shown = call.route.answers[200].fields or {}
    known = {name: row[name] for name in shown["data"].fields or {} if name in row}
    return Answer(200, {"data": known | kind(is_management=False)})


def kind(*, is_management: bool) -> dict[str, Any]:
    return {
        "is_free_tier": False,
        "is_management_key": is_management,
        "is_provisioning_key": is_management,
        "rate_limit": RATE_LIMIT,
    }


def find(engine: Engine, call: Call) -> Key:
    key = engine.state.keys.get(call.path["hash"])
    if key is None:
        raise ApiError(404, "Resource not found")
    return key


def usage_fields() -> list[str]:
    names = ["usage", *(f"usage_{interval}" for interval in INTERVALS)]
    return names + [f"byok_{name}" for name in names]


def show(engine: Engine, key: Key) -> dict[str, Any]:
    now = engine.state.now
    windows = dict(zip(usage_fields(), [None, *INTERVALS] * 2, strict=True))
    spent = {
        name: to_usd((key.byok if name.startswith("byok_") else key.spend).within(window, now))
        for name, window in windows.items()
    }
    return {
        "hash": key.hash,
        "name": key.name,
        "label": key.label,
        "disabled": key.disabled,
        "limit": key.limit,
        "limit_remaining": remaining(key, now),
        "limit_reset": key.limit_reset,
        "include_byok_in_limit": key.include_byok_in_limit,
        **spent,
        "created_at": iso(key.created_at),
        "updated_at": None if key.updated_at is None else iso(key.updated_at),
        "creator_user_id": key.creator_user_id,
        "workspace_id": key.workspace_id,
        "expires_at": key.expires_at,
        "last_used_at": None if key.last_used_at is None else iso(key.last_used_at),
    }


def remaining(key: Key, now: float) -> float | None:
    if key.limit is None:
        return None
    return to_usd(max(0, to_pico(key.limit) - key.counted(key.limit_reset, now)))
