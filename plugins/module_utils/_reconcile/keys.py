# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""One key and one guardrail per client at OpenRouter.

OpenRouter shows a secret once and has no idempotent create. So the order of the steps is what
keeps a key from being lost: an attempt is on disk before the create, the secret right after it,
and the key's name says which fleet, client and attempt it belongs to.
"""

from __future__ import annotations

import datetime
import secrets as random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import (
    Guardrail,
    Key,
    OpenRouter,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import (
    KeyName,
    guardrail_client,
    guardrail_name,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256

_WRITERS = 4


@dataclass(frozen=True)
class Attempt:
    """A create that was about to be sent. Kept until its secret is stored."""

    name: str
    at: str


@dataclass(frozen=True)
class Record:
    """What is remembered of a client, in clear. Frozen: a change is a new record.

    :ivar slot: the client's number on its server; its port and subnet follow from it
    :ivar key_hash: SHA-256 of the current key's secret, empty when no secret is stored
    :ivar superseded: hashes of keys that a newer one replaces, deleted once that one is proven
    :ivar models: canonical slugs by id of every model that was ever in effect
    :ivar proven: digest of what all gates passed for, empty when that is not known
    :ivar handed_over: when the first password was shown, empty when it never was
    """

    client: str
    server: str
    organization: str
    external_user: str
    schema: int = 1
    domain: str = ""
    slot: int = 0
    port: int = 0
    generation: int = 0
    key_hash: str = ""
    attempt: Attempt | None = None
    superseded: list[str] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    state: str = "present"
    proven: str = ""
    handed_over: str = ""


class KeyStore(Protocol):
    """Where records and secrets are kept. A write is on the disk when it returns."""

    def save_record(self, record: Record) -> None: ...

    def secrets(self, client: str) -> dict[str, str]: ...

    def save_secrets(self, client: str, secrets: Mapping[str, str]) -> None: ...


@dataclass(frozen=True)
class Desired:
    """What one client should have. ``slugs`` are canonical, ``limit`` is USD or None for no cap."""

    client: str
    organization: str
    state: str
    limit: float | None
    limit_reset: str
    slugs: list[str]
    replace: bool = False


@dataclass(frozen=True)
class Account:
    """This fleet's part of the account, and nothing else of it."""

    keys: dict[str, list[Key]]
    guardrails: dict[str, Guardrail]
    assignments: dict[str, str]

    @classmethod
    def read(cls, api: OpenRouter, fleet: str) -> Account:
        keys: dict[str, list[Key]] = {}
        for key in api.keys():
            name = KeyName.parse(key.name)
            if name is not None and name.fleet == fleet:
                keys.setdefault(name.client, []).append(key)
        guardrails = {}
        for guardrail in api.guardrails():
            client = guardrail_client(fleet, guardrail.name)
            if client is not None:
                guardrails[client] = guardrail
        return cls(keys, guardrails, api.assignments())

    def clients(self) -> set[str]:
        return set(self.keys) | set(self.guardrails)


Row = dict[str, Any]


class Keys:
    """Reconciles clients one by one; :func:`reconcile` does many at once."""

    def __init__(
        self, api: OpenRouter, store: KeyStore, fleet: str, account: Account, check: bool
    ) -> None:
        self._api = api
        self._store = store
        self._fleet = fleet
        self._account = account
        self._check = check

    def apply(self, desired: Desired, record: Record) -> Row:
        """:raises FleetError: what stopped this client; every step before it is on disk"""
        live = self._account.keys.get(desired.client, [])
        current = next((key for key in live if key.hash == record.key_hash), None)
        guardrail = self._account.guardrails.get(desired.client)
        before = self._view(current, guardrail)
        if desired.state == "absent":
            if not self._check:
                self._remove(record, live, guardrail)
            after = self._view(None, None)
            return {
                "changed": bool(live or guardrail),
                "before": before,
                "after": after,
                "warnings": [],
            }
        warnings = self._doubts(desired, record, live, current)
        create = current is None or desired.replace
        after = {
            "key": "a new key" if create or current is None else fingerprint_of(current.hash),
            "spending_limit": "unlimited" if desired.limit is None else desired.limit,
            "limit_reset": desired.limit_reset,
            "disabled": desired.state == "suspended",
            "models": sorted(desired.slugs),
            "fenced": True,
        }
        changed = before != after
        if changed and not self._check:
            after["key"] = self._change(
                desired, record, live, None if create else current, guardrail
            )
        return {"changed": changed, "before": before, "after": after, "warnings": warnings}

    def _view(self, key: Key | None, guardrail: Guardrail | None) -> dict[str, Any]:
        fenced = bool(key and guardrail and self._account.assignments.get(key.hash) == guardrail.id)
        allowed = guardrail.allowed_models if guardrail else None
        return {
            "key": fingerprint_of(key.hash) if key else None,
            "spending_limit": _limit(key),
            "limit_reset": key.limit_reset if key else None,
            "disabled": key.disabled if key else None,
            "models": None if allowed is None else sorted(allowed),
            "fenced": fenced,
        }

    def _doubts(
        self, desired: Desired, record: Record, live: list[Key], current: Key | None
    ) -> list[str]:
        """Keys of ours that are not the current one: never replaced or removed in silence."""
        strays = [key for key in live if key is not current and key.hash not in record.superseded]
        if not strays or desired.replace:
            return []
        names = ", ".join(key.name for key in strays)
        todo = (
            f"to replace it: ansible-playbook mai.fleet.site -e fleet_select={desired.client} "
            f"-e fleet_replace_keys={desired.client}"
        )
        if current is None:
            raise FleetError(
                f"the key {names} exists at OpenRouter, but its secret is neither in the store "
                "nor on the server",
                f"client {desired.client}",
                todo,
            )
        return [f"another key of this client is alive at OpenRouter: {names}; delete it there"]

    def _change(
        self,
        desired: Desired,
        record: Record,
        live: list[Key],
        current: Key | None,
        guardrail: Guardrail | None,
    ) -> str:
        """Fence first, then the key, then the fence around it, then what the key may do."""
        name = guardrail_name(self._fleet, desired.client)
        if guardrail is None:
            text = f"mai.fleet {self._fleet}: {desired.organization}"[:1000]
            guardrail = self._api.create_guardrail(name, text, desired.slugs)
        elif sorted(guardrail.allowed_models or ()) != sorted(desired.slugs):
            guardrail = self._api.update_guardrail(guardrail.id, desired.slugs)
        key = current or self._create(desired, record, live)
        if self._account.assignments.get(key.hash) != guardrail.id:
            self._api.assign(guardrail.id, key.hash)
        changes: dict[str, Any] = {}
        if key.limit != desired.limit:
            changes["limit"] = desired.limit
        if key.limit_reset != desired.limit_reset:
            changes["limit_reset"] = desired.limit_reset
        if key.disabled != (desired.state == "suspended"):
            changes["disabled"] = desired.state == "suspended"
        if changes:
            self._api.update_key(key.hash, changes)
        return fingerprint_of(key.hash)

    def _create(self, desired: Desired, record: Record, live: list[Key]) -> Key:
        known = [KeyName.parse(key.name) for key in live]
        newest = max([record.generation, *(name.generation for name in known if name)])
        name = KeyName(self._fleet, desired.client, newest + 1, random.token_hex(4))
        attempted = replace(record, attempt=Attempt(str(name), now()))
        self._store.save_record(attempted)
        secrets = self._store.secrets(desired.client)
        # Proves that secrets can be written before there is one to lose.
        self._store.save_secrets(desired.client, secrets)
        key, secret = self._api.create_key(str(name), desired.limit, desired.limit_reset)
        self._store.save_secrets(desired.client, {**secrets, "api_key": secret})
        if sha256(secret) != key.hash:
            raise FleetError(
                "OpenRouter's hash of the new key is not the SHA-256 of its secret",
                f"key {name}",
                "the secret is stored; do not go on before this is understood",
            )
        older = sorted({*record.superseded, *(other.hash for other in live)})
        self._store.save_record(
            replace(
                attempted,
                key_hash=key.hash,
                generation=name.generation,
                attempt=None,
                superseded=older,
                proven="",
            )
        )
        return key

    def _remove(self, record: Record, live: list[Key], guardrail: Guardrail | None) -> None:
        for key in live:
            self._api.delete_key(key.hash)
        if guardrail is not None:
            self._api.delete_guardrail(guardrail.id)
        secrets = self._store.secrets(record.client)
        if secrets.pop("api_key", None):
            self._store.save_secrets(record.client, secrets)
        gone = replace(record, key_hash="", attempt=None, superseded=[], state="absent", proven="")
        if gone != record:
            self._store.save_record(gone)


def reconcile(
    keys: Keys,
    wanted: list[tuple[Desired, Record]],
    on_error: Callable[[Desired, FleetError], Row],
) -> dict[str, Row]:
    """All clients, a few at a time. One client's failure is its own."""

    def one(pair: tuple[Desired, Record]) -> Row:
        desired, record = pair
        try:
            return keys.apply(desired, record)
        except FleetError as error:
            return on_error(desired, error)
        except OSError as error:
            return on_error(desired, FleetError(f"cannot store: {error}", "the secret store"))

    with ThreadPoolExecutor(_WRITERS) as pool:
        rows = list(pool.map(one, wanted))
    return {desired.client: row for (desired, _record), row in zip(wanted, rows, strict=True)}


def fingerprint_of(key_hash: str) -> str:
    """The fingerprint of a secret of which only OpenRouter's hash is known."""
    return f"sha256:{key_hash[:12]}"


def _limit(key: Key | None) -> float | str | None:
    if key is None:
        return None
    return "unlimited" if key.limit is None else key.limit


def now() -> str:
    """The time as records have it, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
