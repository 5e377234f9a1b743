# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""How old a client's keys become.

OpenRouter takes ``expires_at`` when it makes a key and never again. So a key that is to live on, or
to have another end, is replaced by one that does.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import stamp


@dataclass(frozen=True)
class Lifetime:
    """What a client's keys may live.

    :ivar days: the end of a new key, and the age at which one without an end is replaced; None for
        neither
    :ivar renew_days: how long before its end a key is replaced
    """

    days: float | None = None
    renew_days: float = 0

    def expires_at(self, at: datetime.datetime) -> str:
        """The end of a key that is made now; empty for none."""
        return stamp(at + datetime.timedelta(days=self.days)) if self.days else ""

    def end(self, key: Key) -> datetime.datetime | None:
        """When this key's time is over: by OpenRouter or by its age, whichever comes first.

        :raises FleetError: OpenRouter does not say how old it is
        """
        ends = [expiry(key)]
        if self.days:
            ends.append(made_at(key) + datetime.timedelta(days=self.days))
        return min((end for end in ends if end), default=None)

    def renews(self, key: Key, at: datetime.datetime) -> bool:
        """Whether it is time for another key.

        :raises FleetError: OpenRouter does not say how old it is
        """
        end = self.end(key)
        return end is not None and end - datetime.timedelta(days=self.renew_days) <= at


def lifetime_of(client: Mapping[str, Any]) -> Lifetime:
    """What the client's file and its plan say."""
    return Lifetime(client["key_lifetime_days"], client["key_renew_days"])


def expiry(key: Key) -> datetime.datetime | None:
    """When OpenRouter ends the key.

    :raises FleetError: it says something else than a time
    """
    return read_time(key.expires_at, f"when the key {key.name} ends") if key.expires_at else None


def expired(key: Key, at: datetime.datetime) -> bool:
    """:raises FleetError: OpenRouter says something else than a time"""
    end = expiry(key)
    return end is not None and end <= at


def made_at(key: Key) -> datetime.datetime:
    """:raises FleetError: OpenRouter does not say when the key was made"""
    return read_time(key.created_at, f"when the key {key.name} was made")


def read_time(text: str, what: str) -> datetime.datetime:
    """A time as OpenRouter writes it.

    :raises FleetError: it is none
    """
    try:
        time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise FleetError(
            f"OpenRouter does not say {what}: {text!r}",
            "GET /keys",
            "look at the key in OpenRouter's dashboard; a key can be replaced by its client's name",
        ) from None
