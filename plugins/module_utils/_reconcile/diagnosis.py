# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What there is of one client in each place, side by side, and what is wrong with it.

Nothing here asks anybody: it is given what was found, or why nothing was.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Guardrail, Key
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import usd
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.expiry import made_at
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import Whose, classify
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of

#: Cells of what is as it should be, of nothing, of what was not to be found out, of no matter.
YES, NONE, UNKNOWN, NO_MATTER = "yes", "none", "?", "-"

_WORDS = {
    Whose.CURRENT: YES,
    Whose.FORMER: "former",
    Whose.NEIGHBOURS: "BREACH",
    Whose.FOREIGN: "foreign",
    Whose.NOBODYS: NONE,
}


@dataclass(frozen=True)
class Place:
    """The key in one place: its fingerprint, empty for none, or why nobody knows.

    :ivar cell: what the table says instead
    :ivar others: fingerprints of further keys that are used there for OpenRouter
    """

    key: str = ""
    error: FleetError | None = None
    cell: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class AtOpenRouter:
    """This client's part of the account.

    :ivar keys: all living ones that bear its name
    :ivar fence: id of the guardrail by key hash
    :ivar slugs: the allowlist that was sold, as guardrails have it; None when nobody knows
    """

    keys: list[Key]
    guardrail: Guardrail | None
    fence: Mapping[str, str]
    slugs: set[str] | None


@dataclass(frozen=True)
class Found:
    """All that was found out of one client.

    :ivar account: None when OpenRouter did not say
    :ivar owners: clients by the fingerprints of all keys of the fleet
    :ivar app: None where the client is to have no instance
    :ivar keeps_foreign: whether the inventory lets a foreign key be in the app
    :ivar unnamed: keys whose secrets are stored and that are none of the client's, by hash; None
        for what OpenRouter does not know
    """

    name: str
    client: Mapping[str, Any]
    record: Record | None
    store: Place
    server: Place
    app: Place | None
    account: AtOpenRouter | None
    owners: Mapping[str, str]
    at: datetime.datetime
    keeps_foreign: bool = False
    unnamed: Mapping[str, Key | None] = field(default_factory=dict)


@dataclass
class Diagnosis:
    """:ivar line: what the table shows, by column

    :ivar problems: each with ``place``, ``what`` and ``todo``
    :ivar notes: what a reader may want to know
    :ivar details: all of it, for programs
    """

    line: dict[str, str] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def diagnose(found: Found) -> Diagnosis:
    return _Doctor(found).look()


def key_of(record: Record | None, store: Place, server: Place) -> str:
    """The fingerprint of the client's key, as far as that is known."""
    recorded = fingerprint_of(record.key_hash) if record and record.key_hash else ""
    return recorded or store.key or server.key


def in_the_app(instance: Mapping[str, Any] | None, url: str, key: str) -> Place:
    """The key in an instance's connection to OpenRouter.

    :param instance: as it was discovered, None when there is none
    :param key: fingerprint of the key that should be there
    """
    if instance is None:
        error = FleetError("the client has no container on its server")
        return Place(error=error, cell=NONE)
    if instance["failed"]:
        return Place(error=FleetError(**instance["failure"]))
    ours = [
        one
        for one in instance["connections"]
        if (one["fingerprint"] and one["fingerprint"] == key)
        or one["url"].rstrip("/") == url.rstrip("/")
    ]
    ours.sort(key=lambda one: one["fingerprint"] != key)
    where = f"container {instance['container']}"
    if instance["app"]:
        error = FleetError(f"the instance does not answer: {instance['app']}", where)
        first = ours[0]["fingerprint"] if ours else ""
        return Place(first, error, "down", tuple(one["fingerprint"] for one in ours[1:]))
    if not ours:
        reasons = "; ".join(instance["warnings"]) or "there is no connection to OpenRouter"
        return Place(error=FleetError(reasons, where), cell=NONE)
    return Place(ours[0]["fingerprint"], others=tuple(one["fingerprint"] for one in ours[1:]))


class _Doctor:
    def __init__(self, found: Found) -> None:
        self._found = found
        self._is_absent = found.client["state"] == "absent"
        self._site = f"run mai.fleet.site -e fleet_select={found.name}"
        self._result = Diagnosis()
        self._key = key_of(found.record, found.store, found.server)

    def look(self) -> Diagnosis:
        found, state = self._found, str(self._found.client["state"])
        cells = {
            "store": self._place("store", found.store),
            "server": self._place("server", found.server),
            "app": NO_MATTER if found.app is None else self._place("app", found.app),
        }
        self._unnamed()
        key = self._key.removeprefix("sha256:") or NO_MATTER
        self._result.line = {"client": found.name, "key": key, **cells, **self._account()}
        self._result.details.update(
            state=state,
            key=self._key,
            places={
                name: {"key": place.key, "same": place.key == self._key, "error": _said(place)}
                for name, place in self._places().items()
            },
        )
        return self._result

    def _places(self) -> dict[str, Place]:
        found = self._found
        places = {"store": found.store, "server": found.server}
        return places if found.app is None else {**places, "app": found.app}

    def _problem(self, place: str, what: str, todo: str) -> None:
        self._result.problems.append({"place": place, "what": what, "todo": todo})

    def _place(self, name: str, place: Place) -> str:
        """The cell, with a problem where it is not as it should be."""
        if place.error is not None:
            self._problem(name, _text(place.error), place.error.todo or self._site)
        if place.error is not None and not place.key:
            return place.cell or UNKNOWN
        if self._is_absent:
            return self._left_behind(name, place)
        for key in place.others:
            if self._whose(key) is Whose.NEIGHBOURS:
                self._breach(name, key)
            elif self._whose(key) is Whose.FOREIGN:
                self._result.notes.append(
                    f"{name}: a connection of the client's own leads to OpenRouter, with {key}"
                )
        whose = self._whose(place.key)
        if whose is Whose.NEIGHBOURS:
            self._breach(name, place.key)
        elif whose is Whose.FOREIGN and name == "app" and self._found.keeps_foreign:
            self._result.notes.append(f"{name}: {place.key}, a foreign key, is kept")
        elif whose is not Whose.CURRENT:
            what = f"{place.key}, {whose.value}" if place.key else whose.value
            todo = _FOREIGN[name] if whose is Whose.FOREIGN else self._site
            self._problem(name, f"holds {what}", todo)
        return place.cell or _WORDS[whose]

    def _whose(self, key: str) -> Whose:
        return classify(key, self._found.name, self._key, self._found.owners)

    def _breach(self, name: str, key: str) -> None:
        owner = self._found.owners[key]
        self._problem(
            name,
            f"holds the key {key} of client {owner}: an isolation breach",
            f"{self._site}, then mai.fleet.rotate -e fleet_select={owner}, for others know its key",
        )

    def _left_behind(self, name: str, place: Place) -> str:
        if not place.key:
            return NO_MATTER
        self._problem(name, f"still holds the key {place.key} of an absent client", self._site)
        return YES if place.key == self._key else "other"

    def _unnamed(self) -> None:
        for key_hash, key in self._found.unnamed.items():
            what = f"the secret of the key {fingerprint_of(key_hash)} is kept"
            if key is None:
                self._result.notes.append(f"store: {what}, and OpenRouter does not know that key")
                continue
            state = "is disabled" if key.disabled else "works"
            self._problem(
                "store",
                f"{what}, which is none of the client's; OpenRouter calls it {key.name}, and it "
                f"{state}",
                "find out who needs it, for this may be the only copy; then take it out by hand",
            )

    # OpenRouter

    def _account(self) -> dict[str, str]:
        names = ("openrouter", "age", "spent of cap", "guardrail", "last use")
        account = self._found.account
        if account is None:
            return dict.fromkeys(names, UNKNOWN)
        key = next((one for one in account.keys if fingerprint_of(one.hash) == self._key), None)
        self._others(account, key)
        if key is None:
            cells = dict.fromkeys(names, NO_MATTER)
            if not self._is_absent:
                self._problem("openrouter", "has no such key of this client", self._site)
                cells["openrouter"] = NONE
            self._details(account, None)
            return cells
        self._details(account, key)
        return {
            "openrouter": self._state(key),
            "age": _age(key, self._found.at),
            "spent of cap": self._cap(key),
            "guardrail": self._guardrail(account, key),
            "last use": _since(key.last_used_at, self._found.at) if key.last_used_at else "never",
        }

    def _details(self, account: AtOpenRouter, key: Key | None) -> None:
        rail = account.guardrail
        self._result.details["openrouter"] = {
            "keys": [
                {
                    **{name: value for name, value in asdict(one).items() if name != "hash"},
                    "fingerprint": fingerprint_of(one.hash),
                    "current": one is key,
                }
                for one in account.keys
            ],
            "guardrail": rail.name if rail else None,
            "fenced": bool(key and rail and account.fence.get(key.hash) == rail.id),
            "allowlist": list(rail.allowed_models or ()) if rail else None,
            "allowlist_equal": _same_models(account),
        }

    def _state(self, key: Key) -> str:
        wanted = self._found.client["state"]
        if key.expires_at and key.expires_at <= self._found.at.strftime("%Y-%m-%dT%H:%M:%SZ"):
            self._problem("openrouter", f"the key expired at {key.expires_at}", self._site)
            return "expired"
        if wanted == "absent":
            self._problem("openrouter", "has a key of an absent client", self._site)
        elif key.disabled != (wanted == "suspended"):
            said = "disabled" if key.disabled else "not disabled"
            self._problem("openrouter", f"the key is {said}, the client is {wanted}", self._site)
        return "disabled" if key.disabled else "works"

    def _cap(self, key: Key) -> str:
        client, record = self._found.client, self._found.record
        sold = client["spending_limit"]
        wanted = record.cap(sold, self._found.at) if record else sold
        reset = client["limit_reset"] if wanted is not None else key.limit_reset
        if (key.limit, key.limit_reset) != (wanted, reset) and not self._is_absent:
            self._problem(
                "openrouter",
                f"the cap is {_money(key.limit)} {key.limit_reset}, expected "
                f"{_money(wanted)} {reset}",
                self._site,
            )
        if key.limit_remaining is not None and key.limit_remaining <= 0:
            self._result.notes.append("the cap is used up")
        spent = key.spent.get(key.limit_reset if key.limit is not None else "never", key.usage)
        unit = "" if key.limit is None else f" {key.limit_reset}"
        cap = _money(None if key.limit is None else round(key.limit, 2))
        return f"{spent:.2f}/{cap}{unit}"

    def _guardrail(self, account: AtOpenRouter, key: Key) -> str:
        rail = account.guardrail
        if self._is_absent:
            return NO_MATTER
        if rail is None or account.fence.get(key.hash) != rail.id:
            self._problem("guardrail", "the key is not fenced, any model can be used", self._site)
            return NONE
        if rail.allowed_models is None:
            self._problem("guardrail", "it allows every model", self._site)
            return "all models"
        number = len(set(rail.allowed_models))
        count = f"{number} model{'' if number == 1 else 's'}"
        same = _same_models(account)
        if same is None:
            return f"{count}?"
        if not same:
            missing = len((account.slugs or set()) - set(rail.allowed_models))
            extra = len(set(rail.allowed_models) - (account.slugs or set()))
            self._problem(
                "guardrail",
                f"its allowlist is another one: {missing} missing, {extra} too many",
                self._site,
            )
            return "differs"
        return count

    def _others(self, account: AtOpenRouter, current: Key | None) -> None:
        """Keys that live besides the client's, and creates of which nobody knows what they made."""
        record = self._found.record
        attempts = {attempt.name: attempt.at for attempt in record.attempts} if record else {}
        for key in account.keys:
            if key is current:
                continue
            former = record.former_key(key.hash) if record else None
            state = "is disabled" if key.disabled else "works still"
            if former is not None:
                self._result.notes.append(
                    f"former key {key.name} ({former.why.value}) {state}; a later run deletes it"
                )
            elif key.name in attempts:
                self._problem(
                    "openrouter",
                    f"the run of {attempts[key.name]} ended while it made the key {key.name}, "
                    f"which {state}",
                    self._site,
                )
            else:
                self._problem(
                    "openrouter",
                    f"nobody knows the key {key.name}, which {state}",
                    "delete it there if nobody uses it",
                )
        living = {key.name for key in account.keys}
        self._result.notes += [
            f"the create of {at} ({name}) was not answered; no such key has shown up"
            for name, at in attempts.items()
            if name not in living
        ]


#: What to do about a foreign key, by place.
_FOREIGN = {
    "store": "restore the newest secrets of the client",
    "server": "find out how it came there; mai.fleet.site writes the file anew",
    "app": "ask the client's administrator, who typed it in",
}


def _said(place: Place) -> str:
    return _text(place.error) if place.error else ""


def _text(error: FleetError) -> str:
    return f"{error.what} ({error.where})" if error.where else error.what


def _same_models(account: AtOpenRouter) -> bool | None:
    if account.guardrail is None or account.slugs is None:
        return None
    return set(account.guardrail.allowed_models or ()) == account.slugs


def _money(amount: float | None) -> str:
    return "unlimited" if amount is None else usd(amount)


def _age(key: Key, at: datetime.datetime) -> str:
    try:
        return _ago(at - made_at(key))
    except FleetError:
        return UNKNOWN


def _since(text: str, at: datetime.datetime) -> str:
    try:
        return _ago(at - datetime.datetime.fromisoformat(text.replace("Z", "+00:00")))
    except ValueError:
        return UNKNOWN


def _ago(span: datetime.timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
