# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import unicodedata
from typing import Any

import yaml
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import NAME_RULE, is_name
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import SCHEMA, read_plans, resolve
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import read

#: What a name may be made of, where a letter does not decompose into one of ASCII and a mark.
_LETTERS = str.maketrans({"ß": "ss", "ł": "l", "Ł": "l", "ø": "o", "Ø": "o", "æ": "ae", "&": " and "})


class ActionModule(Stage):
    STAGE = "onboard"
    OPTIONS = (
        "organization",
        "admin_email",
        "plan",
        "spending_limit",
        "name",
        "server",
        "withdraw",
    )

    def stage(self) -> dict[str, Any]:
        organization = str(self.option("organization") or "")
        name = self.option("name") or name_of(organization)
        path = os.path.join(self.config["clients"], f"{name}.yml")
        if self.option("withdraw", False):
            return self._withdraw(name, path)
        if not is_name(name):
            raise FleetError(f"{name} cannot be a client's name", "name", f"use {NAME_RULE}")
        if os.path.exists(path):
            raise FleetError(
                f"client {name} exists", path, "edit its file, or give this client another name"
            )
        text = self._text(name, path)
        if not self.check:
            write_atomically(path, text.encode(), 0o644, 0o755)
        return {
            "changed": True,
            "name": name,
            "file": path,
            "diff": {"before": "", "after": text, "before_header": path, "after_header": path},
        }

    def _text(self, name: str, path: str) -> str:
        limit = self.option("spending_limit")
        content = {
            "schema": SCHEMA,
            "organization": self.option("organization"),
            "server": self.option("server") or self._least_busy(),
            "plan": self.option("plan") or None,
            "spending_limit": _number(str(limit)) if limit not in (None, "") else None,
            "admin_email": self.option("admin_email"),
        }
        content = {field: value for field, value in content.items() if value is not None}
        data, _problems = read(self.config["plans"])
        plans, _problems = read_plans(data, self.config["plans"])
        _client, problems = resolve(name, content, path, plans, self._servers())
        if problems:
            lines = "".join(f"\n  {describe(problem.as_dict())}" for problem in problems)
            raise FleetError(f"the client cannot be written:{lines}", path)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

    def _withdraw(self, name: str, path: str) -> dict[str, Any]:
        if self.store().record(name) is not None:
            raise FleetError("the client has been deployed", path, "set state: absent in its file")
        exists = os.path.exists(path)
        if exists and not self.check:
            os.unlink(path)
        return {"changed": exists, "name": name, "file": path}

    def _servers(self) -> list[str]:
        return sorted(set(self._vars["groups"]["all"]))

    def _least_busy(self) -> str:
        servers = self._servers()
        if not servers:
            raise FleetError("the inventory holds no server", "server", "name one in servers.yml")
        busy = [client["server"] for client in self.fleet().values()]
        return min(servers, key=lambda server: (busy.count(server), server))


def name_of(organization: str) -> str:
    """A client's name from its company's: Łódź & Söhne GmbH becomes lodz_and_sohne_gmbh."""
    plain = unicodedata.normalize("NFKD", organization.translate(_LETTERS))
    words = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode().lower())
    return "_".join(words).lstrip("0123456789_")[:31].rstrip("_")


def _number(text: str) -> Any:
    """The limit as YAML would read it, so that the file says a number and not a text."""
    return yaml.safe_load(text)
