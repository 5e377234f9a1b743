# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The gates at a client's instance: what must be true of it, found out without changing anything.

A list of models proves nothing about the key: Open WebUI makes it up from its settings. Only the
chat goes through the instance to OpenRouter with the client's own key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from ansible_collections.mai.fleet.plugins.module_utils._api.openwebui import (
    ChatReply,
    OpenWebUI,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    FleetError,
    Unauthorized,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.accounts import (
    PROBE,
    SERVICE,
    Doorman,
    Instance,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import (
    KEEP,
    Custody,
    Whose,
    classify,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.settings import (
    drift,
    our_connection,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint

T = TypeVar("T")

PASSED = "passed"
FAILED = "failed"
# The client has spent what it was sold: the key works, and is meant to refuse.
EXHAUSTED = "exhausted"
UNCHECKED = "unchecked"

_SITE = "run mai.fleet.site for this client"
# A provider that is busy or stumbles now may answer a moment later.
_PASSING_TROUBLE = {408, 429, 500, 502, 503, 504, 524, 529}
_PAUSE = 2.0
_CHAT_TIMEOUT = 120.0
_LIMIT_SOURCES = {
    "openrouter_key_limit",
    "openrouter_guardrail_budget",
    "openrouter_workspace_budget",
}

_CHAT_AGAIN = "run mai.fleet.verify again; if it stays, choose another model for the chat"
_CHAT_TODO = {
    401: f"the key is disabled or deleted at OpenRouter: {_SITE}",
    402: "add credit to the OpenRouter account",
    403: f"see the client's guardrail at OpenRouter, or {_SITE}",
    404: f"see the client's guardrail at OpenRouter, or {_SITE}",
}


@dataclass(frozen=True)
class Chat:
    """The one small chat. ``refused``: the client is suspended and must get no answer."""

    model: str
    prompt: str
    max_tokens: int
    refused: bool


@dataclass(frozen=True)
class Expected:
    """What the gates compare with.

    :param connection_ids: the models that our connection is limited to
    :param model_ids: the models of our connection that people see
    :param chat: None leaves the chat out
    :param custody: says whether a foreign key may be in the connection
    """

    version: str
    url: str
    key_fingerprint: str
    connection_ids: list[str]
    tags: list[str]
    model_ids: list[str]
    chat: Chat | None
    custody: Custody = field(default_factory=Custody)


@dataclass
class Gate:
    """``state`` is passed, exhausted (no failure either), failed or unchecked."""

    gate: str
    expected: str
    state: str = UNCHECKED
    passed: bool = False
    seen: str = "not looked at, because of the gates before"
    todo: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What one gate saw."""

    state: str
    seen: str
    todo: str = ""


class _NotNow(Exception):
    """A gate cannot be looked at, because of what an earlier one found."""


class Prover:
    """Passes one instance through its gates."""

    def __init__(self, instance: Instance, expected: Expected) -> None:
        self._instance = instance
        self._expected = expected
        self._doorman = Doorman(instance, owner=None)
        self._is_up = False
        self._public_config: dict[str, Any] = {}
        self._connection: int | None = None

    def run(self) -> Row:
        """Never raises a :class:`FleetError`."""
        gates = [self._pass(*step) for step in self._steps()]
        row = Row(more={"gates": [asdict(gate) for gate in gates]})
        if self._doorman.access.made:
            row.more["accounts"] = self._doorman.access.made
        failed = [gate for gate in gates if not gate.passed]
        if failed:
            row.error = _failure(self._instance.client, failed)
        return row

    def _steps(self) -> list[tuple[str, str, Callable[[], Verdict]]]:
        wish = self._expected
        models = f"{len(wish.model_ids)} models"
        steps = [
            ("ready", "an instance that answers", self._ready),
            ("version", wish.version, self._version),
            ("claimed", "claimed, with the fleet's service account as an admin", self._claimed),
            ("closed", "strangers cannot sign up", self._closed),
            ("connection", f"{wish.url} with {models} and its key", self._stored_connection),
            ("models_admin", models, self._models_admin),
            ("models_user", models, self._models_user),
        ]
        if wish.chat is not None:
            chat = wish.chat
            expected = "a refusal" if chat.refused else f"an answer from {chat.model}"
            steps.append(("chat", expected, lambda: self._chat(chat)))
        return steps

    def _pass(self, name: str, expected: str, look: Callable[[], Verdict]) -> Gate:
        gate = Gate(name, expected)
        start = time.monotonic()
        try:
            verdict = look()
        except _NotNow:
            return gate
        except FleetError as error:
            error = self._instance.explain(error)
            verdict = Verdict(FAILED, f"{error.what} ({error.where})", error.todo)
        gate.state, gate.todo = verdict.state, verdict.todo
        gate.seen = self._instance.hide(verdict.seen)
        gate.passed = verdict.state in {PASSED, EXHAUSTED}
        gate.seconds = round(time.monotonic() - start, 2)
        return gate

    def _ready(self) -> Verdict:
        self._anybody().ready()
        self._is_up = True
        return Verdict(PASSED, "ready")

    def _version(self) -> Verdict:
        seen = self._up().version()
        todo = f"{_SITE}, or correct the image that it names"
        return _compare(seen == self._expected.version, seen, todo)

    def _claimed(self) -> Verdict:
        self._public_config = self._up().public_config()
        if self._public_config.get("onboarding"):
            seen = "nobody has claimed it: whoever opens it first becomes its admin"
            return Verdict(FAILED, seen, f"{_SITE} at once")
        role = self._doorman.open().roles[SERVICE.key]
        return _compare(role == SERVICE.role, f"claimed, service account: {role}", _SITE)

    def _closed(self) -> Verdict:
        features = self._known(self._public_config).get("features") or {}
        is_closed = features.get("enable_signup") is False
        return _compare(is_closed, "closed" if is_closed else "strangers can sign up", _SITE)

    def _stored_connection(self) -> Verdict:
        wish = self._expected
        provider = self._admin().provider()
        self._connection = our_connection(
            provider.connections, wish.url, wish.key_fingerprint, wish.tags
        )
        if self._connection is None:
            others = ", ".join(one.url for one in provider.connections) or "none"
            return Verdict(FAILED, f"no such connection; there are: {others}", _SITE)
        stored = provider.connections[self._connection]
        wrong = drift(stored, wish.url, wish.connection_ids, wish.tags)
        found = fingerprint(stored.key) if stored.key else ""
        whose = classify(found, self._instance.client, wish.key_fingerprint, wish.custody.owners)
        kept = whose is Whose.FOREIGN and wish.custody.policy == KEEP
        if whose is not Whose.CURRENT and not kept:
            wrong.append(f"key {found} instead of {wish.key_fingerprint}: {whose.value}")
        if not provider.enabled:
            wrong.append("all such connections are switched off")
        seen = "as expected, but for a foreign key that is kept" if kept else "as expected"
        return _compare(not wrong, "; ".join(wrong) or seen, _SITE)

    def _models_admin(self) -> Verdict:
        return self._models(self._admin())

    def _models_user(self) -> Verdict:
        probe = self._probe()
        try:
            return self._models(probe)
        except Unauthorized:
            self._doorman.access.probe = self._doorman.renew(PROBE)
            return self._models(self._doorman.access.probe)

    def _models(self, api: OpenWebUI) -> Verdict:
        if self._connection is None:
            raise _NotNow
        wish = set(self._expected.model_ids)
        served = {str(model.get("id")): model.get("urlIdx") for model in api.models()}
        seen = {model_id for model_id, index in served.items() if index == self._connection}
        parts = [f"{len(seen & wish)} of {len(wish)}"]
        missing = wish - seen
        elsewhere = missing & served.keys()
        if missing - elsewhere:
            parts.append("missing: " + ", ".join(sorted(missing - elsewhere)))
        if elsewhere:
            parts.append("another connection serves: " + ", ".join(sorted(elsewhere)))
        if seen - wish:
            parts.append("not in the allowlist: " + ", ".join(sorted(seen - wish)))
        todo = _SITE
        if elsewhere:
            todo = "ask the client's admin to leave these models out of the other connection"
        return _compare(seen == wish, "; ".join(parts), todo)

    def _chat(self, chat: Chat) -> Verdict:
        probe = self._probe()
        reply = probe.chat(chat.model, chat.prompt, chat.max_tokens, _CHAT_TIMEOUT)
        if reply.error and reply.status in _PASSING_TROUBLE:
            time.sleep(_PAUSE)
            reply = probe.chat(chat.model, chat.prompt, chat.max_tokens, _CHAT_TIMEOUT)
        return chat_verdict(reply, chat.refused)

    def _anybody(self) -> OpenWebUI:
        return self._instance.api()

    def _up(self) -> OpenWebUI:
        self._known(self._is_up)
        return self._anybody()

    def _admin(self) -> OpenWebUI:
        return self._known(self._doorman.access.admin)

    def _probe(self) -> OpenWebUI:
        access = self._doorman.access
        self._known(access.admin)
        if access.probe is None:
            role = access.roles.get(PROBE.key)
            raise FleetError(f"the probe account is {role}", PROBE.email, _SITE)
        return access.probe

    @staticmethod
    def _known(found: T | None) -> T:
        if not found:
            raise _NotNow
        return found


def chat_verdict(reply: ChatReply, refused: bool) -> Verdict:
    """What a chat's outcome means. ``refused``: it must not have been answered."""
    reason = f"{reply.status}: {reply.error}"
    if refused:
        if reply.error and reply.status in {401, 402, 403}:
            return Verdict(PASSED, f"refused with {reason}")
        seen = reason if reply.error else "an answer: the client's key still works"
        return Verdict(FAILED, seen, f"{_SITE}, which disables its key")
    if not reply.error:
        # The text may be empty: a reasoning model can spend all its tokens before it begins.
        seen = f"an answer, {reply.usage.get('total_tokens', 'no')} tokens"
        return _compare(bool(reply.usage), seen, "see whether the connection leads to OpenRouter")
    if _is_exhausted(reply):
        return Verdict(EXHAUSTED, reason, "raise the client's limit, or wait for its reset")
    return Verdict(FAILED, reason, _CHAT_TODO.get(reply.status, _CHAT_AGAIN))


def _is_exhausted(reply: ChatReply) -> bool:
    """Reported as 402 by documents and as 403 in practice, with or without a source."""
    if reply.status not in {402, 403}:
        return False
    if reply.limit_source:
        return reply.limit_source in _LIMIT_SOURCES
    return re.search(r"\blimit\b", reply.error, re.IGNORECASE) is not None


def _compare(is_right: bool, seen: str, todo: str) -> Verdict:
    return Verdict(PASSED, seen) if is_right else Verdict(FAILED, seen, todo)


def _failure(client: str, failed: list[Gate]) -> FleetError:
    first = failed[0]
    others = [gate.gate for gate in failed[1:] if gate.state == FAILED]
    what = f"gate {first.gate}: expected {first.expected}, saw {first.seen}"
    if others:
        what += f"; failed too: {', '.join(others)}"
    return FleetError(what, client, first.todo)
