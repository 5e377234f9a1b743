# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""OpenRouter's API as the collection uses it.

Fields, statuses and their meaning: OpenRouter's API reference and its OpenAPI description. New
response fields may appear at any time, so whatever is not named here is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    NotFound,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import (
    Controller,
    refusal,
)

_PAGE = 100

_T = TypeVar("_T")

#: ``limit_reset`` in client files is never null: "never" is the word for it.
_RESET = {"daily": "daily", "weekly": "weekly", "monthly": "monthly", "never": None}


@dataclass(frozen=True)
class Key:
    """A key as the management API shows it. Money is in USD; ``limit`` None is no cap.

    :ivar usage: in all its life
    :ivar spent: what counts against a limit, by window, with the words of ``limit_reset``
    :ivar expires_at: empty when it never does, as ``last_used_at`` when it never was
    """

    hash: str
    name: str
    disabled: bool
    limit: float | None
    limit_remaining: float | None
    limit_reset: str
    usage: float
    spent: dict[str, float] = field(default_factory=dict)
    created_at: str = ""
    expires_at: str = ""
    last_used_at: str = ""

    @classmethod
    def read(cls, row: dict[str, Any]) -> Key:
        # What is spent with provider keys of one's own is told apart, and counts if that is set.
        kinds = ("usage", "byok_usage") if row.get("include_byok_in_limit") else ("usage",)
        spent = {
            reset: sum(
                row.get(kind if reset == "never" else f"{kind}_{reset}") or 0 for kind in kinds
            )
            for reset in _RESET
        }
        return cls(
            hash=row["hash"],
            name=row["name"],
            disabled=row["disabled"],
            limit=row["limit"],
            limit_remaining=row.get("limit_remaining"),
            limit_reset=row["limit_reset"] or "never",
            usage=row.get("usage") or 0,
            spent=spent,
            created_at=row.get("created_at") or "",
            expires_at=row.get("expires_at") or "",
            last_used_at=row.get("last_used_at") or "",
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


def _having(*fields: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Rows as they are, when they have at least these fields."""

    def read(row: dict[str, Any]) -> dict[str, Any]:
        missing = set(fields) - row.keys()
        if missing:
            raise KeyError(*sorted(missing))
        return row

    return read


_model = _having("id", "canonical_slug", "name")
_key_row = _having("hash", "name", "disabled", "limit", "limit_reset")
_guardrail_row = _having("id", "name")
_workspace = _having("id", "slug", "name")


class OpenRouter:
    """Calls with one credential: a management key, or a client's own key.

    :param workspace: the id of the workspace whose keys and guardrails are listed and made, empty
        for the default one. What has an id or a hash is found in all workspaces
    """

    def __init__(self, http: Controller, workspace: str = "") -> None:
        self._http = http
        self._workspace = workspace
        self._place = {"workspace_id": workspace} if workspace else {}

    def inside(self, workspace: str) -> OpenRouter:
        """The same in another workspace."""
        return OpenRouter(self._http, workspace)

    # What a key says of itself

    def current_key(self) -> dict[str, Any]:
        """GET /key: ``is_management_key``, ``limit``, ``limit_remaining`` and the like."""
        return self._get("/key", lambda answer: dict(answer["data"]))

    def credits_left(self) -> float:
        """USD that the account has left."""

        bought, used = self.credits()
        return bought - used

    def credits(self) -> tuple[float, float]:
        """USD that the account ever bought, and that it ever used."""

        def read(answer: Any) -> tuple[float, float]:
            return float(answer["data"]["total_credits"]), float(answer["data"]["total_usage"])

        return self._get("/credits", read)

    # Models

    def catalog(self) -> list[dict[str, Any]]:
        """Every model there is. Without a limit and an offset the API gives the whole list."""
        return self._models("/models")

    def user_models(self) -> list[dict[str, Any]]:
        """What this credential may use: the truth about a guardrail."""
        return self._models("/models/user")

    def _models(self, path: str) -> list[dict[str, Any]]:
        # The default is text models only, and an image model can be sold as well.
        query = {"output_modalities": "all"}
        return self._get(path, lambda answer: list(map(_model, answer["data"])), query)

    # Workspaces

    def workspaces(self) -> list[dict[str, Any]]:
        return self._counted("/workspaces", _workspace)

    def _here(self, read: Callable[[dict[str, Any]], _T]) -> Callable[[dict[str, Any]], _T]:
        """What is of another workspace than was asked for is not taken for what is here."""

        def checked(row: dict[str, Any]) -> _T:
            if self._workspace and row.get("workspace_id") not in (self._workspace, None):
                raise ValueError(f"it is about the workspace {row['workspace_id']}")
            return read(row)

        return checked

    # Keys

    def list_keys(self) -> list[Key]:
        """All keys of the workspace, also those that are disabled or expired."""
        # Whoever makes a key meanwhile pushes another one to the next page, where it is once more.
        keys = {key.hash: key for key in self._keys(Key.read)}
        return list(keys.values())

    def key_rows(self) -> list[dict[str, Any]]:
        """The same with all that OpenRouter says of them."""
        return self._keys(_key_row)

    def _keys(self, read: Callable[[dict[str, Any]], _T]) -> list[_T]:
        keys: list[_T] = []
        read = self._here(read)
        while True:
            query = {
                "include_disabled": "true",
                "include_expired": "true",
                "offset": len(keys),
                **self._place,
            }
            page = self._get("/keys", lambda answer: list(map(read, answer["data"])), query)
            keys += page
            # There is no total: a page that is not full is the last one.
            if len(page) < _PAGE:
                return keys

    def key(self, key_hash: str) -> Key | None:
        try:
            return self._get(f"/keys/{key_hash}", lambda answer: Key.read(answer["data"]))
        except NotFound:
            return None

    def create_key(
        self, name: str, limit: float | None, limit_reset: str, expires_at: str = ""
    ) -> tuple[Key, str]:
        """The new key and its secret, which is shown this once and never again.

        The call is not idempotent: after a lost answer the key may exist. Once there is a secret,
        nothing else about the answer can make this raise.
        """
        body = {"name": name, "limit": limit, "limit_reset": _RESET[limit_reset], **self._place}
        if expires_at:
            body["expires_at"] = expires_at
        answer = self._http.post("/keys", body)
        answer = answer if isinstance(answer, dict) else {}
        shown = answer["data"] if isinstance(answer.get("data"), dict) else {}
        secret = answer.get("key") or shown.get("key")
        if not secret:
            raise ApiError(
                201,
                "the answer to the create holds no secret",
                "POST /keys",
                f"delete the key {name} in OpenRouter's dashboard and run again",
            )
        asked = {**body, "hash": sha256(str(secret)), "disabled": False}
        return Key.read({**asked, **shown}), str(secret)

    def update_key(self, key_hash: str, changes: dict[str, Any]) -> None:
        """:param changes: any of what can be changed: ``name``, ``limit``, ``limit_reset``,
        ``disabled``, ``include_byok_in_limit``
        """
        body = dict(changes)
        if "limit_reset" in body:
            body["limit_reset"] = _RESET[body["limit_reset"]]
        self._http.patch(f"/keys/{key_hash}", body)

    def delete_key(self, key_hash: str) -> None:
        try:
            self._http.delete(f"/keys/{key_hash}")
        except NotFound:
            return

    # Guardrails

    def list_guardrails(self) -> list[Guardrail]:
        return self._counted("/guardrails", self._here(Guardrail.read), self._place)

    def guardrail_rows(self) -> list[dict[str, Any]]:
        """The same with all their settings."""
        return self._counted("/guardrails", self._here(_guardrail_row), self._place)

    def create_guardrail(self, name: str, description: str, models: list[str]) -> Guardrail:
        body = {"name": name, "description": description, "allowed_models": models}
        return Guardrail.read(self.make_guardrail(body))

    def make_guardrail(self, settings: dict[str, Any]) -> dict[str, Any]:
        """:param settings: the name and whatever else the API knows"""
        answer = self._http.post("/guardrails", {**settings, **self._place})
        return _read("POST /guardrails", lambda answer: _guardrail_row(answer["data"]), answer)

    def update_guardrail(self, guardrail_id: str, models: list[str]) -> None:
        self.change_guardrail(guardrail_id, {"allowed_models": models})

    def change_guardrail(self, guardrail_id: str, changes: dict[str, Any]) -> None:
        """:param changes: settings; None clears one, lists are replaced whole"""
        self._http.patch(f"/guardrails/{guardrail_id}", changes)

    def delete_guardrail(self, guardrail_id: str) -> None:
        try:
            self._http.delete(f"/guardrails/{guardrail_id}")
        except NotFound:
            return

    def assignments(self) -> dict[str, str]:
        """Guardrail id by key hash. A key has one guardrail at most."""
        path = "/guardrails/assignments/keys"
        return dict(self._counted(path, lambda row: (row["key_hash"], row["guardrail_id"])))

    def assigned_keys(self, guardrail_id: str) -> set[str]:
        path = f"/guardrails/{guardrail_id}/assignments/keys"
        return set(self._counted(path, lambda row: str(row["key_hash"])))

    def assign(self, guardrail_id: str, key_hash: str) -> None:
        """Assign and read back: unknown hashes are skipped by the API without an error."""
        path = f"/guardrails/{guardrail_id}/assignments/keys"
        self._http.post(path, {"key_hashes": [key_hash]})
        if key_hash not in self.assigned_keys(guardrail_id):
            raise FleetError(
                "OpenRouter took the assignment of the guardrail but does not list it",
                f"POST {path}",
                "run again; a new key is not sent to its server before it is fenced",
            )

    def unassign(self, guardrail_id: str, key_hash: str) -> None:
        path = f"/guardrails/{guardrail_id}/assignments/keys/remove"
        self._http.post(path, {"key_hashes": [key_hash]})

    # Inference

    def chat(self, model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
        """One small completion. A refusal is an :class:`ApiError`, also when it comes with 200."""
        where = "POST /chat/completions"
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
        }
        answer = _read(where, dict, self._http.post("/chat/completions", body))
        if "error" in answer:
            error = _read(where, lambda answer: dict(answer["error"]), answer)
            status = error.get("code")
            raise ApiError(
                status if isinstance(status, int) else 200, _read(where, refusal, error), where
            )
        return answer

    def _get(
        self, path: str, parse: Callable[[Any], _T], query: dict[str, Any] | None = None
    ) -> _T:
        return _read(f"GET {path}", parse, self._http.get(path, query))

    def _counted(
        self, path: str, parse: Callable[[Any], _T], place: dict[str, str] | None = None
    ) -> list[_T]:
        """Pages with ``total_count``; rows may be missing from a page, so count what was asked."""
        found: list[_T] = []
        offset = 0
        while True:
            query = {"limit": _PAGE, "offset": offset, **(place or {})}
            rows, total = self._get(
                path,
                lambda answer: (list(map(parse, answer["data"])), int(answer["total_count"])),
                query,
            )
            found += rows
            offset += _PAGE
            if offset >= total:
                return found


def _read(where: str, parse: Callable[[Any], _T], answer: Any) -> _T:
    """What ``parse`` makes of an answer.

    :raises ApiError: it is not what OpenRouter's description says
    """
    try:
        return parse(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ApiError(
            200,
            f"the answer is not as OpenRouter describes it ({type(error).__name__}: {error})",
            where,
            "is this OpenRouter's API? If so, look for a newer version of this collection",
        ) from None
