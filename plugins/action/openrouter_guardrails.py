# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import for_each
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.named_guardrails import (
    LISTS,
    MODELS,
    SETTINGS,
    SWITCHES,
    NamedGuardrails,
    Wanted,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._account import (
    WORKSPACE,
    AccountAction,
    Options,
    amount,
    given,
    outcome,
    refuse_name,
    unique,
)

_WRITERS = 4

_GUARDRAIL: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "description": {"type": "str"},
    **{name: {"type": "list", "elements": "str"} for name in LISTS},
    "limit_usd": {"type": "raw"},
    "reset_interval": {"type": "str", "choices": ["daily", "weekly", "monthly"]},
    **{name: {"type": "bool"} for name in SWITCHES},
}


class ActionModule(AccountAction):
    SPEC: ClassVar = {
        "guardrails": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": _GUARDRAIL,
        },
        "force": {"type": "bool", "default": False},
        **WORKSPACE,
    }

    def work(self, options: Options) -> dict[str, Any]:
        asked = {str(one["name"]): one for one in options["guardrails"]}
        unique([str(one["name"]) for one in options["guardrails"]], "guardrails")
        api = self.openrouter(options)
        names_models = any(one[field] for one in asked.values() for field in MODELS)
        guardrails = NamedGuardrails(
            api,
            api.guardrail_rows(),
            # Asked with a key, the list may be that of what the key can use.
            Catalog(self.asked_with(options, None).catalog() if names_models else []),
            force=options["force"],
            check=self.check,
        )
        found = for_each(list(asked), _WRITERS, lambda name: guardrails.apply(_wanted(asked[name])))
        return outcome(found, "guardrails", "guardrail", diff=bool(self._task.diff))


def _wanted(guardrail: Options) -> Wanted:
    """:raises FleetError: an option that is not as it has to be"""
    name = str(guardrail["name"])
    if guardrail["state"] != "absent":
        refuse_name(name, "guardrail")
    settings: Options = {}
    for option, value in given(guardrail, SETTINGS).items():
        if option in LISTS:
            # OpenRouter takes no empty list: what has none is not restricted.
            settings[option] = [str(item) for item in value] or None
        elif option in SWITCHES:
            settings[option] = bool(value)
        elif option == "limit_usd":
            settings[option] = amount(value, f"guardrail {name}: limit_usd")
        else:
            settings[option] = str(value) or None
    if "limit_usd" in settings and settings["limit_usd"] is None:
        settings["reset_interval"] = None
    return Wanted(name, str(guardrail["state"]), settings)
