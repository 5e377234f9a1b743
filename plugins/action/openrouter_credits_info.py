# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.mai.fleet.plugins.plugin_utils._account import AccountAction, Options


class ActionModule(AccountAction):
    def work(self, options: Options) -> dict[str, Any]:
        bought, used = self.openrouter(options).credits()
        return {
            "changed": False,
            "total_credits": bought,
            "total_usage": used,
            "remaining": round(bought - used, 6),
        }
