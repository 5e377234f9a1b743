# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator without the network: one request in, one answer out, under one lock."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from contract.table import Route, Table, contract

from . import account, guardrails, inference, keys, models
from .call import Answer, ApiError, Call, Caller
from .catalog import CATALOG_FILE, Catalog
from .faults import MESSAGES, Fault, Faults
from .state import Key, Policy, State

# What of a guardrail the simulator enforces.
ENFORCED = ("allowed_models", "ignored_models", "limit_usd", "reset_interval")

Handler = Callable[["Engine", Call], Answer]

HANDLERS: dict[str, Handler] = {
    "GET /keys": keys.list_keys,
    "POST /keys": keys.create_key,
    "GET /keys/{hash}": keys.get_key,
    "PATCH /keys/{hash}": keys.change_key,
    "DELETE /keys/{hash}": keys.delete_key,
    "GET /key": keys.current_key,
    "GET /guardrails": guardrails.list_guardrails,
    "POST /guardrails": guardrails.create_guardrail,
    "GET /guardrails/{id}": guardrails.get_guardrail,
    "PATCH /guardrails/{id}": guardrails.change_guardrail,
    "DELETE /guardrails/{id}": guardrails.delete_guardrail,
    "GET /guardrails/assignments/keys": guardrails.list_assignments,
    "GET /guardrails/{id}/assignments/keys": guardrails.list_assignments,
    "POST /guardrails/{id}/assignments/keys": guardrails.assign,
    "POST /guardrails/{id}/assignments/keys/remove": guardrails.unassign,
    "GET /models": models.list_models,
    "GET /models/user": models.list_usable,
    "GET /models/count": models.count_models,
    "GET /model/{author}/{slug}": models.get_model,
    "GET /models/{author}/{slug}/endpoints": models.get_endpoints,
    "GET /credits": account.balance,
    "GET /activity": account.activity,
    "GET /workspaces": account.workspaces,
    "POST /chat/completions": inference.chat,
    "POST /responses": inference.responses,
    "GET /generation": inference.generation,
}


@dataclass(frozen=True)
class Request:
    """A request that was seen, without body and secret.

    `status`: 0 when the connection was cut before anything was done. `caller`: none, unknown,
    management, or `key:` and the first 12 hex digits of the key's hash. `body`: the first 12 hex
    digits of its SHA-256, by which a request that was sent twice is known; empty without a body.
    """

    method: str
    path: str
    status: int
    caller: str
    body: str = ""


@dataclass(frozen=True)
class Incoming:
    """What the network delivers. `route` is None for a path that the table does not have."""

    method: str
    path: str
    route: Route | None
    values: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    secret: str | None


class Engine:
    def __init__(self, state_file: Path | None = None, catalog_file: Path | None = None) -> None:
        self.table: Table = contract()
        self.state_file = state_file
        self.catalog_file = catalog_file or CATALOG_FILE
        self.lock = threading.RLock()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.violations: list[str] = []
        exists = state_file is not None and state_file.exists()
        self.start(State.load(state_file) if state_file and exists else State.fresh())

    def start(self, state: State) -> None:
        self.state = state
        self.catalog = Catalog(state, self.catalog_file)

    def save(self) -> None:
        if self.state_file:
            self.state.save(self.state_file)

    # --- what the handlers use --------------------------------------------------------------

    def violation(self, where: str, problem: str) -> None:
        self.violations.append(redacted(f"{where}: {problem}"))

    def workspace(self, wanted: str | None, *, missing: int) -> str:
        """The id of a workspace, the default one when none is named."""
        if wanted is None:
            return self.state.default_workspace
        if wanted not in {row["id"] for row in self.state.workspaces}:
            raise ApiError(missing, "Workspace not found")
        return wanted

    def enforce(self, key: Key, *, at_once: bool = False) -> None:
        """Let the settings of a key and its guardrail take effect, at once or with the delay."""
        state = self.state
        since = state.now + (0 if at_once else state.settings.enforcement_delay)
        guardrail_id = guardrails.assigned(self, key.hash)
        settings = state.guardrails[guardrail_id].settings if guardrail_id else None
        guardrail = settings and {name: settings[name] for name in ENFORCED}
        policy = Policy(since, key.disabled, key.limit, key.limit_reset, guardrail)
        running = [] if at_once else [key.enforced(state.now)]
        coming = [old for old in key.policies if state.now < old.since < since]
        key.policies = [*running, *coming, policy]

    # --- one request ------------------------------------------------------------------------

    def take_fault(self, incoming: Incoming) -> Fault | None:
        with self.lock:
            return self.faults.take(incoming.method, incoming.path)

    def handle(self, incoming: Incoming, fault: Fault | None = None) -> Answer:
        """Never raises: an error is an answer too."""
        with self.lock:
            caller = self.caller(incoming.secret)
            try:
                answer = self.act(incoming, caller, fault)
            except ApiError as error:
                answer = error.answer()
            except Exception:
                traceback.print_exc()
                self.violation(f"{incoming.method} {incoming.path}", "the simulator itself failed")
                answer = ApiError(500, "The simulator failed, see its log").answer()
            self.note(incoming, caller, answer.status)
            return answer

    def cut(self, incoming: Incoming) -> None:
        """Note a request whose connection is closed before anything was done."""
        with self.lock:
            self.note(incoming, self.caller(incoming.secret), 0)

    def note(self, incoming: Incoming, caller: Caller, status: int) -> None:
        named = f"key:{caller.key.hash[:12]}" if caller.key else caller.kind
        path = redacted(incoming.path)
        body = "" if incoming.body is None else fingerprint(incoming.body)
        self.requests.append(Request(incoming.method, path, status, named, body))

    def act(self, incoming: Incoming, caller: Caller, fault: Fault | None) -> Answer:
        route = incoming.route
        if route is None:
            self.violation(f"{incoming.method} {incoming.path}", "unknown route")
            raise ApiError(404, redacted(f"unknown route: {incoming.method} {incoming.path}"))
        if "sk-or-" in incoming.path:
            self.violation(route.name, "a key itself was sent in the path")
        wrong = faulty(fault) if fault else None
        if wrong and fault and not fault.act:
            return wrong
        answer = self.answer(route, incoming, caller)
        if self.state.settings.unknown_fields:
            answer = replace(answer, body=extended(answer.body))
        return wrong or answer

    def answer(self, route: Route, incoming: Incoming, caller: Caller) -> Answer:
        try:
            admit(route, caller)
            self.validate(route, incoming)
            query = route.read_query(incoming.query)
            call = Call(route, incoming.values, query, incoming.body or {}, caller)
            answer = HANDLERS[route.name](self, call)
        except Refused:
            raise
        except ApiError as error:
            self.check(route, error.answer())
            raise
        if incoming.method != "GET":
            self.save()
        self.check(route, answer)
        return answer

    def validate(self, route: Route, incoming: Incoming) -> None:
        """Stricter on purpose than OpenRouter, which ignores unknown fields and our mistakes."""
        problems = route.check_query(incoming.query) + route.check_body(incoming.body)
        for problem in problems:
            self.violation(route.name, problem)
        if problems:
            raise Refused(400, redacted(f"Invalid request parameters: {'; '.join(problems)}"))

    def check(self, route: Route, answer: Answer) -> None:
        """Hold our own answer against the table."""
        if answer.events is not None:
            problems = [line for event in answer.events for line in route.check_event(event)]
        else:
            problems = route.check_answer(answer.status, answer.body)
        for problem in problems:
            self.violation(route.name, f"the simulator answered against the table: {problem}")

    def caller(self, secret: str | None) -> Caller:
        if secret is None:
            return Caller("none")
        hashed = keys.digest(secret)
        if hashed in self.state.management_hashes:
            return Caller("management")
        key = self.state.keys.get(hashed)
        now = self.state.now
        if key is None or key.enforced(now).disabled or key.expired(now):
            return Caller("unknown")
        return Caller("inference", key)


def fingerprint(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


def redacted(text: str) -> str:
    """A key that was sent where it does not belong is not recorded."""
    return re.sub(r"sk-or-[\w-]+", "sk-or-***", text)


class Refused(ApiError):
    """A request that the table does not allow; its 400 need not be declared for the route."""


def admit(route: Route, caller: Caller) -> None:
    """The right kind of key, or 401/403 as OpenRouter answers.

    A disabled, expired or deleted key and the wrong kind of key all get the same 401.
    """
    if route.caller == "anyone":
        return
    if caller.kind == "none":
        raise ApiError(401, "Missing Authentication header")
    if caller.kind == "unknown" or (route.caller, caller.kind) == ("inference", "management"):
        raise ApiError(401, "User not found.")
    if (route.caller, caller.kind) == ("management", "inference"):
        raise ApiError(403, MESSAGES[403])


def faulty(fault: Fault) -> Answer | None:
    """The answer that a fault puts in the place of the real one, if it does."""
    if fault.status is None:
        return None
    message = fault.message or MESSAGES.get(fault.status, "Simulated error")
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    answer = ApiError(fault.status, message, fault.metadata, headers=headers).answer()
    return replace(answer, status=fault.http_status or answer.status)


def extended(value: Any) -> Any:
    """The same with a field in every object that no client can know."""
    if isinstance(value, dict):
        return {name: extended(item) for name, item in value.items()} | {"added_lately": None}
    if isinstance(value, list):
        return [extended(item) for item in value]
    return value
