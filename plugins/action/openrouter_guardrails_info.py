# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.mai.fleet.plugins.plugin_utils._account import (
    WORKSPACE,
    AccountAction,
    Options,
)


class ActionModule(AccountAction):
    SPEC: ClassVar = {"names": {"type": "list", "elements": "str"}, **WORKSPACE}

    def work(self, options: Options) -> dict[str, Any]:
        api = self.openrouter(options)
        names = options["names"]
        rows = [row for row in api.guardrail_rows() if names is None or row["name"] in names]
        assigned = api.assignments() if rows else {}
        shown = [
            {**row, "key_hashes": sorted(key for key, one in assigned.items() if one == row["id"])}
            for row in rows
        ]
        return {"changed": False, "guardrails": shown}
