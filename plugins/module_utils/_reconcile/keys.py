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
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    RateLimited,
    Unauthorized,
    Unreachable,
)
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
    """Where records and secrets are kept. A write is on the disk when it returns.

    All of it raises FleetError, and a write that raises has changed nothing.
    """

    def save_record(self, record: Record) -> None: ...

    def secrets(self, client: str) -> dict[str, str]: ...

    def save_secrets(self, client: str, secrets: Mapping[str, str]) -> None: ...


@dataclass(frozen=True)
class Desired:
    """What one client should have.

    :ivar limit: USD, None for no cap
    :ivar limit_reset: when the cap is full again; says nothing without a cap
    :ivar slugs: canonical, with variants. Empty when the catalog has none of the client's models
        any more: then its guardrail stays as it is
    :ivar replace: make a new key even though there is one
    :ivar held: hash of the secret that is stored, empty when none is; None: as the record says
    """

    client: str
    organization: str
    state: str
    limit: float | None
    limit_reset: str
    slugs: list[str]
    replace: bool = False
    held: str | None = None

    @property
    def suspended(self) -> bool:
        return self.state == "suspended"

    @property
    def reset(self) -> str:
        return "never" if self.limit is None else self.limit_reset


@dataclass(frozen=True)
class Account:
    """This fleet's part of the account, and nothing else of it."""

    keys: dict[str, list[Key]]
    guardrails: dict[str, Guardrail]
    assignments: dict[str, str]

    @classmethod
    def read(cls, api: OpenRouter, fleet: str) -> Account:
        keys: dict[str, list[Key]] = {}
        for key in api.list_keys():
            name = KeyName.parse(key.name)
            if name is not None and name.fleet == fleet:
                keys.setdefault(name.client, []).append(key)
        guardrails = {}
        for guardrail in api.list_guardrails():
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
        current = self._current(desired, record, live)
        guardrail = self._account.guardrails.get(desired.client)
        if desired.state == "absent":
            return self._absent(record, live, current, guardrail)
        kept = None if desired.replace else current
        others = [key for key in live if key is not kept]
        if desired.suspended and not self._check:
            self._suspend(desired, kept, others)
        warnings = self._doubts(desired, record, live, current)
        if guardrail is None and not desired.slugs:
            raise FleetError(
                "no model of this client is left at OpenRouter, so there is nothing to allow",
                f"client {desired.client}",
                "give the client or its plan other models",
            )
        if current is not None and current.hash != record.key_hash:
            record = self._adopt(record, current)
            warnings.append(f"the record did not know the key that is stored, {current.name}")
        older = [key for key in others if desired.replace or key.hash in record.superseded]
        before = self._view(desired, current, guardrail, others)
        after = {
            "key": before["key"] if kept else "a new key",
            "spending_limit": "unlimited" if desired.limit is None else desired.limit,
            "limit_reset": desired.reset,
            "disabled": desired.suspended,
            "models": sorted(set(desired.slugs)) or before["models"],
            "fenced": True,
        }
        changed = before != after
        if changed and not self._check:
            after["key"] = self._change(desired, record, kept, guardrail, older)
        return {"changed": changed, "before": before, "after": after, "warnings": warnings}

    def _current(self, desired: Desired, record: Record, live: list[Key]) -> Key | None:
        """The living key whose secret is stored."""
        held = record.key_hash if desired.held is None else desired.held
        found = _by_hash(live, held)
        if found is None and live:
            # The record was lost, or a run ended between storing the secret and writing it down.
            found = _by_hash(live, sha256(self._store.secrets(desired.client).get("api_key", "")))
        return found

    def _adopt(self, record: Record, key: Key) -> Record:
        mark = KeyName.parse(key.name)
        adopted = replace(
            record,
            key_hash=key.hash,
            generation=mark.generation if mark else record.generation,
            attempt=None,
            superseded=[other for other in record.superseded if other != key.hash],
            proven="",
        )
        if not self._check:
            self._store.save_record(adopted)
        return adopted

    def _view(
        self, desired: Desired, key: Key | None, guardrail: Guardrail | None, others: list[Key]
    ) -> dict[str, Any]:
        """What there is. A suspended client is disabled when all its keys are."""
        fenced = bool(key and guardrail and self._account.assignments.get(key.hash) == guardrail.id)
        allowed = guardrail.allowed_models if guardrail else None
        alive = desired.suspended and not all(other.disabled for other in others)
        return {
            "key": fingerprint_of(key.hash) if key else None,
            "spending_limit": _limit(key),
            "limit_reset": _reset(key),
            "disabled": (key.disabled and not alive) if key else None,
            "models": None if allowed is None else sorted(set(allowed)),
            "fenced": fenced,
        }

    def _doubts(
        self, desired: Desired, record: Record, live: list[Key], current: Key | None
    ) -> list[str]:
        """Keys of ours that are not the current one: never replaced or removed in silence."""
        if desired.replace:
            return []
        where = f"client {desired.client}"
        todo = (
            f"to replace it: ansible-playbook mai.fleet.site -e fleet_select={desired.client} "
            f"-e fleet_replace_keys={desired.client}"
        )
        strays = [key for key in live if key is not current and key.hash not in record.superseded]
        names = ", ".join(key.name for key in strays)
        if current is None and strays:
            lost = "its secret is neither in the store nor on the server"
            attempt = record.attempt
            if attempt and attempt.name in [key.name for key in strays]:
                lost += f"; the run of {attempt.at} ended while it made this key"
            raise FleetError(f"the key {names} exists at OpenRouter, but {lost}", where, todo)
        if current is None and record.key_hash and self._api.key(record.key_hash):
            raise FleetError(
                f"the key {fingerprint_of(record.key_hash)} exists at OpenRouter, but is not "
                "listed among the keys of the default workspace",
                where,
                f"if it was moved to another workspace, move it back; else run again; {todo}",
            )
        if strays:
            return [f"another key of this client is alive at OpenRouter: {names}; delete it there"]
        return []

    def _change(
        self,
        desired: Desired,
        record: Record,
        current: Key | None,
        guardrail: Guardrail | None,
        older: list[Key],
    ) -> str:
        """Fence first, then the key, then the fence around it, then what the key may do."""
        if current is None:
            name, attempted = self._attempt(record, older)
            guardrail = self._fence(desired, guardrail)
            key = self._create(desired, name, attempted, older)
        else:
            guardrail = self._fence(desired, guardrail)
            key = current
        if self._account.assignments.get(key.hash) != guardrail.id:
            self._api.assign(guardrail.id, key.hash)
        if not (current and desired.suspended):
            self._settle(key, desired)
        return fingerprint_of(key.hash)

    def _fence(self, desired: Desired, guardrail: Guardrail | None) -> Guardrail:
        slugs = list(dict.fromkeys(desired.slugs))
        if guardrail is None:
            text = f"mai.fleet {self._fleet}: {desired.organization}"[:1000]
            name = guardrail_name(self._fleet, desired.client)
            return self._api.create_guardrail(name, text, slugs)
        if slugs and set(guardrail.allowed_models or ()) != set(slugs):
            self._api.update_guardrail(guardrail.id, slugs)
        return guardrail

    def _suspend(self, desired: Desired, kept: Key | None, others: list[Key]) -> None:
        """Before all else and whatever is wrong: no key of the client works any more.

        Not one whose secret is lost, nor one that a newer key replaces and a server may still have.
        """
        for key in others:
            if not key.disabled:
                self._api.update_key(key.hash, {"disabled": True})
        if kept is not None:
            self._settle(kept, desired)

    def _settle(self, key: Key, desired: Desired) -> None:
        changes: dict[str, Any] = {}
        if key.limit != desired.limit:
            changes["limit"] = desired.limit
        if _reset(key) != desired.reset:
            changes["limit_reset"] = desired.reset
        if key.disabled != desired.suspended:
            changes["disabled"] = desired.suspended
        if changes:
            self._api.update_key(key.hash, changes)

    def _attempt(self, record: Record, older: list[Key]) -> tuple[KeyName, Record]:
        """A name and the record with it, on disk. Nothing is created unless all can be stored."""
        known = [KeyName.parse(key.name) for key in older]
        newest = max([record.generation, *(name.generation for name in known if name)])
        name = KeyName(self._fleet, record.client, newest + 1, random.token_hex(4))
        attempted = replace(record, attempt=Attempt(str(name), now()))
        self._store.save_record(attempted)
        self._store.save_secrets(record.client, self._store.secrets(record.client))
        return name, attempted

    def _create(self, desired: Desired, name: KeyName, record: Record, older: list[Key]) -> Key:
        """The attempt that is on disk is made now."""
        secrets = self._store.secrets(desired.client)
        key, secret = self._api.create_key(str(name), desired.limit, desired.reset)
        try:
            self._store.save_secrets(desired.client, {**secrets, "api_key": secret})
        except FleetError as error:
            # Nobody can use a key whose secret is gone.
            try:
                self._api.delete_key(key.hash)
            except FleetError:
                error.todo += f"; delete the key {name} at OpenRouter, its secret is lost"
            raise
        if sha256(secret) != key.hash:
            raise FleetError(
                "OpenRouter's hash of the new key is not the SHA-256 of its secret",
                f"key {name}",
                "the secret is stored; do not go on before this is understood",
            )
        replaced = {record.key_hash} - {""} if desired.replace else set()
        self._store.save_record(
            replace(
                record,
                key_hash=key.hash,
                generation=name.generation,
                attempt=None,
                superseded=sorted({*record.superseded, *replaced, *(key.hash for key in older)}),
                proven="",
            )
        )
        return key

    def _absent(
        self, record: Record, live: list[Key], current: Key | None, guardrail: Guardrail | None
    ) -> Row:
        nothing = Desired(record.client, record.organization, "absent", None, "never", [])
        if not self._check:
            for key in live:
                self._api.delete_key(key.hash)
            if guardrail is not None:
                self._api.delete_guardrail(guardrail.id)
            secrets = self._store.secrets(record.client)
            if secrets.pop("api_key", None):
                self._store.save_secrets(record.client, secrets)
            gone = replace(record, key_hash="", attempt=None, superseded=[], proven="")
            if gone != record:
                self._store.save_record(gone)
        return {
            "changed": bool(live or guardrail),
            "before": self._view(nothing, current, guardrail, []),
            "after": self._view(nothing, None, None, []),
            "warnings": [],
        }


def reconcile(
    keys: Keys,
    wanted: list[tuple[Desired, Record]],
    on_error: Callable[[Desired, FleetError], Row],
) -> dict[str, Row]:
    """All clients, a few at a time. One client's failure is its own.

    What is wrong with the whole account or network ends it for those that wait: each would run
    into the same wall, and wait for it to give way.
    """
    halt: list[FleetError] = []
    silence: list[FleetError] = []

    def one(pair: tuple[Desired, Record]) -> Row:
        desired, record = pair
        if halt:
            return on_error(desired, halt[0])
        try:
            row = keys.apply(desired, record)
        except FleetError as error:
            if isinstance(error, Unreachable):
                silence.append(error)
            if _concerns_all(error) or len(silence) >= _WRITERS:
                halt.append(error)
            return on_error(desired, error)
        silence.clear()
        return row

    with ThreadPoolExecutor(_WRITERS) as pool:
        rows = list(pool.map(one, wanted))
    return {desired.client: row for (desired, _record), row in zip(wanted, rows, strict=True)}


def _concerns_all(error: FleetError) -> bool:
    out_of_credit = isinstance(error, ApiError) and error.status == 402
    return out_of_credit or isinstance(error, (Unauthorized, RateLimited))


def _by_hash(keys: list[Key], key_hash: str) -> Key | None:
    return next((key for key in keys if key.hash == key_hash), None)


def fingerprint_of(key_hash: str) -> str:
    """The fingerprint of a secret of which only OpenRouter's hash is known."""
    return f"sha256:{key_hash[:12]}"


def _limit(key: Key | None) -> float | str | None:
    if key is None:
        return None
    return "unlimited" if key.limit is None else key.limit


def _reset(key: Key | None) -> str | None:
    """Without a cap there is nothing to reset, whatever the API says of it."""
    if key is None:
        return None
    return "never" if key.limit is None else key.limit_reset


def now() -> str:
    """The time as records have it, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
