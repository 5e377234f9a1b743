# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A project at Hetzner, without the network: one request in, one answer out, under one lock."""

from __future__ import annotations

import copy
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from . import offer
from .shapes import ApiError, Fields, check_body, invalid, labels, may, page, selected, taken

Row = dict[str, Any]
Effect = Callable[[], None]

#: Collections and what one of them is called. The last three are Hetzner's and cannot be changed.
KINDS = {
    "servers": "server",
    "volumes": "volume",
    "networks": "network",
    "firewalls": "firewall",
    "ssh_keys": "ssh_key",
    "placement_groups": "placement_group",
    "zones": "zone",
    "images": "image",
    "locations": "location",
    "server_types": "server_type",
}
_LIST = {"name", "label_selector", "page", "per_page"}
#: What else may be asked of a list: the field that is compared.
FILTERS = {
    "servers": {"status": "status"},
    "images": {"architecture": "architecture", "type": "type"},
}


@dataclass
class Settings:
    """How the double behaves."""

    action_seconds: float = 0.0
    """How long an action runs. With 0 it still runs when it is answered, and is done when asked."""
    limits: dict[str, int] = field(default_factory=dict)
    """The most of a kind that the project may have, such as ``{"servers": 5}``."""
    sold_out: set[tuple[str, str]] = field(default_factory=set)
    """Server types that cannot be had in a location just now."""
    rate_limit: int = 3600
    """Requests in an hour; used up, one a second comes back."""
    addresses: dict[str, str] = field(default_factory=dict)
    """The public IPv4 addresses that servers of these names get."""


@dataclass
class Fault:
    """The next ``times`` requests that fit are answered with an error, and do nothing."""

    code: str
    method: str = ".*"
    path: str = ".*"
    """Below /v1, without the query."""
    times: int = 1
    message: str = "on demand"


@dataclass
class Action:
    row: Row
    due: float
    effect: Effect
    """What becomes true when it has succeeded."""


@dataclass(frozen=True)
class Call:
    """A request on its way to its handler."""

    values: Mapping[str, str]
    query: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """A request that was answered."""

    method: str
    path: str
    status: int
    code: str
    empty: bool
    """Whether it had nothing in its body."""


Handler = Callable[["Cloud", Call], tuple[int, Row]]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    fields: Fields
    query: frozenset[str]


ROUTES: list[Route] = []


def route(
    method: str, path: str, fields: Fields | None = None, query: set[str] | None = None
) -> Callable[[Handler], Handler]:
    """Make a function the handler of a path, in which ``{id}`` stands for one part."""
    pattern = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path))

    def keep(handler: Handler) -> Handler:
        ROUTES.append(Route(method, pattern, handler, fields or {}, frozenset(query or ())))
        return handler

    return keep


class Cloud:
    def __init__(self, token: str, settings: Settings | None = None) -> None:
        self.token = token
        self.settings = settings or Settings()
        self.lock = threading.RLock()
        self.rows: dict[str, dict[int, Row]] = {kind: {} for kind in KINDS}
        self.rrsets: dict[int, dict[str, Row]] = {}
        self.actions: dict[int, Action] = {}
        self.failures: dict[str, tuple[str, str]] = {}
        """The next action of a command ends in this error (code, message)."""
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        """What a client asked that no client should."""
        self.last_id = 4700
        self._budget = float(self.settings.rate_limit)
        self._filled = time.monotonic()
        for kind, rows in (
            ("locations", offer.LOCATIONS),
            ("server_types", offer.SERVER_TYPES),
            ("images", offer.IMAGES),
        ):
            self.rows[kind] = {row["id"]: copy.deepcopy(row) for row in rows}

    # --- one request ------------------------------------------------------------------------

    def handle(
        self, method: str, path: str, query: Mapping[str, str], body: Any, token: str
    ) -> tuple[int, Row, dict[str, str]]:
        """Status, body and headers. Never raises: an error is an answer too."""
        with self.lock:
            code = ""
            try:
                status, answer = self._act(method, path, query, body, token)
            except ApiError as error:
                status, answer, code = error.status, error.body(), error.code
            except Exception:
                traceback.print_exc()
                self.violate(f"{method} {path}: the double itself failed")
                failed = ApiError("server_error", "the double failed, see its log")
                status, answer, code = failed.status, failed.body(), failed.code
            self.seen.append(Seen(method, path, status, code, not body))
            headers = {
                "RateLimit-Limit": str(self.settings.rate_limit),
                "RateLimit-Remaining": str(int(self._budget)),
                "RateLimit-Reset": str(int(time.time() + self.settings.rate_limit - self._budget)),
            }
            return status, copy.deepcopy(answer), headers

    def _act(
        self, method: str, path: str, query: Mapping[str, str], body: Any, token: str
    ) -> tuple[int, Row]:
        if token != self.token:
            raise ApiError("unauthorized", "unable to authenticate")
        self._pay()
        self.settle()
        self._take_fault(method, path)
        found, values = self._route(method, path)
        try:
            for name in query:
                if name not in found.query:
                    raise invalid(name, "the double knows no such parameter")
            check_body({} if body is None else body, found.fields)
        except ApiError as error:
            self.violate(f"{method} {path}: {error.message}")
            raise
        return found.handler(self, Call(values, query, body or {}))

    def _route(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        fitting = [(one, match) for one in ROUTES if (match := one.pattern.fullmatch(path))]
        for one, match in fitting:
            if one.method == method:
                return one, match.groupdict()
        self.violate(f"{method} {path}: unknown route")
        if fitting:
            raise ApiError("method_not_allowed", f"{method} is not allowed here")
        raise ApiError("not_found", f"the double has no route {method} {path}")

    def _pay(self) -> None:
        now = time.monotonic()
        self._budget = min(self.settings.rate_limit, self._budget + now - self._filled)
        self._filled = now
        if self._budget < 1:
            raise ApiError("rate_limit_exceeded", "limit of 3600 requests per hour reached")
        self._budget -= 1

    def _take_fault(self, method: str, path: str) -> None:
        for fault in self.faults:
            if re.fullmatch(fault.method, method) and re.fullmatch(fault.path, path):
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                raise ApiError(fault.code, fault.message)

    def violate(self, what: str) -> None:
        self.violations.append(what)
        print(f"violation: {what}", file=sys.stderr, flush=True)

    # --- what handlers use ------------------------------------------------------------------

    @staticmethod
    def now() -> str:
        return datetime.now(UTC).isoformat(timespec="seconds")

    def new_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def create(self, kind: str, row: Row) -> Row:
        """Take a new row in, with an id; its name is the only one of its kind."""
        one = KINDS[kind]
        self.unique(kind, row["name"])
        limit = self.settings.limits.get(kind)
        if limit is not None and len(self.rows[kind]) >= limit:
            raise ApiError("resource_limit_exceeded", f"{one} limit exceeded", {"limits": [one]})
        row = {"id": self.new_id(), "created": self.now(), **row}
        self.rows[kind][row["id"]] = row
        return row

    def unique(self, kind: str, name: str, but: Row | None = None) -> None:
        for other in self.rows[kind].values():
            if other is not but and other["name"] == name:
                raise taken("name", f"{KINDS[kind]} name is already used")

    def get(self, kind: str, reference: int | str, where: str = "") -> Row:
        """By id, or by name where the API allows names.

        :raises ApiError: not_found, or invalid input when a field of a body refers to it
        """
        rows = self.rows[kind]
        if str(reference).isdigit() and int(reference) in rows:
            return rows[int(reference)]
        for row in rows.values():
            if (where or kind == "zones") and row["name"] == reference:
                return row
        message = f"{KINDS[kind]} with ID '{reference}' not found"
        raise invalid(where, message) if where else ApiError("not_found", message)

    def start(
        self, command: str, effect: Effect, *resources: tuple[str, int], turn: int = 1
    ) -> Row:
        """Begin an action, which locks what it is about until it ends.

        :param turn: 1 for one that ends after the time of one action, 2 after that of two
        """
        row: Row = {
            "id": self.new_id(),
            "command": command,
            "status": "running",
            "progress": 0,
            "started": self.now(),
            "finished": None,
            "resources": [{"type": kind, "id": number} for kind, number in resources],
            "error": None,
        }
        due = time.monotonic() + turn * self.settings.action_seconds
        self.actions[row["id"]] = Action(row, due, effect)
        return copy.deepcopy(row)

    def settle(self) -> None:
        """End the actions whose time has come."""
        for action in sorted(self.actions.values(), key=lambda action: action.due):
            if action.row["status"] != "running" or action.due > time.monotonic():
                continue
            failure = self.failures.pop(action.row["command"], None)
            if failure:
                error = {"code": failure[0], "message": failure[1]}
                action.row.update(status="error", error=error)
            else:
                action.effect()
                action.row.update(status="success")
            action.row.update(progress=100, finished=self.now())

    def locked(self, kind: str, row: Row) -> bool:
        key = {"type": kind, "id": row["id"]}
        return any(
            action.row["status"] == "running" and key in action.row["resources"]
            for action in self.actions.values()
        )

    def free(self, kind: str, row: Row) -> None:
        if self.locked(kind, row):
            raise ApiError("locked", f"{kind} is locked because another action is running")

    def protect(self, kind: str, row: Row) -> None:
        if row["protection"]["delete"]:
            raise ApiError("protected", f"{kind} deletion is protected")

    def show(self, kind: str, row: Row) -> Row:
        # What begins with an underscore is not for the API's answers.
        row = copy.deepcopy({name: row[name] for name in row if not name.startswith("_")})
        if kind == "servers":
            row["locked"] = self.locked("server", row)
            group = row["placement_group"]
            row["placement_group"] = self.rows["placement_groups"][group] if group else None
            row["volumes"] = self.belonging("volumes", row)
        elif kind == "networks":
            row["servers"] = [
                server["id"]
                for server in self.rows["servers"].values()
                if any(net["network"] == row["id"] for net in server["private_net"])
            ]
        elif kind == "placement_groups":
            row["servers"] = self.belonging("servers", row, "placement_group")
        elif kind == "firewalls":
            row["applied_to"] = [
                {"type": "server", "server": {"id": server["id"]}}
                for server in self.rows["servers"].values()
                if any(one["id"] == row["id"] for one in server["public_net"]["firewalls"])
            ]
        elif kind == "zones":
            row["record_count"] = sum(
                len(rrset["records"]) for rrset in self.rrsets[row["id"]].values()
            )
        return row

    def belonging(self, kind: str, row: Row, field_: str = "server") -> list[int]:
        return [one["id"] for one in self.rows[kind].values() if one[field_] == row["id"]]

    def answer(self, kind: str, row: Row, **more: Any) -> Row:
        return {KINDS[kind]: self.show(kind, row), **more}


# --- what all kinds have in common --------------------------------------------------------------


def _list(kind: str) -> Handler:
    filters = FILTERS.get(kind, {})

    def handler(cloud: Cloud, call: Call) -> tuple[int, Row]:
        rows = [cloud.show(kind, row) for row in cloud.rows[kind].values()]
        if "name" in call.query:
            rows = [row for row in rows if row["name"] == call.query["name"]]
        if "label_selector" in call.query:
            rows = [row for row in rows if selected(call.query["label_selector"], row["labels"])]
        for name, compared in filters.items():
            if name in call.query:
                rows = [row for row in rows if row[compared] == call.query[name]]
        return HTTPStatus.OK, page(kind, rows, call.query)

    return handler


def _get(kind: str) -> Handler:
    def handler(cloud: Cloud, call: Call) -> tuple[int, Row]:
        return HTTPStatus.OK, cloud.answer(kind, cloud.get(kind, call.values["id"]))

    return handler


def _put(kind: str) -> Handler:
    def handler(cloud: Cloud, call: Call) -> tuple[int, Row]:
        row = cloud.get(kind, call.values["id"])
        if "name" in call.body:
            cloud.unique(kind, call.body["name"], but=row)
        row.update(call.body)
        return HTTPStatus.OK, cloud.answer(kind, row)

    return handler


def add_common_routes(names: Mapping[str, Fields]) -> None:
    """:param names: for the kinds that can be changed, what a change may say besides labels"""
    for kind in KINDS:
        queries = _LIST | set(FILTERS.get(kind, {}))
        queries |= {"include_deprecated"} if kind == "images" else set()
        route("GET", f"/{kind}", query=queries)(_list(kind))
        route("GET", f"/{kind}/{{id}}")(_get(kind))
        if kind in names:
            route("PUT", f"/{kind}/{{id}}", {"labels": may(labels), **names[kind]})(_put(kind))


@route("GET", "/actions/{id}")
def get_action(cloud: Cloud, call: Call) -> tuple[int, Row]:
    number = call.values["id"]
    if not number.isdigit() or int(number) not in cloud.actions:
        raise ApiError("not_found", f"action with ID '{number}' not found")
    return HTTPStatus.OK, {"action": cloud.actions[int(number)].row}


def protection(kind: str) -> Handler:
    """The handler of ``change_protection`` of a kind."""

    def handler(cloud: Cloud, call: Call) -> tuple[int, Row]:
        row = cloud.get(kind, call.values["id"])
        cloud.free(KINDS[kind], row)
        wanted = row["protection"] | call.body
        if len(set(wanted.values())) > 1:
            raise invalid("rebuild", "must be the same as delete")
        action = cloud.start(
            "change_protection",
            lambda: row["protection"].update(wanted),
            (KINDS[kind], row["id"]),
        )
        return HTTPStatus.CREATED, {"action": action}

    return handler
