# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a call: who asks what, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.table import Route

from .state import Key


@dataclass(frozen=True)
class Caller:
    """The bearer of the key in a request. `kind`: none, unknown, inference, management."""

    kind: str
    key: Key | None = None


@dataclass(frozen=True)
class Call:
    route: Route
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: dict[str, Any]
    caller: Caller

    @property
    def key(self) -> Key:
        """The ordinary key of an inference call."""
        assert self.caller.key is not None
        return self.caller.key


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] | None = None
    """Set for a streamed answer: these are sent instead of the body."""


class ApiError(Exception):
    """An error answer. `metadata` and `availability` become fields of the error."""

    def __init__(
        self,
        status: int,
        message: str,
        metadata: dict[str, Any] | None = None,
        *,
        availability: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.metadata = metadata
        self.availability = availability
        self.headers = headers or {}

    def answer(self) -> Answer:
        error: dict[str, Any] = {"code": self.status, "message": self.message}
        if self.metadata is not None:
            error["metadata"] = self.metadata
        if self.availability is not None:
            error["availability"] = self.availability
        return Answer(self.status, {"error": error}, self.headers)


def page(rows: list[Any], call: Call, default: int) -> list[Any]:
    offset = call.query.get("offset") or 0
    return rows[offset : offset + (call.query.get("limit") or default)]
