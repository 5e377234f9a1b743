# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The one tree of errors that the engine raises.

Engine code raises; only the outermost layer (a module's ``main`` or an action) turns an error into
a failed row or a failed task, through :meth:`FleetError.failure`.
"""

from __future__ import annotations


class FleetError(Exception):
    """Something that a person has to know about and can act on.

    :param what: what went wrong, and what was expected instead
    :param where: the file and field, the request, or the object that it is about
    :param todo: what to do next
    """

    def __init__(self, what: str, where: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.todo = todo

    def failure(self) -> dict[str, str]:
        """The structured form that results carry."""
        return {"what": self.what, "where": self.where, "todo": self.todo}

    def __str__(self) -> str:
        return describe(self.failure())


class Unreachable(FleetError):
    """No answer at all: refused, timed out, name not resolved, connection cut."""


class ApiError(FleetError):
    """An answer that is not the one asked for. ``status`` is the HTTP status."""

    def __init__(self, status: int, what: str, where: str = "", todo: str = "") -> None:
        super().__init__(what, where, todo)
        self.status = status


class Unauthorized(ApiError):
    """401: the credential is not (or no longer) valid."""


class Forbidden(ApiError):
    """403: the credential is valid and may not do this."""


class NotFound(ApiError):
    """404: the object does not exist."""


class RateLimited(ApiError):
    """429, and it did not end within the retries."""


def describe(failure: dict[str, str]) -> str:
    """One line for a person: where, what, what to do."""
    text = f"{failure['where']}: {failure['what']}" if failure.get("where") else failure["what"]
    return f"{text} ({failure['todo']})" if failure.get("todo") else text


def api_error(status: int, what: str, where: str, todo: str = "") -> ApiError:
    """The most specific error for an HTTP status."""
    kinds: dict[int, type[ApiError]] = {
        401: Unauthorized,
        403: Forbidden,
        404: NotFound,
        429: RateLimited,
    }
    return kinds.get(status, ApiError)(status, what, where, todo)
