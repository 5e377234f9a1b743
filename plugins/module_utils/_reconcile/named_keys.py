# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Keys at OpenRouter that somebody names as they like, without a fleet.

The order of the steps is that of a fleet's keys: an attempt is on disk before the create, the
secret right after it. The name of such a key cannot say which attempt made it, so it is made under
another one, ``NAME~ATTEMPT``, and gets its own when its secret is stored. Whose secret is stored
is the key, whatever it is called; where none is stored, it is the only one of that name.
"""

from __future__ import annotations

import datetime
import re
import secrets as random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key, OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import ApiError, FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import nearest
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.caps import (
    counts,
    remainder,
    seen,
    spent_before,
    window_end,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    ATTEMPT_LIFE,
    Attempt,
    Former,
    Why,
    parse,
    stamp,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of, sha256

#: What of a key can be changed, besides its name.
SETTINGS = ("limit", "limit_reset", "disabled", "include_byok_in_limit")

KeyRow = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What one key should be.

    :ivar state: present, absent or rotated
    :ivar settings: those of :data:`SETTINGS` that are asked for; the others stay as they are
    :ivar expires_at: a time in UTC, empty for none that is asked for. It cannot be changed later
    :ivar guardrail: the name of the key's guardrail, empty for none, None to leave it as it is
    :ivar max_age: days that a key may have before it is rotated
    :ivar carries: whether what keys before it spent is taken off its limit
    """

    name: str
    state: str
    settings: dict[str, Any] = field(default_factory=dict)
    expires_at: str = ""
    guardrail: str | None = None
    max_age: float = 0
    carries: bool = True


@dataclass(frozen=True)
class Remembered:
    """What is remembered of one name. Frozen: a change is a new one.

    :ivar attempts: creates of which nobody knows yet what became of them
    :ivar former: keys that are deleted later, and deleted ones as long as what they spent counts.
        ``since`` is when they were replaced or disabled
    :ivar limit: USD, the whole limit of a key that has less of it, because of what others spent
    :ivar reduced: what it was given of that, and what it had before, if a run ended in between
    """

    name: str
    key_hash: str = ""
    attempts: tuple[Attempt, ...] = ()
    former: tuple[Former, ...] = ()
    limit: float | None = None
    reduced: tuple[float, ...] = ()

    def whole(self, limit: float | None) -> float | None:
        """The whole limit of a key that has this one. Another may have been set elsewhere."""
        is_ours = limit in self.reduced or not self.reduced
        return self.limit if is_ours and self.limit is not None else limit


class KeyFiles(Protocol):
    """Where the secrets of keys and what is remembered of them are kept.

    A write is on the disk when it returns. All of it raises FleetError, and a write that raises has
    changed nothing.
    """

    def remembered(self, name: str) -> Remembered: ...

    def remember(self, remembered: Remembered) -> None: ...

    def forget(self, name: str) -> None:
        """Its secret, and all that is remembered of it."""

    def secret(self, name: str) -> str:
        """Empty when none is stored."""

    def ready(self, name: str) -> None:
        """:raises FleetError: a secret of that name could not be stored"""

    def save(self, name: str, secret: str) -> None:
        """What was stored before is kept beside it until it is dropped."""

    def drop(self, name: str, key_hash: str) -> None:
        """The secret of a former key."""

    def shown(self, name: str) -> str:
        """Where the secret is."""


@dataclass(frozen=True)
class Account:
    """All keys and guardrails of a workspace.

    :ivar guardrails: names by id
    :ivar assignments: guardrail ids by key hash, of all workspaces
    """

    keys: list[KeyRow]
    guardrails: dict[str, str]
    assignments: dict[str, str]

    @classmethod
    def read(cls, api: OpenRouter) -> Account:
        guardrails = {str(row["id"]): str(row["name"]) for row in api.guardrail_rows()}
        # Whoever makes a key meanwhile pushes another one to the next page, where it is once more.
        keys = {row["hash"]: row for row in api.key_rows()}
        return cls(list(keys.values()), guardrails, api.assignments())

    def guardrail_of(self, key_hash: str) -> str:
        """The name of a key's guardrail, or its id where it is not listed; empty for none."""
        mine = self.assignments.get(key_hash, "")
        return self.guardrails.get(mine, mine)

    def guardrail_ids(self, name: str) -> list[str]:
        return [one for one, other in self.guardrails.items() if other == name]


@dataclass(frozen=True)
class _Found:
    """What there is of one name: the key, those of attempts nobody finished, and former ones."""

    key: KeyRow | None
    orphans: list[KeyRow]
    former: dict[str, KeyRow]


@dataclass(frozen=True)
class _Cap:
    """One limit, however many keys there were of a name.

    :ivar whole: USD that the key would have if none had been before it, None for no limit
    :ivar spent: USD that those before it spent since the limit was full
    :ivar reset: when it is full again
    :ivar carries: whether that is taken off
    """

    whole: float | None
    spent: float
    reset: str
    carries: bool

    @property
    def is_less(self) -> bool:
        return self.left != self.whole

    @property
    def left(self) -> float | None:
        if self.whole is None or not self.carries or not self.spent:
            return self.whole
        return remainder(self.whole, self.spent)


class NamedKeys:
    """Reconciles keys one by one.

    :param grace: seconds for which a replaced key goes on working, and an orphan stays disabled
    :param files: None where no secret can be stored
    """

    def __init__(
        self,
        api: OpenRouter,
        files: KeyFiles | None,
        account: Account,
        *,
        grace: float,
        at: datetime.datetime,
        check: bool,
    ) -> None:
        self._api = api
        self._files = files
        self._account = account
        self._grace = datetime.timedelta(seconds=grace)
        self._at = at
        self._check = check

    def apply(self, wanted: Wanted) -> Row:
        """:raises FleetError: what stopped this key; every step before it is on disk"""
        memory = self._files.remembered(wanted.name) if self._files else Remembered(wanted.name)
        found = self._find(wanted, memory)
        if wanted.state == "absent":
            return self._absent(wanted, memory, found)
        replaced = self._is_to_rotate(wanted, memory, found)
        kept = None if replaced else found.key
        old = found.key if replaced else self._predecessor(wanted, memory, kept)
        self._refuse(wanted, kept)
        before, after = self._view(found.key), self._expected(wanted, kept, old)
        others = self._others(memory, found, kept)
        cap = self._cap(wanted, memory, others, after)
        after["limit"] = _usd(cap.left)
        now, later = self._earlier(wanted, memory, found, others)
        if now or later:
            before["earlier_keys"], after["earlier_keys"] = now, later
        if kept and kept["name"] != wanted.name:
            before["name"], after["name"] = kept["name"], wanted.name
        warnings = self._guardrail_warnings(wanted.name, kept, after["guardrail"])
        warnings += self._warnings(found, kept)
        if cap.is_less and before.get("limit") != after["limit"]:
            warnings.append(self._less(cap))
        due = [one for one in memory.former if one.hash in found.former and self._is_due(one)]
        pending = found.orphans or self._awake(wanted, memory, found) or due
        row = Row(before != after or bool(pending), before, after, warnings)
        row.more["hash"] = kept["hash"] if kept else None
        row.more["spent_before"] = cap.spent
        if not self._check:
            memory = self._adopt(memory, found)
            memory = self._disable_old(wanted, memory, found)
            if cap.is_less:
                # Before the key has less, or nobody would know how much it had.
                memory = self._keep(memory, _reduced(memory, cap, old or kept))
            key = kept or self._create(wanted, memory, after)
            self._settle(wanted.name, key, old, after)
            row.more["hash"] = key["hash"]
            row.after["key"] = fingerprint_of(key["hash"])
            self._retire(wanted.name, key["hash"], cap)
        return self._result(row, wanted.name)

    # What there is

    def _find(self, wanted: Wanted, memory: Remembered) -> _Found:
        """:raises FleetError: it cannot be told which key is meant, or whose another one is"""
        name = wanted.name
        secret = self._files.secret(name) if self._files else ""
        by_hash = {row["hash"]: row for row in self._account.keys}
        self._refuse_elsewhere(memory, secret, by_hash)
        former = {one.hash: by_hash[one.hash] for one in memory.former if one.hash in by_hash}
        attempts = {attempt.name for attempt in memory.attempts}
        mark = re.compile(rf"{re.escape(name)}~[0-9a-f]{{8}}")
        named = [row for row in self._account.keys if row["name"] == name]
        key = by_hash.get(sha256(secret)) if secret else None
        if key is None and len(named) == 1 and named[0]["hash"] not in former:
            self._refuse_strange(wanted, secret)
            key = named[0]
        # Of a rotation that was cut off, both are known.
        mine = {memory.key_hash, *([key["hash"]] if key else [])}
        others = [row for row in named if row["hash"] not in {*mine, *former}]
        if others:
            all_of_them = [
                *(row for row in named if row["hash"] not in former),
                *filter(None, [key]),
            ]
            hashes = ", ".join(sorted({row["hash"] for row in all_of_them}))
            raise FleetError(
                f"several keys have this name: {hashes}",
                f"key {name}",
                "rename or delete all of them but one at OpenRouter",
            )
        marked = [
            row
            for row in self._account.keys
            if mark.fullmatch(row["name"]) and row["hash"] not in {*mine, *former}
        ]
        orphans = [row for row in marked if row["name"] in attempts]
        self._refuse_strays(wanted, marked, orphans)
        return _Found(key, orphans, former)

    def _refuse_elsewhere(
        self, memory: Remembered, secret: str, here: Mapping[str, KeyRow]
    ) -> None:
        """The same directory may have been used for another workspace, or the key moved there."""
        hashes = [sha256(secret) if secret else "", memory.key_hash]
        hashes += [one.hash for one in memory.former if not one.deleted]
        for key_hash in dict.fromkeys(hashes):
            if key_hash and key_hash not in here and self._api.key(key_hash):
                raise FleetError(
                    f"the key {key_hash}, which is remembered here, is in another workspace",
                    f"key {memory.name}, {self._files.shown(memory.name) if self._files else ''}",
                    "name that workspace, or another secrets_directory: each workspace needs one "
                    "of its own",
                )

    def _refuse_strange(self, wanted: Wanted, secret: str) -> None:
        if secret and wanted.state != "rotated" and self._files:
            raise FleetError(
                "the key of this name is not the one whose secret is stored, which is gone",
                f"key {wanted.name}, {self._files.shown(wanted.name)}",
                "to go on without its secret, move that file away; to replace the key, use "
                "state: rotated",
            )

    def _refuse_strays(self, wanted: Wanted, marked: list[KeyRow], orphans: list[KeyRow]) -> None:
        where = f"key {wanted.name}"
        strays = [row["name"] for row in marked if row not in orphans]
        if strays:
            raise FleetError(
                f"{', '.join(strays)} looks like a key of a run that was cut off, and nothing is "
                "remembered of that run here",
                where,
                "was it another computer, or another secrets_directory? If nobody uses the key, "
                "delete it at OpenRouter",
            )
        used = [row["name"] for row in orphans if row.get("usage") or row.get("last_used_at")]
        if used and wanted.state == "present":
            raise FleetError(
                f"a run was cut off while it made {', '.join(used)}; its secret was never stored, "
                "and yet the key was used",
                where,
                "find out who has it; state: rotated disables and replaces it all the same",
            )

    def _refuse(self, wanted: Wanted, kept: KeyRow | None) -> None:
        """What cannot be done, before anything is."""
        if kept is None:
            end = moment(wanted.expires_at)
            if end and end <= self._at:
                raise FleetError(
                    f"the new key would expire {wanted.expires_at}, which is over",
                    f"key {wanted.name}",
                    "give it another expires_at",
                )
            self._safe(wanted.name).ready(wanted.name)
            return
        expires = kept.get("expires_at") or ""
        if wanted.expires_at and moment(expires) != moment(wanted.expires_at):
            raise FleetError(
                f"the key expires {expires or 'never'}, and OpenRouter cannot change that to "
                f"{wanted.expires_at}",
                f"key {wanted.name}",
                "state: rotated makes another key, which expires then",
            )

    def _guardrail_warnings(self, key_name: str, kept: KeyRow | None, name: str) -> list[str]:
        """:param name: what the key is to have, as :meth:`_expected` says it"""
        ids = self._account.guardrail_ids(name)
        has = self._account.guardrail_of(kept["hash"]) if kept else ""
        is_elsewhere = name in {*self._account.assignments.values()} - {*self._account.guardrails}
        if name in ("none", has) or len(ids) == 1 or is_elsewhere:
            return []
        if ids:
            raise FleetError(
                f"several guardrails are called {name}: {', '.join(ids)}",
                f"key {key_name}",
                "rename or delete all of them but one at OpenRouter",
            )
        if self._check:
            return [f"there is no guardrail {name} yet"]
        near = nearest(name, self._account.guardrails.values())
        raise FleetError(
            f"OpenRouter has no guardrail {name}",
            f"key {key_name}",
            f"did you mean {near[0]}?" if near else "make it with mai.fleet.openrouter_guardrails",
        )

    def _warnings(self, found: _Found, kept: KeyRow | None) -> list[str]:
        warnings = [
            f"the key {row['name']} was made by a run that ended before it had the secret: it is "
            "disabled, and deleted later"
            for row in found.orphans
        ]
        expires = (kept.get("expires_at") if kept else "") or ""
        end = moment(expires)
        if end and end <= self._at:
            warnings.append(f"the key expired {expires}; state: rotated replaces it")
        return warnings

    def _is_to_rotate(self, wanted: Wanted, memory: Remembered, found: _Found) -> bool:
        """A rotation that was begun is not begun anew: the replaced key waits for its end."""
        if wanted.state != "rotated" or found.key is None:
            return False
        if any(one.why is Why.REPLACED and one.hash in found.former for one in memory.former):
            return False
        made = moment(found.key.get("created_at") or "")
        oldest = self._at - datetime.timedelta(days=wanted.max_age)
        return not wanted.max_age or made is None or made < oldest

    # How it is shown

    def _view(self, key: KeyRow | None) -> dict[str, Any]:
        if key is None:
            return {"key": None}
        return {
            "key": fingerprint_of(key["hash"]),
            "limit": _usd(key["limit"]),
            "limit_reset": key["limit_reset"] or "never",
            "disabled": key["disabled"],
            "include_byok_in_limit": bool(key.get("include_byok_in_limit")),
            "expires_at": key.get("expires_at") or "never",
            "guardrail": self._account.guardrail_of(key["hash"]) or "none",
        }

    def _expected(self, wanted: Wanted, kept: KeyRow | None, old: KeyRow | None) -> dict[str, Any]:
        """A key that replaces another takes over what is not asked for, but for its end."""
        base = self._view(kept)
        if kept is None or old is not None:
            like = {name: (old or _NEW).get(name, _NEW[name]) for name in _NEW}
            end = kept["expires_at"] if kept else wanted.expires_at
            base = self._view({**like, "hash": "", "expires_at": end})
            base["key"] = fingerprint_of(kept["hash"]) if kept else "a new key"
            base["guardrail"] = self._account.guardrail_of(old["hash"] if old else "") or "none"
        asked = _shown(wanted.settings)
        if wanted.guardrail is not None:
            asked["guardrail"] = wanted.guardrail or "none"
        return {**base, **asked}

    def _others(self, memory: Remembered, found: _Found, kept: KeyRow | None) -> list[KeyRow]:
        """The living keys of a name but for the one that stays."""
        mine = {*found.former, memory.key_hash, *(row["hash"] for row in found.orphans)}
        mine |= {found.key["hash"]} if found.key else set()
        mine -= {kept["hash"]} if kept else set()
        return [row for row in self._account.keys if row["hash"] in mine]

    def _earlier(
        self, wanted: Wanted, memory: Remembered, found: _Found, others: list[KeyRow]
    ) -> tuple[list[str], list[str]]:
        """The other keys as they are, and as they will be when this run is over."""
        known = {one.hash: one for one in memory.former}
        awake = self._awake(wanted, memory, found)
        orphans = {row["hash"] for row in [*found.orphans, *awake]}
        later = [
            {**row, "disabled": row["disabled"] or row["hash"] in orphans}
            for row in others
            if not (self._is_due(known[row["hash"]]) if row["hash"] in known else not self._grace)
        ]
        return _listed(row for row in others if row is not found.key), _listed(later)

    def _result(self, row: Row, name: str) -> Row:
        secret = self._files.secret(name) if self._files else ""
        row.more["stored"] = bool(secret) and sha256(secret) == row.more["hash"]
        row.more["secret_file"] = self._files.shown(name) if self._files and secret else None
        return row

    # One limit, however many keys

    def _cap(
        self,
        wanted: Wanted,
        memory: Remembered,
        others: list[KeyRow],
        expected: Mapping[str, Any],
    ) -> _Cap:
        limit, reset = expected["limit"], str(expected["limit_reset"])
        whole = None if limit == "unlimited" else float(limit)
        if "limit" not in wanted.settings:
            whole = memory.whole(whole)
        living = [Key.read(row) for row in others]
        spent = round(spent_before(memory.former, living, reset, self._at), 6)
        return _Cap(whole, spent, reset, wanted.carries)

    def _less(self, cap: _Cap) -> str:
        end = window_end(cap.reset, self._at)
        until = f"; the first run after {stamp(end)} gives it the whole" if end else ""
        return (
            f"the limit is {_usd(cap.left)}, because keys before it spent {_usd(cap.spent)} of "
            f"{_usd(cap.whole)}{until}"
        )

    # What is done

    def _adopt(self, memory: Remembered, found: _Found) -> Remembered:
        """What was found of runs that were cut off, and which key it is now."""
        known = {row["name"] for row in found.orphans}
        made = found.key["name"] if found.key else ""
        oldest = stamp(self._at - ATTEMPT_LIFE)
        attempts = tuple(
            one
            for one in memory.attempts
            if one.name in known or (one.at > oldest and one.name != made)
        )
        news = replace(memory, attempts=attempts)
        if found.key is not None:
            now = found.key["hash"]
            former = self._with_former(memory, memory.key_hash if memory.key_hash != now else "")
            former = tuple(one for one in former if one.hash != now)
            news = replace(news, key_hash=now, former=former)
        return self._keep(memory, news)

    def _with_former(self, memory: Remembered, key_hash: str) -> tuple[Former, ...]:
        """The former keys with one more, unless it is among them, or gone."""
        living = {row["hash"]: row["name"] for row in self._account.keys}
        known = {one.hash for one in memory.former}
        if key_hash not in living or key_hash in known:
            return memory.former
        return (
            *memory.former,
            Former(key_hash, living[key_hash], Why.REPLACED, stamp(self._at)),
        )

    def _keep(self, old: Remembered, new: Remembered) -> Remembered:
        if self._files and old != new:
            self._files.remember(new)
        return new

    def _disable_old(self, wanted: Wanted, memory: Remembered, found: _Found) -> Remembered:
        """Remembered first, so that a run that ends here leaves none without its end."""
        for orphan in found.orphans:
            gone = Former(orphan["hash"], orphan["name"], Why.ORPHAN, stamp(self._at))
            attempts = tuple(one for one in memory.attempts if one.name != orphan["name"])
            memory = self._keep(
                memory, replace(memory, attempts=attempts, former=(*memory.former, gone))
            )
        for row in [*found.orphans, *self._awake(wanted, memory, found)]:
            if not row["disabled"]:
                self._api.update_key(row["hash"], {"disabled": True})
        return memory

    def _awake(self, wanted: Wanted, memory: Remembered, found: _Found) -> list[KeyRow]:
        """Earlier keys that work and are not to: orphans, and all when the key is disabled."""
        disabled = wanted.settings.get("disabled") is True
        asleep = {one.hash for one in memory.former if disabled or one.why is Why.ORPHAN}
        return [
            row
            for key_hash, row in found.former.items()
            if key_hash in asleep and not row["disabled"]
        ]

    def _create(self, wanted: Wanted, memory: Remembered, expected: Mapping[str, Any]) -> KeyRow:
        files = self._safe(wanted.name)
        name = f"{wanted.name}~{random.token_hex(4)}"
        attempt = Attempt(name, stamp(self._at))
        files.remember(replace(memory, attempts=(*memory.attempts, attempt)))
        limit = None if expected["limit"] == "unlimited" else float(expected["limit"])
        reset = expected["limit_reset"]
        try:
            key, secret = self._api.create_key(name, limit, reset, wanted.expires_at)
        except ApiError as error:
            if 400 <= error.status < 500 and error.status != 408:
                # It was refused, so there is no key that could show up later.
                files.remember(memory)
            raise
        try:
            files.save(wanted.name, secret)
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
        former = self._with_former(memory, memory.key_hash)
        files.remember(replace(memory, key_hash=key.hash, former=former))
        made = {"hash": key.hash, "name": name, "limit": limit, "expires_at": wanted.expires_at}
        return {**_NEW, **made, "limit_reset": None if reset == "never" else reset}

    def _safe(self, name: str) -> KeyFiles:
        """:raises FleetError: nobody said where secrets are kept"""
        if self._files is None:
            raise FleetError(
                "the key is to be made, and its secret, which is shown once, could not be stored",
                f"key {name}",
                "give secrets_directory",
            )
        return self._files

    def _predecessor(
        self, wanted: Wanted, memory: Remembered, kept: KeyRow | None
    ) -> KeyRow | None:
        """The key that this one replaces, while it is not finished: it has no name of its own."""
        if kept is None or kept["name"] == wanted.name:
            return None
        replaced = [one.hash for one in memory.former if one.why is Why.REPLACED]
        before = [memory.key_hash, *reversed(replaced)]
        living = {row["hash"]: row for row in self._account.keys if row is not kept}
        return next((living[one] for one in before if one in living), None)

    def _settle(self, name: str, key: KeyRow, old: KeyRow | None, goal: Mapping[str, Any]) -> None:
        """Fence first, then what the key may do and its name, which the key before it gives up."""
        self._fence(key["hash"], goal["guardrail"])
        if old and old["name"] == name:
            self._api.update_key(old["hash"], {"name": f"{name}~{old['hash'][:8]}"})
        view = self._view(key)
        changes = {field: goal[field] for field in SETTINGS if goal[field] != view[field]}
        if changes.get("limit") == "unlimited":
            changes["limit"] = None
        if key["name"] != name:
            changes["name"] = name
        if changes:
            self._api.update_key(key["hash"], changes)

    def _fence(self, key_hash: str, name: str) -> None:
        if name == (self._account.guardrail_of(key_hash) or "none"):
            return
        if name == "none":
            self._api.unassign(self._account.assignments[key_hash], key_hash)
        else:
            # What a key takes over from another may not be listed, and is named by its id then.
            self._api.assign((self._account.guardrail_ids(name) or [name])[0], key_hash)

    # What becomes of former keys

    def _is_due(self, former: Former) -> bool:
        return not former.since or parse(former.since) + self._grace <= self._at

    def _retire(self, name: str, current: str, cap: _Cap) -> None:
        """Deletes what is due, also of what was replaced in this run when there is no grace."""
        if self._files is None:
            return
        # A run that was cut off may have put it aside to store another in its place.
        self._files.drop(name, current)
        memory = self._files.remembered(name)
        if not cap.is_less:
            memory = self._keep(memory, replace(memory, limit=None, reduced=()))
        living = {row["hash"]: row for row in self._account.keys}
        for one in memory.former:
            is_due = self._is_due(one)
            left = one
            if one.hash in living:
                left = self._seen(one, Key.read(living[one.hash]), cap)
                left = replace(left, deleted=stamp(self._at)) if is_due else left
                memory = self._keep(memory, _with(memory, left))
            if not is_due:
                continue
            if one.hash in living:
                self._api.delete_key(one.hash)
            self._files.drop(name, one.hash)
            if not counts(left, cap.reset, self._at):
                memory = self._keep(memory, _without(memory, left))

    def _seen(self, former: Former, key: Key, cap: _Cap) -> Former:
        """With what is known of a key that cannot be asked for any more when it is deleted."""
        return former if cap.whole is None else seen(former, key, cap.reset, self._at)

    def _absent(self, wanted: Wanted, memory: Remembered, found: _Found) -> Row:
        keys = [*found.former.values(), *found.orphans, *([found.key] if found.key else [])]
        # A create whose answer was lost may be acted upon yet.
        oldest, known = stamp(self._at - ATTEMPT_LIFE), {row["name"] for row in found.orphans}
        late = [one for one in memory.attempts if one.at > oldest and one.name not in known]
        gone = Remembered(wanted.name, attempts=tuple(late))
        left = self._files is not None and (memory != gone or bool(self._files.secret(wanted.name)))
        row = Row(bool(keys) or left, self._view(found.key), self._view(None))
        if len(keys) > bool(found.key):
            row.before["earlier_keys"] = _listed(row for row in keys if row is not found.key)
        row.more["hash"] = None
        if not self._check:
            for key in keys:
                self._api.delete_key(key["hash"])
            if self._files and left:
                self._files.forget(wanted.name)
                if late:
                    self._files.remember(gone)
        return self._result(row, wanted.name)


#: What a key is of which nothing is asked.
_NEW: Mapping[str, Any] = {
    "limit": None,
    "limit_reset": None,
    "disabled": False,
    "include_byok_in_limit": False,
}


def _reduced(memory: Remembered, cap: _Cap, key: KeyRow | None) -> Remembered:
    """With the limit of which a key is about to be given less than the whole."""
    if cap.left is None or (memory.limit == cap.whole and cap.left in memory.reduced):
        return memory
    has = key["limit"] if key else None
    both = {cap.left} if has is None else {cap.left, float(has)}
    return replace(memory, limit=cap.whole, reduced=tuple(sorted(both)))


def _with(memory: Remembered, former: Former) -> Remembered:
    rows = (former if one.hash == former.hash else one for one in memory.former)
    return replace(memory, former=tuple(rows))


def _without(memory: Remembered, former: Former) -> Remembered:
    return replace(memory, former=tuple(one for one in memory.former if one.hash != former.hash))


def _shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as views have them."""
    return {name: _usd(value) if name == "limit" else value for name, value in settings.items()}


def _listed(keys: Iterable[KeyRow]) -> list[str]:
    """Keys as a list in a view."""
    return sorted(
        f"{fingerprint_of(row['hash'])}{' (disabled)' if row['disabled'] else ''}" for row in keys
    )


def _usd(amount: float | None) -> float | int | str:
    """A limit as views have it: 20 and not 20.0, so that a diff has no line that says nothing."""
    if amount is None:
        return "unlimited"
    return int(amount) if amount == int(amount) else amount


def moment(text: str) -> datetime.datetime | None:
    """None where it is no time."""
    try:
        time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)
