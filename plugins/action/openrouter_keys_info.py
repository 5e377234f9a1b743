# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.mai.fleet.plugins.module_utils._reconcile.named_keys import Account
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of
from ansible_collections.mai.fleet.plugins.plugin_utils._account import (
    WORKSPACE,
    AccountAction,
    Options,
)

#: A part of the secret, which nobody needs.
_HIDDEN = ("label",)


class ActionModule(AccountAction):
    SPEC: ClassVar = {"names": {"type": "list", "elements": "str"}, **WORKSPACE}

    def work(self, options: Options) -> dict[str, Any]:
        account = Account.read(self.openrouter(options))
        names = options["names"]
        shown = [
            {
                **{field: value for field, value in row.items() if field not in _HIDDEN},
                "fingerprint": fingerprint_of(row["hash"]),
                "guardrail": account.guardrail_of(row["hash"]) or None,
            }
            for row in account.keys
            if names is None or row["name"] in names
        ]
        return {"changed": False, "api_keys": shown}
