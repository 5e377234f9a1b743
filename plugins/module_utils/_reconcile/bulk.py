# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The same work for many clients at once, where no client can spoil it for the others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row


def for_each(clients: list[str], pool: int, work: Callable[[str], Row]) -> dict[str, Row]:
    """``work`` for every client, at most ``pool`` at a time; rows in the order of ``clients``.

    An exception becomes the row of the client that it came up for.
    """

    def guarded(client: str) -> Row:
        try:
            return work(client)
        except FleetError as error:
            return Row(error=error)
        except Exception as error:
            return Row(error=unforeseen(client, error))

    with ThreadPoolExecutor(max(1, pool)) as executor:
        return dict(zip(clients, executor.map(guarded, clients)))


def unforeseen(client: str, error: Exception) -> FleetError:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_name}, line {frame.tb_lineno}" if frame else "unknown place"
    # Not the message, which may quote what was read, and that may be a secret.
    return FleetError(
        f"unforeseen {type(error).__name__} in {place}",
        client,
        "please report this as a bug of mai.fleet",
    )
