# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The secrets of all clients, from one store to another, without a change to any of them.

The old store is the truth until every copy was read back; then the new one is, and only then is
anything removed: each client's by itself, compared once more, and when its journal has the line.
``state/secret-store`` says how far it came, so it can be repeated from wherever it was cut off.
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Callable, Iterable

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, describe
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_home import Home, Whereabouts
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import SecretStore
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.opening import (
    Settings,
    described,
    same_place,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store

#: From where to where, in words.
Way = tuple[str, str]

#: No client can have this name.
_PROBE = "move-probe"
_AGAIN = "run it again: what was done is kept, and nothing is lost"
_WHAT = "move secrets"


class Move:
    """:param source: where the secrets are said to be, None for what was written down
    :param opened: opens a store
    :param noted: sees to a client's line in its journal, also when it is called again
    """

    def __init__(
        self,
        home: Home,
        source: Settings | None,
        opened: Callable[[Settings], SecretStore],
        noted: Callable[[str, Way], None],
    ) -> None:
        self._home = home
        self._noted = noted
        self._target = home.configured
        self._known = home.known() or Whereabouts(source or home.assumed())
        self._source = self._from(source)
        self._old = opened(self._source)
        self._new = opened(self._target)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return same_place(self._source, self._target)

    @property
    def way(self) -> Way:
        return described(self._source), described(self._target)

    @property
    def forgotten(self) -> str:
        """Where a move that was given up has left copies, empty for nowhere."""
        to = self._known.to
        if to is None or same_place(to, self._target):
            return ""
        return f"copies of {', '.join(self._known.copied)} remain in {described(to)}"

    def plan(self) -> list[str]:
        """The clients whose secrets have to be moved, or whose old copies have to be removed.

        :raises FleetError: some cannot be moved, so none is
        """
        self._new.verify()
        names = self._old.clients()
        if not self._switched():
            self._each(names, self._may_go)
        return names

    def stuck(self) -> dict[str, FleetError]:
        """The clients whose old copies would not be removed, and why; before the switch, none."""
        found = {}
        for client in self._old.clients() if self._switched() else ():
            try:
                self._may_be_removed(client)
            except FleetError as error:
                found[client] = error
        return found

    def run(self) -> list[str]:
        """The clients that were moved."""
        names = self.plan()
        if not self._switched():
            if self._is_one_place():
                self._home.save(Whereabouts(self._target))
                return []
            self._home.save(Whereabouts(self._source, to=self._target, copied=tuple(names)))
            self._each(names, self._copy)
            self._each(self._old.clients(), self._compare)
            self._home.save(Whereabouts(self._target, left=self._source))
        self._each(names, self._remove)
        self._home.save(Whereabouts(self._target))
        return names

    def _from(self, named: Settings | None) -> Settings:
        if same_place(self._known.store, self._target):
            return self._known.left or named or self._known.store
        if named and not same_place(named, self._known.store):
            raise FleetError(
                f"state/secret-store says that the secrets are in {described(self._known.store)}",
                "fleet_move_from",
                "leave it out",
            )
        return self._known.store

    def _switched(self) -> bool:
        """Whether the new store is the truth already."""
        return same_place(self._known.store, self._target) and self._known.left is not None

    def _is_ours(self, client: str) -> bool:
        """Whether what the new store has of it is a copy that may be written again."""
        for place in (self._known.to, self._known.left):
            if place and same_place(place, self._target):
                return client in self._known.copied or place is self._known.left
        return False

    def _may_go(self, client: str) -> None:
        wanted, there = self._old.read(client), self._new.read(client)
        if there not in (None, wanted) and not self._is_ours(client):
            raise FleetError(
                "there are other secrets of it already",
                self._new.where(client),
                "remove them there if they are not needed, or name another place",
            )

    def _copy(self, client: str) -> None:
        wanted = self._old.read(client)
        if wanted is not None and self._new.read(client) != wanted:
            self._new.write(client, wanted)

    def _compare(self, client: str) -> None:
        if (self._new.read(client) or {}) != (self._old.read(client) or {}):
            raise FleetError("its secrets were changed meanwhile", self._old.where(client), _AGAIN)

    def _remove(self, client: str) -> None:
        """The last thing that is done for a client."""
        self._may_be_removed(client)
        self._noted(client, self.way)
        self._old.remove(client)

    def _may_be_removed(self, client: str) -> None:
        """:raises FleetError: what the old store has is not what the new one has, so it stays"""
        old, new = self._old.read(client), self._new.read(client)
        if old and new is None:
            raise FleetError(
                "only the old store has its secrets",
                self._old.where(client),
                "find out who removed them from the new one; copy them there by hand",
            )
        if old and old != new:
            raise FleetError(
                "the old place has other secrets of it than the new one, so nothing is removed",
                f"{self._old.where(client)} and {self._new.where(client)}",
                "runs use the new ones: see that these are right, then remove the old ones by hand "
                "and run this again",
            )

    def _is_one_place(self) -> bool:
        """Whether both stores are the same one under two names. What is removed would be gone."""
        token = {"probe": randomness.token_hex(8)}
        self._new.write(_PROBE, token)
        try:
            return self._old.read(_PROBE) == token
        finally:
            self._new.remove(_PROBE)

    def _each(self, clients: Iterable[str], work: Callable[[str], None]) -> None:
        """:raises FleetError: with all that went wrong"""
        wrong = []
        for client in clients:
            try:
                work(client)
            except FleetError as error:
                failure = error.failure()
                failure["todo"] = failure["todo"] or _AGAIN
                wrong.append(f"\n  client {client}: {describe(failure)}")
        if wrong:
            raise FleetError(
                f"not all secrets could be moved:{''.join(wrong)}", " to ".join(self.way)
            )


def note_move(store: Store, client: str, way: Way) -> None:
    """A line in the client's journal, unless a run that was cut off has written it already.

    :raises FleetError: the journal is damaged, or cannot be written
    """
    said = dict(zip(("origin", "to"), way, strict=True))
    lines = store.verify_journal(client).lines
    last = next((line for line in reversed(lines) if line["what"] == _WHAT), {})
    if any(last.get(name) != text for name, text in said.items()):
        store.note(client, _WHAT, "done", **said)
    store.keep_end(client)
