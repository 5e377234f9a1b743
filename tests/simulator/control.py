# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steering the simulator from outside: the same commands in the process and over HTTP.

Over HTTP a command is `POST /_simulator/<name>` with its arguments as a JSON object, and a view is
`GET /_simulator/<name>`; both want the management key as the bearer. No answer holds a secret.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from . import keys
from .engine import Engine
from .faults import Fault
from .state import Key, Settings, State, new_workspace, to_pico, to_usd


class CommandError(ValueError):
    """A command that does not exist, or arguments that do not fit it."""


def run(engine: Engine, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    command = COMMANDS.get(name)
    if command is None:
        raise CommandError(f"unknown command {name!r}; there are: {', '.join(sorted(COMMANDS))}")
    if not isinstance(arguments, dict):
        raise CommandError(f"{name}: the arguments must be an object")
    try:
        inspect.signature(command).bind(engine, **arguments)
    except TypeError as error:
        raise CommandError(f"{name}: {error}") from error
    with engine.lock:
        try:
            result = command(engine, **arguments)
        except (KeyError, TypeError, ValueError) as error:
            raise CommandError(f"{name}: {error}") from error
        engine.save()
    return result


def look(engine: Engine, name: str) -> dict[str, Any]:
    view = VIEWS.get(name)
    if view is None:
        raise CommandError(f"unknown view {name!r}; there are: {', '.join(sorted(VIEWS))}")
    with engine.lock:
        return view(engine)


# --- commands -------------------------------------------------------------------------------------


def fault(engine: Engine, **rule: Any) -> dict[str, Any]:
    engine.faults.add(Fault(**rule))
    return {}


def clear_faults(engine: Engine) -> dict[str, Any]:
    engine.faults.clear()
    return {}


def clear_log(engine: Engine) -> dict[str, Any]:
    """Forget the recorded requests and violations."""
    engine.requests.clear()
    engine.violations.clear()
    return {}


def reset(engine: Engine) -> dict[str, Any]:
    """Begin anew; the management keys stay."""
    hashes = engine.state.management_hashes
    engine.start(State.fresh())
    engine.state.management_hashes = hashes
    engine.faults.clear()
    return clear_log(engine)


def advance(
    engine: Engine, days: float = 0, hours: float = 0, seconds: float = 0
) -> dict[str, Any]:
    engine.state.clock_offset += days * 86400 + hours * 3600 + seconds
    return {"now": engine.state.now}


def settings(engine: Engine, **changes: Any) -> dict[str, Any]:
    known = {item.name for item in fields(Settings)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"unknown setting {', '.join(unknown)}; there are: {', '.join(known)}")
    engine.state.settings = Settings(**asdict(engine.state.settings) | changes)
    return asdict(engine.state.settings)


def expire_model(engine: Engine, model: str) -> dict[str, Any]:
    """Take a model off the list; inference then says that it is deprecated."""
    if model not in engine.catalog.rows():
        raise ValueError(f"no such model on offer: {model}")
    engine.state.models_removed.append(model)
    return {}


def restore_model(engine: Engine, model: str) -> dict[str, Any]:
    engine.state.models_removed.remove(model)
    return {}


def set_expiration(engine: Engine, model: str, date: str | None) -> dict[str, Any]:
    """Announce the end of a model (YYYY-MM-DD), or take it back (None)."""
    if model not in engine.catalog.rows():
        raise ValueError(f"no such model on offer: {model}")
    engine.state.expirations[model] = date
    return {}


def add_model(engine: Engine, model: str, like: str, **changes: Any) -> dict[str, Any]:
    """Offer a new model: a copy of `like` with another id, its own canonical slug, and changes."""
    copied = engine.catalog.known()[like]
    named = {"id": model, "canonical_slug": model.partition(":")[0], "name": model}
    engine.state.models_added.append({**copied, **named, **changes})
    return {}


def set_credit(engine: Engine, total_credits: float) -> dict[str, Any]:
    """What was ever bought, in USD; what is left is this minus the usage."""
    engine.state.total_credits = to_pico(total_credits)
    return {}


def set_usage(engine: Engine, key: str, usage: float, byok: float = 0) -> dict[str, Any]:
    """Spend of a key (by hash or name) in USD: for ever, today, this week and this month alike.

    ``byok`` is what was spent with provider keys of one's own.
    """
    row = find(engine, key)
    row.spend.set(to_pico(usage), engine.state.now)
    row.byok.set(to_pico(byok), engine.state.now)
    return {}


def add_workspace(engine: Engine, name: str, slug: str) -> dict[str, Any]:
    row = new_workspace(name, slug, engine.state.now)
    engine.state.workspaces.append(row)
    return {"id": row["id"]}


def find(engine: Engine, key: str) -> Key:
    for candidate in engine.state.keys.values():
        if key in (candidate.hash, candidate.name):
            return candidate
    raise ValueError(f"no such key: {key}")


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "fault": fault,
    "clear_faults": clear_faults,
    "clear_log": clear_log,
    "reset": reset,
    "advance": advance,
    "settings": settings,
    "expire_model": expire_model,
    "restore_model": restore_model,
    "set_expiration": set_expiration,
    "add_model": add_model,
    "set_credit": set_credit,
    "set_usage": set_usage,
    "add_workspace": add_workspace,
}


# --- views ----------------------------------------------------------------------------------------


def view_state(engine: Engine) -> dict[str, Any]:
    """Counts and money at a glance."""
    state = engine.state
    return {
        "keys": len(state.keys),
        "guardrails": len(state.guardrails),
        "assignments": len(state.assignments),
        "models": len(engine.catalog.rows()),
        "requests": len(engine.requests),
        "violations": len(engine.violations),
        "faults": len(engine.faults.pending),
        "total_credits": to_usd(state.total_credits),
        "total_usage": to_usd(state.total_usage),
        "now": state.now,
        "settings": asdict(state.settings),
    }


def view_keys(engine: Engine) -> dict[str, Any]:
    """Every key, also disabled and expired ones, oldest first, with its guardrail's id."""
    rows = [
        keys.show(engine, key) | {"guardrail_id": guardrail_of(engine, key)}
        for key in engine.state.keys.values()
    ]
    return {"keys": rows}


def guardrail_of(engine: Engine, key: Key) -> str | None:
    for row in engine.state.assignments:
        if row.key_hash == key.hash:
            return row.guardrail_id
    return None


def view_guardrails(engine: Engine) -> dict[str, Any]:
    rows = [
        {"id": row.id, "workspace_id": row.workspace_id, **row.settings}
        for row in engine.state.guardrails.values()
    ]
    return {"guardrails": rows}


def view_requests(engine: Engine) -> dict[str, Any]:
    return {"requests": [asdict(request) for request in engine.requests]}


def view_violations(engine: Engine) -> dict[str, Any]:
    return {"violations": list(engine.violations)}


def view_faults(engine: Engine) -> dict[str, Any]:
    return {"faults": engine.faults.shown()}


VIEWS: dict[str, Callable[[Engine], dict[str, Any]]] = {
    "state": view_state,
    "keys": view_keys,
    "guardrails": view_guardrails,
    "requests": view_requests,
    "violations": view_violations,
    "faults": view_faults,
}
