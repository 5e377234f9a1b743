# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand: the next requests that match answer wrong, late, or not at all."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

CUTS = ("before", "after", "middle")
MESSAGES = {
    400: "Invalid request parameters",
    401: "User not found.",
    402: "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
    403: "Only management keys can perform this operation",
    404: "Resource not found",
    408: "Operation timed out. Please try again later.",
    429: "Rate limit exceeded",
    500: "Internal Server Error",
    502: "Provider returned error",
    503: "Service temporarily unavailable",
    524: "Request timed out. Please try again later.",
    529: "Provider returned error",
}


@dataclass
class Fault:
    """One rule. `method` and `path` are regular expressions for the whole of each."""

    method: str = ".*"
    path: str = ".*"
    """Below /api/v1, without the query: `/keys`, `/keys/.*`."""
    times: int = 1
    """How many matching requests it hits; 0 for every one until it is cleared."""
    skip: int = 0
    """How many matching requests pass unharmed first."""
    delay: float = 0.0
    """Seconds to wait before anything else."""
    pace: float = 0.0
    """Seconds between the parts of a streamed answer, which otherwise come all at once."""
    status: int | None = None
    """Answer with this error instead of the real answer."""
    http_status: int | None = None
    """The HTTP status that goes with it, where it is another: 200 for an error that only shows in
    the body, as after the start of a model."""
    message: str | None = None
    metadata: dict[str, Any] | None = None
    retry_after: int | None = None
    act: bool = False
    """Do what was asked before answering with `status`: the error hides a success."""
    cut: str | None = None
    """Close the connection without an answer: `before` acting, `after` acting (the lost reply), or
    in the `middle` of an answer."""

    def __post_init__(self) -> None:
        for pattern in (self.method, self.path):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {pattern!r}: {error}") from error
        if self.cut not in (None, *CUTS):
            raise ValueError(f"cut must be one of {', '.join(CUTS)}")
        if self.status is not None and self.cut is not None:
            raise ValueError("status and cut exclude each other")
        if self.status is None and self.cut is None and not self.delay and not self.pace:
            raise ValueError("a fault needs status, cut, delay or pace")

    def matches(self, method: str, path: str) -> bool:
        return bool(re.fullmatch(self.method, method) and re.fullmatch(self.path, path))


class Faults:
    def __init__(self) -> None:
        self.pending: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self.pending.append(fault)

    def clear(self) -> None:
        self.pending.clear()

    def shown(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.pending]

    def take(self, method: str, path: str) -> Fault | None:
        """The first rule that hits this request, counted down."""
        for fault in self.pending:
            if not fault.matches(method, path):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times == 1:
                self.pending.remove(fault)
            elif fault.times:
                fault.times -= 1
            return fault
        return None
