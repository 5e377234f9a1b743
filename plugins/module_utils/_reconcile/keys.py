# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""One key and one guardrail per client at OpenRouter.

OpenRouter shows a secret once and has no idempotent create. So the order of the steps is what
keeps a key from being lost: an attempt is on disk before the create, the secret right after it,
and the key's name says which fleet, client and attempt it belongs to.

A run may end between any two of these steps. The next one finds what there is: a key whose secret
is stored is the client's; a key of an attempt whose secret nobody has is an orphan, and disabled.
Whatever else bears the client's name is an error, never a guess.
"""

from __future__ import annotations

import datetime
import secrets as random
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

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
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import unforeseen
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.caps import (
    counts,
    remainder,
    seen,
    spent_before,
    window_end,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.changes import Changes
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.expiry import Lifetime, expired
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.offboarding import begun
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    ATTEMPT_LIFE,
    Attempt,
    Former,
    KeyStore,
    Record,
    Remainder,
    Why,
    chosen,
    is_api_key,
    stamp,
    succeeded,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of, sha256

_WRITERS = 4
#: Seconds in which OpenRouter may go on taking a key that was disabled, and between two looks.
_PATIENCE = 10.0
_PAUSE = 0.5


@dataclass(frozen=True)
class Desired:
    """What one client should have.

    :ivar limit: USD, None for no cap
    :ivar limit_reset: when the cap is full again; says nothing without a cap
    :ivar slugs: canonical, with variants. Empty when the catalog has none of the client's models
        any more: then its guardrail stays as it is
    :ivar replace: make a new key even though there is one
    :ivar max_age: make it only if the one that there is is older than that; by itself, always
    :ivar lifetime: how old its keys become, of which the last one is replaced ahead of its end
    :ivar undo: go back to the key before this one
    :ivar held: hash of the secret that is stored, empty when none is; None: as the record says
    """

    client: str
    organization: str
    state: str
    limit: float | None
    limit_reset: str
    slugs: list[str]
    replace: bool = False
    max_age: Lifetime = field(default_factory=Lifetime)
    lifetime: Lifetime = field(default_factory=Lifetime)
    undo: bool = False
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
        keys = living(api, fleet)
        guardrails = {}
        for guardrail in api.list_guardrails():
            client = guardrail_client(fleet, guardrail.name)
            if client is not None:
                guardrails[client] = guardrail
        return cls(keys, guardrails, api.assignments())

    def clients(self) -> set[str]:
        return set(self.keys) | set(self.guardrails)


def living(api: OpenRouter, fleet: str) -> dict[str, list[Key]]:
    """The fleet's keys by client, whether they work or not."""
    keys: dict[str, list[Key]] = {}
    for key in api.list_keys():
        name = KeyName.parse(key.name)
        if name is not None and name.fleet == fleet:
            keys.setdefault(name.client, []).append(key)
    return keys


Row = dict[str, Any]


class Keys:
    """Reconciles clients one by one; :func:`reconcile` does many at once."""

    def __init__(
        self,
        api: OpenRouter,
        store: KeyStore,
        fleet: str,
        account: Account,
        check: bool,
        at: datetime.datetime,
        with_key: Callable[[str], OpenRouter],
    ) -> None:
        """:param at: the time that counts as now

        :param with_key: OpenRouter as it is asked with a client's own key
        """
        self._api = api
        self._store = store
        self._fleet = fleet
        self._account = account
        self._check = check
        self._at = at
        self._with_key = with_key

    def apply(self, desired: Desired, record: Record) -> Row:
        """:raises FleetError: what stopped this client; every step before it is on disk"""
        live = list(self._account.keys.get(desired.client, []))
        guardrail = self._account.guardrails.get(desired.client)
        self._journal_first(desired)
        if desired.state == "absent":
            return self._absent(desired, record, live, guardrail)
        current = self._staying(record, self._current(desired, record, live))
        undone = current if not desired.undo else self._predecessor(record, current, live)
        # Who asks for a key back gets it for as long as it lasts.
        renews = not desired.undo and self._renews(desired, undone)
        desired = replace(desired, undo=undone is not current)
        current = undone
        # A key that was moved, or has slipped past the listing, counts with what it spent.
        live += self._elsewhere(record, live) if current is None and desired.replace else []
        desired = replace(desired, replace=_replaces(desired, record, current, live, self._at))
        kept = None if desired.replace or renews else current
        others = [key for key in live if key is not kept]
        left = _remainder(desired, record, kept, others, self._at)
        if left is not None:
            desired = replace(desired, limit=left.limit)
        if desired.suspended and not self._check:
            self._suspend(desired, kept, [*others, *self._elsewhere(record, live)])
            self._store.can_note(desired.client)
        orphans = self._orphans(desired, record, current, others)
        self._doubt(desired, record, current, others, orphans)
        if guardrail is None and not desired.slugs:
            raise FleetError(
                "no model of this client is left at OpenRouter, so there is nothing to allow",
                f"client {desired.client}",
                "give the client or its plan other models",
            )
        warnings = []
        if current is not None and current.hash != record.key_hash and not desired.undo:
            warnings.append(f"the record did not know the key that is stored, {current.name}")
        if current is not None and renews and expired(current, self._at):
            warnings.append(
                f"the key {current.name} ended on {current.expires_at}, and with it the client's "
                "service, until another took its place; does mai.fleet.schedule's timer run?"
            )
        remembered = self._remember(desired, record, current, live, orphans)
        remembered = replace(remembered, remainder=left)
        older = [key for key in others if key not in orphans]
        before = self._view(desired, current, guardrail, others)
        after = {
            "key": before["key"] if kept else "a new key",
            "spending_limit": "unlimited" if desired.limit is None else desired.limit,
            "limit_reset": desired.reset,
            "disabled": desired.suspended,
            "ends": before["ends"] if kept else desired.lifetime.expires_at(self._at) or "never",
            "models": sorted(set(desired.slugs)) or before["models"],
            "fenced": True,
        }
        asleep = {former.hash for former in record.former if former.since}
        awake = any(key.hash in asleep and not key.disabled for key in others)
        changed = before != after or bool(orphans) or desired.undo or awake
        if not self._check:
            if remembered != record:
                self._store.save_record(remembered)
            self._disable(remembered, others)
            if before != after:
                after["key"] = self._change(desired, remembered, kept, guardrail, older)
        warnings += [
            f"the key {key.name} was made by a run that ended before it had the secret: it is "
            "disabled, and deleted later"
            for key in orphans
        ]
        return {"changed": changed, "before": before, "after": after, "warnings": warnings}

    def suspend(self, desired: Desired, record: Record) -> bool:
        """Disable all keys of a client that is suspended, and of which nothing else can be done.

        :return: whether one worked
        :raises FleetError: one of them may work still
        """
        live = self._account.keys.get(desired.client, [])
        keys = [*live, *self._elsewhere(record, live)]
        if not self._check:
            self._suspend(desired, None, keys)
        return any(not key.disabled for key in keys)

    def _elsewhere(self, record: Record, live: list[Key]) -> list[Key]:
        """Keys of the client that are not listed, such as those moved to another workspace."""
        listed = {key.hash for key in live}
        hashes = [record.key_hash, *(former.hash for former in record.former)]
        found = [self._api.key(one) for one in hashes if one and one not in listed]
        return [key for key in found if key is not None and self._bears(record.client, key)]

    def _bears(self, client: str, key: Key) -> bool:
        """Whether a key that is known by its hash alone is not another client's by now."""
        mark = KeyName.parse(key.name)
        return mark is None or (mark.fleet, mark.client) == (self._fleet, client)

    def _renews(self, desired: Desired, current: Key | None) -> bool:
        """Whether the key's time is over, or soon will be. One that is suspended can wait."""
        if current is None or desired.suspended:
            return False
        return desired.lifetime.renews(current, self._at)

    def _journal_first(self, desired: Desired) -> None:
        """What is done has to be noted. But a suspended client's keys are disabled in any case."""
        if self._check or not desired.suspended:
            self._store.can_note(desired.client)

    def _current(self, desired: Desired, record: Record, live: list[Key]) -> Key | None:
        """The living key whose secret is stored."""
        if desired.held is None and record.attempts:
            # A run may have ended between storing a secret and writing down whose it is.
            attempted = {attempt.name for attempt in record.attempts}
            stored = self._stored(desired.client, live)
            if stored is not None and stored.name in attempted:
                return stored
        held = record.key_hash if desired.held is None else desired.held
        found = _by_hash(live, held)
        # Else the record was lost.
        return self._stored(desired.client, live) if found is None and live else found

    def _staying(self, record: Record, current: Key | None) -> Key | None:
        """The same, unless a run was cut off that deleted it: that may be acted upon yet."""
        former = record.former_key(current.hash) if current is not None else None
        return None if former is not None and former.deleted else current

    def _stored(self, client: str, live: list[Key]) -> Key | None:
        return _by_hash(live, sha256(self._store.secrets(client).get("api_key", "")))

    def _predecessor(self, record: Record, current: Key | None, live: list[Key]) -> Key:
        """The key that the current one replaced, as long as it can be had back.

        The current one itself, where that has been done already: then a newer one is among the
        former ones.

        :raises FleetError: there is none
        """
        secrets = self._store.secrets(record.client)
        replaced = [
            one.hash for one in record.former if one.why is Why.REPLACED and not one.deleted
        ]
        if current and current.hash != record.key_hash:
            # A run ended before it wrote down that this one was replaced.
            replaced.append(record.key_hash)
        found = [_by_hash(live, key_hash) for key_hash in replaced]
        back = [
            key for key in found if key and chosen(secrets, key.hash) and not expired(key, self._at)
        ]
        if current and any(_generation(key) > record.generation for key in back):
            return current
        if back:
            return back[-1]
        raise FleetError(
            "there is no key to go back to: none was replaced, or it is deleted or has expired",
            f"client {record.client}",
            "leave this client out, or give it a new key",
        )

    def _orphans(
        self, desired: Desired, record: Record, current: Key | None, others: list[Key]
    ) -> list[Key]:
        """Keys of our attempts that were never delivered.

        :raises FleetError: one was used, so somebody has its secret
        """
        attempts = {attempt.name: attempt for attempt in record.attempts}
        orphans = []
        for key in others:
            attempt = attempts.get(key.name)
            if attempt is None or key is current or record.former_key(key.hash):
                continue
            if (key.usage or key.last_used_at) and not desired.replace:
                raise FleetError(
                    f"the run of {attempt.at} ended while it made the key {key.name}; its secret "
                    "was never delivered, and yet the key was used",
                    f"client {desired.client}",
                    f"find out who has it; then {_to_replace(desired.client)}",
                )
            orphans.append(key)
        return orphans

    def _doubt(
        self,
        desired: Desired,
        record: Record,
        current: Key | None,
        others: list[Key],
        orphans: list[Key],
    ) -> None:
        """:raises FleetError: there are keys of this client that nobody knows"""
        if desired.replace:
            return
        where = f"client {desired.client}"
        todo = _to_replace(desired.client)
        known = {former.hash for former in record.former} | {key.hash for key in orphans}
        if current is not None:
            # The record's key gave way to the one whose secret is there.
            known |= {current.hash, record.key_hash}
        strays = [key.name for key in others if key.hash not in known]
        if strays and current is None:
            raise FleetError(
                f"the key {', '.join(strays)} exists at OpenRouter, but its secret is neither in "
                "the store nor on the server",
                where,
                todo,
            )
        if strays:
            raise FleetError(
                f"another key of this client is alive at OpenRouter: {', '.join(strays)}",
                where,
                f"delete it there if nobody uses it; else {todo}",
            )
        lost = record.key_hash if current is None and record.key_hash not in known else ""
        if lost and self._api.key(lost):
            raise FleetError(
                f"the key {fingerprint_of(record.key_hash)} exists at OpenRouter, but is not "
                "listed among the keys of the default workspace",
                where,
                f"if it was moved to another workspace, move it back; else run again; {todo}",
            )

    def _remember(
        self,
        desired: Desired,
        record: Record,
        current: Key | None,
        live: list[Key],
        orphans: list[Key],
    ) -> Record:
        """The record with what was found: the current key, and keys of runs that were cut off."""
        former = [
            seen(one, _by_hash(live, one.hash), desired.reset, self._at)
            for one in record.former
            if current is None or one.hash != current.hash
        ]
        former += [Former(key.hash, key.name, Why.ORPHAN, stamp(self._at)) for key in orphans]
        found = {key.name for key in live}
        oldest = stamp(self._at - ATTEMPT_LIFE)
        attempts = [
            attempt
            for attempt in record.attempts
            if attempt.name not in found and attempt.at > oldest
        ]
        record = replace(record, former=former, attempts=attempts)
        if current is None or current.hash == record.key_hash:
            return record
        replaced = _by_hash(live, record.key_hash)
        if replaced is not None:
            gone = Former(replaced.hash, replaced.name, Why.REPLACED)
            former = [*former, seen(gone, replaced, desired.reset, self._at)]
        return replace(
            record,
            key_hash=current.hash,
            generation=_generation(current) or record.generation,
            former=former,
            proven="",
        )

    def _disable(self, record: Record, others: list[Key]) -> None:
        """What was disabled once stays so, and orphans are."""
        for key in others:
            former = record.former_key(key.hash)
            if former and former.since and not key.disabled:
                self._changes(record.client).update_key(key.hash, {"disabled": True})

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
            "ends": (key.expires_at or "never") if key else None,
            "models": None if allowed is None else sorted(set(allowed)),
            "fenced": fenced,
        }

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
            self._changes(desired.client).assign(guardrail, key.hash)
        if not (current and desired.suspended):
            self._settle(key, desired)
        return fingerprint_of(key.hash)

    def _changes(self, client: str) -> Changes:
        return Changes(self._api, self._store, client)

    def _fence(self, desired: Desired, guardrail: Guardrail | None) -> Guardrail:
        slugs = list(dict.fromkeys(desired.slugs))
        if guardrail is None:
            text = f"mai.fleet {self._fleet}: {desired.organization}"[:1000]
            name = guardrail_name(self._fleet, desired.client)
            return self._changes(desired.client).create_guardrail(name, text, slugs)
        if slugs and set(guardrail.allowed_models or ()) != set(slugs):
            self._changes(desired.client).update_guardrail(guardrail, slugs)
        return guardrail

    def _suspend(self, desired: Desired, kept: Key | None, others: list[Key]) -> None:
        """Before all else and whatever is wrong: no key of the client works any more.

        Not one whose secret is lost, nor one that a newer key replaces and a server may still have.
        """
        changes = self._changes(desired.client)
        failures = []
        for key in others:
            try:
                if not key.disabled:
                    changes.update_key(key.hash, {"disabled": True})
            except FleetError as error:
                failures.append(error)
        if kept is not None:
            self._settle(kept, desired)
        if failures:
            raise failures[0]

    def _settle(self, key: Key, desired: Desired) -> None:
        wanted: dict[str, Any] = {}
        if key.limit != desired.limit:
            wanted["limit"] = desired.limit
        if _reset(key) != desired.reset:
            wanted["limit_reset"] = desired.reset
        if key.disabled != desired.suspended:
            wanted["disabled"] = desired.suspended
        if wanted:
            self._changes(desired.client).update_key(key.hash, wanted)

    def _attempt(self, record: Record, older: list[Key]) -> tuple[KeyName, Record]:
        """A name and the record with it, on disk. Nothing is created unless all can be stored."""
        known = [key.name for key in older]
        known += [attempt.name for attempt in record.attempts]
        known += [former.name for former in record.former]
        marks = [KeyName.parse(name) for name in known]
        generation = max([record.generation, *(mark.generation for mark in marks if mark)]) + 1
        name = KeyName(self._fleet, record.client, generation, random.token_hex(4))
        attempts = [*record.attempts, Attempt(str(name), stamp(self._at))]
        record = replace(record, attempts=attempts)
        self._store.save_record(record)
        self._store.save_secrets(record.client, self._store.secrets(record.client))
        return name, record

    def _create(self, desired: Desired, name: KeyName, record: Record, older: list[Key]) -> Key:
        """The attempt that is on disk is made now."""
        secrets = self._store.secrets(desired.client)
        changes = self._changes(desired.client)
        done = replace(record, attempts=[one for one in record.attempts if one.name != str(name)])
        try:
            key, secret = changes.create_key(
                str(name), desired.limit, desired.reset, desired.lifetime.expires_at(self._at)
            )
        except ApiError as error:
            if 400 <= error.status < 500 and error.status != 408:
                # It was refused, so there is no key that could show up later.
                self._store.save_record(done)
            raise
        try:
            self._store.save_secrets(desired.client, succeeded(secrets, secret))
        except FleetError as error:
            # Nobody can use a key whose secret is gone. A journal has no more room than the store.
            try:
                self._api.delete_key(key.hash)
            except FleetError:
                error.todo += f"; delete the key {name} at OpenRouter, its secret is lost"
            raise
        changes.key_created(key)
        if sha256(secret) != key.hash:
            raise FleetError(
                "OpenRouter's hash of the new key is not the SHA-256 of its secret",
                f"key {name}",
                "the secret is stored; do not go on before this is understood",
            )
        replaced = [
            seen(Former(other.hash, other.name, Why.REPLACED), other, desired.reset, self._at)
            for other in older
            if not record.former_key(other.hash)
        ]
        known = {former.hash for former in (*record.former, *replaced)}
        if record.key_hash and record.key_hash not in known:
            # Not listed: deleted by somebody, or moved to another workspace.
            replaced.append(Former(record.key_hash, "", Why.REPLACED))
        self._store.save_record(
            replace(
                done,
                key_hash=key.hash,
                generation=name.generation,
                former=[*record.former, *replaced],
                proven="",
            )
        )
        return key

    def _absent(
        self, desired: Desired, record: Record, live: list[Key], guardrail: Guardrail | None
    ) -> Row:
        live = [*live, *self._elsewhere(record, live)]
        current = self._current(desired, record, live)
        nothing = Desired(record.client, record.organization, "absent", None, "never", [])
        secrets = self._store.secrets(record.client)
        if not self._check:
            self._take_away(desired, record, live, guardrail, current, secrets)
        stored = any(map(is_api_key, secrets))
        return {
            "changed": bool(live or guardrail) or stored,
            "before": self._view(nothing, current, guardrail, []),
            "after": self._view(nothing, None, None, []),
            "warnings": [],
        }

    def _take_away(
        self,
        desired: Desired,
        record: Record,
        live: list[Key],
        guardrail: Guardrail | None,
        current: Key | None,
        secrets: dict[str, str],
    ) -> None:
        changes = self._changes(record.client)
        had = bool(live or guardrail or record.key_hash or record.offboarding)
        for key in live:
            if not key.disabled:
                changes.update_key(key.hash, {"disabled": True})
        mine = chosen(secrets, current.hash) if current is not None else {}
        # Nobody can call with a key whose secret is lost.
        if current is not None and mine:
            self._prove_refused(record.client, current, mine["api_key"])
            leaving = replace(begun(record, self._at), refused=stamp(self._at))
            record = replace(record, offboarding=leaving)
            self._store.save_record(record)
        spent = replace(record, former=self._spent_by(desired, record, live))
        if spent != record:
            # On disk before the keys are gone, and with them the account of what they spent.
            self._store.save_record(spent)
        for key in live:
            changes.delete_key(key.hash)
        if guardrail is not None:
            self._refuse_shared(record.client, guardrail, live)
            changes.delete_guardrail(guardrail)
        kept = {name: secret for name, secret in secrets.items() if not is_api_key(name)}
        if kept != secrets:
            self._store.save_secrets(record.client, kept)
        oldest, found = stamp(self._at - ATTEMPT_LIFE), {key.name for key in live}
        gone = replace(
            spent,
            key_hash="",
            # A create whose answer was lost may be acted upon yet.
            attempts=[one for one in spent.attempts if one.at > oldest and one.name not in found],
            former=[one for one in spent.former if counts(one, desired.reset, self._at)],
            proven="",
        )
        leaving = begun(spent, self._at)
        if had and not leaving.keys_deleted:
            gone = replace(gone, offboarding=replace(leaving, keys_deleted=stamp(self._at)))
        if gone != spent:
            self._store.save_record(gone)

    def _spent_by(self, desired: Desired, record: Record, live: list[Key]) -> list[Former]:
        """The keys of a client that goes: what they spent counts if it is back in this window."""
        at = stamp(self._at)
        known = {former.hash: former for former in record.former}
        for key in live:
            former = known.get(key.hash) or Former(key.hash, key.name, Why.REPLACED, at)
            known[key.hash] = seen(former, key, desired.reset, self._at)
        gone = [replace(former, deleted=former.deleted or at) for former in known.values()]
        if desired.limit is None:
            gone = [replace(former, spent=0.0, start="") for former in gone]
        return gone

    def _refuse_shared(self, client: str, guardrail: Guardrail, live: list[Key]) -> None:
        """:raises FleetError: it is around a key of somebody else's, which would lose its fence"""
        mine = {key.hash for key in live}
        assigned = self._account.assignments.items()
        others = [one for one, held in assigned if held == guardrail.id and one not in mine]
        if others:
            raise FleetError(
                f"the guardrail {guardrail.name} is around other keys, too, which would be without "
                f"one: {', '.join(map(fingerprint_of, others))}",
                f"client {client}",
                "give those keys another guardrail at OpenRouter, and run again; the client's own "
                "keys are deleted",
            )

    def _prove_refused(self, client: str, key: Key, secret: str) -> None:
        """Make sure that the key, which is disabled, is of no use to anybody.

        :raises FleetError: it works still
        """
        api = self._with_key(secret)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                api.current_key()
            except Unauthorized:
                break
            if time.monotonic() >= deadline:
                raise FleetError(
                    f"the key {key.name} is disabled, and OpenRouter takes it still",
                    f"client {client}",
                    "run again: it is deleted when it is refused",
                )
            time.sleep(_PAUSE)
        self._store.note(client, "prove refused", "done", key=fingerprint_of(key.hash))


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
        except Exception as error:
            return on_error(desired, unforeseen(f"client {desired.client}", error))
        silence.clear()
        return row

    with ThreadPoolExecutor(_WRITERS) as pool:
        rows = list(pool.map(one, wanted))
    return {desired.client: row for (desired, _record), row in zip(wanted, rows, strict=True)}


def _concerns_all(error: FleetError) -> bool:
    out_of_credit = isinstance(error, ApiError) and error.status == 402
    return out_of_credit or isinstance(error, (Unauthorized, RateLimited))


def _generation(key: Key) -> int:
    mark = KeyName.parse(key.name)
    return mark.generation if mark else 0


def _replaces(
    desired: Desired,
    record: Record,
    current: Key | None,
    live: list[Key],
    at: datetime.datetime,
) -> bool:
    """Whether a new key is asked for in place of one. A replacement that was begun is finished."""
    if current is None or not desired.replace:
        return desired.replace
    if desired.max_age.days and not desired.max_age.renews(current, at):
        return False
    enabled: Collection[str] = {key.hash for key in live if not key.disabled}
    begun = any(
        former.why is Why.REPLACED and not former.since and former.hash in enabled
        for former in record.former
    )
    return not begun


def _remainder(
    desired: Desired, record: Record, kept: Key | None, others: list[Key], at: datetime.datetime
) -> Remainder | None:
    """What is left of the cap after what former keys have spent of it. None: they spent nothing."""
    former = [one for one in record.former if kept is None or one.hash != kept.hash]
    spent = spent_before(former, others, desired.reset, at)
    if desired.limit is None or not spent:
        return None
    end = window_end(desired.reset, at)
    return Remainder(remainder(desired.limit, spent), stamp(end) if end else "")


def _to_replace(client: str) -> str:
    return (
        f"to replace it: ansible-playbook mai.fleet.site -e fleet_select={client} "
        f"-e fleet_replace_keys={client}"
    )


def _by_hash(keys: list[Key], key_hash: str) -> Key | None:
    return next((key for key in keys if key.hash == key_hash), None)


def _limit(key: Key | None) -> float | str | None:
    if key is None:
        return None
    return "unlimited" if key.limit is None else key.limit


def _reset(key: Key | None) -> str | None:
    """Without a cap there is nothing to reset, whatever the API says of it."""
    if key is None:
        return None
    return "never" if key.limit is None else key.limit_reset
