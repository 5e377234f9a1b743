# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ansible_collections.mai.fleet.plugins.module_utils._errors import Unauthorized
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Model
from ansible_collections.mai.fleet.plugins.plugin_utils._account import AccountAction, Options


class ActionModule(AccountAction):
    SPEC: ClassVar = {
        "ids": {"type": "list", "elements": "str"},
        "api_key": {"type": "str", "no_log": True},
        "supported_parameters": {"type": "list", "elements": "str"},
        "input_modalities": {"type": "list", "elements": "str"},
        "output_modalities": {"type": "list", "elements": "str"},
        "context_length": {"type": "int"},
        "variants": {"type": "bool", "default": True},
    }

    def work(self, options: Options) -> dict[str, Any]:
        if options["api_key"]:
            rows = self._usable(options)
        else:
            # Asked with a key, the list may be that of what the key can use.
            rows = self.asked_with(options, None).catalog()
        models = [
            {**row, "guardrail_slug": Model.read(row).canonical}
            for row in rows
            if _fits(row, options)
        ]
        known = {row["id"] for row in rows}
        unknown = [str(one) for one in options["ids"] or [] if one not in known]
        return {"changed": False, "models": models, "unknown": unknown}

    def _usable(self, options: Options) -> list[dict[str, Any]]:
        try:
            return self.asked_with(options, options["api_key"]).user_models()
        except Unauthorized as error:
            error.todo = "check api_key, which is no management key; is it disabled or expired?"
            raise


def _fits(row: Mapping[str, Any], options: Options) -> bool:
    architecture = row.get("architecture") or {}
    has = {
        "supported_parameters": row.get("supported_parameters") or [],
        "input_modalities": architecture.get("input_modalities") or [],
        "output_modalities": architecture.get("output_modalities") or [],
    }
    return (
        (options["ids"] is None or row["id"] in options["ids"])
        and all(set(options[field] or ()) <= set(values) for field, values in has.items())
        and (row.get("context_length") or 0) >= (options["context_length"] or 0)
        and (options["variants"] or ":" not in row["id"])
    )
