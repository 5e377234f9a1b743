# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Guardrail
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import (
    KeyName,
    guardrail_client,
)
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import clashes, resolve
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import words_of
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.adoption import (
    Account,
    Kind,
    Known,
    Match,
    match,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.module_utils._secrets import (
    fingerprint_of,
    unseal,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._adoption import (
    Adopter,
    Holdings,
    Vaulted,
    file_text,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import refuse
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import shown


class ActionModule(Stage):
    STAGE = "adopt"
    OPTIONS = ("examined", "names", "select")

    def stage(self) -> dict[str, Any]:
        if os.path.isdir(self.config["clients"]):
            refuse(self.config, self._vars["fleet_errors"])
        self._store = self.store()
        self._store.verify()
        self._api = self.management()
        self._keys = {key.hash: key for key in self._api.list_keys()}
        self._guardrails = {one.id: one for one in self._api.list_guardrails()}
        self._assigned = self._api.assignments()
        self._catalog = Catalog(self._api.catalog())
        found = self._examined()
        account = Account(self._keys, self.config["openrouter_url"])
        matches = match(found, account, self._known())
        mine = [one for one in matches if one.server == self.host and self._wanted(one)]
        result: dict[str, Any] = {"changed": False, "rows": {}, "diff": []}
        adopted = [one for one in mine if not one.obstacle and one.kind is not Kind.ADOPTED]
        secrets = self._secrets(adopted, found.get(self.host, {}))
        with contextlib.nullcontext() if self.check else self._store.lock():
            for one in mine:
                row = found[self.host][one.container]
                result["rows"][one.container] = self._one(one, row, secrets, result)
        if not self._task.diff:
            del result["diff"]
        return result

    def _examined(self) -> dict[str, dict[str, Row]]:
        """The instances of all servers, as plain data."""
        hosts = self._vars["ansible_play_hosts_all"]
        said = {host: self._raw(host).get(self.option("examined")) or {} for host in hosts}
        found: dict[str, dict[str, Row]] = json.loads(
            json.dumps({host: one.get("instances", {}) for host, one in said.items()})
        )
        return found

    def _known(self) -> Known:
        fleet = self.fleet()
        records: dict[str, Record] = {}
        for name in self._store.records():
            with contextlib.suppress(FleetError):
                record = self._store.record(name)
                if record is not None:
                    records[name] = record
        broken = {error["client"]: {"server": "", "volume": ""} for error in self._errors()}
        names = {str(key): str(name) for key, name in dict(self.option("names") or {}).items()}
        return Known(self.config["name"], {**broken, **fleet}, records, names)

    def _errors(self) -> list[dict[str, str]]:
        return [error for error in self._vars["fleet_errors"] if error["client"]]

    def _wanted(self, one: Match) -> bool:
        named = words_of(self.option("select") or "")
        return not named or one.client in named or one.container in named

    def _secrets(self, mine: list[Match], found: dict[str, Row]) -> dict[str, Any]:
        """What was sealed of each instance, by container."""
        if not mine:
            return {}
        # A little more than was measured: something may be typed in meanwhile.
        pads = {
            one.container: os.urandom(found[one.container]["size"] + 4096).hex() for one in mine
        }
        answer = self.call("instance_discover", {"secrets": json.dumps(pads)})
        return {
            name: json.loads(unseal(str(row["sealed"]), pads[name]))
            for name, row in answer["instances"].items()
            if name in pads and row.get("sealed")
        }

    def _one(
        self, one: Match, row: Row, secrets: dict[str, Any], result: dict[str, Any]
    ) -> dict[str, Any]:
        """The instance's row; what is wrong with it is in there."""
        key = self._keys.get(one.key_hash)
        report: dict[str, Any] = {
            "client": one.client,
            "kind": one.kind.value,
            "id": row.get("id", ""),
            "key": fingerprint_of(one.key_hash) if key else "",
            "changed": False,
            "replace": one.kind is not Kind.OURS and not one.obstacle,
            "notes": [],
            "failure": None,
        }
        try:
            if one.obstacle:
                raise one.obstacle
            if one.kind is not Kind.ADOPTED:
                report["notes"] = self._adopt(one, row, secrets, result)
                report["changed"] = result["changed"] = True
        except FleetError as error:
            where = error.where or f"server {self.host}, container {one.container}"
            report["failure"] = {**error.failure(), "where": where}
            report["replace"] = False
        return report

    def _adopt(
        self, one: Match, row: Row, secrets: dict[str, Any], result: dict[str, Any]
    ) -> list[str]:
        """:raises FleetError: it cannot be written whole, so nothing of it is"""
        path = os.path.join(self.config["clients"], f"{one.client}.yml")
        if os.path.exists(path):
            raise FleetError("the client has a file already", shown(path), "mend that file")
        if one.container not in secrets:
            raise FleetError("it has changed while it was looked at", todo="run again")
        known = self._known().records.items()
        taken = [name for name, record in known if record.key_hash == one.key_hash]
        if set(taken) - {one.client}:
            raise FleetError(
                f"its key is remembered as that of {', '.join(taken)}",
                f"state/{taken[0]}.json",
                "adopt it under that name, with fleet_adopt_names, or move that file away",
            )
        held = self._holdings(one)
        adopter = Adopter(self.config, self._store, self._catalog)
        adoption = adopter.prepare(one, row, secrets[one.container], held)
        self._check(one.client, adoption.content, path)
        text = file_text(adoption.content)
        result["diff"].append(
            {"before_header": path, "after_header": path, "before": "", "after": text}
        )
        if not self.check:
            adopter.take_over(self._api, adoption, held)
            write_atomically(path, text.encode(), 0o644, 0o755)
        return adoption.notes

    def _holdings(self, one: Match) -> Holdings:
        key = self._keys[one.key_hash]
        rail: Guardrail | None = self._guardrails.get(self._assigned.get(key.hash, ""))
        sharing = [other for other, held in self._assigned.items() if rail and held == rail.id]
        marked = [
            other
            for other in self._keys.values()
            if (mark := KeyName.parse(other.name)) is not None
            and (mark.fleet, mark.client) == (self.config["name"], one.client)
            and other.hash != key.hash
        ]
        alive = [other.name for other in marked if not other.disabled]
        record = self._store.record(one.client)
        if alive and not (record and record.former):
            raise FleetError(
                f"another key that bears its name works still: {', '.join(alive)}",
                todo="delete it at OpenRouter if nobody uses it, and run again",
            )
        # One that is another client's by its name is none to be renamed.
        named = guardrail_client(self.config["name"], rail.name) if rail else None
        alone = len(sharing) <= 1 and named in (None, one.client)
        return Holdings(key, rail, alone, marked)

    def _check(self, name: str, content: dict[str, Any], path: str) -> None:
        env = {
            variable: {"vault": value} if isinstance(value, Vaulted) else value
            for variable, value in content.get("env", {}).items()
        }
        given = {**content, "env": env}
        client, problems = resolve(name, given, shown(path), {}, list(self._vars["groups"]["all"]))
        if not problems:
            problems = clashes({**self.fleet(), name: client})
        if problems:
            lines = "; ".join(describe(problem.as_dict()) for problem in problems)
            raise FleetError(f"the client's file would have mistakes: {lines}")
