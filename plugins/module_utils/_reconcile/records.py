# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What is remembered of a client, in clear, and where it is kept."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256

#: A create whose answer was lost may still be acted upon. After that long it will not be.
ATTEMPT_LIFE = datetime.timedelta(days=7)


class Why(str, Enum):
    """Why a key of the client's is not its key any more."""

    ORPHAN = "orphan"
    REPLACED = "replaced"


@dataclass(frozen=True)
class Attempt:
    """A create that was about to be sent. Kept until its key is known, or cannot come any more."""

    name: str
    at: str


@dataclass(frozen=True)
class Former:
    """A key that is not the client's key any more.

    :ivar name: at OpenRouter
    :ivar why: an orphan's secret is lost; of a replaced key the store has the secret still
    :ivar since: when it was disabled, empty while it works
    :ivar deleted: when it was about to be deleted, empty before
    :ivar spent: USD that it had spent when it was seen last, in the window of the client's cap
    :ivar start: when that window began, empty for all the key's life
    """

    hash: str
    name: str
    why: Why
    since: str = ""
    deleted: str = ""
    spent: float = 0.0
    start: str = ""

    @classmethod
    def read(cls, row: dict[str, Any]) -> Former:
        """:raises TypeError, ValueError: it is none"""
        row = dict(row)
        # Earlier entries had the end of the window. Their keys were in it when they were disabled.
        if row.pop("until", ""):
            row["start"] = row.get("deleted") or row["since"]
        return cls(**{**row, "why": Why(row["why"])})

    def is_deletable(self, grace: float, at: datetime.datetime) -> bool:
        """Whether it has been disabled for so many seconds."""
        if not self.since:
            return False
        return parse(self.since) + datetime.timedelta(seconds=grace) <= at


@dataclass(frozen=True)
class Remainder:
    """The cap of a key whose predecessors spent some of it.

    :ivar limit: USD
    :ivar until: when the key gets the sold cap back, empty when it never does
    """

    limit: float
    until: str


@dataclass(frozen=True)
class Offboarding:
    """When each step of a client's departure was done. Empty for what has not been done.

    :ivar begun: when a run first set about it
    :ivar exported: when the data was, or when it was settled that there is no export
    :ivar archive: where the export is, with ``SERVER:`` before a path on a server
    :ivar size: of the archive, in bytes
    :ivar without: why there is no export, empty when there is one
    :ivar refused: when a call with the disabled key was seen to be refused
    :ivar removed: when containers and files were
    :ivar volumes: those that were left then
    :ivar held_until: when they may be removed
    """

    begun: str
    exported: str = ""
    archive: str = ""
    size: int = 0
    sha256: str = ""
    without: str = ""
    refused: str = ""
    keys_deleted: str = ""
    removed: str = ""
    volumes: list[str] = field(default_factory=list)
    held_until: str = ""
    volumes_removed: str = ""


@dataclass(frozen=True)
class Record:
    """What is remembered of a client. Frozen: a change is a new record.

    :ivar slot: the client's number on its server; its port and subnet follow from it
    :ivar key_hash: SHA-256 of the current key's secret, empty when no secret is stored
    :ivar attempts: creates of which nobody knows yet what became of them
    :ivar former: keys that were the client's, as long as anything of them matters
    :ivar remainder: the cap that the current key has instead of the one that was sold
    :ivar models: canonical slugs by id of every model that was ever in effect
    :ivar proven: digest of what all gates passed for, empty when that is not known
    :ivar handed_over: when the first password was shown, empty when it never was
    :ivar journal: hashes of the lines at the end of the client's journal when this was written, by
        which it is noticed when they are gone. The store sees to it
    :ivar offboarding: of a client that is leaving, or has left
    """

    client: str
    server: str
    organization: str
    external_user: str
    schema: int = 2
    domain: str = ""
    slot: int = 0
    port: int = 0
    generation: int = 0
    key_hash: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    former: list[Former] = field(default_factory=list)
    remainder: Remainder | None = None
    models: dict[str, str] = field(default_factory=dict)
    state: str = "present"
    proven: str = ""
    handed_over: str = ""
    journal: list[str] = field(default_factory=list, compare=False)
    offboarding: Offboarding | None = None

    @classmethod
    def read(cls, data: dict[str, Any]) -> Record:
        """:raises KeyError, TypeError, ValueError: it is no record"""
        data = {**_FROM_SCHEMA[data["schema"]](data), "schema": cls.schema}
        data["attempts"] = [Attempt(**attempt) for attempt in data["attempts"]]
        data["former"] = [Former.read(row) for row in data["former"]]
        data["remainder"] = Remainder(**data["remainder"]) if data["remainder"] else None
        times = [one.at for one in data["attempts"]]
        times += [time for one in data["former"] for time in (one.since, one.deleted, one.start)]
        times += [data["remainder"].until] if data["remainder"] else []
        for time in filter(None, times):
            parse(time)
        leaving = data.get("offboarding")
        data["offboarding"] = Offboarding(**leaving) if leaving else None
        return cls(**data)

    def cap(self, sold: float | None, at: datetime.datetime) -> float | None:
        """The cap that the current key has to have, in USD; None for none."""
        reduced = self.remainder
        if sold is None or reduced is None or (reduced.until and parse(reduced.until) <= at):
            return sold
        return min(sold, reduced.limit)

    def former_key(self, key_hash: str) -> Former | None:
        return next((former for former in self.former if former.hash == key_hash), None)


def _from_first(data: dict[str, Any]) -> dict[str, Any]:
    """Of the first schema, which knew one attempt, and hashes of replaced keys."""
    data = dict(data)
    attempt, superseded = data.pop("attempt"), data.pop("superseded")
    former = [{"hash": key_hash, "name": "", "why": "replaced"} for key_hash in superseded]
    attempts = [attempt] if attempt else []
    return {**data, "attempts": attempts, "former": former, "remainder": None}


_FROM_SCHEMA: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_first, 2: dict}


class KeyStore(Protocol):
    """Where records and secrets are kept. A write is on the disk when it returns.

    All of it raises FleetError, and a write that raises has changed nothing.
    """

    def save_record(self, record: Record) -> None: ...

    def secrets(self, client: str) -> dict[str, str]: ...

    def save_secrets(self, client: str, secrets: Mapping[str, str]) -> None: ...

    def note(self, client: str, what: str, result: str, **details: Any) -> None:
        """A line in the client's journal. It holds no secret."""

    def can_note(self, client: str) -> None:
        """:raises FleetError: the client's journal is damaged, so nothing is to be changed"""


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def stamp(time: datetime.datetime) -> str:
    """A time as records have it, in UTC. They compare as texts."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime.datetime:
    """:raises ValueError: not a time as records have it"""
    time = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return time.replace(tzinfo=datetime.timezone.utc)


def is_api_key(name: str) -> bool:
    """Whether a secret of this name in the store is one of the client's keys at OpenRouter."""
    return name == "api_key" or name.startswith("api_key_")


def succeeded(secrets: Mapping[str, str], secret: str) -> dict[str, str]:
    """A client's secrets when this one is its key's: the one before is kept beside it."""
    old = secrets.get("api_key")
    kept = {_beside(sha256(old)): old} if old and old != secret else {}
    mine = {name: value for name, value in secrets.items() if name != _beside(sha256(secret))}
    return {**mine, **kept, "api_key": secret}


def chosen(secrets: Mapping[str, str], key_hash: str) -> dict[str, str]:
    """A client's secrets with that of this key as the current one. Empty when it is not there.

    The record says which key is the current one. Where a run ended before the secrets say the
    same, they are put right by the next.
    """
    for name, secret in secrets.items():
        if is_api_key(name) and sha256(secret) == key_hash:
            return dict(secrets) if name == "api_key" else succeeded(secrets, secret)
    return {}


def current(secrets: Mapping[str, str]) -> dict[str, str]:
    """A client's secrets without those of keys that are not its key any more."""
    return {
        name: secret
        for name, secret in secrets.items()
        if name == "api_key" or not is_api_key(name)
    }


def without(secrets: Mapping[str, str], key_hash: str) -> dict[str, str]:
    """A client's secrets when this former key is deleted."""
    return {name: value for name, value in secrets.items() if name != _beside(key_hash)}


def unnamed(secrets: Mapping[str, str], record: Record) -> list[str]:
    """Hashes of keys whose secrets are stored, and of which the record does not know.

    A run that made a typed-in key the client's leaves one, if it ends before OpenRouter knows of it
    and nobody wants that any more. It may be the only copy, so nobody but a person removes it.
    """
    known = {record.key_hash, *(former.hash for former in record.former)}
    hashes = [sha256(secret) for name, secret in secrets.items() if is_api_key(name)]
    return [key_hash for key_hash in hashes if key_hash not in known]


def _beside(key_hash: str) -> str:
    return f"api_key_{key_hash[:12]}"
