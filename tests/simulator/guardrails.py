# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/guardrails and their assignments to keys."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from .call import Answer, ApiError, Call, page
from .catalog import entry
from .state import ACCOUNT_USER, Assignment, Guardrail, iso

if TYPE_CHECKING:
    from .engine import Engine

PAGE = 50
BUDGET = ("limit_usd", "reset_interval")


def list_guardrails(engine: Engine, call: Call) -> Answer:
    workspace = engine.workspace(call.query.get("workspace_id"), missing=400)
    rows = [row for row in engine.state.guardrails.values() if row.workspace_id == workspace]
    rows.reverse()
    shown = [show(row) for row in page(rows, call, PAGE)]
    return Answer(200, {"data": shown, "total_count": len(rows)})


def create_guardrail(engine: Engine, call: Call) -> Answer:
    settings = dict(call.body)
    workspace = engine.workspace(settings.pop("workspace_id", None), missing=400)
    check(engine, settings, workspace)
    assert call.route.body is not None
    assert call.route.body.fields is not None
    names = set(call.route.body.fields) - {"workspace_id"}
    defaults: dict[str, Any] = dict.fromkeys(names) | {"include_byok_in_budgets": False}
    guardrail = Guardrail(
        id=str(uuid.uuid4()),
        workspace_id=workspace,
        created_at=engine.state.now,
        updated_at=None,
        settings=defaults | settings,
    )
    engine.state.guardrails[guardrail.id] = guardrail
    return Answer(201, {"data": show(guardrail)})


def get_guardrail(engine: Engine, call: Call) -> Answer:
    return Answer(200, {"data": show(find(engine, call))})


def change_guardrail(engine: Engine, call: Call) -> Answer:
    guardrail = find(engine, call)
    settings = dict(call.body)
    if not settings:
        raise ApiError(400, "No update fields provided")
    check(engine, settings, guardrail.workspace_id, guardrail)
    guardrail.settings |= settings
    guardrail.updated_at = engine.state.now
    enforce_assigned(engine, guardrail.id)
    return Answer(200, {"data": show(guardrail)})


def delete_guardrail(engine: Engine, call: Call) -> Answer:
    guardrail = find(engine, call)
    rows = engine.state.assignments
    freed = {row.key_hash for row in rows if row.guardrail_id == guardrail.id}
    engine.state.assignments = [row for row in rows if row.guardrail_id != guardrail.id]
    del engine.state.guardrails[guardrail.id]
    enforce(engine, freed)
    return Answer(200, {"deleted": True})


def list_assignments(engine: Engine, call: Call) -> Answer:
    rows = list(engine.state.assignments)
    if "id" in call.path:
        guardrail = find(engine, call)
        rows = [row for row in rows if row.guardrail_id == guardrail.id]
    # Rows of deleted keys are counted and paged, and only then left out.
    shown = [
        show_assignment(engine, row)
        for row in page(rows, call, PAGE)
        if row.key_hash in engine.state.keys
    ]
    return Answer(200, {"data": shown, "total_count": len(rows)})


def assign(engine: Engine, call: Call) -> Answer:
    guardrail = find(engine, call)
    new = [name for name in hashes(engine, call) if assigned(engine, name) != guardrail.id]
    for key_hash in new:
        if engine.state.keys[key_hash].workspace_id != guardrail.workspace_id:
            raise ApiError(400, "Key and guardrail must be in the same workspace")
    kept = [row for row in engine.state.assignments if row.key_hash not in new]
    now = engine.state.now
    added = [Assignment(str(uuid.uuid4()), key_hash, guardrail.id, now) for key_hash in new]
    engine.state.assignments = kept + added
    enforce(engine, set(new))
    return Answer(200, {"assigned_count": len(new)})


def unassign(engine: Engine, call: Call) -> Answer:
    guardrail = find(engine, call)
    gone = {name for name in hashes(engine, call) if assigned(engine, name) == guardrail.id}
    engine.state.assignments = [row for row in engine.state.assignments if row.key_hash not in gone]
    enforce(engine, gone)
    return Answer(200, {"unassigned_count": len(gone)})


def hashes(engine: Engine, call: Call) -> list[str]:
    """The existing keys among those named, once each; what is unknown is skipped in silence."""
    names: list[str] = call.body["key_hashes"]
    if any(name.startswith("sk-or-") for name in names):
        engine.violation(call.route.name, "key_hashes: a key itself was sent instead of its hash")
        raise ApiError(400, "key_hashes must be hashes, not keys")
    return [name for name in dict.fromkeys(names) if name in engine.state.keys]


def assigned(engine: Engine, key_hash: str) -> str | None:
    """The guardrail of a key: there is at most one."""
    for row in engine.state.assignments:
        if row.key_hash == key_hash:
            return row.guardrail_id
    return None


def enforce_assigned(engine: Engine, guardrail_id: str) -> None:
    rows = engine.state.assignments
    enforce(engine, {row.key_hash for row in rows if row.guardrail_id == guardrail_id})


def enforce(engine: Engine, key_hashes: set[str]) -> None:
    for key_hash in key_hashes & engine.state.keys.keys():
        engine.enforce(engine.state.keys[key_hash])


def find(engine: Engine, call: Call) -> Guardrail:
    guardrail = engine.state.guardrails.get(call.path["id"])
    if guardrail is None:
        raise ApiError(404, "Resource not found")
    return guardrail


def check(
    engine: Engine, settings: dict[str, Any], workspace: str, existing: Guardrail | None = None
) -> None:
    """What goes beyond the types; replaces model names by what is stored for them."""
    for row in engine.state.guardrails.values():
        same_name = row.workspace_id == workspace and row.settings["name"] == settings.get("name")
        if same_name and row is not existing:
            raise ApiError(409, f"A guardrail named {settings['name']!r} exists in this workspace")
    if (BUDGET[0] in settings) != (BUDGET[1] in settings) or (
        (settings.get(BUDGET[0]) is None) != (settings.get(BUDGET[1]) is None)
    ):
        raise ApiError(400, "limit_usd and reset_interval must be set together")
    for field in ("allowed_models", "ignored_models"):
        if settings.get(field) is not None:
            settings[field] = canonical(engine, settings[field])


def canonical(engine: Engine, names: list[str]) -> list[str]:
    entries = []
    for name in names:
        row = engine.catalog.rows().get(name) or engine.catalog.find(name)
        if row is None or (":" in name and ":" not in row["id"]):
            raise ApiError(400, f"Unknown model: {name}")
        entries.append(entry(row))
    return list(dict.fromkeys(entries))


def show(guardrail: Guardrail) -> dict[str, Any]:
    return {
        "id": guardrail.id,
        **guardrail.settings,
        "workspace_id": guardrail.workspace_id,
        "created_at": iso(guardrail.created_at),
        "updated_at": None if guardrail.updated_at is None else iso(guardrail.updated_at),
    }


def show_assignment(engine: Engine, row: Assignment) -> dict[str, Any]:
    key = engine.state.keys[row.key_hash]
    return {
        "id": row.id,
        "key_hash": row.key_hash,
        "key_name": key.name,
        "key_label": key.label,
        "guardrail_id": row.guardrail_id,
        "assigned_by": ACCOUNT_USER,
        "created_at": iso(row.created_at),
    }
