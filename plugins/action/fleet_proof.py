# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import CONNECTION_TAGS
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.key_proof import (
    MAX_TOKENS,
    PROMPT,
    Proof,
    Purse,
    Sold,
    prove,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import current, now
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint
from ansible_collections.mai.fleet.plugins.plugin_utils._instance import (
    foreign_keys,
    keep_tokens,
    known_owners,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._inventory import digest
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State, outcome

_READERS = 8


class ActionModule(Stage):
    STAGE = "proof"
    NOTED = "prove"
    OPTIONS = ("state", "scope", "chat", "fence", "budget", "patience", "pool")

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        self._store = self.store()
        if self.check and self.option("scope") == "changed":
            # What would change cannot be proven yet.
            return self.result(state, {})
        paid = {} if self.check else self._paid(state)
        secrets: dict[str, dict[str, str]] = {}
        apis: dict[str, OpenRouter] = {}
        broken: dict[str, Row] = {}
        clients: dict[str, dict[str, Any]] = {}
        for name, client, _row in self.mine(state):
            try:
                secrets[name] = self._secrets(name)
                apis[name] = self.openrouter(secrets[name]["api_key"])
                clients[name] = client
            except FleetError as error:
                broken[name] = {"failed": True, "failure": error.failure()}
        self.take(state, broken)
        proofs = self._keys(state, clients, apis, paid)
        purses = self._purses(state, clients, paid, proofs)
        answer = self._instances(state, clients, secrets, paid, proofs)
        spent = self._spent(purses, answer)
        found = {**broken}
        for name in clients:
            row = state["clients"][name]
            if row["failure"]:
                continue
            row["exhausted"] = proofs[name].exhausted
            seen = answer["clients"].get(name, {}).get("gates", [])
            row["gates"] = [*proofs[name].gates, *seen, *spent.get(name, [])]
            row["unpaid"] = sorted(set(self._wanted()) - set(paid.get(name, ())))
            found[name] = _verdict(row)
            if not found[name].get("failed") and name in paid:
                # Of a client whose cap is used up the paid gates say nothing.
                made = [] if proofs[name].exhausted else paid[name]
                self._proven(name, clients[name], row, made)
        self.take(state, found)
        self.warn(state, found)
        return self.result(state, {})

    def line(self, client: str, row: Row, news: Row) -> Row | None:
        """Only what is different from the last time."""
        if "failed_gates" not in news and not news.get("failed"):
            return None
        line = {
            "what": self.NOTED,
            "result": outcome(news),
            "failed_gates": news.get("failed_gates", []),
        }
        if gates := row.get("gates", []):
            passed = sum(gate["passed"] for gate in gates)
            line["gates"] = f"{passed} of {len(gates)} passed"
        told = self.notes().verify_journal(client).lines
        last = next((one for one in reversed(told) if one["what"] == self.NOTED), None)
        return None if last and _verdict_of(last) == _verdict_of(line) else line

    def _secrets(self, name: str) -> dict[str, str]:
        secrets = current(self._store.secrets(name))
        if "api_key" not in secrets:
            raise FleetError(
                "the store holds no key of this client, so there is nothing to prove",
                self._store.secrets_path(name),
                f"run mai.fleet.site -e fleet_select={name}",
            )
        return secrets

    def _cap(self, name: str, client: dict[str, Any]) -> float | None:
        """What the key's cap has to be: less than was sold, where earlier keys spent some of it."""
        record = self._store.record(name)
        sold: float | None = client["spending_limit"]
        return record.cap(sold, now()) if record else sold

    def _wanted(self) -> list[str]:
        # On the command line, `-e proof_chat=false` gives a text.
        return [gate for gate in ("chat", "fence") if boolean(self.option(gate))]

    def _paid(self, state: State) -> dict[str, list[str]]:
        """The clients for which calls that may cost are made, within the run's budget.

        Every server works this out for all servers alike, so that they share one budget.
        """
        left = float(self.option("budget"))
        chosen: dict[str, list[str]] = {}
        for name, row in sorted(self.batch_state()["clients"].items()):
            if row["failure"] or row["state"] == "absent":
                continue
            record = self._store.record(name)
            known = record is not None and _covers(
                record.proven, digest(self.client(name, row), row, record), self._wanted()
            )
            if self.option("scope") == "changed" and known and not row["changed"]:
                continue
            cost = row["cost"] if self._wanted() else 0.0
            if cost > left:
                continue
            left -= cost
            chosen[name] = self._wanted()
        return chosen

    def _keys(
        self,
        state: State,
        clients: dict[str, dict[str, Any]],
        apis: dict[str, OpenRouter],
        paid: dict[str, list[str]],
    ) -> dict[str, Proof]:
        def one(name: str) -> Proof:
            row, client = state["clients"][name], clients[name]
            sold = Sold(
                client=name,
                suspended=row["state"] == "suspended",
                limit=self._cap(name, client),
                limit_reset=client["limit_reset"],
                slugs=row["slugs"],
                fence_model=row["fence_model"],
                renew_days=client["key_renew_days"],
                at=now(),
            )
            return prove(
                apis[name],
                sold,
                patience=float(self.option("patience")),
                fence="fence" in paid.get(name, ()),
            )

        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(clients, pool.map(one, clients), strict=True))

    def _chats(self, name: str, row: Row, paid: dict[str, list[str]], proof: Proof) -> bool:
        wanted = row["instance"] == "webui" and "chat" in paid.get(name, ())
        return bool(wanted and row["chat_model"] and not proof.exhausted)

    def _purses(
        self,
        state: State,
        clients: dict[str, dict[str, Any]],
        paid: dict[str, list[str]],
        proofs: dict[str, Proof],
    ) -> dict[str, Purse]:
        """What was spent until now by the clients whose former key works still."""
        purses = {}
        for name in clients:
            row, record = state["clients"][name], self._store.record(name)
            old = [one.hash for one in record.former if not one.since] if record else []
            # A chat with a free model shows nowhere.
            if not (record and old and row["state"] == "present" and row["cost"]):
                continue
            if not self._chats(name, row, paid, proofs[name]):
                continue
            patience = float(self.option("patience"))
            try:
                purses[name] = Purse(self.management(), record.key_hash, old, patience=patience)
            except FleetError as error:
                self.fail(state, [name], error)
        return purses

    def _spent(
        self, purses: dict[str, Purse], answer: dict[str, Any]
    ) -> dict[str, list[dict[str, Any]]]:
        """The gate of each client that got an answer to its chat."""
        names = []
        for name in purses:
            gates = answer["clients"].get(name, {}).get("gates", [])
            if any(gate["gate"] == "chat" and gate["state"] == "passed" for gate in gates):
                names.append(name)
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(
                zip(names, pool.map(lambda name: [purses[name].gate()], names), strict=True)
            )

    def _instances(
        self,
        state: State,
        clients: dict[str, dict[str, Any]],
        secrets: dict[str, dict[str, str]],
        paid: dict[str, list[str]],
        proofs: dict[str, Proof],
    ) -> dict[str, Any]:
        wanted = []
        for name, client in clients.items():
            row = state["clients"][name]
            if row["instance"] != "webui":
                continue
            chat = self._chats(name, row, paid, proofs[name])
            wanted.append(
                {
                    "name": name,
                    "volume": client["volume"] or "",
                    "port": row["port"],
                    "version": client["version"],
                    "connection": {
                        "url": self.config["openrouter_url"],
                        "model_ids": row["models"],
                        "key_fingerprint": fingerprint(secrets[name]["api_key"]),
                        "tags": [tag["name"] for tag in CONNECTION_TAGS],
                        "foreign_keys": foreign_keys(client, self.config),
                    },
                    "model_ids": row["models"],
                    "chat": {
                        "model": row["chat_model"],
                        "max_tokens": MAX_TOKENS,
                        "prompt": PROMPT,
                    }
                    if chat
                    else None,
                    "chat_expect": "refused" if row["state"] == "suspended" else "answered",
                }
            )
        names = [client["name"] for client in wanted]
        payload = {name: secrets[name] for name in names}
        answer = self.on_server(
            state,
            names,
            lambda: self.call(
                "instance_proof",
                {
                    "clients": wanted,
                    "owners": known_owners(self._store, names),
                    "pool": self.option("pool"),
                    "secrets": json.dumps(payload),
                },
            ),
        )
        if not self.check:
            self.take(state, keep_tokens(self._store, payload, answer["clients"]))
        return answer

    def _proven(self, name: str, client: dict[str, Any], row: Row, made: list[str]) -> None:
        """Write down what was proven, and by which paid gates, unless that is known already."""
        record = self._store.record(name)
        if record is None:
            return
        proof = digest(client, row, record)
        if not _covers(record.proven, proof, made):
            self._store.save_record(dataclasses.replace(record, proven="+".join([proof, *made])))


def _covers(proven: str, proof: str, gates: list[str]) -> bool:
    """Whether a record says that this was proven, by these paid gates at least."""
    known, *made = proven.split("+")
    return known == proof and set(gates) <= set(made)


def _verdict(row: Row) -> Row:
    failed = [gate for gate in row["gates"] if not gate["passed"]]
    names = [gate["gate"] for gate in failed]
    if not failed:
        return {"failed_gates": names}
    text = "; ".join(
        f"gate {gate['gate']}: expected {gate['expected']}, saw {gate['seen']}" for gate in failed
    )
    todo = " / ".join(dict.fromkeys(gate["todo"] for gate in failed if gate["todo"]))
    failure = {"what": text, "where": "proof", "todo": todo}
    return {"failed": True, "failure": failure, "failed_gates": names}


def _verdict_of(line: Row) -> tuple[bool, list[str]]:
    """What of a journal's line about a proof is its verdict; numbers in its text are not."""
    return line["result"] == "done", line["failed_gates"]
