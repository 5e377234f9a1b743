# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What requests and answers are made of: errors, fields of bodies, labels, pages."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: The status that goes with an error code. hcloud-python decides by the code alone.
STATUS = {
    "json_error": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "resource_limit_exceeded": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "resource_in_use": 409,
    "uniqueness_error": 409,
    "placement_error": 412,
    "resource_unavailable": 412,
    "invalid_input": 422,
    "server_already_attached": 422,
    "server_not_stopped": 422,
    "volume_already_attached": 422,
    "locked": 423,
    "protected": 423,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "unavailable": 503,
    "timeout": 504,
}

_KEY = re.compile(
    r"([a-z0-9A-Z]([-_.a-z0-9A-Z]{0,251}[a-z0-9A-Z])?/)?[a-z0-9A-Z]([-_.a-z0-9A-Z]{0,61}[a-z0-9A-Z])?"
)
_VALUE = re.compile(r"([a-z0-9A-Z]([-_.a-z0-9A-Z]{0,61}[a-z0-9A-Z])?)?")
_HOSTNAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9A-Z]([-a-z0-9A-Z]{0,61}[a-z0-9A-Z])?"
    r"(\.[a-z0-9A-Z]([-a-z0-9A-Z]{0,61}[a-z0-9A-Z])?)*"
)


class ApiError(Exception):
    """An error answer."""

    def __init__(self, code: str, message: str, details: Any = None, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.status = status or STATUS[code]

    def body(self) -> dict[str, Any]:
        error = {"code": self.code, "message": self.message, "details": self.details}
        return {"error": error}


def invalid(field: str, problem: str) -> ApiError:
    """As the API says it: the field, and what is wrong with it."""
    details = {"fields": [{"name": field, "messages": [problem]}]}
    return ApiError("invalid_input", f"invalid input in field '{field}': {problem}", details)


def taken(field: str, what: str) -> ApiError:
    return ApiError("uniqueness_error", what, {"fields": [{"name": field}]})


# --- fields -----------------------------------------------------------------------------------

Check = Callable[[str, Any], None]


@dataclass(frozen=True)
class Field:
    check: Check
    required: bool = False


Fields = Mapping[str, Field]


def need(check: Check) -> Field:
    return Field(check, required=True)


def may(check: Check) -> Field:
    return Field(check)


def check_body(body: Any, fields: Fields, where: str = "") -> None:
    """:raises ApiError: fields that are missing, wrong, or unknown (which Hetzner would ignore)"""
    if not isinstance(body, dict):
        raise invalid(where or "body", "must be an object")
    for name in body:
        if name not in fields:
            raise invalid(f"{where}{name}", "the double knows no such field")
    for name, field in fields.items():
        if name in body:
            field.check(f"{where}{name}", body[name])
        elif field.required:
            raise invalid(f"{where}{name}", "is required")


def text(where: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise invalid(where, "must be a text that is not empty")


def hostname(where: str, value: Any) -> None:
    text(where, value)
    if not _HOSTNAME.fullmatch(value):
        raise invalid(where, "must be a valid hostname")


def flag(where: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise invalid(where, "must be a boolean")


def number(low: int, high: int) -> Check:
    def check(where: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise invalid(where, f"must be a number from {low} to {high}")

    return check


def one_of(*choices: str) -> Check:
    def check(where: str, value: Any) -> None:
        if value not in choices:
            raise invalid(where, f"must be one of {', '.join(choices)}")

    return check


def reference(where: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not value:
        raise invalid(where, "must be an id or a name")


def each(check: Check, most: int = 100) -> Check:
    def check_all(where: str, value: Any) -> None:
        if not isinstance(value, list) or len(value) > most:
            raise invalid(where, f"must be a list of at most {most}")
        for position, item in enumerate(value):
            check(f"{where}.{position}", item)

    return check_all


def inside(fields: Fields) -> Check:
    def check(where: str, value: Any) -> None:
        check_body(value, fields, f"{where}.")

    return check


def or_null(check: Check) -> Check:
    def check_given(where: str, value: Any) -> None:
        if value is not None:
            check(where, value)

    return check_given


def network(where: str, value: Any) -> None:
    """A network in CIDR notation, whose host bits are zero."""
    try:
        ipaddress.ip_network(value)
    except (TypeError, ValueError):
        raise invalid(where, "must be a network in CIDR notation") from None


def address(where: str, value: Any) -> None:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        raise invalid(where, "must be an IPv4 address") from None


def labels(where: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(where, "must be an object")
    for key, content in value.items():
        if not _KEY.fullmatch(key) or key.startswith("hetzner.cloud/"):
            raise invalid(where, f"the label key {key!r} is not correctly formatted")
        if not isinstance(content, str) or not _VALUE.fullmatch(content):
            raise invalid(where, f"the label value {content!r} is not correctly formatted")


# --- lists ------------------------------------------------------------------------------------


def selected(selector: str, has: Mapping[str, str]) -> bool:
    """Whether labels fit a selector: ``key``, ``!key``, ``key=value``, ``key!=value``, with commas.

    :raises ApiError: a selector of another kind
    """
    for term in filter(None, selector.split(",")):
        found = re.fullmatch(r"(!?)([^!=\s]+)(?:(!=|==?)([^!=\s]*))?", term.strip())
        if not found or (found[1] and found[3]):
            raise invalid("label_selector", f"the double cannot read {term!r}")
        absent, key, operator, value = found.groups()
        if operator is None:
            fits = (key in has) != bool(absent)
        else:
            fits = (has.get(key) == value) != (operator == "!=")
        if not fits:
            return False
    return True


def page(name: str, rows: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of rows and where it stands among the others."""
    try:
        number_, size = int(query.get("page", 1)), int(query.get("per_page", 25))
    except ValueError:
        raise invalid("page", "must be a number") from None
    if number_ < 1 or not 1 <= size <= 50:
        raise invalid("per_page", "must be a number from 1 to 50, and pages begin with 1")
    last = max(1, -(-len(rows) // size))
    pagination = {
        "page": number_,
        "per_page": size,
        "previous_page": number_ - 1 if number_ > 1 else None,
        "next_page": number_ + 1 if number_ < last else None,
        "last_page": last,
        "total_entries": len(rows),
    }
    start = (number_ - 1) * size
    return {name: rows[start : start + size], "meta": {"pagination": pagination}}
