# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog, in_effect
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.diagnosis import (
    AtOpenRouter,
    Diagnosis,
    Found,
    Place,
    diagnose,
    in_the_app,
    key_of,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import Account
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import KEEP, owners
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Record,
    chosen,
    now,
    unnamed,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint
from ansible_collections.mai.fleet.plugins.plugin_utils._instance import foreign_keys
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import refuse
from ansible_collections.mai.fleet.plugins.plugin_utils._selecting import Selecting
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import ACCOUNT_TODO
from ansible_collections.mai.fleet.plugins.plugin_utils._table import lines_of

_UNLISTED = "keys or a guardrail of this client are at OpenRouter, and it has no file"
#: Stands for the names in what to do about several clients at once.
_NAMES = "{names}"
_UNLISTED_TODO = "put the file back, with state: absent to remove them, or see mai.fleet.adopt"


class ActionModule(Selecting):
    STAGE = "doctor"
    OPTIONS = ("select", "examined")

    def stage(self) -> dict[str, Any]:
        errors = self._vars.get("fleet_errors", [])
        refuse(self.config, errors)
        fleet = self.fleet()
        self._chosen = self.selection(fleet, errors, self.option("select"))
        self._problems: list[dict[str, str]] = [
            {
                "client": one["client"],
                "place": "inventory",
                "what": one["what"],
                "todo": one["todo"],
            }
            for one in errors
        ]
        self._servers = self._examined()
        self._read_account()
        self._read_records(fleet)
        at = now()
        found = {name: self._diagnose(name, fleet[name], at) for name in sorted(self._chosen)}
        for name, one in found.items():
            self._problems += [{"client": name, **problem} for problem in one.problems]
        everybody = not self.option("select") and not self._vars.get("ansible_limit")
        if self._account is not None and everybody:
            known = {*fleet, *(error["client"] for error in errors)}
            self._problems += [
                {"client": name, "place": "openrouter", "what": _UNLISTED, "todo": _UNLISTED_TODO}
                for name in sorted(self._account.clients() - known)
            ]
        lines = [one.line for one in found.values()]
        notes = [f"{name}: {note}" for name, one in found.items() for note in one.notes]
        self._say(lines, notes)
        return {
            "changed": False,
            "table": lines,
            "clients": {name: {**one.details, "notes": one.notes} for name, one in found.items()},
            "problems": self._problems,
            "verdict": _verdict(self._problems),
        }

    # What there is

    def _examined(self) -> dict[str, dict[str, Any]]:
        """What the servers said, by server. Hosts that said nothing at all are not in it."""
        examined = {}
        for host in self._vars["ansible_play_hosts_all"]:
            said = self._raw(host).get(self.option("examined"))
            if said and "instances" in said:
                examined[host] = said
        return examined

    def _read_account(self) -> None:
        """The fleet's part of the account, and the catalog; None for what OpenRouter hides."""
        self._account: Account | None = None
        self._catalog: Catalog | None = None
        try:
            api = self.management()
            self._account = Account.read(api, self.config["name"])
            self._catalog = Catalog(api.catalog())
            left = api.credits_left()
            if left <= 0:
                self._problems.append(
                    _of_all(
                        "openrouter",
                        FleetError(
                            f"the account has no credit left ({left:.2f} USD)",
                            todo=ACCOUNT_TODO[402],
                        ),
                    )
                )
        except FleetError as error:
            self._problems.append(_of_all("openrouter", error))

    def _read_records(self, fleet: Mapping[str, Any]) -> None:
        self._records: dict[str, Record] = {}
        self._damaged: dict[str, FleetError] = {}
        store = self.store()
        for name in {*store.records(), *fleet}:
            try:
                record = store.record(name)
            except FleetError as error:
                self._damaged[name] = error
                continue
            if record is not None:
                self._records[name] = record
        living = self._account.keys if self._account else {}
        hashes = {name: [key.hash for key in keys] for name, keys in living.items()}
        self._owners = owners(self._records.values(), hashes)

    def _diagnose(self, name: str, client: dict[str, Any], at: datetime.datetime) -> Diagnosis:
        record = self._records.get(name)
        store, unknown = self._in_store(name, record)
        server = self._on_server(name, client)
        key = key_of(record, store, server)
        found = Found(
            name=name,
            client=client,
            record=record,
            store=store,
            server=server,
            app=self._in_app(name, client, key),
            account=self._at_openrouter(name, client, record),
            owners=self._owners,
            at=at,
            keeps_foreign=foreign_keys(client, self.config) == KEEP,
            unnamed=unknown,
        )
        diagnosis = diagnose(found)
        if name in self._damaged:
            diagnosis.problems.append(_damage("store", self._damaged[name]))
            return diagnosis
        try:
            self.store().can_note(name)
        except FleetError as error:
            diagnosis.problems.append(_damage("journal", error))
        return diagnosis

    def _in_store(self, name: str, record: Record | None) -> tuple[Place, dict[str, Key | None]]:
        """The client's key, and further ones of which its record does not know."""
        try:
            self.store().verify_place()
            secrets = self.store().secrets(name)
        except FleetError as error:
            return Place(error=error), {}
        if record is not None:
            secrets = chosen(secrets, record.key_hash) or secrets
        secret = secrets.pop("api_key", "")
        unknown = self._unknown(unnamed(secrets, record)) if record else {}
        return Place(fingerprint(secret) if secret else ""), unknown

    def _unknown(self, hashes: list[str]) -> dict[str, Key | None]:
        """What OpenRouter says of them. Those of this fleet are named for another reason."""
        if self._account is None:
            return {}
        ours = {key.hash for keys in self._account.keys.values() for key in keys}
        try:
            return {one: self.management().key(one) for one in hashes if one not in ours}
        except FleetError as error:
            self._problems.append(_of_all("openrouter", error))
            return {}

    def _trouble(self, client: Mapping[str, Any], part: str) -> FleetError | None:
        """Why the client's server did not say this."""
        said = self._servers.get(client["server"])
        if said is None:
            return FleetError(
                "the server was not looked at", f"server {client['server']}", "see its task above"
            )
        for problem in said["problems"]:
            if problem["part"] == part:
                return FleetError(problem["what"], problem["where"], problem["todo"])
        return None

    def _on_server(self, name: str, client: Mapping[str, Any]) -> Place:
        trouble = self._trouble(client, "env")
        if trouble is not None:
            return Place(error=trouble)
        row = self._servers[client["server"]]["env"].get(name, {})
        if row.get("failed"):
            return Place(error=FleetError(**row["failure"]))
        return Place(row.get("fingerprint") or "")

    def _in_app(self, name: str, client: Mapping[str, Any], key: str) -> Place | None:
        if client["instance"] == "none":
            return None
        trouble = self._trouble(client, "instances")
        if trouble is not None:
            return Place(error=trouble)
        label = (self.config["name"], name)
        instances = self._servers[client["server"]]["instances"].values()
        mine = [one for one in instances if (one.get("fleet"), one.get("client")) == label]
        if not mine and client["state"] == "absent":
            return Place()
        return in_the_app(mine[0] if mine else None, self.config["openrouter_url"], key)

    def _at_openrouter(
        self, name: str, client: dict[str, Any], record: Record | None
    ) -> AtOpenRouter | None:
        account, slugs = self._account, None
        if account is None:
            return None
        if self._catalog is not None:
            allowed = in_effect(client["models"], record.models if record else {}, self._catalog)
            # Of models that left the catalog the guardrail stays as it is.
            slugs = set(allowed.slugs) or None
        return AtOpenRouter(
            account.keys.get(name, []), account.guardrails.get(name), account.assignments, slugs
        )

    # What is said of it

    def _say(self, lines: list[dict[str, str]], notes: list[str]) -> None:
        for line in lines_of(lines):
            self._display.display(line)
        for note in notes:
            self._display.display(f"note: {note}")
        if not self._problems:
            return
        self._display.display("what to do:")
        for line in _todo(self._problems):
            self._display.display(f"  {line}", color="red")


def _damage(place: str, error: FleetError) -> dict[str, str]:
    return {"place": place, "what": f"{error.what} ({error.where})", "todo": error.todo}


def _of_all(place: str, error: FleetError) -> dict[str, str]:
    what = f"{error.what} ({error.where})" if error.where else error.what
    return {"client": "", "place": place, "what": what, "todo": error.todo or "run again"}


def _todo(problems: list[dict[str, str]]) -> list[str]:
    """A line for each thing that is wrong, however many clients it is wrong for."""
    clients: dict[tuple[str, str, str], list[str]] = {}
    for problem in problems:
        todo = problem["todo"].replace(f"={problem['client']}", f"={_NAMES}")
        same = (problem["place"], problem["what"], todo)
        clients.setdefault(same, []).append(problem["client"] or "fleet")
    return [
        f"{', '.join(names)}: {place}: {what}"
        + (f" -> {todo.replace(_NAMES, ','.join(names))}" if todo else "")
        for (place, what, todo), names in clients.items()
    ]


def _verdict(problems: list[dict[str, str]]) -> str:
    """Why the run fails, empty when nothing is wrong."""
    if not problems:
        return ""
    clients = sorted({problem["client"] or "the fleet" for problem in problems})
    count = "1 thing is" if len(problems) == 1 else f"{len(problems)} things are"
    return f"{count} wrong, with {', '.join(clients)}; what to do is said above"
