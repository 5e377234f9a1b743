# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What becomes of a key that is not the client's key any more: disabled, and deleted later.

A replaced key works until its successor is proven and nobody uses it any more. Then it is disabled,
and what uses it in secret shows itself; until it is deleted all of that can be undone.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key, OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import KeyName
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.caps import counts, seen
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.changes import Changes
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Former,
    KeyStore,
    Record,
    stamp,
    without,
)

_UNPROVEN = (
    "the key {} was replaced and goes on working: it is not proven that its successor took its "
    "place, because the calls that cost something were left out; run again with proof_chat, and "
    "with room for them in proof_budget"
)


@dataclass(frozen=True)
class Cap:
    """What a client was sold: USD, None for no cap, and when it is full again."""

    limit: float | None
    limit_reset: str

    @property
    def reset(self) -> str:
        return "never" if self.limit is None else self.limit_reset


@dataclass(frozen=True)
class Retirement:
    """Retires the former keys of clients, one client at a time.

    :ivar grace: seconds between the disabling of a key and its deletion
    :ivar at: the time that counts as now
    """

    api: OpenRouter
    store: KeyStore
    grace: float
    at: datetime.datetime
    check: bool

    def apply(
        self,
        record: Record,
        cap: Cap,
        earlier: Mapping[str, Key],
        live: list[Key],
        spends: bool = True,
    ) -> dict[str, Any]:
        """:param earlier: the same keys by hash, as they were a while ago

        :param live: all keys of the client at OpenRouter
        :param spends: whether it is proven that the client spends on its new key
        :raises FleetError: every step before it is on disk
        """
        self.store.can_note(record.client)
        known = {key.hash: key for key in live}
        warnings: list[str] = []
        changed = False
        for former in record.former:
            key = self._key_of(former, known)
            if key is not None and _is_anothers(key, record.client):
                # What an inventory says that was lost and made anew: nothing of it is to be done.
                record = self._write(record, former, None)
                changed = True
                continue
            if not former.since:
                if not (record.proven and spends):
                    if key and not key.disabled and not self.check:
                        warnings.append(_UNPROVEN.format(former.name))
                    continue
                if key and _used(key) != _used(earlier.get(key.hash, key)):
                    warnings.append(
                        f"the key {former.name} was replaced and is used still: it goes on working "
                        "until a run finds it at rest"
                    )
                    continue
                record, former = self._disable(record, former, key)
                changed = True
            is_due = former.is_deletable(self.grace, self.at) and not former.deleted
            # A deletion that was begun is finished, whatever the grace is by now.
            if is_due or (former.deleted and key):
                record = self._delete(record, cap, former, key)
                changed = True
            elif former.deleted and not counts(former, cap.reset, self.at):
                if not self.check:
                    self._drop_secret(record, former)
                record = self._write(record, former, None)
                changed = True
        return {"changed": changed, "warnings": warnings}

    def _key_of(self, former: Former, known: Mapping[str, Key]) -> Key | None:
        if former.hash in known or former.deleted:
            return known.get(former.hash)
        # It may have been moved to another workspace.
        return self.api.key(former.hash)

    def _disable(self, record: Record, former: Former, key: Key | None) -> tuple[Record, Former]:
        if key and not key.disabled and not self.check:
            self._changes(record).update_key(key.hash, {"disabled": True})
        disabled = replace(former, since=stamp(self.at))
        return self._write(record, former, disabled), disabled

    def _delete(self, record: Record, cap: Cap, former: Former, key: Key | None) -> Record:
        """What it spent is on disk before the key is gone, and with it the account of that."""
        deleted = replace(seen(former, key, cap.reset, self.at), deleted=stamp(self.at))
        record = self._write(record, former, deleted)
        if self.check:
            return record
        self._changes(record).delete_key(former.hash)
        self._drop_secret(record, former)
        return record if counts(deleted, cap.reset, self.at) else self._write(record, deleted, None)

    def _drop_secret(self, record: Record, former: Former) -> None:
        """That of a deleted key, also where an earlier run ended before it could."""
        secrets = self.store.secrets(record.client)
        left = without(secrets, former.hash)
        if left != secrets:
            self.store.save_secrets(record.client, left)

    def _changes(self, record: Record) -> Changes:
        return Changes(self.api, self.store, record.client)

    def _write(self, record: Record, old: Former, new: Former | None) -> Record:
        """The record with another entry, or none, in this one's place."""
        former = [new if one is old else one for one in record.former]
        record = replace(record, former=[one for one in former if one is not None])
        if not self.check:
            self.store.save_record(record)
        return record


def _is_anothers(key: Key, client: str) -> bool:
    mark = KeyName.parse(key.name)
    return mark is not None and mark.client != client


def _used(key: Key) -> tuple[float, str]:
    """What shows that a key is used, also with a model that costs nothing."""
    return key.usage, key.last_used_at
