# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""How a bulk step reports: one row per client, and what a module makes of the rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError


@dataclass
class Row:
    """What one step found and did for one client. It never holds a secret.

    ``before`` and ``after`` have the same keys. ``more`` are further fields of the result row,
    ``diff`` is what Ansible shows with ``--diff``.
    """

    changed: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: FleetError | None = None
    diff: list[dict[str, str]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def result(self) -> dict[str, Any]:
        """The row as modules return it."""
        row = {
            "changed": self.changed,
            "before": self.before,
            "after": self.after,
            "warnings": self.warnings,
            "failed": self.error is not None,
            **self.more,
        }
        if self.error is not None:
            row["failure"] = self.error.failure()
        return row


def outcome(rows: dict[str, Row], diff: bool) -> dict[str, Any]:
    """The result of a module: a client that failed does not fail the task."""
    result: dict[str, Any] = {
        "changed": any(row.changed for row in rows.values()),
        "clients": {name: row.result() for name, row in rows.items()},
    }
    if diff:
        result["diff"] = [part for row in rows.values() for part in row.diff]
    return result


def parse_secrets(text: str) -> dict[str, Any]:
    """The ``secrets`` option of a module: a JSON object with one entry per client.

    :raises FleetError: anything else; the message does not quote it
    """
    try:
        secrets = json.loads(text)
    except ValueError:
        secrets = None
    if not isinstance(secrets, dict):
        raise FleetError("expected a JSON object with one entry per client", "option secrets")
    return secrets
