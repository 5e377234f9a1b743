# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import select
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import (
    Account,
    Desired,
    Keys,
    Record,
    reconcile,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import Census
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State, difference


class ActionModule(Stage):
    STAGE = "keys"
    OPTIONS = ("state", "replace", "retire")

    def stage(self) -> dict[str, Any]:
        state: State = self.batch_state()
        self._store = self.store()
        api = self.management()
        if self.option("retire", False):
            return self._retire(state)
        fleet = self.fleet()
        replace = select(fleet, self.option("replace") or "")
        account = Account.read(api, self.config["name"])
        census = Census(self.config, fleet, set(), self._store)
        wanted: list[tuple[Desired, Record]] = []
        for name, row in state["clients"].items():
            if row["failure"]:
                continue
            record = census.record(name)
            if row.get("keyless"):
                record = dataclasses.replace(record, key_hash="")
            wanted.append((_desired(name, fleet[name], row, name in replace), record))
        keys = Keys(api, self._store, self.config["name"], account, self.check)
        rows = reconcile(keys, wanted, _failed)
        self.take(state, rows)
        if not self.check:
            self._remember(state, [record for _desired_one, record in wanted])
        diff = [
            difference(name, row["before"], row["after"])
            for name, row in rows.items()
            if row.get("changed")
        ]
        return self.result(state, rows, diff)

    def _remember(self, state: State, before: list[Record]) -> None:
        """Write down what is in effect now, where it is not written down yet."""
        for seen in before:
            row = state["clients"][seen.client]
            if row["failure"] or row["state"] == "absent":
                continue
            saved = self._store.record(seen.client) or seen
            in_effect = dict(zip(row["models"], row["slugs"], strict=True))
            now = dataclasses.replace(
                seen,
                key_hash=saved.key_hash,
                generation=saved.generation,
                attempt=saved.attempt,
                superseded=saved.superseded,
                proven=saved.proven,
                models={**saved.models, **in_effect},
            )
            if now != saved or self._store.record(seen.client) is None:
                self._store.save_record(now)

    def _retire(self, state: State) -> dict[str, Any]:
        """Delete the keys that a newer one replaced, once that one is proven."""
        found: dict[str, Row] = {}
        for name, row in state["clients"].items():
            record = self._store.record(name)
            if row["failure"] or record is None or not record.superseded:
                continue
            found[name] = {"changed": True}
            if self.check:
                continue
            try:
                for key_hash in record.superseded:
                    self.management().delete_key(key_hash)
                self._store.save_record(dataclasses.replace(record, superseded=[]))
            except FleetError as error:
                found[name] = {"failed": True, "failure": error.failure()}
        self.take(state, found)
        return self.result(state, found)


def _desired(name: str, client: dict[str, Any], row: Row, replace: bool) -> Desired:
    return Desired(
        client=name,
        organization=client["organization"],
        state=client["state"],
        limit=client["spending_limit"],
        limit_reset=client["limit_reset"],
        slugs=row.get("slugs", []),
        replace=replace,
    )


def _failed(desired: Desired, error: FleetError) -> Row:
    if not error.where:
        error.where = f"client {desired.client}"
    return {"changed": False, "failed": True, "failure": error.failure()}
