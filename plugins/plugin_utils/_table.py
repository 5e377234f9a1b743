# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def lines_of(lines: Sequence[Mapping[str, str]]) -> list[str]:
    """Lines with a header, all of the same columns; nothing of nothing."""
    if not lines:
        return []
    rows = [{header: header for header in lines[0]}, *lines]
    widths = {header: max(len(row[header]) for row in rows) for header in lines[0]}
    return [
        "  ".join(row[header].ljust(widths[header]) for header in widths).rstrip() for row in rows
    ]
