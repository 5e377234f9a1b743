# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Guardrails at OpenRouter by name, without a fleet.

OpenRouter lets a name be there once in a workspace, and shows all of a guardrail at any time. So a
create of which the answer was lost is found by the next run, and needs no attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row

MODELS = ("allowed_models", "ignored_models")
LISTS = (*MODELS, "allowed_providers", "ignored_providers")
SWITCHES = (
    "include_byok_in_budgets",
    "enforce_zdr_anthropic",
    "enforce_zdr_google",
    "enforce_zdr_openai",
    "enforce_zdr_xai",
    "enforce_zdr_other",
    "enable_free_model_publication",
    "enable_free_model_training",
    "enable_paid_model_training",
)
#: They are only taken together.
BUDGET = ("limit_usd", "reset_interval")
SETTINGS = ("description", *LISTS, *BUDGET, *SWITCHES)

GuardrailRow = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What one guardrail should be.

    :ivar state: present or absent
    :ivar settings: those of :data:`SETTINGS` that are asked for; None clears one
    """

    name: str
    state: str
    settings: dict[str, Any] = field(default_factory=dict)


class NamedGuardrails:
    """Reconciles guardrails one by one.

    :param rows: all guardrails of the workspace
    :param catalog: needed where models are named
    :param force: delete also a guardrail that keys have
    """

    def __init__(
        self,
        api: OpenRouter,
        rows: list[GuardrailRow],
        catalog: Catalog,
        *,
        force: bool,
        check: bool,
    ) -> None:
        self._api = api
        self._rows = rows
        self._catalog = catalog
        self._force = force
        self._check = check

    def apply(self, wanted: Wanted) -> Row:
        """:raises FleetError: what stopped this guardrail"""
        named = [row for row in self._rows if row["name"] == wanted.name]
        if len(named) > 1:
            raise FleetError(
                f"several guardrails have this name: {', '.join(row['id'] for row in named)}",
                f"guardrail {wanted.name}",
                "rename or delete all of them but one at OpenRouter",
            )
        found = named[0] if named else None
        if wanted.state == "absent":
            return self._absent(wanted, found)
        goal = self._goal(wanted)
        changes = {
            name: value for name, value in goal.items() if not _same(name, value, found or {})
        }
        if changes.keys() & set(BUDGET):
            old = {name: (found or {}).get(name) for name in BUDGET}
            changes |= {name: goal.get(name, old[name]) for name in BUDGET}
            _refuse_half(wanted, changes)
        before = view(found)
        after = view({**(found or {}), **changes, "name": wanted.name})
        row = Row(found is None or bool(changes), before, after)
        row.more["id"] = found["id"] if found else None
        if row.changed and not self._check:
            if found:
                self._api.change_guardrail(found["id"], changes)
            else:
                made = self._api.make_guardrail({"name": wanted.name, **changes})
                row.more["id"] = made["id"]
        return row

    def _goal(self, wanted: Wanted) -> dict[str, Any]:
        """The settings as OpenRouter stores them: models by their canonical slugs."""
        goal = dict(wanted.settings)
        for name in MODELS:
            if goal.get(name):
                goal[name] = self._slugs(wanted, name, goal[name])
        return goal

    def _slugs(self, wanted: Wanted, option: str, models: list[str]) -> list[str]:
        slugs = self._catalog.slugs()
        unknown = [one for one in models if one not in self._catalog and one not in slugs]
        if unknown:
            near = [
                f"{one} (near: {', '.join(self._catalog.nearest(one)) or 'nothing'})"
                for one in unknown
            ]
            raise FleetError(
                f"OpenRouter has no model {'; '.join(near)}",
                f"guardrail {wanted.name}: {option}",
                "mai.fleet.openrouter_models_info lists what there is",
            )
        known = (self._catalog[one].canonical if one in self._catalog else one for one in models)
        return list(dict.fromkeys(known))

    def _absent(self, wanted: Wanted, found: GuardrailRow | None) -> Row:
        row = Row(found is not None, view(found), view(None))
        row.more["id"] = None
        if found is None:
            return row
        fenced = self._api.assigned_keys(found["id"])
        if fenced and not self._force:
            raise FleetError(
                f"{len(fenced)} keys have this guardrail, and could use every model without it",
                f"guardrail {wanted.name}",
                "give them another one first, or delete it with force: true",
            )
        if not self._check:
            self._api.delete_guardrail(found["id"])
        return row


def view(guardrail: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a reader wants to know of a guardrail; what is not set is left out."""
    if guardrail is None:
        return {"guardrail": None}
    shown = {name: guardrail.get(name) for name in SETTINGS}
    usd = shown["limit_usd"]
    # 10 and not 10.0, so that a diff has no line that says nothing.
    shown["limit_usd"] = int(usd) if usd is not None and usd == int(usd) else usd
    return {
        "guardrail": guardrail["name"],
        **{name: _sorted(name, value) for name, value in shown.items() if value is not None},
    }


def _same(name: str, value: Any, found: Mapping[str, Any]) -> bool:
    """Whether a setting is as it should be. The order in lists says nothing."""
    old = found.get(name)
    if name == "description":
        return (old or None) == (value or None)
    if name in SWITCHES and old is None:
        # What was never set is off, but for what the account says otherwise.
        return value is False and name == "include_byok_in_budgets"
    return bool(_sorted(name, old) == _sorted(name, value))


def _sorted(name: str, value: Any) -> Any:
    return sorted(value) if name in LISTS and value is not None else value


def _refuse_half(wanted: Wanted, changes: Mapping[str, Any]) -> None:
    limit, interval = (changes[name] for name in BUDGET)
    if (limit is None) != (interval is None):
        raise FleetError(
            f"limit_usd is {limit} and reset_interval is {interval}; OpenRouter wants both or none",
            f"guardrail {wanted.name}",
            "give both, or limit_usd: unlimited for no budget",
        )
