# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import (
    NAME_RULE,
    is_name,
    name_of,
)
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import (
    SCHEMA,
    read_plans,
    resolve,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import refuse
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import read, shown

_UNWATCHED = (
    "answer the questions at a terminal; without one, give what they ask for: "
    '-e \'{"organization": "Acme GmbH"}\' -e admin_email=it@acme.example, -e plan=PLAN, '
    "-e spending_limit=USD where they matter, and -e confirm=yes"
)


class ActionModule(Stage):
    STAGE = "onboard"
    OPTIONS = (
        "organization",
        "admin_email",
        "plan",
        "ring",
        "spending_limit",
        "name",
        "server",
        "withdraw",
    )

    def stage(self) -> dict[str, Any]:
        refuse(self.config, self._vars["fleet_errors"])
        organization = self._given("organization")
        name = self._given("name") or name_of(organization)
        path = os.path.join(self.config["clients"], f"{name}.yml")
        missing = [option for option in ("organization", "admin_email") if not self._given(option)]
        withdraw = boolean(self.option("withdraw", False))
        if missing and not withdraw:
            raise FleetError(f"not given: {', '.join(missing)}", "onboarding", _UNWATCHED)
        if not is_name(name):
            raise FleetError(
                f"{name or organization} cannot be a client's name",
                "name" if organization else "organization",
                f"give -e client_name=NAME: {NAME_RULE}",
            )
        if withdraw:
            return self._withdraw(name, path)
        text = self._text(name, path)
        exists = os.path.exists(path)
        if exists and Path(path).read_text(encoding="utf-8") != text:
            raise FleetError(
                f"client {name} exists",
                shown(path),
                "edit its file and run mai.fleet.site, or give this client another name with "
                "-e client_name=NAME",
            )
        if not exists and not self.check:
            write_atomically(path, text.encode(), 0o644, 0o755)
        return {
            "changed": not exists,
            "name": name,
            "file": shown(path),
            "diff": {
                "before": text if exists else "",
                "after": text,
                "before_header": path,
                "after_header": path,
            },
        }

    def _given(self, option: str) -> str:
        """The text of an option, and not Ansible's subclass of text, which YAML cannot write."""
        return str(self.option(option) or "").strip()

    def _text(self, name: str, path: str) -> str:
        limit = self._given("spending_limit")
        content = {
            "schema": SCHEMA,
            "organization": self._given("organization"),
            "server": self._given("server") or self._server(path),
            "plan": self._given("plan"),
            "ring": self._given("ring"),
            # As YAML would read it, so that the file says a number and not a text.
            "spending_limit": _as_yaml(limit) if limit else "",
            "admin_email": self._given("admin_email"),
        }
        optional = ("plan", "ring", "spending_limit")
        content = {
            field: value for field, value in content.items() if value != "" or field not in optional
        }
        plans: dict[str, dict[str, Any]] = {}
        if os.path.exists(self.config["plans"]):
            plans, _problems = read_plans(read(self.config["plans"])[0], self.config["plans"])
        _client, problems = resolve(name, content, shown(path), plans, self._servers())
        if problems:
            lines = "".join(f"\n  {describe(problem.as_dict())}" for problem in problems)
            raise FleetError(f"the client's file would have mistakes:{lines}", "onboarding")
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)

    def _withdraw(self, name: str, path: str) -> dict[str, Any]:
        record = self.store().record(name)
        if record is not None and record.state != "absent":
            raise FleetError(
                "the client has been deployed", shown(path), "set state: absent in its file"
            )
        exists = os.path.exists(path)
        if exists and not self.check:
            os.unlink(path)
        return {"changed": exists, "name": name, "file": shown(path)}

    def _servers(self) -> list[str]:
        return sorted({str(host) for host in self._vars["groups"]["all"]})

    def _server(self, path: str) -> str:
        """That of the file that is there already, else the one with the fewest clients."""
        content, problems = read(path) if os.path.exists(path) else ({}, [])
        if not problems and isinstance(content, dict) and content.get("server"):
            return str(content["server"])
        servers = self._servers()
        if not servers:
            raise FleetError("the inventory holds no server", "server", "name one in servers.yml")
        busy = [client["server"] for client in self.fleet().values()]
        return min(servers, key=lambda server: (busy.count(server), server))


def _as_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
