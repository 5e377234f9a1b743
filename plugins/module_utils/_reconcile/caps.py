# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""A client has one cap, however many keys it had in a window of that cap.

OpenRouter counts by key, and a new key starts at nothing. So the cap of a successor is what its
predecessors left, until the window ends. Windows end at 00:00 UTC; weeks begin on Monday.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import replace

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Former,
    parse,
    stamp,
)

#: OpenRouter's smallest unit that a cap can sensibly be told in.
_DIGITS = 6


def window_start(reset: str, at: datetime.datetime) -> datetime.datetime | None:
    """When a cap was full last.

    :param reset: daily, weekly, monthly or never
    :return: None when it never was but at the beginning
    """
    today = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if reset == "daily":
        return today
    if reset == "weekly":
        return today - datetime.timedelta(days=today.weekday())
    if reset == "monthly":
        return today.replace(day=1)
    return None


def window_end(reset: str, at: datetime.datetime) -> datetime.datetime | None:
    """When a cap is full again.

    :param reset: daily, weekly, monthly or never
    :return: None when that never happens
    """
    start = window_start(reset, at)
    if start is None:
        return None
    if reset == "monthly":
        return (start + datetime.timedelta(days=32)).replace(day=1)
    return start + datetime.timedelta(days=1 if reset == "daily" else 7)


def spent_before(
    former: Iterable[Former], others: Iterable[Key], reset: str, at: datetime.datetime
) -> float:
    """USD that a client spent with other keys in the window in which it is ``at``.

    :param others: the client's living keys, but for the one whose cap is asked for
    """
    living = {key.hash: key.spent[reset] for key in others}
    gone = [one.spent for one in former if one.hash not in living and counts(one, reset, at)]
    return sum(living.values()) + sum(gone)


def counts(former: Former, reset: str, at: datetime.datetime) -> bool:
    """Whether what a key spent that is gone is spent of this cap.

    The cap may have been full at other times when it was measured. It counts if all of it was spent
    since the cap was full last: what only may have been would take away what was sold.
    """
    start = window_start(reset, at)
    within = start is None or (bool(former.start) and parse(former.start) >= start)
    return bool(former.spent) and within


def seen(former: Former, key: Key | None, reset: str, at: datetime.datetime) -> Former:
    """With what it has spent so far in this window, for when OpenRouter does not say it any more.

    Of a window in which it spent nothing, nothing has to be known.

    :param key: what OpenRouter says of it, None when it says nothing
    """
    if key is None:
        return former
    start = window_start(reset, at)
    began = stamp(start) if start else ""
    if not key.spent[reset] and former.start != began:
        return former
    return replace(former, spent=key.spent[reset], start=began)


def remainder(limit: float, spent: float) -> float:
    """The cap of a client's key when its former keys have spent so much of it."""
    return max(0.0, round(limit - spent, _DIGITS))
