# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Every change of a client's things at OpenRouter, each with a line in the client's journal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import (
    Guardrail,
    Key,
    OpenRouter,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import KeyStore
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of

#: What the result of a change that failed begins with, in journals.
_FAILED = "failed: "


def failed(what: str) -> str:
    """The result of a change that failed, in a journal's words."""
    return f"{_FAILED}{what}"


def has_failed(result: str) -> bool:
    """Whether a line of a journal with this result is about a change that failed."""
    return result.startswith(_FAILED)


class Changes:
    def __init__(self, api: OpenRouter, store: KeyStore, client: str) -> None:
        self._api = api
        self._store = store
        self._client = client

    def create_key(
        self, name: str, limit: float | None, limit_reset: str, expires_at: str
    ) -> tuple[Key, str]:
        """Its line is written by :meth:`key_created`, when the secret is safe."""
        try:
            return self._api.create_key(name, limit, limit_reset, expires_at)
        except FleetError as error:
            self._store.note(self._client, "create key", failed(error.what), name=name)
            raise

    def key_created(self, key: Key) -> None:
        end = {"expires_at": key.expires_at} if key.expires_at else {}
        with self._noted("create key", name=key.name, key=fingerprint_of(key.hash), **end):
            pass

    def update_key(self, key_hash: str, changes: dict[str, Any]) -> None:
        with self._noted("change key", key=fingerprint_of(key_hash), **changes):
            self._api.update_key(key_hash, changes)

    def delete_key(self, key_hash: str) -> None:
        with self._noted("delete key", key=fingerprint_of(key_hash)):
            self._api.delete_key(key_hash)

    def create_guardrail(self, name: str, description: str, models: list[str]) -> Guardrail:
        with self._noted("create guardrail", name=name, models=models):
            return self._api.create_guardrail(name, description, models)

    def update_guardrail(self, guardrail: Guardrail, models: list[str]) -> None:
        before = list(guardrail.allowed_models or ())
        with self._noted("change guardrail", name=guardrail.name, before=before, models=models):
            self._api.update_guardrail(guardrail.id, models)

    def rename_guardrail(self, guardrail: Guardrail, name: str) -> None:
        with self._noted("rename guardrail", name=name, before=guardrail.name):
            self._api.change_guardrail(guardrail.id, {"name": name})

    def delete_guardrail(self, guardrail: Guardrail) -> None:
        with self._noted("delete guardrail", name=guardrail.name):
            self._api.delete_guardrail(guardrail.id)

    def assign(self, guardrail: Guardrail, key_hash: str) -> None:
        with self._noted("fence key", name=guardrail.name, key=fingerprint_of(key_hash)):
            self._api.assign(guardrail.id, key_hash)

    @contextlib.contextmanager
    def _noted(self, what: str, **details: Any) -> Iterator[None]:
        try:
            yield
        except FleetError as error:
            self._store.note(self._client, what, failed(error.what), **details)
            raise
        self._store.note(self._client, what, "done", **details)
