# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import re
from typing import Any, ClassVar

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import for_each
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.named_keys import (
    SETTINGS,
    Account,
    NamedKeys,
    Wanted,
    moment,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import now
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.plugin_utils._account import (
    WORKSPACE,
    AccountAction,
    Options,
    amount,
    given,
    number,
    outcome,
    refuse_name,
    unique,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._key_files import KeyFiles

_WRITERS = 4
#: Seconds that nobody waits for: ten years.
_LONGEST = 10 * 365 * 86400
#: What only attempts are called.
_ATTEMPT = re.compile(r".*~[0-9a-f]{8}", re.DOTALL)
#: UTC with seconds: OpenRouter refuses anything less.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

_KEY: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "state": {
        "type": "str",
        "choices": ["present", "absent", "rotated"],
        "default": "present",
    },
    "limit": {"type": "raw"},
    "limit_reset": {"type": "str", "choices": ["daily", "weekly", "monthly", "never"]},
    "disabled": {"type": "bool"},
    "include_byok_in_limit": {"type": "bool"},
    "expires_at": {"type": "str"},
    "guardrail": {"type": "str"},
    "max_age_days": {"type": "float", "default": 0.0},
    "carry_usage": {"type": "bool", "default": True},
}


class ActionModule(AccountAction):
    SPEC: ClassVar = {
        "keys": {"type": "list", "elements": "dict", "required": True, "options": _KEY},
        "secrets_directory": {"type": "path"},
        "encrypt": {"type": "bool", "default": True},
        "grace": {"type": "float", "default": 86400.0},
        **WORKSPACE,
    }

    def work(self, options: Options) -> dict[str, Any]:
        asked = {str(key["name"]): key for key in options["keys"]}
        unique([str(key["name"]) for key in options["keys"]], "keys")
        grace = number(options["grace"], "the option grace", least=0, most=_LONGEST)
        files = None
        if options["secrets_directory"]:
            directory = str(options["secrets_directory"])
            files = KeyFiles(directory, self._loader._vault, options["encrypt"])
        api = self.openrouter(options)
        with contextlib.nullcontext() if self.check or files is None else files.lock():
            keys = NamedKeys(
                api,
                files,
                Account.read(api),
                grace=grace,
                at=now(),
                check=self.check,
            )

            def one(name: str) -> Row:
                row = keys.apply(_wanted(asked[name]))
                if files and row.more["stored"] and options["encrypt"] and files.in_clear(name):
                    row.warnings.append(
                        f"the secret is in clear: ansible-vault encrypt {files.shown(name)}"
                    )
                return row

            found = for_each(list(asked), _WRITERS, one)
        return outcome(found, "api_keys", "key", diff=bool(self._task.diff))


def _wanted(key: Options) -> Wanted:
    """:raises FleetError: an option that is not as it has to be"""
    name = str(key["name"])
    where = f"key {name}"
    if key["state"] != "absent":
        refuse_name(name, "key")
    if _ATTEMPT.fullmatch(name):
        raise FleetError(
            "this cannot be a key's name: keys that are being made are called like that",
            where,
            "give it another name",
        )
    settings = given(key, SETTINGS)
    if "limit" in settings:
        settings["limit"] = amount(settings["limit"], f"{where}: limit")
    if "limit_reset" in settings:
        settings["limit_reset"] = str(settings["limit_reset"])
    expires = str(key["expires_at"] or "")
    if expires and not (_TIME.fullmatch(expires) and moment(expires)):
        raise FleetError(
            f"expected a time in UTC such as 2027-01-31T00:00:00Z, not {expires}",
            f"{where}: expires_at",
            "write it with seconds and Z, in quotes",
        )
    guardrail = key["guardrail"]
    return Wanted(
        name=name,
        state=str(key["state"]),
        settings=settings,
        expires_at=expires,
        guardrail=None if guardrail is None else str(guardrail),
        max_age=number(
            key["max_age_days"], f"{where}: max_age_days", least=0, most=_LONGEST / 86400
        ),
        carries=bool(key["carry_usage"]),
    )
