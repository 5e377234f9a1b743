# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Where the secrets of clients are kept: one small interface, and what every store owes."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable

Secrets = dict[str, str]


class SecretStore(abc.ABC):
    """A mapping of names to texts for each client, replaced as a whole.

    All of it raises FleetError. :class:`Unreachable` says that a write may have been acted upon,
    any other error that it was not.
    """

    #: Whether the secrets lie in files on this controller.
    is_local = False

    @abc.abstractmethod
    def where(self, client: str) -> str:
        """The place as a person would look for it."""

    @abc.abstractmethod
    def read(self, client: str) -> Secrets | None:
        """None when there is nothing of this client."""

    @abc.abstractmethod
    def remove(self, client: str) -> None:
        """It is no mistake if there is nothing."""

    @abc.abstractmethod
    def clients(self) -> list[str]:
        """The names of all clients of this fleet that it has something of."""

    @abc.abstractmethod
    def verify(self) -> None:
        """Make sure that secrets can be read and stored, before anything is created."""

    @abc.abstractmethod
    def _put(self, client: str, secrets: Secrets) -> None:
        """The old secrets or the new ones, whatever happens; kept when this returns."""

    def write(self, client: str, secrets: Mapping[str, str]) -> None:
        """Replace a client's secrets, and read them back.

        :raises FleetError: nothing was changed, unless it says otherwise
        """
        wanted = dict(secrets)
        try:
            self._put(client, wanted)
        except Unreachable as error:
            self._settle(client, wanted, error)
            return
        if (self.read(client) or {}) != wanted:
            raise FleetError(
                "the secrets were stored, and came back different",
                self.where(client),
                "find out what else writes there, then run again",
            )

    def _settle(self, client: str, wanted: Secrets, error: Unreachable) -> None:
        """What became of a write that got no answer."""
        try:
            found = self.read(client)
        except FleetError:
            raise FleetError(
                f"{error.what}, so it is not known whether the secrets were stored",
                self.where(client),
                "run again when it answers",
            ) from None
        if (found or {}) != wanted:
            raise FleetError(f"{error.what}; nothing was changed", error.where, error.todo)


def mapping(content: Any, where: str, todo: str) -> Secrets:
    """:raises FleetError: it is no mapping of names to texts"""
    if not isinstance(content, dict):
        raise FleetError("not a mapping of secrets", where, todo)
    odd = [str(name) for name, secret in content.items() if not isinstance(secret, str)]
    if odd:
        raise FleetError(f"expected text, which may need quotes, in {', '.join(odd)}", where, todo)
    return {str(name): str(secret) for name, secret in content.items()}
