# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key, OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import KeyName
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import select
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.expiry import (
    Lifetime,
    lifetime_of,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import (
    Account,
    Desired,
    Keys,
    living,
    reconcile,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.offboarding import needs_export
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Record,
    Why,
    now,
    parse,
    stamp,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.retirement import (
    Cap,
    Retirement,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import Census
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import (
    Row,
    Stage,
    State,
    days_of,
    difference,
)


class ActionModule(Stage):
    STAGE = "keys"
    OPTIONS = ("state", "replace", "max_age_days", "undo", "retire", "grace", "quiet")

    def stage(self) -> dict[str, Any]:
        state: State = self.batch_state()
        self._store = self.store()
        api = self.management()
        work = self._retire if self.option("retire", False) else self._reconcile
        # What was compared has to be true still when it is written.
        with contextlib.nullcontext() if self.check else self._store.lock():
            return work(state, api)

    def _reconcile(self, state: State, api: OpenRouter) -> dict[str, Any]:
        fleet = self.fleet()
        replace = select(fleet, self.option("replace") or "")
        undo = select(fleet, self.option("undo") or "")
        at = now()
        max_age = Lifetime(days_of(self.option("max_age_days") or 0, "fleet_max_age_days"))
        if undo and max_age.days:
            raise FleetError(
                "an age says whose key is replaced, and not whose is had back",
                "the command line: fleet_undo and fleet_max_age_days",
                "name the clients whose keys are to be had back: -e fleet_select=NAME",
            )
        broken = {error["client"] for error in self._vars.get("fleet_errors", [])}
        account = Account.read(api, self.config["name"])
        nobodys = account.clients() - set(fleet) - broken
        state["unlisted"] = sorted({*state["unlisted"], *nobodys})
        census = Census(self.config, fleet, broken, self._store)
        wanted: list[tuple[Desired, Record]] = []
        rows: dict[str, Row] = {}
        stopped: list[str] = []
        for name, row in state["clients"].items():
            if row["failure"]:
                if row["state"] == "suspended" and row["failure"]["stage"] != "lock":
                    stopped.append(name)
                continue
            try:
                record = census.record(name)
                self._refuse_unexported(record)
            except FleetError as error:
                rows[name] = _failed(name, error)
                continue
            desired = dataclasses.replace(
                _desired(name, fleet[name], row),
                replace=name in replace,
                max_age=max_age,
                undo=name in undo,
            )
            wanted.append((desired, record))
        keys = Keys(api, self._store, self.config["name"], account, self.check, at, self.openrouter)
        rows.update(reconcile(keys, wanted, lambda desired, error: _failed(desired.client, error)))
        for name in stopped:
            self._suspend(keys, name, state["clients"][name], census)
        if not self.check:
            for _desired_one, record in wanted:
                self._remember(state["clients"][record.client], rows[record.client], record)
        self.take(state, rows)
        diff = [
            difference(name, row["before"], row["after"])
            for name, row in rows.items()
            if row.get("changed") and not row.get("failed")
        ]
        return self.result(state, rows, diff)

    def _suspend(self, keys: Keys, name: str, row: Row, census: Census) -> None:
        """A key can be switched off whatever else is wrong with its client."""
        try:
            desired = _desired(name, self.fleet()[name], row)
            if keys.suspend(desired, census.record(name)):
                row["warnings"] = [*row["warnings"], "all of its keys are disabled all the same"]
        except FleetError as error:
            text = f"its keys could not be disabled either: {error}"
            row["warnings"] = [*row["warnings"], text]

    def _refuse_unexported(self, record: Record) -> None:
        """:raises FleetError: the client is to go, and its data was not exported"""
        if record.state == "absent" and needs_export(record) and not self.check:
            raise FleetError(
                "it is to go, and its data is not exported yet",
                f"client {record.client}",
                "mai.fleet.offboard and mai.fleet.site do that before they take anything away",
            )

    def _remember(self, row: Row, news: Row, seen: Record) -> None:
        """Write down what is in effect now, where it is not written down yet."""
        if news.get("failed"):
            return
        try:
            saved = self._store.record(seen.client)
            if saved is None and row["state"] == "absent":
                return
            old = saved or seen
            slugs = row.get("slugs") or []
            in_effect = dict(zip(row["models"], slugs, strict=True)) if slugs else {}
            now = dataclasses.replace(
                seen,
                key_hash=old.key_hash,
                generation=old.generation,
                attempts=old.attempts,
                former=old.former,
                remainder=old.remainder,
                proven=old.proven,
                offboarding=old.offboarding if row["state"] == "absent" else None,
                models={**old.models, **in_effect},
            )
            if now != saved:
                self._store.save_record(now)
        except FleetError as error:
            news.update(failed=True, failure=error.failure())

    def _retire(self, state: State, api: OpenRouter) -> dict[str, Any]:
        """Disable the keys that a proven one replaced, and delete those that were long enough."""
        fleet = self.fleet()
        found: dict[str, Row] = {}
        waiting: list[Record] = []
        for name, row in state["clients"].items():
            try:
                record = None if row["failure"] else self._store.record(name)
            except FleetError as error:
                found[name] = _failed(name, error)
                continue
            if record is not None and record.former:
                waiting.append(record)
        earlier, live = self._at_rest(api, waiting)
        retirement = Retirement(api, self._store, float(self.option("grace", 0)), now(), self.check)
        for record in waiting:
            client = fleet[record.client]
            cap = Cap(client["spending_limit"], client["limit_reset"])
            try:
                mine = live.get(record.client, [])
                spends = _spends(state["clients"][record.client], record)
                found[record.client] = retirement.apply(record, cap, earlier, mine, spends)
                self._tell(record)
            except FleetError as error:
                found[record.client] = _failed(record.client, error)
        self.take(state, found)
        return self.result(state, found)

    def _tell(self, before: Record) -> None:
        """Say which keys were disabled, and for how long there is a way back."""
        after = None if self.check else self._store.record(before.client)
        if after is None:
            return
        grace = datetime.timedelta(seconds=float(self.option("grace", 0)))
        for former in after.former:
            known = before.former_key(former.hash)
            if former.deleted or not (former.since and former.name) or (known and known.since):
                continue
            mark = KeyName.parse(former.name)
            older = former.why is Why.REPLACED and mark and mark.generation < after.generation
            back = "; until then fleet_undo=true goes back to it" if older else ""
            self._display.display(
                f"  {before.client}: the key {former.name} is disabled, and is deleted after "
                f"{stamp(parse(former.since) + grace)}{back}"
            )

    def _at_rest(
        self, api: OpenRouter, waiting: list[Record]
    ) -> tuple[dict[str, Key], dict[str, list[Key]]]:
        """The fleet's keys by hash as they were a while ago, and by client as they are now.

        A key that is at rest spends nothing meanwhile.
        """
        if not waiting:
            return {}, {}
        live = living(api, self.config["name"])
        earlier = {key.hash: key for keys in live.values() for key in keys}
        if any(not former.since for record in waiting for former in record.former):
            time.sleep(float(self.option("quiet", 0)))
            live = living(api, self.config["name"])
        return earlier, live


def _desired(name: str, client: dict[str, Any], row: Row) -> Desired:
    return Desired(
        client=name,
        organization=client["organization"],
        state=client["state"],
        limit=client["spending_limit"],
        limit_reset=client["limit_reset"],
        slugs=row.get("slugs", []),
        held=row.get("held"),
        lifetime=lifetime_of(client),
    )


def _spends(row: Row, record: Record) -> bool:
    """Whether a chat was paid for with the record's key, wherever one can be made."""
    chats = row["instance"] == "webui" and row["state"] == "present" and row.get("chat_model")
    if not chats or row.get("exhausted"):
        return True
    return "chat" in record.proven.split("+")[1:]


def _failed(name: str, error: FleetError) -> Row:
    failure = error.failure()
    failure["where"] = failure["where"] or f"client {name}"
    return {"changed": False, "failed": True, "failure": failure}
