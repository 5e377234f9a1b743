# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""OpenRouter's API as the collection uses it.

Fields, statuses and their meaning: OpenRouter's API reference and its OpenAPI description. New
response fields may appear at any time, so whatever is not named here is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import ApiError, FleetError, NotFound
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller

_PAGE = 100

#: ``limit_reset`` in client files is never null: "never" is the word for it.
_RESET = {"daily": "daily", "weekly": "weekly", "monthly": "monthly", "never": None}


@dataclass(frozen=True)
class Key:
    """A key as the management API shows it. Money is in USD; ``limit`` None is no cap."""

    hash: str
    name: str
    disabled: bool
    limit: float | None
    limit_remaining: float | None
    limit_reset: str
    usage: float

    @classmethod
    def read(cls, row: dict[str, Any]) -> Key:
        return cls(
            hash=row["hash"],
            name=row["name"],
            disabled=row["disabled"],
            limit=row["limit"],
            limit_remaining=row.get("limit_remaining"),
            limit_reset=row["limit_reset"] or "never",
            usage=row["usage"],
        )


@dataclass(frozen=True)
class Guardrail:
    """``allowed_models`` are canonical slugs with their variants; None allows everything."""

    id: str
    name: str
    allowed_models: tuple[str, ...] | None

    @classmethod
    def read(cls, row: dict[str, Any]) -> Guardrail:
        models = row.get("allowed_models")
        return cls(row["id"], row["name"], None if models is None else tuple(models))


class OpenRouter:
    """Calls with one credential: a management key, or a client's own key."""

    def __init__(self, http: Controller) -> None:
        self._http = http

    # What a key says of itself

    def current_key(self) -> dict[str, Any]:
        """GET /key: ``is_management_key``, ``limit``, ``limit_remaining`` and the like."""
        return dict(self._http.get("/key")["data"])

    def credits_left(self) -> float:
        """USD that the account has left."""
        data = self._http.get("/credits")["data"]
        return float(data["total_credits"]) - float(data["total_usage"])

    # Models

    def catalog(self) -> list[dict[str, Any]]:
        """Every model there is. Without a limit and an offset the API gives the whole list."""
        return list(self._http.get("/models", {"output_modalities": "all"})["data"])

    def user_models(self) -> list[dict[str, Any]]:
        """What this credential may use: the truth about a guardrail."""
        return list(self._http.get("/models/user")["data"])

    # Keys

    def keys(self) -> Iterator[Key]:
        """All keys of the default workspace, also the disabled and the expired ones."""
        offset = 0
        while True:
            query = {"include_disabled": "true", "offset": offset}
            rows = self._http.get("/keys", query)["data"]
            yield from map(Key.read, rows)
            # There is no total: a page that is not full is the last one.
            if len(rows) < _PAGE:
                return
            offset += _PAGE

    def key(self, key_hash: str) -> Key | None:
        try:
            return Key.read(self._http.get(f"/keys/{key_hash}")["data"])
        except NotFound:
            return None

    def create_key(self, name: str, limit: float | None, limit_reset: str) -> tuple[Key, str]:
        """The new key and its secret, which is shown this once and never again.

        The call is not idempotent: after a lost answer the key may exist.
        """
        body = {"name": name, "limit": limit, "limit_reset": _RESET[limit_reset]}
        answer = self._http.post("/keys", body)
        secret = answer.get("key") or answer["data"].get("key")
        if not secret:
            raise ApiError(
                201,
                "the answer to the create holds no secret",
                "POST /keys",
                f"delete the key {name} in OpenRouter's dashboard and run again",
            )
        return Key.read(answer["data"]), str(secret)

    def update_key(self, key_hash: str, changes: dict[str, Any]) -> Key:
        """:param changes: any of ``limit``, ``limit_reset``, ``disabled``, ``name``"""
        body = dict(changes)
        if "limit_reset" in body:
            body["limit_reset"] = _RESET[body["limit_reset"]]
        return Key.read(self._http.patch(f"/keys/{key_hash}", body)["data"])

    def delete_key(self, key_hash: str) -> None:
        try:
            self._http.delete(f"/keys/{key_hash}")
        except NotFound:
            return

    # Guardrails

    def guardrails(self) -> Iterator[Guardrail]:
        yield from map(Guardrail.read, self._counted("/guardrails"))

    def create_guardrail(self, name: str, description: str, models: list[str]) -> Guardrail:
        body = {"name": name, "description": description, "allowed_models": models}
        return Guardrail.read(self._http.post("/guardrails", body)["data"])

    def update_guardrail(self, guardrail_id: str, models: list[str]) -> Guardrail:
        body = {"allowed_models": models}
        return Guardrail.read(self._http.patch(f"/guardrails/{guardrail_id}", body)["data"])

    def delete_guardrail(self, guardrail_id: str) -> None:
        try:
            self._http.delete(f"/guardrails/{guardrail_id}")
        except NotFound:
            return

    def assignments(self) -> dict[str, str]:
        """Guardrail id by key hash. A key has one guardrail at most."""
        rows = self._counted("/guardrails/assignments/keys")
        return {row["key_hash"]: row["guardrail_id"] for row in rows}

    def assigned_keys(self, guardrail_id: str) -> set[str]:
        rows = self._counted(f"/guardrails/{guardrail_id}/assignments/keys")
        return {row["key_hash"] for row in rows}

    def assign(self, guardrail_id: str, key_hash: str) -> None:
        """Assign and read back: unknown hashes are skipped by the API without an error."""
        path = f"/guardrails/{guardrail_id}/assignments/keys"
        self._http.post(path, {"key_hashes": [key_hash]})
        if key_hash not in self.assigned_keys(guardrail_id):
            raise FleetError(
                "OpenRouter took the assignment of the guardrail but does not list it",
                f"POST {path}",
                "run again; the key stays without a secret on the server until it is fenced",
            )

    # Inference

    def chat(self, model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
        """One small completion. A refusal is an :class:`ApiError`, also when it comes with 200."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
        }
        answer = dict(self._http.post("/chat/completions", body))
        if "error" in answer:
            raise ApiError(
                int(answer["error"].get("code", 200)),
                str(answer["error"].get("message")),
                "POST /chat/completions",
            )
        return answer

    def _counted(self, path: str) -> Iterator[dict[str, Any]]:
        """Pages with ``total_count``; rows may be missing from a page, so count what was asked."""
        offset = 0
        while True:
            page = self._http.get(path, {"limit": _PAGE, "offset": offset})
            yield from page["data"]
            offset += _PAGE
            if offset >= page["total_count"]:
                return
